// A spectrum with the lines it should have at a redshift, which can be moved.

import { unitText } from "./data.js";
import uPlot from "./vendor/uplot.js";

// Å in vacuum, at rest; doublets at their middle, of [O III] the stronger.
const EMISSION = { Lyα: 1215.67, "C IV": 1549.5, "C III]": 1908.7, "Mg II": 2799.1, "[O II]": 3728.5, Hγ: 4341.7, Hβ: 4862.7, "[O III]": 5008.2, Hα: 6564.6, "[S II]": 6725.5 };
const ABSORPTION = { "Ca H K": 3952.2, G: 4305.6, "Mg b": 5176.6, "Na D": 5895.6 };

export async function spectrumOf(sky, row) {
  const about = sky.about.spectrum;
  const bytes = about && (await sky.bytes("spectra", row, about.chunk));
  if (!bytes) return null;
  const scale = new Float32Array(bytes, 0, 1)[0];
  const flux = Array.from(new Int16Array(bytes.slice(4)), (value) => (value === -32768 ? null : value * scale));
  return { wave: flux.map((_, i) => about.start + (i + 0.5) * about.step), flux };
}

export function smooth(flux, half) {
  return flux.map((_, i) => {
    let [sum, n] = [0, 0];
    for (let j = Math.max(0, i - half); j <= Math.min(flux.length - 1, i + half); j++) if (flux[j] !== null) { sum += flux[j]; n++; }
    return n ? sum / n : null;
  });
}

export function sparkline({ flux }, wide, high) {
  const canvas = document.createElement("canvas");
  const ratio = Math.max(devicePixelRatio, 1);
  Object.assign(canvas, { width: wide * ratio, height: high * ratio });
  const context = canvas.getContext("2d");
  const shown = smooth(flux, 10);
  const known = shown.filter((value) => value !== null).sort((a, b) => a - b);
  const [low, top] = [Math.min(0, known[Math.floor(known.length * 0.01)]), known[Math.floor(known.length * 0.995)] || 1];
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  context.lineWidth = ratio;
  context.beginPath();
  shown.forEach((value, i) => {
    if (value !== null) context.lineTo((i / flux.length) * canvas.width, canvas.height * (0.94 - (0.86 * (value - low)) / (top - low || 1)));
  });
  context.stroke();
  return canvas;
}

// Returns the element; the plot is drawn once it has a place on the page.
export function spectrumBox(sky, { wave, flux }, redshift) {
  const box = document.createElement("figure");
  box.className = "spectrum";
  let z = Number.isFinite(redshift) ? redshift : 0;
  let marked = Number.isFinite(redshift);
  const row = document.createElement("div");
  row.className = "controls";
  row.innerHTML = `<label class="slide">lines at z <input type="number" step="0.0001" min="-0.01" max="7"><input type="range" min="0" max="1" step="0.0005" aria-label="Redshift of the lines"></label><button class="quiet">measured z</button>`;
  const [number, range] = row.querySelectorAll("input");
  const back = row.querySelector("button");
  range.max = Math.max(1, 2 * z);
  let plot = null;
  const move = (value) => {
    z = value;
    marked = true;
    number.value = z.toFixed(4);
    range.value = z;
    back.hidden = !Number.isFinite(redshift) || Math.abs(z - redshift) < 5e-5;
    plot?.redraw(false, false);
  };
  number.onchange = () => move(+number.value);
  range.oninput = () => move(+range.value);
  back.onclick = () => move(redshift);
  move(z);
  marked = Number.isFinite(redshift);
  const smoothed = smooth(flux, 4);
  const { soft, line } = paintbox();
  const series = [{ stroke: soft + "80", width: 0.6 }, { stroke: line, width: 1.3 }];
  const options = overWavelengths({ unit: sky.about.spectrum.unit, series, scaled: [smoothed], at: () => (marked ? z : null) });
  box.append(plotted(document.createElement("div"), options, [wave, flux, smoothed], (made) => { plot = made; }), row);
  return box;
}

