// What only a server can: uploads land on the map, models tell what nobody measured. Without one, none of this is shown.

const FITS = "application/octet-stream";

export async function findServer() {
  try {
    const answer = await fetch("/info");
    if (!answer.ok || !answer.headers.get("content-type")?.includes("json")) return null;
    const info = await answer.json();
    if (!info.omnisky) return null;
    const models = await (await fetch("/v1/models")).json();
    return new Server(info, models.data);
  } catch {
    return null; // a plain file server, or none: the page lives without
  }
}

class Server {
  constructor(info, models) {
    Object.assign(this, { info, models });
  }

  async ask(route, words, body, signal = null) {
    const answer = await fetch(`/v1/${route}?${new URLSearchParams(words)}`, { method: "POST", body, signal, headers: { "content-type": FITS, accept: "application/json" } });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail ?? told.title ?? `${answer.status}`);
    return told;
  }

  // The vector of an upload, as the vectors of this sky were made: {side, vector}, less what the side has in common.
  async embed(sky, body) {
    let last = new Error("no model served here made this sky's vectors");
    const mine = this.info.indices.find((index) => index.signature === sky.about.signature)?.model;
    for (const model of mine ? [mine] : this.info.models) {
      for (const side of sky.about.sides) {
        for (const precision of ["fp32", "bf16"]) {
          try {
            const words = { model, precision, ...(sky.about.sides.length > 1 ? { part: side.name } : {}) };
            const told = await this.ask("embed", words, body);
            if (told.signature !== sky.about.signature) continue;
            return { side: side.name, many: told.data.length, vector: told.data[0].embedding.map((value, i) => value - side.mean[i]) };
          } catch (error) {
            last = error;
          }
        }
      }
    }
    throw last;
  }

  // What the server read of an upload.
  async look(body) {
    const answer = await fetch("look", { method: "POST", body, headers: { "content-type": FITS } });
    return answer.ok ? answer.json() : {};
  }
}

// The object as it was measured, which the server keeps if it was told where the data are.
export async function measured(sky, row) {
  await sky.ids();
  const answer = await fetch(`objects/${encodeURIComponent(sky.name)}/${encodeURIComponent(sky.names[row])}`);
  return answer.ok ? answer.blob() : null;
}
