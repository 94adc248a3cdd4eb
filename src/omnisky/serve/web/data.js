// One sky: its columns, ids, and the files that hold what objects look like.

const KINDS = { f4: Float32Array, f8: Float64Array, u1: Uint8Array };

const TELLING = /mass|ssfr|sfr|(^|_)age|half_light|class|kind|looks|type/i;

async function get(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return answer;
}

export async function skies() {
  return (await get("data/skies.json")).json();
}

// What else lies in this site.
export async function beside() {
  return (await get("site.json")).json();
}

export async function openSky(name) {
  const folder = `data/${name}`;
  const [about, bytes] = await Promise.all([
    get(`${folder}/sky.json`).then((answer) => answer.json()),
    get(`${folder}/columns.bin`).then((answer) => answer.arrayBuffer()),
  ]);
  return new Sky(name, folder, about, bytes);
}

class Sky {
  constructor(name, folder, about, bytes) {
    Object.assign(this, { name, folder, about, count: about.count });
    this.columns = new Map(about.columns.map((row) => [row.name, { ...row, values: new KINDS[row.type](bytes, row.offset, about.count) }]));
    const told = [...this.columns.values()].filter((column) => !column.hidden);
    const isPlace = (column) => column.name === "ra" || column.name === "dec";
    this.properties = told.filter((column) => !isPlace(column));
    this.numbers = this.properties.filter((column) => !column.names);
    this.redshift = this.#called(/^(true_)?redshift$/i) ?? this.#called(/^(z|z_?spec|spec_z|photo_?z)$/i) ?? this.#called(/^redshift/i);
    this.magnitude = this.#called(/^r_?mag/i) ?? this.#called(/(^|_)mag|mag(_|$)/i);
    // First what tells most; the rest as it came.
    const rank = (column) => (column === this.redshift ? 0 : column === this.magnitude ? 1 : TELLING.test(column.name) ? 2 : 3);
    this.properties.sort((one, other) => rank(one) - rank(other));
    this.shown = [...told.filter(isPlace), ...this.properties];
    this.chunks = new Map();
    this.idsRead = null;
  }

  pictured(row) {
    return !!this.about.picture && (this.columns.get("has").values[row] & 1) > 0;
  }

  #called(pattern) {
    return this.numbers.find((column) => pattern.test(column.name));
  }

  value(column, row) {
    return this.columns.get(column).values[row];
  }

  // ids are text, never numbers: DESI's do not fit into a double.
  ids() {
    this.idsRead ??= get(`${this.folder}/ids.txt`).then((answer) => answer.text()).then((text) => {
      this.names = text.split("\n");
      return this.names;
    });
    return this.idsRead;
  }

  async rowOf(id) {
    if (!this.rows) {
      const names = await this.ids();
      this.rows = new Map(names.map((name, row) => [name, row]));
    }
    return this.rows.get(id) ?? null;
  }

  // The bytes of one object out of the file it shares with its neighbours; null where there are none.
  async bytes(what, row, size) {
    const url = `${this.folder}/${what}/${Math.floor(row / size)}.bin`;
    if (!this.chunks.has(url)) {
      this.chunks.set(url, get(url).then((answer) => answer.arrayBuffer()));
      if (this.chunks.size > 400) this.chunks.delete(this.chunks.keys().next().value);
    }
    const file = await this.chunks.get(url);
    const ends = new Uint32Array(file, 0, size + 1);
    const [start, end] = [ends[row % size], ends[(row % size) + 1]];
    return end > start ? file.slice(4 * (size + 1) + start, 4 * (size + 1) + end) : null;
  }
}

export function said(value, column) {
  if (column?.names) return column.names[value] ?? "–";
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(+value.toPrecision(size < 1 ? 3 : 5));
  return text.replaceAll("-", "−");
}

// A unit as astropy writes it, as one reads it: erg / (s cm2 AA) → erg s⁻¹ cm⁻² Å⁻¹.
export function unitText(unit) {
  const raised = (_, power) => power.replaceAll("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
  const under = (_, words) => ` ${words.trim().split(/\s+/).map((word) => (/\d$/.test(word) ? word.replace(/(\d+)$/, "-$1") : `${word}-1`)).join(" ")}`;
  const flat = unit.replace(/\bsol(Mass|Lum|Rad)/g, (_, what) => `${what[0]}☉`).replace(/\bAA/g, "Å").replace(/ ?\/ ?\(([^()]+)\)/, under);
  return flat.replace(/^1e([+-]?\d+)/, (_, power) => `10${raised(_, power)}`).replace(/(?<=[a-zÅ☉])\^?(-?\d+)(?![\d.])/gi, raised);
}

export const spoken = (name) => name.replaceAll("_", " ");
