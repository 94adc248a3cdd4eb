// The map: points by WebGL (regl-scatterplot) or, without it, on a plain canvas; what is marked lies on a canvas above.

import { createScatterplot } from "./vendor/regl-scatterplot.js";
import { PlainPoints } from "./plain.js";
import { drawThumb } from "./picture.js";

const THUMB = 44; // px
const FEW = 1500; // points in view before pictures are drawn: their files are few, as neighbours share them

// By WebGL; on a canvas where there is none, or the address ends in ?canvas.
function pointsOf(options) {
  if (!new URLSearchParams(location.search).has("canvas")) {
    try {
      const points = createScatterplot(options);
      if (points.isSupported) return ["WebGL", points];
      points.destroy();
    } catch (error) {
      console.warn(`no WebGL: ${error.message}`); // not looked for before: a context to look with takes half a second
    }
  }
  return ["canvas", new PlainPoints(options)];
}

export class SkyMap {
  // Of so many objects; which, `show` says.
  constructor(element, count, act) {
    Object.assign(this, { element, count, act, marks: { rings: [], query: null, landed: null, selected: [] }, pictures: true });
    element.replaceChildren();
    const canvas = element.appendChild(document.createElement("canvas"));
    this.above = element.appendChild(document.createElement("canvas"));
    this.above.className = "above";
    const style = getComputedStyle(document.documentElement);
    const options = { canvas, width: "auto", height: "auto", backgroundColor: style.getPropertyValue("--map").trim(), pointSize: this.size(),
      pointSizeSelected: 0, pointOutlineWidth: 0, colorBy: "valueA", opacityBy: "valueB", deselectOnDblClick: false, deselectOnEscape: false,
      lassoColor: style.getPropertyValue("--accent").trim(), lassoMinDelay: 8, lassoInitiator: false, showReticle: false, pointColorHover: [1, 1, 1, 0], performanceMode: count > 500000 };
    [this.kind, this.points] = pointsOf(options);
    this.points.subscribe("pointover", (row) => act.hover(row));
    this.points.subscribe("pointout", () => act.hover(null));
    this.points.subscribe("select", ({ points }) => {
      this.points.deselect({ preventEvent: true });
      if (this.lassoed) act.lasso([...points]);
      else if (points.length) act.pick(points[0]);
      this.lassoed = false;
    });
    this.points.subscribe("lassoStart", () => { this.lassoed = true; });
    this.points.subscribe("lassoEnd", () => setTimeout(() => { this.lassoed = false; }, 50));
    this.points.subscribe("view", () => { this.later(); act.view(); });
    this.observer = new ResizeObserver(() => this.later());
  }

  show(sky) {
    this.sky = sky;
    this.x = sky.columns.get("map x").values;
    this.y = sky.columns.get("map y").values;
    this.observer.observe(this.element);
  }

  destroy() {
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
    this.points.set({ pointColor: palette, pointColorActive: palette, pointColorHover: palette, opacity: [0.06, this.opacity()] });
    const index = this.index ? { spatialIndex: this.index } : {};
    await this.points.draw({ x: this.x, y: this.y, z: places, w: bright }, { zDataType: "continuous", wDataType: "continuous", ...index });
    this.index ??= this.points.get("spatialIndex");
    this.later();
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
    this.ringed(context, accent, ink, ground);
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

  ringed(context, accent, ink, ground) {
    const { rings, query, landed, hover, selected } = this.marks;
    const ring = (at, radius, colour, width) => {
      for (const [line, shade] of [[width + 2.5, ground], [width, colour]]) {
        context.lineWidth = line;
        context.strokeStyle = shade;
        context.beginPath();
        context.arc(at[0], at[1], radius, 0, 7);
        context.stroke();
      }
    };
    if (selected.length) {
      context.strokeStyle = accent;
      context.lineWidth = 1.2;
      context.beginPath();
      for (const row of selected.slice(0, 20000)) {
        const at = this.screen(row);
        context.moveTo(at[0] + 4, at[1]);
        context.arc(at[0], at[1], 4, 0, 7);
      }
      context.stroke();
    }
    for (const row of rings) {
      const at = this.screen(row);
      if (at) ring(at, 6.5, ink, 1.4);
    }
    const middle = query === null ? landed && this.place(landed) : this.screen(query);
    if (middle) {
      ring(middle, 10, accent, 2.4);
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(middle[0] + 14 * dx, middle[1] + 14 * dy);
        context.lineTo(middle[0] + 21 * dx, middle[1] + 21 * dy);
      }
      context.stroke();
    }
    if (hover !== null && hover !== undefined) {
      const at = this.screen(hover);
      if (at) ring(at, 7.5, accent, 1.6);
    }
  }
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
