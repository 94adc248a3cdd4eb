// Generated beside measured: a redshift, a spectrum, an image. The accent's colour is what a model made.

import uPlot from "./vendor/uplot.js";
import { draw, scaleBar, START as LOOK } from "./picture.js";
import { overWavelengths, paintbox, plotted, smooth } from "./spectrum.js";

const element = (tag, more = {}) => Object.assign(document.createElement(tag), more);

// --- a redshift ---

// Chance per unit of redshift; what lies in bins without width is counted to the next that has one, as `Posterior.pdf` does.
function density({ edges, data: [{ chance }] }) {
  let waiting = 0;
  return chance.map((share, i) => {
    const [wide, whole] = [edges[i + 1] - edges[i], share + waiting];
    waiting = wide > 0 ? 0 : whole;
    return wide > 0 ? whole / wide : 0;
  });
}

// One curve for each way of asking: what each input adds.
export function posteriorBox(told, z) {
  const box = element("div");
  const style = paintbox();
  const edges = told[0].edges;
  const curves = told.map(density);
  const rising = told.map(({ data: [{ chance }] }) => chance.map(((sum) => (share) => (sum += share))(0)));
  const end = Math.max(...rising.map((sums) => sums.findIndex((sum) => sum > 0.995)), edges.findIndex((edge) => edge > 1.1 * z)) + 1;
  const keep = edges.slice(0, -1).map((edge, i) => i).filter((i) => edges[i + 1] > edges[i] && i <= Math.min(end, edges.length - 2));
  const looks = [{ stroke: style.accent, fill: `${style.accent}38`, width: 2 }, { stroke: style.blue, width: 1.4, dash: [6, 3] }, { stroke: style.soft, width: 1.4, dash: [2, 3] }];
  const steps = uPlot.paths.stepped({ align: 1 });
  const marks = (plot) => {
    if (!Number.isFinite(z)) return;
    const x = Math.round(plot.valToPos(z, "x", true)) + 0.5;
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = style.line;
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillStyle = style.line;
    ctx.font = `${11 * devicePixelRatio}px system-ui`;
    ctx.textAlign = x > bbox.left + bbox.width * 0.7 ? "right" : "left";
    ctx.fillText("  measured  ", x, bbox.top + 10 * devicePixelRatio);
    ctx.restore();
  };
  const options = {
    height: 180, padding: [8, 8, 0, 0], cursor: { show: false },
    scales: { x: { time: false, range: [Math.max(0, edges[0]), edges[keep.at(-1) + 1]] }, y: { range: (_, __, top) => [0, 1.08 * top] } },
    axes: [{ ...style.axis, size: 28, label: "redshift", labelGap: -2, labelSize: 15 }, { ...style.axis, size: 32, label: "chance / Δz", labelGap: 0, space: 26 }],
    series: [{}, ...told.map((_, i) => ({ ...looks[i % looks.length], paths: steps, points: { show: false } }))],
    hooks: { draw: [marks] },
  };
  const list = element("ul", { className: "told" });
  told.forEach(({ from, data: [{ mean, std, interval_68: [low, high] }] }, i) => {
    const line = list.appendChild(element("li"));
    line.append(element("i"), `${mean.toFixed(3)} ± ${std.toFixed(3)} from ${from}`, element("span", { className: "soft", textContent: `68 % within ${low.toFixed(3)} – ${high.toFixed(3)}` }));
    line.firstChild.style.borderTop = `2px ${["solid", "dashed", "dotted"][i % 3]} ${looks[i % looks.length].stroke}`;
  });
  box.append(plotted(element("div"), options, [keep.map((i) => edges[i]), ...curves.map((curve) => keep.map((i) => curve[i]))]), list);
  return box;
}

// --- a spectrum ---

const parts = (rows, key) => rows.map((row) => Object.values(row).find((one) => one?.[key])).filter(Boolean);

