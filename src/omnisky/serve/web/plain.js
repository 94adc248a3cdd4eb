// Points without WebGL: the part of regl-scatterplot that the map uses, on a canvas.

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
    this.observer = new ResizeObserver(() => this.later());
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

  get wide() { return this.canvas.clientWidth; }
  get high() { return this.canvas.clientHeight; }
  get half() { return this.high / 2 / this.distance; }

  screenOf(x, y) {
    return [this.wide / 2 + (x - this.target[0]) * this.half, this.high / 2 - (y - this.target[1]) * this.half];
  }

  planeOf([x, y]) {
    return [(x - this.wide / 2) / this.half + this.target[0], (this.high / 2 - y) / this.half + this.target[1]];
  }

  getScreenPosition(row) { return this.screenOf(this.data.x[row], this.data.y[row]); }

  inside(corner, opposite) {
    const rows = [];
    for (let row = 0; this.data && row < this.data.x.length; row++) {
      const [x, y] = this.getScreenPosition(row);
      if (x >= corner[0] && y >= corner[1] && x <= opposite[0] && y <= opposite[1]) rows.push(row);
    }
    return rows;
  }

  async draw(data) { this.data = data; this.render(); }

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
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(wide, high);
    const bytes = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const ground = bytes(this.options.backgroundColor);
    for (let i = 0; i < image.data.length; i += 4) image.data.set([...ground, 255], i);
    const palette = this.options.pointColor.map(bytes);
    const size = Math.max(1, Math.round(this.options.pointSize * ratio * 0.8));
    const { x, y, z, w } = this.data;
    for (let row = 0; row < x.length; row++) {
      const at = this.screenOf(x[row], y[row]);
      const [left, top] = [Math.round(at[0] * ratio - size / 2), Math.round(at[1] * ratio - size / 2)];
      if (left < 0 || top < 0 || left + size > wide || top + size > high) continue;
      const colour = palette[Math.round(z[row] * (palette.length - 1))];
      const share = w[row] ? this.options.opacity[1] : this.options.opacity[0];
      for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
        const place = 4 * ((top + i) * wide + left + j);
        for (let k = 0; k < 3; k++) image.data[place + k] += share * (colour[k] - image.data[place + k]);
      }
    }
    context.putImageData(image, 0, 0);
    if (this.path?.length > 1) this.outline(context, ratio);
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

  near([x, y]) {
    let [found, least] = [null, 12 ** 2];
    for (let row = 0; this.data && row < this.data.x.length; row++) {
      const [px, py] = this.getScreenPosition(row);
      const far = (px - x) ** 2 + (py - y) ** 2;
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
