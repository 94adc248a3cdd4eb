// Points without WebGL, or until it is there: the part of regl-scatterplot that the map uses, on a canvas.

export class PlainPoints {
  constructor(options) {
    this.options = { ...options, mouseMode: "panZoom" };
    this.canvas = options.canvas;
    this.canvas.className = "plain";
    Object.assign(this, { heard: new Map(), target: [0, 0], distance: 1, data: null, path: null });
    const on = (name, act) => this.canvas.addEventListener(name, act);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointerleave", () => this.tell("pointout", null));
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.measure();
    this.observer = new ResizeObserver(() => { this.measure(); this.later(); });
    this.observer.observe(this.canvas);
  }

  subscribe(name, act) { this.heard.set(name, act); }
  tell(name, what) { this.heard.get(name)?.(what); }
  destroy() { this.observer.disconnect(); }
  deselect() {}
  set(options) { Object.assign(this.options, options); this.later(); }

  get(name) {
    if (name === "cameraTarget") return this.target;
    if (name === "cameraDistance") return this.distance;
    if (name === "pointsInView") return this.inside([0, 0], [this.wide, this.high]);
    return this.options[name];
  }

  // Kept: to ask an element for its size once a point takes seconds.
  measure() { Object.assign(this, { wide: this.canvas.clientWidth, high: this.canvas.clientHeight }); }
  get half() { return this.high / 2 / this.distance; }

  screenOf(x, y) {
    return [this.wide / 2 + (x - this.target[0]) * this.half, this.high / 2 - (y - this.target[1]) * this.half];
  }

  planeOf([x, y]) {
    return [(x - this.wide / 2) / this.half + this.target[0], (this.high / 2 - y) / this.half + this.target[1]];
  }

  getScreenPosition(row) { return this.screenOf(this.data.x[row], this.data.y[row]); }

  inside(corner, opposite) {
    const [low, high] = [this.planeOf([corner[0], opposite[1]]), this.planeOf([opposite[0], corner[1]])];
    const { x, y } = this.data ?? { x: [] };
    const rows = [];
    for (let row = 0; row < x.length; row++) {
      if (x[row] >= low[0] && y[row] >= low[1] && x[row] <= high[0] && y[row] <= high[1]) rows.push(row);
    }
    return rows;
  }

  // Kept until it is drawn: in the next frame, together with all that was set.
  draw(data) {
    this.data = data;
    this.later();
    return new Promise(requestAnimationFrame);
  }

  async zoomToLocation(target, distance) {
    Object.assign(this, { target: [...target], distance });
    this.later();
    this.tell("view");
  }

  later() { this.frame ??= requestAnimationFrame(() => { this.frame = null; this.render(); }); }

  // Straight into pixels: a call for each of 200,000 points would take a second.
  render() {
    if (!this.data || !this.wide) return;
    const ratio = devicePixelRatio;
    const [wide, high] = [Math.round(this.wide * ratio), Math.round(this.high * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) Object.assign(this.canvas, { width: wide, height: high });
    const context = this.canvas.getContext("2d", { willReadFrequently: true }); // in memory: no graphics card to wait for
    const image = context.createImageData(wide, high);
    this.dots(image, ratio);
    context.putImageData(image, 0, 0);
    if (this.path?.length > 1) this.outline(context, ratio);
  }

  dots({ data, width, height }, ratio) {
    const bytes = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    data.set([...bytes(this.options.backgroundColor), 255]);
    new Uint32Array(data.buffer).fill(new Uint32Array(data.buffer, 0, 1)[0]);
    const palette = Uint8Array.from(this.options.pointColor.flatMap(bytes));
    const [faint, bright] = this.options.opacity;
    const size = Math.max(1, Math.round(this.options.pointSize * ratio * 0.8));
    const middle = (size - 1) / 2; // of a disc: how much of each pixel it covers
    const disc = Float32Array.from({ length: size ** 2 }, (_, i) => Math.min(1, Math.max(0, middle + 1 - Math.hypot((i % size) - middle, Math.floor(i / size) - middle))));
    const [scale, last] = [this.half * ratio, palette.length / 3 - 1];
    const [east, north] = [width / 2 - this.target[0] * scale - size / 2, height / 2 + this.target[1] * scale - size / 2];
    const { x, y, z, w } = this.data;
    for (let row = 0; row < x.length; row++) {
      const left = Math.round(east + x[row] * scale), top = Math.round(north - y[row] * scale);
      const colour = 3 * Math.round(z[row] * last), share = w[row] ? bright : faint;
      for (let v = Math.max(0, top); v < Math.min(height, top + size); v++) {
        for (let u = Math.max(0, left); u < Math.min(width, left + size); u++) {
          const place = 4 * (v * width + u), cover = share * disc[(v - top) * size + u - left];
          for (let k = 0; k < 3; k++) data[place + k] += cover * (palette[colour + k] - data[place + k]);
        }
      }
    }
  }

  outline(context, ratio) {
    context.beginPath();
    for (const [x, y] of this.path) context.lineTo(x * ratio, y * ratio);
    Object.assign(context, { strokeStyle: this.options.lassoColor, lineWidth: 2 * ratio });
    context.stroke();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  near(at) {
    const [east, north] = this.planeOf(at);
    const { x, y } = this.data ?? { x: [] };
    let found = null, least = (12 / this.half) ** 2;
    for (let row = 0; row < x.length; row++) {
      const far = (x[row] - east) ** 2 + (y[row] - north) ** 2;
      if (far < least) [found, least] = [row, far];
    }
    return found;
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.from = this.at(event);
    this.start = [...this.target];
    this.path = this.options.mouseMode === "lasso" || event.shiftKey ? [this.from] : null;
  }

  move(event) {
    const at = this.at(event);
    if (!this.from) {
      const row = this.near(at);
      this.tell(row === null ? "pointout" : "pointover", row);
    } else if (this.path) {
      this.path.push(at);
      this.later();
    } else {
      this.target = [this.start[0] - (at[0] - this.from[0]) / this.half, this.start[1] + (at[1] - this.from[1]) / this.half];
      this.later();
      this.tell("view");
    }
  }

  up(event) {
    const at = this.at(event);
    const still = Math.hypot(at[0] - this.from[0], at[1] - this.from[1]) < 4;
    if (this.path && !still) {
      const rows = this.inside([0, 0], [this.wide, this.high]).filter((row) => within(this.getScreenPosition(row), this.path));
      this.tell("lassoStart");
      this.tell("select", { points: rows });
      this.tell("lassoEnd");
    } else if (still) {
      const row = this.near(at);
      if (row !== null) this.tell("select", { points: [row] });
    }
    this.from = this.path = null;
    this.later();
  }

  wheel(event) {
    event.preventDefault();
    const at = this.at(event);
    const before = this.planeOf(at);
    this.distance = Math.min(4, Math.max(1e-3, this.distance * Math.exp(event.deltaY / 500)));
    const after = this.planeOf(at);
    this.target = this.target.map((value, i) => value + before[i] - after[i]);
    this.later();
    this.tell("view");
  }
}

export function within([x, y], path) {
  let inside = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [path[i], path[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
