// The explorer: state, and what follows when it changes.

import { AllSky } from "./sky.js";
import { sexagesimal } from "./coordinates.js";
import { searching } from "./find.js";
import { coloured, ramp, UNKNOWN, theme } from "./colours.js";
import { openSky, said, skies, spoken } from "./data.js";
import { Filters, legend } from "./filters.js";
import { findServer, madeViews } from "./server.js";
import { best, side, similarities } from "./search.js";
import { pictureBox, planes, thumb } from "./picture.js";
import { SkyMap } from "./map.js";
import { sparkline, spectrumBox, spectrumOf } from "./spectrum.js";
import { Table } from "./table.js";
import * as links from "./links.js";

const $ = (selector) => document.querySelector(selector);
const SIMILARITY = "similarity to the query";
const state = { query: null, landed: null, plus: [], minus: [], way: null, colour: null, least: -1, wall: 12, kept: null, selected: [], lasso: false };
let sky, map, allSky, filters, table, server, similarity = null, alike = [], turn = 0;

// --- starting ---

document.documentElement.dataset.theme = stored("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");

function stored(name) {
  try { return localStorage.getItem(`omnisky-${name}`); } catch { return null; }
}

async function start() {
  const wanted = links.read();
  try {
    const listed = await skies();
    const chosen = listed.find((one) => one.name === wanted.sky) ?? listed[0];
    const menu = $("#skies");
    menu.replaceChildren(...listed.map((one) => new Option(`${one.title} (${one.count.toLocaleString("en")})`, one.name, false, one === chosen)));
    menu.hidden = listed.length < 2;
    $("#title").hidden = !menu.hidden;
    menu.onchange = () => { location.hash = `#sky=${menu.value}`; };
    sky = await openSky(chosen.name);
  } catch (error) {
    say(`This sky cannot be shown. ${error.message}`, "error");
    return;
  }
  $("#title").textContent = sky.about.title;
  document.title = `${sky.about.title} · Omnisky`;
  if (sky.count === 0) { say("There is nothing in this sky."); return; }
  await show(wanted);
}

function say(text, kind = "") {
  const place = $("#state");
  place.hidden = !text;
  place.className = kind;
  place.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
}

async function show(wanted) {
  map?.destroy();
  allSky?.destroy();
  Object.assign(state, { query: null, landed: null, plus: [], minus: [], kept: null, selected: [], wall: 12, least: -1 });
  [similarity, alike] = [null, []];
  state.way = ways()[0];
  state.colour = sky.columns.has(wanted.colour) ? wanted.colour : (sky.redshift ?? sky.properties[0])?.name ?? null;
  map = new SkyMap($("#map"), sky, { hover, pick: (row) => pick(row), lasso: select, view: () => { remember(); tip(null); } });
  colourMenu();
  await paint();
  say("");
  document.documentElement.dataset.drawn = Math.round(performance.now());
  document.documentElement.dataset.renderer = map.kind;
  allSky = new AllSky($("#sky"), sky, pick);
  table = new Table($("#drawer"), sky, pick, () => select([]));
  filters = new Filters(sky, (kept) => { state.kept = kept; map.kept = kept; repaint(); wall(); remember(); });
  const many = sky.count.toLocaleString("en");
  $("#note").textContent = `${many} objects · ${sky.about.map} · distances between islands are not physical`;
  $("#empty p").textContent = `${sky.about.about ? `${sky.about.about} ` : ""}Click a point, lasso some, or search for an id or a position. What is near on the map looked alike to the model.`;
  forget();
  if (Object.keys(wanted.between).length || wanted.cone) filters.restore(wanted.between, wanted.cone);
  if (wanted.view) map.look(wanted.view.slice(0, 2), wanted.view[2], false);
  else map.whole(false);
  if (wanted.object !== null) {
    const row = await sky.rowOf(wanted.object);
    if (row === null) toast(`${wanted.object} is not in this sky`);
    else {
      if (ways().includes(wanted.way)) state.way = wanted.way;
      if (wanted.least !== null) state.least = Math.min(1, Math.max(-1, +wanted.least || -1));
      await pick(row, !wanted.view);
    }
  }
  document.documentElement.dataset.ready = Math.round(performance.now());
  server = await findServer();
  $("#upload").hidden = !server;
  if (server && state.query !== null) madeViews($("#made"), server, sky, state.query);
}