// Means of pixels in bins that are those of the measured spectrum, where there is one, and go on beyond its ends.
export function linesBox(rows, { sky, lines, z }) {
  const told = parts(rows, "wavelength_aa");
  if (!told.length) throw new Error("the model told no spectrum");
  const { start, step } = sky?.about.spectrum ?? { start: told[0].wavelength_aa[0], step: 2 };
  const bins = told[0].wavelength_aa.map((value) => Math.floor((value - start) / step));
  const first = Math.min(0, bins[0]);
  const count = Math.max(lines?.flux.length ?? 0, bins.at(-1) + 1) - first;
  const draws = told.map(({ flux }) => {
    const [sums, seen] = [new Float64Array(count), new Uint16Array(count)];
    flux.forEach((value, i) => { if (value !== null) { sums[bins[i] - first] += value; seen[bins[i] - first]++; } });
    return Array.from(sums, (sum, i) => (seen[i] ? sum / seen[i] : null));
  });
  const each = (act) => draws[0].map((_, i) => (draws[0][i] === null ? null : act(draws.map((one) => one[i]))));
  const mean = each((all) => all.reduce((sum, one) => sum + one) / all.length);
  const own = Array.from({ length: count }, (_, i) => lines?.flux[i + first] ?? null);
  const { accent, line } = paintbox();
  const thin = { stroke: "transparent", width: 0 };
  const series = [{ stroke: `${line}b0`, width: 1 }, thin, thin, { stroke: accent, width: 1.6 }];
  const options = overWavelengths({ unit: told[0].unit, series, bands: [{ series: [2, 3], fill: `${accent}40` }], scaled: [smooth(own, 4), mean], at: () => (Number.isFinite(z) ? z : null) });
  const wave = mean.map((_, i) => start + (i + first + 0.5) * step);
  const box = element("div");
  box.append(plotted(element("div"), options, [wave, smooth(own, 4), each((all) => Math.max(...all)), each((all) => Math.min(...all)), mean]));
  box.append(key([lines && ["measured", line], ["generated, and the range of its draws", accent]]));
  return box;
}

function key(entries) {
  const list = element("ul", { className: "told" });
  for (const [words, colour] of entries.filter(Boolean)) {
    const entry = list.appendChild(element("li"));
    entry.append(element("i"), words);
    entry.firstChild.style.borderTop = `2px solid ${colour}`;
  }
  return list;
}

// --- an image ---

// Beside the measured one: the same piece of sky, bands and brightness, so that differences are the model's.
export function imageBox(rows, { sky, picture }) {
  const told = parts(rows, "bands");
  if (!told.length) throw new Error("the model told no image");
  const flux = told[0].flux.map((plane, band) => plane.map((line, y) => line.map((_, x) => told.reduce((sum, one) => sum + (one.flux[band][y][x] ?? 0), 0) / told.length)));
  const own = sky?.about.picture;
  const { planes, about } = over({ ...told[0], flux }, own);
  const field = Math.min(about.side * (about.scale ?? 1), picture && own.scale && about.scale ? own.side * own.scale : Infinity);
  const box = element("div", { className: "pair" });
  if (picture) box.append(frame("measured", cut(picture, own.side, own.scale, field), own));
  box.append(frame("generated", cut(planes, about.side, about.scale, field), about));
  return box;
}

// An image as it came over the wire, as picture.js draws it: planes over white, which are as bright as those of `own`.
export function over({ flux, bands, unit, pixel_scale_arcsec: scale }, own) {
  const side = Math.min(flux[0].length, flux[0][0].length);
  const [top, left] = [(flux[0].length - side) >> 1, (flux[0][0].length - side) >> 1];
  const display = unit === "display";
  const planes = flux.map((plane, band) => {
    const values = Float32Array.from({ length: side ** 2 }, (_, i) => plane[top + Math.floor(i / side)][left + (i % side)] ?? 0);
    const most = display ? 255 : white(own, bands[band], scale, values);
    return values.map((value) => value / most);
  });
  return { planes, about: { side, display, scale, rgb: like(bands, own, display), planes: bands.map((band) => ({ band })) } };
}

// The bands that the page draws red, green and blue, if the model's are called so too.
function like(bands, own, display) {
  const found = own?.rgb.map((i) => bands.indexOf(own.planes[i].band)) ?? [-1];
  if (!found.includes(-1)) return found;
  const order = display ? [...bands.keys()] : [...bands.keys()].reverse(); // bands go blue to red
  return [order[0], order[(order.length - 1) >> 1], order.at(-1)];
}

// The flux that is drawn white: as much a square arcsecond as on the page; the brightest pixels where it has no such band.
function white(own, band, scale, plane) {
  const known = own?.planes.find((one) => one.band === band);
  if (known && own.scale && scale) return known.white * (scale / own.scale) ** 2;
  return Math.max([...plane].sort((a, b) => a - b)[Math.floor(0.997 * plane.length)], 1e-9);
}

function cut(planes, side, scale, field) {
  const kept = scale && Number.isFinite(field) ? Math.min(side, Math.round(field / scale)) : side;
  const from = (side - kept) >> 1;
  return { side: kept, planes: planes.map((plane) => Float32Array.from({ length: kept ** 2 }, (_, i) => plane[(Math.floor(i / kept) + from) * side + (i % kept) + from])) };
}

function frame(words, { side, planes }, { rgb, display, scale }) {
  const box = element("figure");
  const inside = box.appendChild(element("div", { className: "frame" }));
  const canvas = inside.appendChild(element("canvas", { role: "img", ariaLabel: `Image, ${words}` }));
  if (scale) inside.append(scaleBar({ side, scale }));
  draw(canvas, { side, rgb, display }, planes, LOOK);
  box.append(element("figcaption", { className: "soft", textContent: words }));
  return box;
}
