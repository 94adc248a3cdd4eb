// Colours of numbers and classes, on a dark ground and on a light one.

const DARK = ["#2b2a74", "#4a3aa8", "#7a3fb5", "#ad45a6", "#d9538a", "#f3756a", "#ff9e56", "#ffc96b", "#fff2b8"];
const LIGHT = ["#f2c94c", "#eb9b3f", "#dd6f4a", "#c24a64", "#98357a", "#6b2b82", "#42277c", "#221c5f", "#0d1038"];
export const CLASSES = {
  dark: ["#7daff9", "#ffb84d", "#4fdf98", "#f7e03c", "#d98fc0", "#9489ff", "#e9ecf1", "#c8895a", "#5fd4d6", "#f0705f", "#a7c957", "#b8b8ff"],
  light: ["#2563c9", "#c76a00", "#0a8f57", "#a08400", "#b0487f", "#5a49d6", "#333a45", "#8a4f22", "#0f8488", "#c43a2b", "#5c7a12", "#6a6ad0"],
};
export const UNKNOWN = { dark: "#3a404c", light: "#c9cdd5" };

export const theme = () => document.documentElement.dataset.theme;

// 255 colours from low to high.
export function ramp() {
  const stops = (theme() === "light" ? LIGHT : DARK).map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  return Array.from({ length: 255 }, (_, i) => {
    const at = (i / 254) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mixed = stops[low].map((from, k) => Math.round(from + (stops[low + 1][k] - from) * (at - low)));
    return "#" + mixed.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  });
}

// Of a column: a palette whose first colour is "not known", and for each object a place in it, 0 … 1.
export function coloured(column) {
  const unknown = UNKNOWN[theme()];
  const values = column.values;
  const places = new Float32Array(values.length);
  if (column.names) {
    const all = CLASSES[theme()];
    const palette = [unknown, ...column.names.map((_, i) => all[i % all.length])];
    for (let row = 0; row < values.length; row++) places[row] = values[row] < column.names.length ? (values[row] + 1) / (palette.length - 1) : 0;
    return { palette, places };
  }
  const palette = [unknown, ...ramp()];
  const span = column.high - column.low || 1;
  for (let row = 0; row < values.length; row++) {
    const t = (values[row] - column.low) / span;
    places[row] = Number.isNaN(t) ? 0 : (1 + 254 * Math.min(1, Math.max(0, t))) / 255;
  }
  return { palette, places };
}
