// Where objects are: the whole sky in Mollweide's projection, or the field they lie in, east to the left.

import { angle, apart } from "./coordinates.js";

const RAD = Math.PI / 180;

export function mollweide(ra, dec, centre) {
  const lon = (((ra - centre + 540) % 360) - 180) * RAD;
  const want = Math.PI * Math.sin(dec * RAD);
  let theta = dec * RAD;
  for (let i = 0; i < 12 && Math.abs(dec) < 89.999; i++) theta -= (2 * theta + Math.sin(2 * theta) - want) / (2 + 2 * Math.cos(2 * theta));
  if (Math.abs(dec) >= 89.999) theta = (Math.sign(dec) * Math.PI) / 2;
  return [(-lon / Math.PI) * Math.cos(theta), 0.5 * Math.sin(theta)]; // x −1 … 1, y −0.5 … 0.5
}

export class AllSky {
  constructor(canvas, sky, pick) {
    Object.assign(this, { canvas, sky, rings: [], query: null, ra: sky.columns.get("ra").values, dec: sky.columns.get("dec").values });
    const known = [...Array(sky.count).keys()].filter((row) => Number.isFinite(this.ra[row]));
    this.known = known;
    canvas.closest("section").hidden = !known.length;
    this.frame();
    canvas.onclick = (event) => {
      const box = canvas.getBoundingClientRect();
      const row = this.near(event.clientX - box.left, event.clientY - box.top);
      if (row !== null) pick(row);
    };
    this.observer = new ResizeObserver(() => { this.ground = null; this.draw(); });
    this.observer.observe(canvas);
  }

  destroy() {
    this.observer.disconnect();
  }

  // A field smaller than 20° is drawn flat.
  frame() {
    const sum = this.known.reduce((sum, row) => {
      const [a, d] = [this.ra[row] * RAD, this.dec[row] * RAD];
      return [sum[0] + Math.cos(d) * Math.cos(a), sum[1] + Math.cos(d) * Math.sin(a), sum[2] + Math.sin(d)];
    }, [0, 0, 0]);
    this.middle = [((Math.atan2(sum[1], sum[0]) / RAD) + 360) % 360, Math.atan2(sum[2], Math.hypot(sum[0], sum[1])) / RAD];
    const together = Math.hypot(...sum) / this.known.length > 0.3;
    this.centre = together ? (Math.round(this.middle[0] / 60) * 60) % 360 : 180; // what lies together is not cut in two
    const far = this.known.reduce((most, row) => Math.max(most, apart(this.ra[row], this.dec[row], ...this.middle)), 0);
    this.radius = far < 10 ? Math.max(far * 1.1, 1e-4) : null;
  }

  project(row) {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (this.radius === null) {
      const [x, y] = mollweide(this.ra[row], this.dec[row], this.centre);
      const half = Math.min(wide / 2 - 6, high - 12);
      return [wide / 2 + x * half, high / 2 - y * half];
    }
    const east = (((this.ra[row] - this.middle[0] + 540) % 360) - 180) * Math.cos(this.dec[row] * RAD);
    const scale = (Math.min(wide, high) / 2 - 8) / this.radius;
    return [wide / 2 - east * scale, high / 2 - (this.dec[row] - this.middle[1]) * scale];
  }

  near(x, y) {
    let [found, least] = [null, 18 ** 2];
    for (const row of this.known) {
      const at = this.project(row);
      const far = (at[0] - x) ** 2 + (at[1] - y) ** 2;
      if (far < least) [found, least] = [row, far];
    }
    return found;
  }

  mark(query, rings) {
    Object.assign(this, { query, rings });
    this.draw();
  }

  draw() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (!wide || !this.known.length) return;
    const ratio = devicePixelRatio;
    if (!this.ground || this.ground.width !== wide * ratio) this.ground = this.paintGround(wide, high, ratio);
    Object.assign(this.canvas, { width: wide * ratio, height: high * ratio });
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
    const canvas = new OffscreenCanvas(wide * ratio, high * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--faint").trim();
    context.fillStyle = style.getPropertyValue("--soft").trim();
    context.font = "10px system-ui";
    if (this.radius === null) this.graticule(context, wide, high);
    else this.field(context, wide, high);
    context.fillStyle = style.getPropertyValue("--blue").trim();
    context.globalAlpha = Math.min(0.8, Math.max(0.12, 30 / Math.sqrt(this.known.length)));
    for (const row of this.known) {
      const [x, y] = this.project(row);
      context.fillRect(x - 0.7, y - 0.7, 1.4, 1.4);
    }
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
    const length = steps.filter((step) => step < this.radius / 1.6).pop() ?? steps[0];
    const pixels = (length * (Math.min(wide, high) / 2 - 8)) / this.radius;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(10, high - 12);
    context.lineTo(10 + pixels, high - 12);
    context.stroke();
    context.fillText(angle(length), 10, high - 18);
    context.fillText("E ←   ↑ N", wide - 62, high - 12);
  }
}
