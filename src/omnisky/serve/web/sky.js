// Where objects are: the whole sky in Mollweide's projection, or the field they lie in, east to the left.

import { angle, apart } from "./coordinates.js";

const RAD = Math.PI / 180;
const MOST = 20000; // objects handed to Aladin Lite, which draws each by itself
const FIELD_DEG = 0.05;

export function mollweide(ra, dec, centre) {
  const lon = (((ra - centre + 540) % 360) - 180) * RAD;
  const want = Math.PI * Math.sin(dec * RAD);
  let theta = dec * RAD;
  for (let i = 0, step = 1; i < 12 && Math.abs(step) > 1e-6 && Math.abs(dec) < 89.999; i++) {
    step = (2 * theta + Math.sin(2 * theta) - want) / (2 + 2 * Math.cos(2 * theta));
    theta -= step;
  }
  if (Math.abs(dec) >= 89.999) theta = (Math.sign(dec) * Math.PI) / 2;
  return [(-lon / Math.PI) * Math.cos(theta), 0.5 * Math.sin(theta)]; // x −1 … 1, y −0.5 … 0.5
}

export class AllSky {
  constructor(canvas, sky, pick) {
    Object.assign(this, { canvas, sky, rings: [], query: null, similarity: null, outside: null, ra: sky.columns.get("ra").values, dec: sky.columns.get("dec").values });
    this.known = new Int32Array(sky.count).map((_, row) => row).filter((row) => Number.isFinite(this.ra[row]));
    this.at = new Float32Array(2 * this.known.length); // pixels, of each
    canvas.closest("section").hidden = !this.known.length;
    this.frame();
    canvas.onclick = (event) => {
      const box = canvas.getBoundingClientRect();
      const row = this.near(event.clientX - box.left, event.clientY - box.top);
      if (row !== null) pick(row);
    };
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(canvas);
  }

  destroy() {
    this.observer.disconnect();
  }

  // A field smaller than 20° is drawn flat.
  frame() {
    const sum = [0, 0, 0];
    for (const row of this.known) {
      const [a, d] = [this.ra[row] * RAD, this.dec[row] * RAD];
      sum[0] += Math.cos(d) * Math.cos(a);
      sum[1] += Math.cos(d) * Math.sin(a);
      sum[2] += Math.sin(d);
    }
    this.middle = [((Math.atan2(sum[1], sum[0]) / RAD) + 360) % 360, Math.atan2(sum[2], Math.hypot(sum[0], sum[1])) / RAD];
    const together = Math.hypot(...sum) / this.known.length > 0.3;
    this.centre = together ? (Math.round(this.middle[0] / 60) * 60) % 360 : 180; // what lies together is not cut in two
    let far = together ? 0 : Infinity;
    for (const row of together ? this.known : []) far = Math.max(far, apart(this.ra[row], this.dec[row], ...this.middle));
    this.flat = far < 10;
    if (this.flat) this.fit();
  }

  // The middle of the field, and half of what it spans, both ways.
  fit() {
    const ends = [[Infinity, -Infinity], [Infinity, -Infinity]];
    for (const row of this.known) {
      this.offset(row).forEach((value, i) => { ends[i] = [Math.min(ends[i][0], value), Math.max(ends[i][1], value)]; });
    }
    const [east, north] = ends.map(([low, high]) => (low + high) / 2);
    this.half = ends.map(([low, high]) => Math.max((high - low) / 2, 1e-4));
    this.middle = [(this.middle[0] + east / Math.cos(this.middle[1] * RAD) + 360) % 360, this.middle[1] + north];
  }

  // Degrees east and north of the middle.
  offset(row) {
    return [(((this.ra[row] - this.middle[0] + 540) % 360) - 180) * Math.cos(this.middle[1] * RAD), this.dec[row] - this.middle[1]];
  }

  get scale() {
    return Math.min((this.wide / 2 - 12) / this.half[0], (this.high / 2 - 22) / this.half[1]);
  }

  project(row) {
    const { wide, high } = this; // kept: to ask an element for its size 200,000 times takes seconds
    if (!this.flat) {
      const [x, y] = mollweide(this.ra[row], this.dec[row], this.centre);
      const half = Math.min(wide / 2 - 6, high - 12);
      return [wide / 2 + x * half, high / 2 - y * half];
    }
    const { scale } = this, [east, north] = this.offset(row);
    return [wide / 2 - east * scale, high / 2 - north * scale];
  }

  near(x, y) {
    let [found, least] = [null, 18 ** 2];
    for (let i = 0; i < this.known.length; i++) {
      const far = (this.at[2 * i] - x) ** 2 + (this.at[2 * i + 1] - y) ** 2;
      if (far < least) [found, least] = [this.known[i], far];
    }
    return found;
  }

  mark(query, rings, similarity = null) {
    Object.assign(this, { query, rings, similarity });
    this.draw();
    this.tell();
  }

  // The same in Aladin Lite, in a frame of its own: the only part that may ask the network, once it is opened.
  aladin(frame) {
    this.outside = frame;
    addEventListener("message", ({ data, source }) => { if (data === "open" && source === frame.contentWindow) this.tell(MOST); });
  }