// --- colour ---

function colourMenu() {
  const menu = $("#colour");
  menu.replaceChildren(...sky.properties.map((column) => new Option(spoken(column.name), column.name)), new Option(SIMILARITY, SIMILARITY));
  menu.value = state.colour ?? SIMILARITY;
  menu.onchange = () => { state.colour = menu.value; repaint(); remember(); };
}

function shownColumn() {
  if (state.colour !== SIMILARITY) return sky.columns.get(state.colour) ?? null;
  if (!similarity) return null;
  const sorted = Float32Array.from(similarity.filter(Number.isFinite)).sort();
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  return { name: SIMILARITY, values: similarity, low: at(0.3), high: at(0.9995), unit: "" };
}

let painting = null;
function repaint() {
  painting ??= requestAnimationFrame(() => { painting = null; paint(); });
}

async function paint() {
  const column = shownColumn();
  const plain = { palette: [UNKNOWN[theme()], ...ramp()], places: new Float32Array(sky.count).fill(0.45) };
  await map.paint(column ? coloured(column) : plain, state.kept);
  legend($("#legend"), column);
  if (!column) $("#legend").textContent = "Pick an object to compare with.";
}

// --- one object ---

function hover(row) {
  map.mark({ hover: row });
  tip(row);
}

async function tip(row) {
  const box = $("#tip");
  box.hidden = row === null;
  if (row === null) return;
  await sky.ids();
  const at = map.screen(row);
  if (!at) return;
  box.replaceChildren();
  if (sky.pictured(row)) box.append(thumb(sky, row, 72));
  const words = box.appendChild(document.createElement("div"));
  const lines = [sky.names[row], ...[...new Set([sky.redshift, sky.columns.get(state.colour), sky.magnitude])].filter(Boolean).map((column) => `${spoken(column.name)} ${said(column.values[row], column)}`)];
  lines.forEach((line, i) => words.appendChild(Object.assign(document.createElement(i ? "span" : "strong"), { textContent: line })));
  const stage = $("#stage").getBoundingClientRect();
  const box2 = box.getBoundingClientRect();
  box.style.left = `${Math.min(at[0] + 16, stage.width - box2.width - 8)}px`;
  box.style.top = `${Math.max(8, Math.min(at[1] - box2.height / 2, stage.height - box2.height - 8))}px`;
}

async function pick(row, move = true) {
  Object.assign(state, { query: row, landed: null, plus: [row], minus: [], wall: 12 });
  map.mark({ query: row, landed: null, hover: null });
  tip(null);
  if (move) map.goTo(row);
  await sky.ids();
  card(row);
  remember();
  await compare();
}

async function card(row) {
  const mine = ++turn;
  $("#empty").hidden = true;
  $("#card").hidden = false;
  $("#name").textContent = sky.names[row];
  const [ra, dec] = [sky.value("ra", row), sky.value("dec", row)];
  $("#place").textContent = Number.isFinite(ra) ? `${sexagesimal(ra, dec)}  ·  ${ra.toFixed(5)} ${dec < 0 ? "−" : "+"}${Math.abs(dec).toFixed(5)}` : "position not known";
  facts(row);
  const z = sky.redshift ? sky.redshift.values[row] : NaN;
  const [bands, spectrum] = await Promise.all([
    sky.about.picture ? planes(sky, row).catch(() => undefined) : null,
    sky.about.spectrum ? spectrumOf(sky, row).catch(() => undefined) : null,
  ]);
  if (mine !== turn) return;
  place($("#picture"), bands, sky.about.picture, (seen) => pictureBox(sky, seen, `Cut-out of ${sky.names[row]}`), "no image");
  place($("#spectrum"), spectrum, sky.about.spectrum, (seen) => spectrumBox(sky, seen, z), "no spectrum");
  madeViews($("#made"), server, sky, row);
}

// What was found; a sentence where the object lacks it or the file cannot be read; nothing where the sky has none.
function place(element, found, about, draw, none) {
  element.replaceChildren();
  element.hidden = !about;
  if (!about) return;
  const text = found === undefined ? `${none}: the file could not be read` : none;
  element.append(found ? draw(found) : Object.assign(document.createElement("p"), { className: "soft none", textContent: text }));
}

