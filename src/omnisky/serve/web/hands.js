// Mouse and keys.

import { compare, wall } from "./alike.js";
import { card, forget, pick } from "./card.js";
import { theme } from "./colours.js";
import { searching } from "./find.js";
import { $, keep, now, remember, SIMILARITY, state, toast, ways } from "./page.js";
import { repaint } from "./paint.js";
import { look, upload } from "./upload.js";

export function select(rows) {
  state.selected = rows;
  const similarity = now.similarity && [{ name: "similarity", type: "f4", values: now.similarity }];
  now.table.show(rows, similarity ?? []);
  now.map.mark({ selected: rows });
  mode(false);
}

function mode(lasso) {
  state.lasso = lasso;
  now.map.mode(lasso);
  $("#lasso").setAttribute("aria-pressed", lasso);
  $("#pan").setAttribute("aria-pressed", !lasso);
}

function lighter() {
  document.documentElement.dataset.theme = theme() === "light" ? "dark" : "light";
  keep("theme", theme());
  now.map?.ground();
  if (!now.filters) return;
  now.allSky.ground = null;
  now.allSky.draw();
  now.filters.apply();
  repaint();
  if (state.query !== null) card(state.query);
  else if (state.landed) look(state.landed.file);
}

const KEYS = {
  "/": () => $("#find").focus(),
  "?": () => $("#keys").showModal(),
  Escape: () => (state.selected.length ? select([]) : state.lasso ? mode(false) : forget()),
  l: () => mode(true), m: () => mode(false), t: lighter, 0: () => now.map.whole(),
  "+": () => now.map.nearer(0.6), "=": () => now.map.nearer(0.6), "-": () => now.map.nearer(1 / 0.6),
  g: () => $("#pictures").click(), u: () => now.server && $("#upload input").click(),
  s: () => { $("#colour").value = SIMILARITY; $("#colour").onchange(); },
};

// Keys that the field that has the focus wants for itself.
const typing = ({ target, key }) => target.matches("select, textarea, input:not([type=range], [type=file])") || (target.type === "range" && /^(Arrow|Page|Home|End)/.test(key));

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event) || $("#keys").open || !now.filters) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onMap = document.activeElement === $("#map");
  const way = ways()[+key - 1];
  if (onMap && key.startsWith("Arrow")) {
    now.map.shift(...{ ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[key]);
  } else if (onMap && key === "Enter") {
    middle();
  } else if ((key === "ArrowRight" || key === "ArrowLeft") && now.alike.length && state.query !== null) {
    step(key === "ArrowRight" ? 1 : -1);
  } else if (way && state.query !== null) {
    state.way = way;
    compare();
    remember();
  } else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
}

// Back and forth along what was looked at, and on to the nearest look-alike that was not.
function step(way) {
  if (way < 0) {
    const last = now.walked.pop();
    if (last !== undefined) pick(last);
    return;
  }
  const next = now.alike.find((row) => row !== state.query && !now.walked.includes(row));
  if (next === undefined) return;
  now.walked.push(state.query);
  pick(next);
}

function middle() {
  const { at } = now.map.camera;
  let [found, least] = [null, Infinity];
  for (let row = 0; row < now.sky.count; row++) {
    const far = (now.map.x[row] - at[0]) ** 2 + (now.map.y[row] - at[1]) ** 2;
    if (far < least) [found, least] = [row, far];
  }
  pick(found);
}

// Instead of our own all-sky view, and back.
export function aladin() {
  const open = $("#where iframe");
  if (open) {
    open.remove();
    now.allSky.outside = null;
  } else {
    const frame = Object.assign(document.createElement("iframe"), { src: "aladin.html", title: "The sky in Aladin Lite" });
    now.allSky.aladin(frame);
    $("#where").append(frame);
  }
  $("#sky").hidden = !open;
  $("#aladin").setAttribute("aria-pressed", !open);
}

export function hands() {
  searching(() => now.sky, pick);
  addEventListener("keydown", keyed);
  $("#theme").onclick = lighter;
  $("#help").onclick = () => $("#keys").showModal();
  $("#lasso").onclick = () => mode(!state.lasso);
  $("#pan").onclick = () => mode(false);
  $("#closer").onclick = KEYS["+"];
  $("#farther").onclick = KEYS["-"];
  $("#whole").onclick = () => now.map.whole();
  $("#pictures").onclick = (event) => {
    now.map.pictures = !now.map.pictures;
    event.currentTarget.setAttribute("aria-pressed", now.map.pictures);
    now.map.later();
  };
  $("#any").onclick = () => {
    const may = [...Array(now.sky.count).keys()].filter((row) => !state.kept || state.kept[row]);
    if (may.length) pick(may[Math.floor(Math.random() * may.length)]);
  };
  $("#least").oninput = (event) => { state.least = +event.target.value; wall(); remember(); };
  $("#aladin").onclick = aladin;
  $("#moreAlike").onclick = () => { state.wall += 24; wall(); };
  $("#listAlike").onclick = () => select(now.alike);
  $("#listKept").onclick = () => select([...state.kept.keys()].filter((row) => state.kept[row]));
  $("#copy").onclick = async () => {
    await new Promise((done) => setTimeout(done, 200));
    try { await navigator.clipboard.writeText(location.href); toast("The link is copied."); } catch { toast(location.href); }
  };
  $("#upload input").onchange = (event) => event.target.files[0] && upload(event.target.files[0]);
  const stage = $("#stage");
  stage.ondragover = (event) => { if (now.server) event.preventDefault(); };
  stage.ondrop = (event) => { event.preventDefault(); if (now.server && event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]); };
}
