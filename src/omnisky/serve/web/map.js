// The map: points on a plain canvas, soon by WebGL (regl-scatterplot) if there is any; what is marked lies on a canvas above.

import { PlainPoints } from "./plain.js";
import { drawThumb } from "./picture.js";
import { ringed } from "./rings.js";

const THUMB = 44; // px
const FEW = 1500; // points in view before pictures are drawn: their files are few, as neighbours share them

// Null where there is none, or the address ends in ?canvas.
async function byWebGL(options) {
  if (new URLSearchParams(location.search).has("canvas")) return null;
  try {
    const { createScatterplot } = await import("./vendor/regl-scatterplot.js");
    const points = createScatterplot(options);
    if (points.isSupported) return points;
    points.destroy();
  } catch (error) {
    console.warn(`no WebGL: ${error.message}`); // not looked for before: a context to look with takes half a second
  }
  return null;
}

export class SkyMap {
  // Of so many objects; which, `show` says.
  constructor(element, count, act) {
    Object.assign(this, { element, count, act, marks: { rings: [], query: null, landed: null, selected: [] }, pictures: true });
    const canvas = document.createElement("canvas");
    this.above = Object.assign(document.createElement("canvas"), { className: "above" });
    element.replaceChildren(canvas, this.above);
    const style = getComputedStyle(document.documentElement);
    this.options = { width: "auto", height: "auto", backgroundColor: style.getPropertyValue("--map").trim(), pointSize: this.size(),
      pointSizeSelected: 0, pointOutlineWidth: 0, colorBy: "valueA", opacityBy: "valueB", deselectOnDblClick: false, deselectOnEscape: false,
      lassoColor: style.getPropertyValue("--accent").trim(), lassoMinDelay: 8, lassoInitiator: false, showReticle: false, pointColorHover: [1, 1, 1, 0], performanceMode: count > 500000 };
    this.take("canvas", new PlainPoints({ ...this.options, canvas }));
    this.observer = new ResizeObserver(() => this.later());
  }

  take(kind, points) {
    Object.assign(this, { kind, points });
    points.subscribe("pointover", (row) => this.act.hover(row));
    points.subscribe("pointout", () => this.act.hover(null));
    points.subscribe("select", ({ points: rows }) => {
      points.deselect({ preventEvent: true });
      if (this.lassoed) this.act.lasso([...rows]);
      else if (rows.length) this.act.pick(rows[0]);
      this.lassoed = false;
    });
    points.subscribe("lassoStart", () => { this.lassoed = true; });
    points.subscribe("lassoEnd", () => setTimeout(() => { this.lassoed = false; }, 50));
    points.subscribe("view", () => { this.later(); this.act.view(); });
  }

  // WebGL takes over where the canvas is, once it has drawn the same below it.
  async quicken() {
    const canvas = document.createElement("canvas");
    this.element.prepend(canvas);
    const points = await byWebGL({ ...this.options, canvas });
    const { points: plain, shown } = this;
    if (points) {
      await this.put(points);
      while (plain.from) await new Promise(requestAnimationFrame); // until the hand lets go
      await points.zoomToLocation(this.camera.at, this.camera.distance);
    }
    if (!points || this.gone) {
      points?.destroy();
      canvas.remove();
      return;
    }
    this.take("WebGL", points);
    this.mode(plain.get("mouseMode") === "lasso");
    this.ground();
    if (this.shown !== shown) await this.put(points);
    plain.destroy();
    plain.canvas.remove();
    this.later();
  }

  show(sky) {
    this.sky = sky;
    this.x = sky.columns.get("map x").values;
    this.y = sky.columns.get("map y").values;
    this.observer.observe(this.element);
  }

  destroy() {
    this.gone = true;
    this.observer.disconnect();
    this.points.destroy();
  }

  size() {
    return Math.min(9, Math.max(2, 260 / Math.sqrt(this.count)));
  }

  opacity() {
    return Math.min(0.95, Math.max(0.35, 60 / Math.sqrt(this.count)));
  }

  // `places` of `palette` for each object; those that are not `kept` fade.
  async paint({ palette, places }, kept) {
    const bright = kept ? Float32Array.from(kept) : new Float32Array(this.count).fill(1);
    this.shown = { palette, places, bright };
    await this.put(this.points);
    this.later();
  }

  // One after the other: regl-scatterplot refuses to draw while it draws.
  put(points) {
    this.drawing = (this.drawing ?? Promise.resolve()).then(() => this.gone || this.drawn(points));
    return this.drawing;
  }

