// The search box: an id, a piece of one, or a position.

import { angle, nearest, readPosition } from "./coordinates.js";

const $ = (selector) => document.querySelector(selector);
let sky = null; // the one looked at when the box was last used
let pick = null;

let asked = 0;
async function suggest(text) {
  if (!sky) return; // still on its way
  const mine = ++asked;
  const list = $("#found");
  const offers = [];
  const at = readPosition(text);
  if (at) {
    const { row, apart } = nearest(sky, at);
    await sky.ids();
    if (row !== null) offers.push({ row, text: `${sky.names[row]}`, more: `${angle(apart)} away` });
  }
  if (text.trim()) {
    const exact = await sky.rowOf(text.trim());
    if (exact !== null) offers.unshift({ row: exact, text: sky.names[exact], more: "" });
    const wanted = text.trim().toLowerCase();
    for (let row = 0; row < sky.count && offers.length < 8; row++) {
      if (row !== exact && sky.names[row].toLowerCase().includes(wanted)) offers.push({ row, text: sky.names[row], more: "" });
    }
  }
  if (mine !== asked) return;
  list.replaceChildren(...offers.map((offer, i) => option(offer, i === 0)));
  if (text.trim() && !offers.length) list.append(Object.assign(document.createElement("li"), { className: "none", textContent: at ? "no object has a position" : "no such id; positions are RA Dec, 150.1 +2.2 or 10:00:24 +02:12:00" }));
  list.hidden = !list.children.length;
  $("#find").setAttribute("aria-expanded", !list.hidden);
}

function option({ row, text, more }, first) {
  const line = document.createElement("li");
  line.setAttribute("role", "option");
  line.setAttribute("aria-selected", first);
  line.append(text, Object.assign(document.createElement("span"), { textContent: more }));
  line.dataset.row = row;
  line.onmousedown = (event) => { event.preventDefault(); take(row); };
  return line;
}

function take(row) {
  $("#found").hidden = true;
  $("#find").blur();
  pick(row);
}

export function searching(current, picked) {
  const find = $("#find");
  pick = picked;
  find.onfocus = () => { sky = current(); find.select(); };
  find.oninput = () => suggest(find.value);
  find.onblur = () => { $("#found").hidden = true; };
  find.onkeydown = (event) => {
    const lines = [...$("#found").querySelectorAll("[role=option]")];
    const now = lines.findIndex((line) => line.getAttribute("aria-selected") === "true");
    if (event.key === "Escape") find.blur();
    if (!["ArrowDown", "ArrowUp"].includes(event.key) || !lines.length) return;
    event.preventDefault();
    const next = (now + (event.key === "ArrowDown" ? 1 : lines.length - 1)) % lines.length;
    lines.forEach((line, i) => line.setAttribute("aria-selected", i === next));
  };
  $("#search").onsubmit = async (event) => {
    event.preventDefault();
    await suggest(find.value);
    const chosen = $("#found [aria-selected=true]");
    if (chosen) take(+chosen.dataset.row);
  };
}
