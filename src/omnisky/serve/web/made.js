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
  place.hidden = false;
  place.innerHTML = `<h3>Told by a model <em class="generated">generated</em></h3><div class="chips"></div><div class="views" role="status"></div>`;
  const views = place.querySelector(".views");
  for (const offer of offers(tellers, seen, upload !== null)) {
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
  const found = [];
  for (const model of models) {
    const about = (what) => ({ key: `${model.id}|${what}`, model: model.id, title: `asked of ${model.id}` });
    const goesOn = model.kind.endsWith("Autoregressive");
    const inputs = (test) => model.reads.filter((codec) => codec.part === test).map((codec) => codec.name);
    if (model.can.includes("posterior")) {
      const from = [["all that was measured", []], ...["image", "spectrum"].map((part) => [`the ${part} alone`, inputs(part)]).filter(([, names]) => names.length)];
      found.push({ ...about("z"), label: "redshift", ask: (ask) => sharpening(from, model.id, ask), show: (told) => posteriorBox(told, seen.z) });
    }
    if (!model.can.includes("generate")) continue;
    for (const codec of model.reads.filter((one) => isImage(one) || isSpectrum(one))) {
      if (goesOn && !isImage(codec)) continue;
      const words = goesOn ? { keep: CENTRE } : WAY;
      const show = (told) => (isImage(codec) ? imageBox(told, seen) : linesBox(told, seen));
      const own = isImage(codec) ? seen.picture : seen.lines;
      if (!upload && !own && goesOn) continue;
      const label = goesOn ? "finished from its centre" : TITLES[codec.name] ?? codec.name;
      found.push({ ...about(codec.name), label, how: goesOn ? `from its central ${CENTRE} tokens` : `mean of ${WAY.draws} draws from all else that was measured`,
        ask: async (ask) => (await ask({ model: model.id, target: codec.name, ...words }, "generate")).data, show });
    }
  }
  const twice = new Set(found.map((one) => one.label).filter((label, i, all) => all.indexOf(label) !== i));
  return found.map((one) => (twice.has(one.label) ? { ...one, label: `${one.label} · ${one.model}` } : one));
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
    if (!answers.has(offer.key)) answers.set(offer.key, await offer.ask(ask));
    if (mine !== going) return;
    const box = element("figure", { className: "made" });
    box.append(offer.show(answers.get(offer.key)), element("figcaption", { textContent: `generated by ${offer.model}, not measured${offer.how ? `; ${offer.how}` : ""}` }));
    views.replaceChildren(box);
  } catch (error) {
    if (mine === going && error.name !== "AbortError") views.replaceChildren(element("p", { className: "error", textContent: error.message }));
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
      if (!inputs.length) throw error; // a part that was not measured cannot be asked alone
    }
  }
  return found;
}