function facts(row) {
  const first = [sky.redshift, sky.magnitude].filter(Boolean);
  const columns = [...new Set([...first, sky.columns.get(state.colour), ...sky.properties])].filter((column) => column && column.name !== SIMILARITY);
  const lines = columns.map((column) => {
    const line = document.createElement("div");
    const value = said(column.values[row], column);
    line.innerHTML = "<dt></dt><dd></dd>";
    line.firstChild.textContent = spoken(column.name);
    line.lastChild.textContent = value + (column.unit && value !== "–" ? ` ${column.unit}` : "");
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

function keep(name, value) {
  try { localStorage.setItem(`omnisky-${name}`, value); } catch { /* a private window: then not */ }
}

// --- look-alikes ---

function ways() {
  const sides = sky.about.sides.map((one) => one.name);
  return sides.flatMap((by) => sides.map((across) => `${by}~${across}`)).sort((a, b) => sides.indexOf(a.split("~")[0]) - sides.indexOf(b.split("~")[0]));
}

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

async function compare() {
  wayButtons();
  examples();
  const [by, across] = state.way.split("~");
  const asked = `${state.plus}|${state.minus}|${state.way}|${state.landed}`;
  $("#wall").classList.add("busy");
  try {
    const question = { by: side(sky, state.landed?.side ?? by), across: side(sky, across), plus: state.plus, minus: state.minus, vector: state.landed?.vector };
    const found = await similarities(question);
    if (asked !== `${state.plus}|${state.minus}|${state.way}|${state.landed}`) return;
    similarity = found;
    wall();
    if (state.colour === SIMILARITY) paint();
  } catch (error) {
    [similarity, alike] = [null, []];
    $("#wall").replaceChildren();
    $("#many").textContent = error.message === "absent" ? `This object has no ${by}.` : `Look-alikes cannot be read: ${error.message}`;
    map.mark({ rings: [] });
    allSky.mark(state.query, []);
  } finally {
    $("#wall").classList.remove("busy");
  }
}

// Several examples: more like these, less like those.
function examples() {
  const place = $("#examples");
  place.hidden = state.plus.length + state.minus.length < 2;
  const chip = (row, list, sign) => {
    const button = document.createElement("button");
    button.className = "chip";
    button.textContent = `${sign} ${sky.names[row]} ✕`;
    button.onclick = () => { state[list] = state[list].filter((one) => one !== row); if (!state.plus.length) forget(); else compare(); };
    return button;
  };
  place.replaceChildren("like ", ...state.plus.map((row) => chip(row, "plus", "+")), ...state.minus.map((row) => chip(row, "minus", "−")));
}

function wall() {
  if (!similarity) return;
  const [by, across] = state.way.split("~");
  const others = new Set(by === across ? [...state.plus, ...state.minus] : state.minus);
  const may = (row) => !others.has(row) && (!state.kept || state.kept[row]) && similarity[row] >= state.least;
  alike = best(similarity, state.wall, may);
  let many = 0;
  for (let row = 0; row < similarity.length; row++) if (similarity[row] >= state.least && may(row)) many++;
  $("#least").value = state.least;
  $("#least-said").textContent = state.least <= -1 ? "any" : state.least.toFixed(2);
  $("#many").textContent = summary(many);
  $("#wall").replaceChildren(...alike.map((row) => tile(row, across)));
  $("#moreAlike").hidden = alike.length >= Math.min(many, 96);
  map.mark({ rings: alike });
  allSky.mark(state.query, alike);
}

// What the look-alikes have in common, where a number is known: the median says, half the spread of 68 % beside it.
function summary(many) {
  if (!many) return "None is as alike as that, of those kept.";
  const parts = state.least > -1 || state.kept ? [`${many.toLocaleString("en")} of them`] : [];
  const values = sky.redshift ? alike.map((row) => sky.redshift.values[row]).filter(Number.isFinite).sort((a, b) => a - b) : [];
  if (values.length >= 5) {
    const at = (share) => values[Math.round(share * (values.length - 1))];
    parts.push(`${spoken(sky.redshift.name)} of the nearest ${values.length}: ${at(0.5).toFixed(3)} ± ${((at(0.84) - at(0.16)) / 2).toFixed(3)}`);
  }
  return parts.join(" · ");
}

function tile(row, across) {
  const box = document.createElement("div");
  box.className = "tile";
  const button = box.appendChild(document.createElement("button"));
  button.className = "pick";
  button.title = sky.names[row];
  button.setAttribute("aria-label", `${sky.names[row]}, similarity ${similarity[row].toFixed(3)}`);
  const looks = button.appendChild(document.createElement("span"));
  looks.className = "looks";
  if (across === "spectrum" && sky.about.spectrum) {
    looks.classList.add("wide");
    spectrumOf(sky, row).then((seen) => seen && looks.append(sparkline(seen, 124, 60)));
  } else if (sky.pictured(row)) looks.append(thumb(sky, row, 96));
  else looks.append(Object.assign(document.createElement("small"), { textContent: sky.names[row] }));
  const caption = button.appendChild(document.createElement("span"));
  caption.className = "caption";
  caption.textContent = similarity[row].toFixed(3);
  if (row === state.query) { box.classList.add("self"); caption.textContent += " itself"; }
  button.onmouseenter = () => map.mark({ hover: row });
  button.onmouseleave = () => map.mark({ hover: null });
  button.onclick = () => pick(row);
  const more = box.appendChild(document.createElement("span"));
  more.className = "teach";
  for (const [sign, list, words] of [["+", "plus", "More like this too"], ["−", "minus", "Less like this"]]) {
    const teach = more.appendChild(document.createElement("button"));
    Object.assign(teach, { textContent: sign, title: words, ariaLabel: `${words}: ${sky.names[row]}` });
    teach.onclick = () => { if (!state[list].includes(row)) state[list] = [...state[list], row]; compare(); };
  }
  return box;
}

// --- many objects ---

function select(rows) {
  state.selected = rows;
  table.show(rows);
  map.mark({ selected: rows });
  mode(false);
}

function forget() {
  Object.assign(state, { query: null, landed: null, plus: [], minus: [] });
  [similarity, alike] = [null, []];
  turn++;
  $("#card").hidden = true;
  $("#empty").hidden = false;
  map.mark({ query: null, landed: null, rings: [], hover: null });
  allSky.mark(null, []);
  if (state.colour === SIMILARITY) repaint();
  remember();
}

function mode(lasso) {
  state.lasso = lasso;
  map.mode(lasso);
  $("#lasso").setAttribute("aria-pressed", lasso);
  $("#pan").setAttribute("aria-pressed", !lasso);
}

// --- links ---

let remembering = null;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    if (!map || !filters) return;
    const { at, distance } = map.camera;
    const moved = Math.abs(distance - map.far) > 1e-3 || Math.hypot(...at) > 1e-3;
    const object = state.query === null ? null : sky.names?.[state.query];
    const listed = $("#skies").options.length > 1;
    links.write({
      sky: listed ? sky.name : null, object, way: object && ways().length > 1 ? state.way : null, colour: state.colour === SIMILARITY ? null : state.colour,
      least: state.least > -1 && object ? state.least : null, between: filters.between, cone: filters.cone, view: moved ? [...at, distance] : null,
    });
  }, 150);
}

