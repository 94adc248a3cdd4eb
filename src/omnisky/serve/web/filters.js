// What is kept: numbers between two ends, each over its histogram, and a cone on the sky.

import { apart, readPosition } from "./coordinates.js";
import { said, spoken, unitText } from "./data.js";
import { coloured, ramp, CLASSES, UNKNOWN, theme } from "./colours.js";

const BINS = 44;

function histogram(column, kept) {
  const counts = new Uint32Array(BINS);
  const span = column.high - column.low || 1;
  column.values.forEach((value, row) => {
    const bin = Math.floor(((value - column.low) / span) * BINS);
    if (bin >= 0 && bin < BINS && (!kept || kept[row])) counts[bin]++;
  });
  return counts;
}

function bars(canvas, counts, paint, kept) {
  const ratio = Math.max(devicePixelRatio, 1);
  const [wide, high] = [canvas.clientWidth || 216, canvas.clientHeight || 34];
  Object.assign(canvas, { width: wide * ratio, height: high * ratio });
  const context = canvas.getContext("2d");
  const most = Math.max(...counts, 1);
  counts.forEach((count, i) => {
    const tall = Math.sqrt(count / most) * canvas.height;
    context.fillStyle = paint(i);
    context.globalAlpha = !kept || kept(i) ? 1 : 0.25;
    context.fillRect((i / BINS) * canvas.width + ratio / 2, canvas.height - tall, canvas.width / BINS - ratio, tall);
  });
}

export class Filters {
  constructor(sky, changed) {
    Object.assign(this, { sky, changed, between: new Map(), cone: null, shown: new Map() });
    this.ranges = document.querySelector("#ranges");
    this.ranges.replaceChildren();
    for (const column of [sky.redshift, sky.magnitude]) if (column) this.show(column);
    this.menu();
    const form = document.querySelector("#cone form");
    document.querySelector("#cone").hidden = !sky.columns.get("ra").values.some(Number.isFinite);
    form.onsubmit = (event) => {
      event.preventDefault();
      const at = readPosition(form.at.value);
      form.at.setCustomValidity(at ? "" : "RA and Dec, in degrees or sexagesimal");
      if (!form.reportValidity()) return;
      this.cone = { ...at, radius: +form.radius.value };
      this.apply();
    };
    form.at.oninput = () => form.at.setCustomValidity("");
    document.querySelector("#clear").onclick = () => this.clear();
  }

  menu() {
    const menu = document.querySelector("#more");
    const left = this.sky.numbers.filter((column) => !this.shown.has(column.name));
    menu.replaceChildren(new Option("add a number …", ""), ...left.map((column) => new Option(spoken(column.name), column.name)));
    menu.parentElement.hidden = !left.length;
    menu.onchange = () => { this.show(this.sky.columns.get(menu.value)); this.menu(); };
  }

  show(column) {
    const box = document.createElement("div");
    box.className = "range";
    box.innerHTML = `<div><span class="label"></span><output></output></div><canvas></canvas><div class="two"><input type="range"><input type="range"></div>`;
    const unit = column.unit ? ` / ${unitText(column.unit)}` : "";
    box.querySelector(".label").textContent = spoken(column.name) + unit;
    const [low, high] = box.querySelectorAll("input");
    low.setAttribute("aria-label", `Least ${column.name}`);
    high.setAttribute("aria-label", `Largest ${column.name}`);
    for (const input of [low, high]) Object.assign(input, { min: 0, max: 1000, step: 1 });
    [low.value, high.value] = [0, 1000];
    const ends = () => [+low.value === 0 ? -Infinity : at(low), +high.value === 1000 ? Infinity : at(high)];
    const at = (input) => column.low + (input.value / 1000) * (column.high - column.low);
    const act = (moved) => {
      if (+low.value > +high.value) (moved === low ? high : low).value = moved.value;
      const now = ends();
      if (now[0] === -Infinity && now[1] === Infinity) this.between.delete(column.name);
      else this.between.set(column.name, now);
      this.apply();
    };
    low.oninput = () => act(low);
    high.oninput = () => act(high);
    this.ranges.append(box);
    this.shown.set(column.name, { box, low, high, column });
    this.sketch(column.name);
  }