  async drawn(points) {
    const { palette, places, bright } = this.shown;
    points.set({ pointColor: palette, pointColorActive: palette, pointColorHover: palette, opacity: [0.06, this.opacity()] });
    const index = this.index ? { spatialIndex: this.index } : {};
    await points.draw({ x: this.x, y: this.y, z: places, w: bright }, { zDataType: "continuous", wDataType: "continuous", ...index });
    this.index ??= points.get("spatialIndex");
  }

  ground() {
    const style = getComputedStyle(document.documentElement);
    this.points.set({ backgroundColor: style.getPropertyValue("--map").trim(), lassoColor: style.getPropertyValue("--accent").trim() });
  }

  mode(lasso) {
    this.points.set({ mouseMode: lasso ? "lasso" : "panZoom" });
    this.element.classList.toggle("lasso", lasso);
  }

  get camera() {
    return { at: this.points.get("cameraTarget"), distance: this.points.get("cameraDistance") };
  }

  look(at, distance, smooth = true) {
    return this.points.zoomToLocation(at, distance, { transition: smooth && !still(), transitionDuration: 450 });
  }

  whole(smooth = true) {
    return this.look([0, 0], this.far, smooth);
  }

  // The distance from which all is seen, also in a window that is higher than wide.
  get far() {
    return Math.max(1, this.element.clientHeight / this.element.clientWidth);
  }

  nearer(factor) {
    const { at, distance } = this.camera;
    return this.look([...at], Math.max(distance * factor, 1e-3));
  }

  shift(dx, dy) {
    const { at, distance } = this.camera;
    return this.look([at[0] + dx * distance, at[1] + dy * distance], distance, false);
  }

  goTo(row) {
    const { distance } = this.camera;
    const seen = this.screen(row);
    const inside = seen && seen[0] > 30 && seen[1] > 30 && seen[0] < this.element.clientWidth - 30 && seen[1] < this.element.clientHeight - 30;
    if (!inside) this.look([this.x[row], this.y[row]], Math.min(distance, 0.4));
  }

  screen(row) {
    return this.points.getScreenPosition(row);
  }

  // Where a place of the plane is on the screen: at distance 1 its height is −1 … 1.
  place([x, y]) {
    const { at, distance } = this.camera;
    const half = this.element.clientHeight / 2 / distance;
    return [this.element.clientWidth / 2 + (x - at[0]) * half, this.element.clientHeight / 2 - (y - at[1]) * half];
  }

  mark(marks) {
    Object.assign(this.marks, marks);
    this.later();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    if (!this.sky) return;
    const { clientWidth: wide, clientHeight: high } = this.element;
    const ratio = devicePixelRatio;
    if (this.above.width !== wide * ratio || this.above.height !== high * ratio) {
      this.above.width = wide * ratio;
      this.above.height = high * ratio;
    }
    const context = this.above.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    const style = getComputedStyle(document.documentElement);
    const [accent, ink, ground] = ["--accent", "--ink", "--map"].map((name) => style.getPropertyValue(name).trim());
    if (this.pictures && this.sky.about.picture) this.quilt(context, wide, high);
    ringed(this, context, { accent, ink, ground });
  }

  quilt(context, wide, high) {
    const inView = this.points.get("pointsInView");
    if (inView.length > FEW) return;
    const taken = new Set();
    const kept = this.kept;
    const strong = new Set([...this.marks.rings, this.marks.query]);
    const size = Math.max(THUMB, Math.min(84, wide / Math.sqrt(inView.length + 1) / 2.4));
    context.imageSmoothingQuality = "high";
    for (const row of [...strong, ...inView]) {
      if (row === null || (kept && !kept[row]) || !this.sky.pictured(row)) continue;
      const at = this.screen(row);
      if (!at || at[0] < 0 || at[1] < 0 || at[0] > wide || at[1] > high) continue;
      const cell = [Math.floor(at[0] / size), Math.floor(at[1] / size)];
      const near = [-1, 0, 1].some((i) => [-1, 0, 1].some((j) => {
        const other = this.shownAt.get(`${cell[0] + i},${cell[1] + j}`);
        return other && taken.has(other) && Math.abs(other[0] - at[0]) < size && Math.abs(other[1] - at[1]) < size;
      }));
      if (near) continue;
      this.shownAt.set(`${cell}`, at);
      taken.add(at);
      context.save();
      context.beginPath();
      context.roundRect(at[0] - size / 2, at[1] - size / 2, size - 3, size - 3, 5);
      context.clip();
      drawThumb(this.sky, row, context, at[0] - size / 2, at[1] - size / 2, size - 3, () => this.later());
      context.restore();
    }
    this.shownAt.clear();
  }

  shownAt = new Map();
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