// Colours and axes of all plots, as the theme has them.
export function paintbox() {
  const style = getComputedStyle(document.documentElement);
  const found = Object.fromEntries(["ink", "soft", "faint", "accent", "blue", "line"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  const axis = { stroke: found.soft, grid: { stroke: found.faint, width: 0.5 }, ticks: { stroke: found.faint, width: 0.5, size: 4 }, font: "11px system-ui", labelFont: "11px system-ui", labelSize: 16 };
  return { ...found, axis };
}

// A plot as wide as its place, drawn once it has one; `began` is told of it.
export function plotted(place, options, data, began = () => {}) {
  requestAnimationFrame(() => {
    const plot = new uPlot({ width: place.clientWidth || 400, legend: { show: false }, ...options }, data, place);
    began(plot);
    const follow = new ResizeObserver(() => {
      if (!place.isConnected) { follow.disconnect(); plot.destroy(); } else if (place.clientWidth) plot.setSize({ width: place.clientWidth, height: options.height });
    });
    follow.observe(place);
  });
  return place;
}

// `at` says at which redshift lines are marked, null: none; `scaled` are the fluxes that must be seen whole.
export function overWavelengths({ unit, series, bands = [], scaled, at }) {
  const { accent, blue, axis } = paintbox();
  const known = scaled.map((flux) => flux.filter((value) => value !== null).sort((a, b) => a - b)).filter((flux) => flux.length);
  const low = Math.min(0, ...known.map((flux) => flux[Math.floor(flux.length * 0.005)]));
  const top = known.length ? Math.max(...known.map((flux) => flux[Math.ceil(flux.length * 0.999) - 1])) : 1;
  const pad = 0.1 * (top - low || 1);
  return {
    height: 210, padding: [46, 8, 0, 0],
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { range: [low - pad * (low < 0), top + pad] } },
    axes: [{ ...axis, size: 28, label: "observed wavelength / Å", labelGap: -2, labelSize: 15, values: (_, ticks) => ticks.map((tick) => tick.toLocaleString("en")) }, { ...axis, size: 38, label: `flux / ${unitText(unit)}`, labelGap: 0, space: 26 }],
    series: [{}, ...series.map((one) => ({ spanGaps: false, points: { show: false }, ...one }))], bands,
    hooks: { drawClear: [(plot) => lines(plot, at(), accent, blue)], draw: [(plot) => names(plot, at(), accent, blue)] },
  };
}

function inView(plot, z) {
  const all = [...Object.entries(EMISSION).map((one) => [...one, true]), ...Object.entries(ABSORPTION).map((one) => [...one, false])];
  const { min, max } = plot.scales.x;
  return all.map(([name, rest, emits]) => ({ name, emits, wave: rest * (1 + z) })).filter(({ wave }) => wave > min && wave < max).sort((a, b) => a.wave - b.wave);
}

function lines(plot, z, accent, blue) {
  if (z === null) return;
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.globalAlpha = 0.5;
  ctx.lineWidth = devicePixelRatio;
  for (const { wave, emits } of inView(plot, z)) {
    const x = Math.round(plot.valToPos(wave, "x", true)) + 0.5;
    ctx.strokeStyle = emits ? accent : blue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

// Names above the lines; those too near to one another move up a step.
function names(plot, z, accent, blue) {
  if (z === null) return;
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  ctx.textAlign = "center";
  const ends = [-Infinity, -Infinity, -Infinity];
  for (const { name, wave, emits } of inView(plot, z)) {
    const half = ctx.measureText(name).width / 2 + 3 * devicePixelRatio;
    const x = Math.min(plot.valToPos(wave, "x", true), bbox.left + bbox.width - half);
    const step = ends.findIndex((end) => x - half > end);
    if (step < 0) continue;
    ends[step] = x + half;
    ctx.fillStyle = emits ? accent : blue;
    ctx.fillText(name, x, bbox.top - (5 + 13 * step) * devicePixelRatio);
  }
  ctx.restore();
}