  sketch(name) {
    const { box, low, high, column } = this.shown.get(name);
    const share = (i) => ((i + 0.5) / BINS) * 1000;
    bars(box.querySelector("canvas"), histogram(column), () => getComputedStyle(document.documentElement).getPropertyValue("--blue"), (i) => share(i) >= +low.value && share(i) <= +high.value);
    const [least, most] = this.between.get(name) ?? [-Infinity, Infinity];
    box.querySelector("output").textContent = Number.isFinite(least) || Number.isFinite(most)
      ? `${Number.isFinite(least) ? said(least) : "…"} – ${Number.isFinite(most) ? said(most) : "…"}` : "all";
    box.style.setProperty("--low", `${low.value / 10}%`);
    box.style.setProperty("--high", `${high.value / 10}%`);
  }

  // From a link: {name: [low, high]}, {ra, dec, radius}.
  restore(between, cone) {
    for (const [name, [least, most]] of Object.entries(between)) {
      const column = this.sky.columns.get(name);
      if (!column || column.names) continue;
      if (!this.shown.has(name)) this.show(column);
      const { low, high } = this.shown.get(name);
      const place = (value) => Math.min(1000, Math.max(0, (1000 * (value - column.low)) / (column.high - column.low)));
      if (Number.isFinite(least)) low.value = place(least);
      if (Number.isFinite(most)) high.value = place(most);
      this.between.set(name, [least, most]);
    }
    this.cone = cone;
    this.menu();
    this.apply();
  }

  clear() {
    for (const { low, high } of this.shown.values()) [low.value, high.value] = [0, 1000];
    this.between.clear();
    this.cone = null;
    this.apply();
  }

  apply() {
    for (const name of this.shown.keys()) this.sketch(name);
    const some = this.between.size > 0 || this.cone !== null;
    document.querySelector("#clear").hidden = !some;
    this.kept = some ? this.rows() : null;
    const many = this.kept ? this.kept.reduce((sum, one) => sum + one, 0) : this.sky.count;
    document.querySelector("#listKept").hidden = !some || !many;
    const cone = this.cone ? ` within ${this.cone.radius}° of ${this.cone.ra.toFixed(2)} ${this.cone.dec.toFixed(2)}` : "";
    document.querySelector("#kept").textContent = some ? `${many.toLocaleString("en")} of ${this.sky.count.toLocaleString("en")} kept${cone}` : "";
    this.changed(this.kept);
  }

  rows() {
    const kept = new Uint8Array(this.sky.count).fill(1);
    for (const [name, [least, most]] of this.between) {
      const { values } = this.sky.columns.get(name);
      for (let row = 0; row < kept.length; row++) if (!(values[row] >= least && values[row] <= most)) kept[row] = 0;
    }
    if (this.cone) {
      const [ra, dec] = ["ra", "dec"].map((name) => this.sky.columns.get(name).values);
      for (let row = 0; row < kept.length; row++) if (!(apart(ra[row], dec[row], this.cone.ra, this.cone.dec) <= this.cone.radius)) kept[row] = 0;
    }
    return kept;
  }
}

// What the colours mean: a ramp over a histogram, or a line a class, which can be switched to.
export function legend(element, column) {
  element.replaceChildren();
  if (!column) return;
  if (column.names) {
    const counts = new Map();
    column.values.forEach((value) => counts.set(value, (counts.get(value) ?? 0) + 1));
    const list = document.createElement("ul");
    column.names.forEach((name, i) => list.append(key(CLASSES[theme()][i % 12], name, counts.get(i) ?? 0)));
    if (counts.has(255)) list.append(key(UNKNOWN[theme()], "not known", counts.get(255)));
    element.append(list);
    return;
  }
  const canvas = element.appendChild(document.createElement("canvas"));
  const ends = element.appendChild(document.createElement("div"));
  ends.className = "ends";
  for (const text of [said(column.low), unitText(column.unit ?? ""), said(column.high)]) ends.appendChild(document.createElement("span")).textContent = text;
  const colours = ramp();
  bars(canvas, histogram(column), (i) => colours[Math.round((i / (BINS - 1)) * 254)]);
  const strip = element.insertBefore(document.createElement("div"), ends);
  strip.className = "strip";
  strip.style.background = `linear-gradient(to right, ${colours.filter((_, i) => i % 16 === 0).join(",")})`;
}

function key(colour, name, count) {
  const line = document.createElement("li");
  line.innerHTML = `<i></i><span></span><b></b>`;
  line.querySelector("i").style.background = colour;
  line.querySelector("span").textContent = name;
  line.querySelector("b").textContent = count.toLocaleString("en");
  return line;
}

export { coloured };
