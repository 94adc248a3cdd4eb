// What the parts of the page share: what is open, what was asked, and words for the person.

import * as links from "./links.js";

export const $ = (selector) => document.querySelector(selector);
export const SIMILARITY = "similarity to the query";
// What was asked: by clicks, keys and links.
export const state = { query: null, landed: null, plus: [], minus: [], way: null, colour: null, least: -1, wall: 12, kept: null, selected: [], lasso: false };
// What is open: a sky, its views, and what the last question found.
export const now = { sky: null, map: null, allSky: null, filters: null, table: null, server: null, similarity: null, alike: [], walked: [], turn: 0 };

export function stored(name) {
  try { return localStorage.getItem(`omnisky-${name}`); } catch { return null; }
}

export function keep(name, value) {
  try { localStorage.setItem(`omnisky-${name}`, value); } catch { /* a private window: then not */ }
}

export function say(text, kind = "") {
  const place = $("#state");
  place.hidden = !text;
  place.className = kind;
  place.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
}

let toasting = null;
export function toast(text) {
  clearTimeout(toasting);
  let box = $("#toast");
  if (!box) document.body.append((box = Object.assign(document.createElement("div"), { id: "toast", role: "status" })));
  box.textContent = text;
  box.hidden = !text;
  toasting = setTimeout(() => { box.hidden = true; }, 6000);
}

export function ways() {
  const sides = now.sky.about.sides.map((one) => one.name);
  return sides.flatMap((by) => sides.map((across) => `${by}~${across}`)).sort((a, b) => sides.indexOf(a.split("~")[0]) - sides.indexOf(b.split("~")[0]));
}

let remembering = null;
export function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    if (!now.filters) return; // still on its way
    const { at, distance } = now.map.camera;
    const moved = Math.abs(distance - now.map.far) > 1e-3 || Math.hypot(...at) > 1e-3;
    const object = state.query === null ? null : now.sky.names?.[state.query];
    const named = (rows) => (object ? rows.filter((row) => row !== state.query).map((row) => now.sky.names[row]) : []);
    const listed = $("#skies").options.length > 1;
    links.write({
      sky: listed ? now.sky.name : null, object, like: named(state.plus), unlike: named(state.minus), way: object && ways().length > 1 ? state.way : null, colour: state.colour,
      least: state.least > -1 && object ? state.least : null, between: now.filters.between, cone: now.filters.cone, view: moved ? [...at, distance] : null,
    });
  }, 150);
}