addEventListener("hashchange", async () => {
  const wanted = links.read();
  if (wanted.sky && wanted.sky !== sky.name) { say("Loading …"); await start(); } else if (wanted.object && wanted.object !== sky.names?.[state.query]) show(wanted);
});

// --- uploads ---

async function upload(file) {
  toast("Reading …");
  try {
    const found = await server.embed(sky, file);
    const [by] = [found.side];
    state.way = ways().find((way) => way === `${by}~${by}`);
    Object.assign(state, { query: null, landed: found, plus: [], minus: [], wall: 12 });
    turn++;
    await sky.ids();
    $("#empty").hidden = true;
    $("#card").hidden = false;
    $("#name").textContent = file.name;
    $("#place").textContent = `an upload, read as ${by}; where its look-alikes are is where it lies on the map`;
    for (const name of ["#picture", "#spectrum", "#facts", "#made"]) $(name).replaceChildren();
    await compare();
    land();
    toast("");
  } catch (error) {
    toast(error.message);
  }
}

// The upload lies among its five nearest, nearer to the nearer ones.
function land() {
  const five = alike.slice(0, 5);
  const weights = five.map((row) => Math.exp(10 * (similarity[row] - similarity[five[0]])));
  const total = weights.reduce((sum, one) => sum + one, 0);
  const at = [map.x, map.y].map((values) => five.reduce((sum, row, i) => sum + weights[i] * values[row], 0) / total);
  map.mark({ query: null, landed: at });
  map.look(at, Math.min(map.camera.distance, 0.5));
}

