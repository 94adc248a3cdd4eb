// The colours of the map: of a property, or of the similarity to what was asked about.

import { coloured, ramp, theme, UNKNOWN } from "./colours.js";
import { spoken } from "./data.js";
import { legend } from "./filters.js";
import { $, now, remember, SIMILARITY, state } from "./page.js";

export function colourMenu() {
  const menu = $("#colour");
  menu.replaceChildren(...now.sky.properties.map((column) => new Option(spoken(column.name), column.name)), new Option(SIMILARITY, SIMILARITY));
  menu.value = state.colour ?? SIMILARITY;
  menu.onchange = () => { state.colour = menu.value; repaint(); remember(); };
}

function shownColumn() {
  if (state.colour !== SIMILARITY) return now.sky.columns.get(state.colour) ?? null;
  if (!now.similarity) return null;
  const sorted = Float32Array.from(now.similarity.filter(Number.isFinite)).sort();
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  return { name: SIMILARITY, values: now.similarity, low: at(0.3), high: at(0.9995), unit: "" };
}

let painting = null;
export function repaint() {
  painting ??= requestAnimationFrame(() => { painting = null; paint(); });
}

export async function paint() {
  const column = shownColumn();
  const plain = { palette: [UNKNOWN[theme()], ...ramp()], places: new Float32Array(now.sky.count).fill(0.45) };
  await now.map.paint(column ? coloured(column) : plain, state.kept);
  legend($("#legend"), column);
  if (!column) $("#legend").textContent = "Pick an object to compare with.";
}
