// The explorer: a sky is opened, drawn, and then all the rest.

import { compare, wall } from "./alike.js";
import { forget, hover, pick, tip } from "./card.js";
import { beside, openSky, skies } from "./data.js";
import { Filters } from "./filters.js";
import { aladin, hands, select } from "./hands.js";
import { SkyMap } from "./map.js";
import { $, now, remember, say, SIMILARITY, state, stored, toast, ways } from "./page.js";
import { colourMenu, paint, repaint } from "./paint.js";
import { madeViews } from "./made.js";
import { findServer } from "./server.js";
import { AllSky } from "./sky.js";
import { Table } from "./table.js";
import * as links from "./links.js";

document.documentElement.dataset.theme = stored("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");

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
    now.sky = await openSky(chosen.name);
  } catch (error) {
    say(`This sky cannot be shown. ${error.message}`, "error");
    return;
  }
  $("#title").textContent = now.sky.about.title;
  document.title = `${now.sky.about.title} · Omnisky`;
  if (now.sky.count === 0) { say("There is nothing in this sky."); return; }
  await show(wanted);
}

function newMap(count) {
  if ($("#where iframe")) aladin(); // it shows the sky before this one
  now.map?.destroy();
  now.allSky?.destroy();
  Object.assign(now, { map: null, allSky: null, table: null, filters: null, walked: [] });
  const act = { hover, pick: (row) => now.filters && pick(row), lasso: (rows) => now.table && select(rows), view: () => { remember(); tip(null); } };
  return new SkyMap($("#map"), count, act);
}

async function show(wanted) {
  now.map = newMap(now.sky.count);
  $("#stage").ariaBusy = "true";
  now.map.show(now.sky);
  if (wanted.view) now.map.look(wanted.view.slice(0, 2), wanted.view[2], false);
  else now.map.whole(false);
  Object.assign(state, { query: null, landed: null, plus: [], minus: [], kept: null, selected: [], wall: 12, least: -1 });
  [now.similarity, now.alike] = [null, []];
  state.way = ways()[0];
  state.colour = now.sky.columns.has(wanted.colour) || wanted.colour === SIMILARITY ? wanted.colour : (now.sky.redshift ?? now.sky.properties[0])?.name ?? SIMILARITY;
  colourMenu();
  await paint();
  say("");
  await new Promise(requestAnimationFrame); // the frame with all points in it is through: only then the rest
  document.documentElement.dataset.drawn = Math.round(performance.mark("drawn").startTime);
  now.allSky = new AllSky($("#sky"), now.sky, pick);
  now.table = new Table($("#drawer"), now.sky, pick, () => select([]));
  now.filters = new Filters(now.sky, (kept) => { state.kept = kept; now.map.kept = kept; repaint(); wall(); remember(); });
  const many = now.sky.count.toLocaleString("en");
  $("#note").textContent = `${many} objects · ${now.sky.about.map} · distances between islands are not physical`;
  $("#empty p").textContent = `${now.sky.about.about ? `${now.sky.about.about} ` : ""}Click a point, lasso some, or search for an id or a position. What is near on the map looked alike to the model.`;
  forget();
  if (Object.keys(wanted.between).length || wanted.cone) now.filters.restore(wanted.between, wanted.cone);
  if (wanted.object !== null) {
    const row = await now.sky.rowOf(wanted.object);
    if (row === null) toast(`${wanted.object} is not in this sky`);
    else {
      if (ways().includes(wanted.way)) state.way = wanted.way;
      if (wanted.least !== null) state.least = Math.min(1, Math.max(-1, +wanted.least || -1));
      await pick(row, !wanted.view);
      await taught(wanted);
    }
  }
  await now.map.quicken();
  $("#stage").ariaBusy = "false";
  document.documentElement.dataset.renderer = now.map.kind;
  document.documentElement.dataset.ready = Math.round(performance.mark("ready").startTime);
  $("#aladin").hidden = !(await beside()).aladin;
  now.server = await findServer();
  $("#upload").hidden = !now.server;
  if (now.server && state.query !== null) madeViews($("#made"), now.server, now.sky, state.query);
}

// The examples of a link, beside its object.
async function taught({ like, unlike }) {
  const [more, less] = await Promise.all([like, unlike].map((ids) => Promise.all(ids.map((id) => now.sky.rowOf(id)))));
  if (!more.length && !less.length) return;
  const known = (rows) => rows.filter((row) => row !== null);
  Object.assign(state, { plus: [...state.plus, ...known(more)], minus: known(less) });
  await compare();
  remember();
}

// By a person: what the page itself writes there tells nobody.
addEventListener("hashchange", async () => {
  const wanted = links.read();
  if (!now.sky || (wanted.sky && wanted.sky !== now.sky.name)) { say("Loading …"); await start(); } else await show(wanted);
});

addEventListener("unhandledrejection", ({ reason }) => toast(`Something went wrong: ${reason?.message ?? reason}`));

hands();
start();
