// Look-alikes: which are compared, the wall of them, and what they have in common.

import { forget, pick } from "./card.js";
import { spoken } from "./data.js";
import { $, now, remember, SIMILARITY, state, ways } from "./page.js";
import { paint } from "./paint.js";
import { thumb } from "./picture.js";
import { best, side, similarities } from "./search.js";
import { sparkline, spectrumOf } from "./spectrum.js";

function wayButtons() {
  const all = ways();
  const place = $("#ways");
  place.hidden = all.length < 2;
  place.replaceChildren(...all.map((way, i) => {
    const button = document.createElement("button");
    const [by, across] = way.split("~");
    button.textContent = `${by} → ${across}`;
    button.title = `${across}s like this ${by} (${i + 1})`;
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", way === state.way);
    button.onclick = () => { state.way = way; state.wall = 12; compare(); remember(); };
    return button;
  }));
}

export async function compare() {
  wayButtons();
  examples();
  const [by, across] = state.way.split("~");
  const asked = () => `${now.map && now.sky.name}|${state.plus}|${state.minus}|${state.way}|${state.landed}`;
  const mine = asked(); // an answer to what is no longer asked is dropped
  $("#wall").classList.add("busy");
  try {
    const question = { by: side(now.sky, state.landed?.side ?? by), across: side(now.sky, across), plus: state.plus, minus: state.minus, vector: state.landed?.vector };
    const found = await similarities(question);
    if (mine !== asked()) return;
    now.similarity = found;
    wall();
    if (state.colour === SIMILARITY) paint();
  } catch (error) {
    if (mine !== asked()) return;
    [now.similarity, now.alike] = [null, []];
    $("#wall").replaceChildren();
    $("#many").textContent = error.message === "absent" ? `This object has no ${by}.` : `Look-alikes cannot be read: ${error.message}`;
    now.map.mark({ rings: [] });
    now.allSky.mark(state.query, []);
  } finally {
    $("#wall").classList.remove("busy");
  }
}

// Others are meant: what was asked for changes, and so does the link.
function learn() {
  remember();
  compare();
}

// Several examples: more like these, less like those.
function examples() {
  const place = $("#examples");
  place.hidden = state.plus.length + state.minus.length + (state.landed ? 1 : 0) < 2;
  const chip = (row, list, sign) => {
    const button = document.createElement("button");
    button.className = "chip";
    button.textContent = `${sign} ${now.sky.names[row]} ✕`;
    button.onclick = () => { state[list] = state[list].filter((one) => one !== row); if (!state.plus.length && !state.landed) forget(); else learn(); };
    return button;
  };
  place.replaceChildren(state.landed ? "like the upload " : "like ", ...state.plus.map((row) => chip(row, "plus", "+")), ...state.minus.map((row) => chip(row, "minus", "−")));
}

export function wall() {
  if (!now.similarity) return;
  const [by, across] = state.way.split("~");
  const others = new Set(by === across ? [...state.plus, ...state.minus] : state.minus);
  const may = (row) => !others.has(row) && (!state.kept || state.kept[row]) && now.similarity[row] >= state.least;
  now.alike = best(now.similarity, state.wall, may);
  let many = 0;
  for (let row = 0; row < now.similarity.length; row++) if (now.similarity[row] >= state.least && may(row)) many++;
  $("#least").value = state.least;
  $("#least-said").textContent = state.least <= -1 ? "any" : state.least.toFixed(2);
  $("#many").textContent = summary(many);
  $("#wall").replaceChildren(...now.alike.map((row) => tile(row, across)));
  $("#moreAlike").hidden = now.alike.length >= Math.min(many, 96);
  $("#listAlike").hidden = !now.alike.length;
  now.map.mark({ rings: now.alike });
  now.allSky.mark(state.query, now.alike, now.similarity);
}

// What the look-alikes have in common, where a number is known: the median says, half the spread of 68 % beside it.
export function summary(many) {
  if (!many) return "None is as alike as that, of those kept.";
  const parts = state.least > -1 || state.kept ? [`${many.toLocaleString("en")} of them`] : [];
  const values = now.sky.redshift ? now.alike.map((row) => now.sky.redshift.values[row]).filter(Number.isFinite).sort((a, b) => a - b) : [];
  if (values.length >= 5) {
    const at = (share) => values[Math.round(share * (values.length - 1))];
    parts.push(`${spoken(now.sky.redshift.name)} of the nearest ${values.length}: ${at(0.5).toFixed(3)} ± ${((at(0.84) - at(0.16)) / 2).toFixed(3)}`);
  }
  return parts.join(" · ");
}

function tile(row, across) {
  const box = document.createElement("div");
  box.className = "tile";
  const button = box.appendChild(document.createElement("button"));
  button.className = "pick";
  button.title = now.sky.names[row];
  button.setAttribute("aria-label", `${now.sky.names[row]}, similarity ${now.similarity[row].toFixed(3)}`);
  const looks = button.appendChild(document.createElement("span"));
  looks.className = "looks";
  if (across === "spectrum" && now.sky.about.spectrum) {
    looks.classList.add("wide");
    spectrumOf(now.sky, row).then((seen) => seen && looks.append(sparkline(seen, 124, 60)));
  } else if (now.sky.pictured(row)) looks.append(thumb(now.sky, row, 96));
  else looks.append(Object.assign(document.createElement("small"), { textContent: now.sky.names[row] }));
  const caption = button.appendChild(document.createElement("span"));
  caption.className = "caption";
  caption.textContent = now.similarity[row].toFixed(3);
  if (row === state.query) { box.classList.add("self"); caption.textContent += " itself"; }
  button.onmouseenter = () => now.map.mark({ hover: row });
  button.onmouseleave = () => now.map.mark({ hover: null });
  button.onclick = () => pick(row);
  const more = box.appendChild(document.createElement("span"));
  more.className = "teach";
  for (const [sign, list, words] of [["+", "plus", "More like this too"], ["−", "minus", "Less like this"]]) {
    const teach = more.appendChild(document.createElement("button"));
    Object.assign(teach, { textContent: sign, title: words, ariaLabel: `${words}: ${now.sky.names[row]}` });
    teach.onclick = () => { if (!state[list].includes(row)) state[list] = [...state[list], row]; learn(); };
  }
  return box;
}
