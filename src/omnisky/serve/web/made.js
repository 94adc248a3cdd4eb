// What models tell of an object or of an upload: asked when a button is pressed, always marked as generated.

import { planes } from "./picture.js";
import { measured } from "./server.js";
import { spectrumOf } from "./spectrum.js";
import { imageBox, linesBox, posteriorBox } from "./told.js";

const TITLES = { tok_image: "Legacy Survey image", tok_image_hsc: "HSC image", tok_spectrum_desi: "DESI spectrum", tok_spectrum_sdss: "SDSS spectrum" };
// As `omnisky evaluate aion` draws: the likeliest tokens at once are the same everywhere, single draws are noisy.
const WAY = { steps: 8, temperature: 0.5, draws: 4 };
const CENTRE = 16; // tokens that an AstroPT is shown
const answers = new Map(); // of this object: a change of colours asks nobody again
let [whose, going, last] = [null, null, null];

const element = (tag, more = {}) => Object.assign(document.createElement(tag), more);
const isImage = (codec) => /^image/.test(codec.part);
const isSpectrum = (codec) => /^spectrum/.test(codec.part);

// Buttons, and below them the answer. `upload` is asked about instead of an object of the sky.
export async function madeViews(place, server, sky, row, upload = null) {
  const mine = upload ?? `${sky.name}|${row}`;
  if (whose !== mine) { answers.clear(); going?.abort(); [whose, last] = [mine, null]; }
  place.hidden = true;
  const tellers = server ? server.models.filter((model) => model.can.length > 1) : [];
  const body = upload ?? (tellers.length ? await measured(sky, row) : null);
  if (!tellers.length || !body || whose !== mine) return;
  const seen = upload ? {} : await known(sky, row);
  if (whose !== mine) return;
  const found = offers(tellers, seen, upload !== null);
  if (!found.length) return;
  place.hidden = false;
  place.innerHTML = `<h3>Told by a model <em class="generated">generated</em></h3><div class="chips"></div><div class="views" role="status"></div>`;
  const views = place.querySelector(".views");
  for (const offer of found) {
    const chip = place.querySelector(".chips").appendChild(element("button", { textContent: offer.label, title: offer.title }));
    chip.setAttribute("aria-pressed", "false");
    const act = () => {
      for (const one of place.querySelectorAll(".chips button")) one.setAttribute("aria-pressed", one === chip);
      last = offer.key;
      answered(views, offer, (words, route) => server.ask(route, words, body, going?.signal));
    };
    chip.onclick = act;
    if (last === offer.key) act();
  }
}

async function known(sky, row) {
  const lines = sky.about.spectrum ? await spectrumOf(sky, row).catch(() => null) : null;
  const picture = sky.about.picture && sky.pictured(row) ? await planes(sky, row).catch(() => null) : null;
  return { sky, lines, picture, z: sky.redshift?.values[row] };
}

function offers(models, seen, upload) {
  const found = models.flatMap((model) => (model.kind.endsWith("Autoregressive") ? continued(model, seen, upload) : filledIn(model, seen)));
  const twice = new Set(found.map((one) => one.label).filter((label, i, all) => all.indexOf(label) !== i));
  return found.map((one) => (twice.has(one.label) ? { ...one, label: `${one.label} · ${one.model}` } : one));
}

const ofModel = (model, what) => ({ key: `${model.id}|${what}`, model: model.id, title: `asked of ${model.id}` });

// An AstroPT, of images whose bands it reads: it goes on from the middle.
function continued(model, seen, upload) {
  const known = seen.picture ? seen.sky.about.picture.planes.map((plane) => plane.band) : [];
  const reads = (codec) => isImage(codec) && codec.kind.endsWith("Patches") && (upload || codec.bands?.every((band) => known.includes(band)));
  return model.reads.filter(reads).map((codec) => ({ ...ofModel(model, codec.name), label: "finished from its centre", how: `from its central ${CENTRE} patches`,
    ask: async (ask) => (await ask({ model: model.id, target: codec.name, keep: CENTRE }, "generate")).data, show: (told) => imageBox(told, seen) }));
}

// An AION, of anything but pictures that were made for eyes.
function filledIn(model, seen) {
  if (seen.sky?.about.picture?.display && !seen.lines) return [];
  const found = [];
  if (model.can.includes("posterior")) {
    const alone = ["image", "spectrum"].map((part) => [`the ${part} alone`, model.reads.filter((codec) => codec.part === part).map((codec) => codec.name)]);
    const from = [["all that was measured", []], ...alone.filter(([, names]) => names.length)];
    found.push({ ...ofModel(model, "z"), label: "redshift", ask: (ask) => sharpening(from, model.id, ask), show: (told) => posteriorBox(told, seen.z) });
  }
  for (const codec of model.can.includes("generate") ? model.reads.filter((one) => isImage(one) || isSpectrum(one)) : []) {
    found.push({ ...ofModel(model, codec.name), label: TITLES[codec.name] ?? codec.name, how: `mean of ${WAY.draws} draws from all else that was measured`,
      ask: async (ask) => (await ask({ model: model.id, target: codec.name, ...WAY }, "generate")).data, show: (told) => (isImage(codec) ? imageBox : linesBox)(told, seen) });
  }
  return found;
}

async function answered(views, offer, ask) {
  going?.abort();
  const mine = (going = new AbortController());
  const from = performance.now();
  const wait = element("p", { className: "soft" });
  const tick = () => { wait.textContent = `asking ${offer.model} … ${Math.round((performance.now() - from) / 1000)} s`; };
  const clock = setInterval(tick, 1000);
  tick();
  views.replaceChildren(wait);
  try {
    const told = answers.get(offer.key) ?? (await offer.ask(ask));
    if (mine.signal.aborted) return;
    answers.set(offer.key, told);
    const box = element("figure", { className: "made" });
    box.append(offer.show(told), element("figcaption", { textContent: `generated by ${offer.model}, not measured${offer.how ? `; ${offer.how}` : ""}` }));
    views.replaceChildren(box);
  } catch (error) {
    if (!mine.signal.aborted) views.replaceChildren(element("p", { className: "error", textContent: error.message }));
  } finally {
    clearInterval(clock);
  }
}

// From all, and from single parts where the object has them: what each adds.
async function sharpening(ways, model, ask) {
  const found = [];
  for (const [from, inputs] of ways) {
    try {
      found.push({ from, ...(await ask({ model, name: "z", ...(inputs.length ? { inputs: JSON.stringify(inputs) } : {}) }, "posterior")) });
    } catch (error) {
      if (!inputs.length || error.name === "AbortError") throw error; // a part that was not measured cannot be asked alone
    }
  }
  return found;
}
