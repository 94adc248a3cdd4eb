// One object: the tip beside it, and its card.

import { compare } from "./alike.js";
import { sexagesimal } from "./coordinates.js";
import { said, spoken, unitText } from "./data.js";
import { $, keep, now, remember, SIMILARITY, state, stored } from "./page.js";
import { repaint } from "./paint.js";
import { pictureBox, planes, thumb } from "./picture.js";
import { madeViews } from "./made.js";
import { spectrumBox, spectrumOf } from "./spectrum.js";

export function hover(row) {
  now.map?.mark({ hover: row });
  tip(row);
}

export async function tip(row) {
  const box = $("#tip");
  box.hidden = row === null;
  if (row === null) return;
  await now.sky.ids();
  const at = now.map?.screen(row);
  if (!at) return;
  box.replaceChildren();
  if (now.sky.pictured(row)) box.append(thumb(now.sky, row, 72));
  const words = box.appendChild(document.createElement("div"));
  const lines = [now.sky.names[row], ...[...new Set([now.sky.redshift, now.sky.columns.get(state.colour), now.sky.magnitude])].filter(Boolean).map((column) => `${spoken(column.name)} ${said(column.values[row], column)}`)];
  lines.forEach((line, i) => words.appendChild(Object.assign(document.createElement(i ? "span" : "strong"), { textContent: line })));
  const stage = $("#stage").getBoundingClientRect();
  const box2 = box.getBoundingClientRect();
  box.style.left = `${Math.min(at[0] + 16, stage.width - box2.width - 8)}px`;
  box.style.top = `${Math.max(8, Math.min(at[1] - box2.height / 2, stage.height - box2.height - 8))}px`;
}

export async function pick(row, move = true) {
  Object.assign(state, { query: row, landed: null, plus: [row], minus: [], wall: 12 });
  now.map.mark({ query: row, landed: null, hover: null });
  tip(null);
  if (move) now.map.goTo(row);
  await now.sky.ids();
  card(row);
  remember();
  await compare();
}

export async function card(row) {
  const mine = ++now.turn;
  $("#empty").hidden = true;
  $("#card").hidden = false;
  $("#name").textContent = now.sky.names[row];
  const [ra, dec] = [now.sky.value("ra", row), now.sky.value("dec", row)];
  $("#place").textContent = Number.isFinite(ra) ? `${sexagesimal(ra, dec)}  ·  ${ra.toFixed(5)} ${dec < 0 ? "−" : "+"}${Math.abs(dec).toFixed(5)}` : "position not known";
  facts(row);
  const z = now.sky.redshift ? now.sky.redshift.values[row] : NaN;
  const [bands, spectrum] = await Promise.all([
    now.sky.about.picture ? planes(now.sky, row).catch(() => undefined) : null,
    now.sky.about.spectrum ? spectrumOf(now.sky, row).catch(() => undefined) : null,
  ]);
  if (mine !== now.turn) return;
  place($("#picture"), bands, now.sky.about.picture, (seen) => pictureBox(now.sky, seen, `Cut-out of ${now.sky.names[row]}`), "no image");
  place($("#spectrum"), spectrum, now.sky.about.spectrum, (seen) => spectrumBox(now.sky, seen, z), "no spectrum");
  madeViews($("#made"), now.server, now.sky, row);
}

// What was found; a sentence where the object lacks it or the file cannot be read; nothing where the sky has none.
export function place(element, found, about, draw, none) {
  element.replaceChildren();
  element.hidden = !about;
  if (!about) return;
  const text = found === undefined ? `${none}: the file could not be read` : none;
  element.append(found ? draw(found) : Object.assign(document.createElement("p"), { className: "soft none", textContent: text }));
}

function facts(row) {
  const first = [now.sky.redshift, now.sky.magnitude].filter(Boolean);
  const columns = [...new Set([...first, now.sky.columns.get(state.colour), ...now.sky.properties])].filter((column) => column && column.name !== SIMILARITY);
  const lines = columns.map((column) => {
    const line = document.createElement("div");
    const value = said(column.values[row], column);
    line.innerHTML = "<dt></dt><dd></dd>";
    line.firstChild.textContent = spoken(column.name);
    line.lastChild.textContent = value + (column.unit && value !== "–" ? ` ${unitText(column.unit)}` : "");
    return line;
  });
  const list = $("#facts");
  list.replaceChildren(...lines.slice(0, 6));
  if (lines.length > 6) {
    const rest = document.createElement("details");
    rest.innerHTML = `<summary>${lines.length - 6} more</summary>`;
    rest.append(...lines.slice(6));
    rest.open = stored("facts") === "open";
    rest.ontoggle = () => keep("facts", rest.open ? "open" : "");
    list.append(rest);
  }
}

export function forget() {
  Object.assign(state, { query: null, landed: null, plus: [], minus: [] });
  [now.similarity, now.alike] = [null, []];
  now.turn++;
  $("#card").hidden = true;
  $("#empty").hidden = false;
  now.map.mark({ query: null, landed: null, rings: [], hover: null });
  now.allSky.mark(null, []);
  if (state.colour === SIMILARITY) repaint();
  remember();
}
