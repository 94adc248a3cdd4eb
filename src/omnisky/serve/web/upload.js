// An upload: the server embeds it, and it lands on the map.

import { compare } from "./alike.js";
import { place } from "./card.js";
import { madeViews } from "./made.js";
import { $, now, state, toast, ways } from "./page.js";
import { pictureBox } from "./picture.js";
import { spectrumBox } from "./spectrum.js";
import { over } from "./told.js";

export async function upload(file) {
  toast("Reading …");
  try {
    const found = await now.server.embed(now.sky, file);
    const [by] = [found.side];
    state.way = ways().find((way) => way === `${by}~${by}`);
    Object.assign(state, { query: null, landed: { ...found, file }, plus: [], minus: [], wall: 12 });
    now.turn++;
    await now.sky.ids();
    $("#empty").hidden = true;
    $("#card").hidden = false;
    $("#name").textContent = file.name;
    const read = now.sky.about.sides.length > 1 ? `, read as ${by}` : "";
    const first = found.many > 1 ? `, the first of its ${found.many} objects` : "";
    $("#place").textContent = `an upload${read}${first}; where its look-alikes are is where it lies on the map`;
    for (const name of ["#picture", "#spectrum", "#facts"]) $(name).replaceChildren();
    look(file);
    await compare();
    land();
    toast("");
  } catch (error) {
    toast(error.message);
  }
}

export async function look(file) {
  const mine = now.turn;
  madeViews($("#made"), now.server, now.sky, null, file);
  const seen = await now.server.look(file);
  if (mine === now.turn) draw(seen, file.name);
}

// What was read of it, as this sky's own are drawn.
function draw(seen, name) {
  const all = Object.values(seen);
  const [image, spectrum] = [all.find((one) => one?.bands), all.find((one) => one?.wavelength_aa)];
  for (const box of ["#picture", "#spectrum"]) $(box).hidden = true;
  if (image) {
    const { planes, about } = over(image, now.sky.about.picture);
    place($("#picture"), planes, about, () => pictureBox({ about: { picture: about } }, planes, `Cut-out of ${name}`), "");
  }
  if (spectrum) place($("#spectrum"), spectrum, spectrum, () => spectrumBox({ about: { spectrum } }, { wave: spectrum.wavelength_aa, flux: spectrum.flux }, NaN), "");
}

// The upload lies among its five nearest, nearer to the nearer ones.
function land() {
  const five = now.alike.slice(0, 5);
  const weights = five.map((row) => Math.exp(10 * (now.similarity[row] - now.similarity[five[0]])));
  const total = weights.reduce((sum, one) => sum + one, 0);
  const at = [now.map.x, now.map.y].map((values) => five.reduce((sum, row, i) => sum + weights[i] * values[row], 0) / total);
  now.map.mark({ query: null, landed: at });
  now.map.look(at, Math.min(now.map.camera.distance, 0.5));
}