  async tell(most = 0) {
    if (!this.outside) return;
    const ids = await this.sky.ids();
    const one = (row) => ({ id: ids[row], ra: this.ra[row], dec: this.dec[row], similarity: this.similarity?.[row] });
    const placed = (rows) => rows.filter((row) => Number.isFinite(this.ra[row])).map(one);
    const told = { near: placed(this.rings), asked: this.query === null ? [] : placed([this.query]), fov: FIELD_DEG };
    if (most) told.all = placed([...this.known].filter((_, i) => i % Math.ceil(this.known.length / most) === 0));
    this.outside.contentWindow?.postMessage(told, location.origin);
  }

  draw() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (!wide || !this.known.length) return;
    const ratio = devicePixelRatio;
    Object.assign(this, { wide, high });
    const [width, height] = [Math.round(wide * ratio), Math.round(high * ratio)];
    if (this.ground?.width !== width || this.ground.height !== height) this.ground = this.paintGround(wide, high, ratio);
    Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.drawImage(this.ground, 0, 0);
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const dot = (row, radius, colour) => {
      if (!Number.isFinite(this.ra[row])) return;
      context.fillStyle = colour;
      context.beginPath();
      context.arc(...this.project(row), radius, 0, 7);
      context.fill();
    };
    for (const row of this.rings) dot(row, 2.8, style.getPropertyValue("--ink").trim());
    if (this.query === null) return;
    dot(this.query, 4, style.getPropertyValue("--accent").trim());
    context.strokeStyle = style.getPropertyValue("--accent").trim();
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(...this.project(this.query), 8, 0, 7);
    context.stroke();
  }

  paintGround(wide, high, ratio) {
    const canvas = new OffscreenCanvas(Math.round(wide * ratio), Math.round(high * ratio));
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--faint").trim();
    context.fillStyle = style.getPropertyValue("--soft").trim();
    context.font = "10px system-ui";
    if (!this.flat) this.graticule(context, wide, high);
    else this.field(context, wide, high);
    context.fillStyle = style.getPropertyValue("--blue").trim();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.dots(canvas.width, canvas.height, ratio, context.fillStyle), 0, 0);
    return canvas;
  }

  // Pixels, counted and coloured here: a canvas asked for 200,000 rectangles is busy for seconds without a graphics card.
  dots(width, height, ratio, colour) {
    const counts = new Uint32Array(width * height);
    const side = Math.max(1, Math.round(1.4 * ratio));
    for (let i = 0; i < this.known.length; i++) {
      const [x, y] = this.project(this.known[i]);
      this.at.set([x, y], 2 * i);
      const [left, top] = [Math.round(x * ratio - side / 2), Math.round(y * ratio - side / 2)];
      for (let v = Math.max(0, top); v < Math.min(height, top + side); v++) {
        for (let u = Math.max(0, left); u < Math.min(width, left + side); u++) counts[v * width + u]++;
      }
    }
    const clear = 1 - Math.min(0.8, Math.max(0.12, 30 / Math.sqrt(this.known.length))); // what one object lets through
    const shade = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const image = new ImageData(width, height);
    counts.forEach((count, i) => count && image.data.set([...shade, 255 * (1 - clear ** count)], 4 * i));
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  graticule(context, wide, high) {
    const half = Math.min(wide / 2 - 6, high - 12);
    const line = (points) => {
      context.beginPath();
      for (const [ra, dec] of points) {
        const [x, y] = mollweide(ra, dec, 180); // lines are drawn about the middle; only their names turn
        context.lineTo(wide / 2 + x * half, high / 2 - y * half);
      }
      context.stroke();
    };
    const steps = [...Array(61).keys()].map((i) => i / 60);
    context.lineWidth = 0.8;
    for (let ra = 0; ra <= 360; ra += 60) line(steps.map((t) => [Math.min(Math.max(ra, 0.001), 359.999), -90 + 180 * t]));
    for (let dec = -60; dec <= 60; dec += 30) line(steps.map((t) => [0.001 + 359.998 * t, dec]));
    for (const turn of [-120, -60, 0, 60, 120]) {
      const [x, y] = mollweide(180 + turn, -30, 180);
      context.fillText(`${(this.centre + turn + 360) % 360}°`, wide / 2 + x * half + 3, high / 2 - y * half - 3);
    }
  }

  field(context, wide, high) {
    const steps = [0.5 / 3600, 1 / 3600, 5 / 3600, 10 / 3600, 30 / 3600, 1 / 60, 2 / 60, 5 / 60, 10 / 60, 0.5, 1, 2, 5];
    const length = steps.filter((step) => step * this.scale < wide / 4).pop() ?? steps[0];
    const pixels = length * this.scale;
    context.lineWidth = 1.5;
    context.strokeStyle = context.fillStyle;
    context.beginPath();
    context.moveTo(10, high - 12);
    context.lineTo(10 + pixels, high - 12);
    context.stroke();
    context.fillText(angle(length).replace(/\.?0+(?=\D)/, ""), 10, high - 18);
    context.fillText("E ←   ↑ N", wide - 62, high - 12);
  }
}
