// Cut-outs and thumbnails. Fluxes are drawn as in `looks.Pictures`: hues kept, brightness through asinh.

const sheets = new Map();

function sheet(sky, row) {
  const { sheet: side } = sky.about.picture;
  const url = `${sky.folder}/thumbs/${Math.floor(row / side ** 2)}.jpg`;
  if (!sheets.has(url)) {
    const image = new Image();
    image.src = url;
    sheets.set(url, image);
    if (sheets.size > 300) sheets.delete(sheets.keys().next().value);
  }
  return sheets.get(url);
}

// Draws at once if the sheet is here; otherwise calls `later` when it is.
export function drawThumb(sky, row, context, x, y, size, later) {
  const { sheet: side, thumb } = sky.about.picture;
  const image = sheet(sky, row);
  if (!image.complete || !image.naturalWidth) {
    if (later) image.addEventListener("load", later, { once: true });
    return false;
  }
  const place = row % side ** 2;
  context.drawImage(image, (place % side) * thumb, Math.floor(place / side) * thumb, thumb, thumb, x, y, size, size);
  return true;
}

export function thumb(sky, row, size) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = Math.round(size * Math.max(devicePixelRatio, 1));
  const draw = () => drawThumb(sky, row, canvas.getContext("2d"), 0, 0, canvas.width, draw);
  draw();
  return canvas;
}

// Planes of an object as fluxes over `white`: Float32Array a band; null where there is no picture.
export async function planes(sky, row) {
  const about = sky.about.picture;
  const bytes = await sky.bytes("cutouts", row, about.chunk);
  if (!bytes) return null;
  const image = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  return about.planes.map((plane, band) => {
    const table = Float32Array.from({ length: 256 }, (_, byte) =>
      about.display ? byte / 255 : (plane.noise * Math.sinh(plane.low + ((plane.high - plane.low) * byte) / 255)) / plane.white);
    const start = band * about.side ** 2;
    return Float32Array.from({ length: about.side ** 2 }, (_, i) => table[pixels[4 * (start + i)]]);
  });
}

// `band` is null for colour; `stretch` 1 … 100 lifts what is faint, `bright` is a factor.
export function draw(canvas, about, bands, { band, stretch, bright }) {
  canvas.width = canvas.height = about.side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(about.side, about.side);
  const [red, green, blue] = (band === null ? about.rgb : [band, band, band]).map((i) => bands[i]);
  const full = Math.asinh(stretch);
  const gamma = Math.log(12) / Math.log(stretch + 1.0001); // of pictures that were stretched before: 12 is as they are
  for (let i = 0; i < red.length; i++) {
    let [r, g, b] = [red[i] * bright, green[i] * bright, blue[i] * bright];
    if (about.display) {
      [r, g, b] = [r, g, b].map((value) => Math.max(value, 0) ** gamma);
    } else {
      const mean = Math.max((r + g + b) / 3, 1e-4);
      const shown = Math.asinh(stretch * mean) / full / mean;
      const most = Math.max(1, Math.max(r, g, b) * shown);
      [r, g, b] = [r, g, b].map((value) => (value * shown) / most + 0.02);
    }
    image.data.set([255 * r, 255 * g, 255 * b, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

export const START = { band: null, stretch: 12, bright: 1 };
let look = { ...START };

// The picture with its controls; settings are kept from object to object.
export function pictureBox(sky, bands, label) {
  const about = sky.about.picture;
  const box = document.createElement("figure");
  box.className = "cutout";
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const redraw = () => draw(canvas, about, bands, look);
  const frame = document.createElement("div");
  frame.className = "frame";
  frame.append(canvas);
  if (about.scale) frame.append(scaleBar(about));
  box.append(frame, controls(about, redraw));
  redraw();
  return box;
}

export function scaleBar(about) {
  const wide = about.side * about.scale;
  const length = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600].filter((one) => one < wide / 3).pop() ?? 1;
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.style.width = `${(100 * length) / wide}%`;
  bar.textContent = length < 60 ? `${length}″` : `${length / 60}′`;
  return bar;
}

function controls(about, redraw) {
  const row = document.createElement("div");
  row.className = "controls";
  const chips = document.createElement("div");
  chips.className = "chips";
  const names = about.planes.length > 1 ? [["colour", null]] : [];
  if (about.planes.length === 1) look.band = 0;
  else if (look.band !== null && look.band >= about.planes.length) look.band = null;
  for (const [name, band] of [...names, ...about.planes.map((plane, i) => [plane.band, i])]) {
    const chip = document.createElement("button");
    chip.textContent = name;
    chip.setAttribute("aria-pressed", look.band === band);
    chip.onclick = () => {
      look.band = band;
      for (const one of chips.children) one.setAttribute("aria-pressed", one === chip);
      redraw();
    };
    chips.append(chip);
  }
  row.append(chips, slide("stretch", 0, 2.3, Math.log10(look.stretch), (value) => { look.stretch = 10 ** value; redraw(); }),
    slide("bright", -1, 1, Math.log10(look.bright), (value) => { look.bright = 10 ** value; redraw(); }));
  return row;
}

function slide(name, low, high, value, act) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: 0.02, value });
  input.oninput = () => act(+input.value);
  label.append(name, input);
  label.ondblclick = () => { input.value = Math.log10(START[name]); act(+input.value); };
  return label;
}