let toasting = null;
function toast(text) {
  clearTimeout(toasting);
  let box = $("#toast");
  if (!box) document.body.append((box = Object.assign(document.createElement("div"), { id: "toast", role: "status" })));
  box.textContent = text;
  box.hidden = !text;
  toasting = setTimeout(() => { box.hidden = true; }, 6000);
}

// --- hands ---

function lighter() {
  document.documentElement.dataset.theme = theme() === "light" ? "dark" : "light";
  keep("theme", theme());
  if (!map) return;
  map.ground();
  allSky.ground = null;
  allSky.draw();
  filters.apply();
  repaint();
  if (state.query !== null) card(state.query);
}

const KEYS = {
  "/": () => $("#find").focus(),
  "?": () => $("#keys").showModal(),
  Escape: () => (state.selected.length ? select([]) : state.lasso ? mode(false) : forget()),
  l: () => mode(true), m: () => mode(false), t: lighter, 0: () => map.whole(),
  "+": () => map.nearer(0.6), "=": () => map.nearer(0.6), "-": () => map.nearer(1 / 0.6),
  g: () => $("#pictures").click(),
  s: () => { $("#colour").value = SIMILARITY; $("#colour").onchange(); },
};

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || $("#keys").open || !map) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onMap = document.activeElement === $("#map");
  const way = ways()[+key - 1];
  if (onMap && key.startsWith("Arrow")) {
    map.shift(...{ ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[key]);
  } else if (onMap && key === "Enter") {
    middle();
  } else if ((key === "ArrowRight" || key === "ArrowLeft") && alike.length && state.query !== null) {
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
const walked = [];
function step(way) {
  if (way < 0) {
    const last = walked.pop();
    if (last !== undefined) pick(last);
    return;
  }
  const next = alike.find((row) => row !== state.query && !walked.includes(row));
  if (next === undefined) return;
  walked.push(state.query);
  pick(next);
}

function middle() {
  const { at } = map.camera;
  let [found, least] = [null, Infinity];
  for (let row = 0; row < sky.count; row++) {
    const far = (map.x[row] - at[0]) ** 2 + (map.y[row] - at[1]) ** 2;
    if (far < least) [found, least] = [row, far];
  }
  pick(found);
}

function hands() {
  searching(() => sky, pick);
  addEventListener("keydown", keyed);
  $("#theme").onclick = lighter;
  $("#help").onclick = () => $("#keys").showModal();
  $("#lasso").onclick = () => mode(!state.lasso);
  $("#pan").onclick = () => mode(false);
  $("#closer").onclick = KEYS["+"];
  $("#farther").onclick = KEYS["-"];
  $("#whole").onclick = () => map.whole();
  $("#pictures").onclick = (event) => {
    map.pictures = !map.pictures;
    event.currentTarget.setAttribute("aria-pressed", map.pictures);
    map.later();
  };
  $("#any").onclick = () => {
    const may = [...Array(sky.count).keys()].filter((row) => !state.kept || state.kept[row]);
    if (may.length) pick(may[Math.floor(Math.random() * may.length)]);
  };
  $("#least").oninput = (event) => { state.least = +event.target.value; wall(); remember(); };
  $("#moreAlike").onclick = () => { state.wall += 24; wall(); };
  $("#copy").onclick = async () => {
    await new Promise((done) => setTimeout(done, 200));
    try { await navigator.clipboard.writeText(location.href); toast("The link is copied."); } catch { toast(location.href); }
  };
  $("#upload input").onchange = (event) => event.target.files[0] && upload(event.target.files[0]);
  const stage = $("#stage");
  stage.ondragover = (event) => { if (server) event.preventDefault(); };
  stage.ondrop = (event) => { event.preventDefault(); if (server && event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]); };
}

addEventListener("unhandledrejection", ({ reason }) => toast(`Something went wrong: ${reason?.message ?? reason}`));
hands();
start();
