// Look-alikes, away from the page: cosines of one vector with all of a side.

const sides = new Map(); // url → {scale, vectors, width}

async function side({ url, count, width }) {
  if (!sides.has(url)) {
    const read = fetch(url).then(async (answer) => {
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
      const file = await answer.arrayBuffer();
      return { scale: new Float32Array(file, 0, count), vectors: new Int8Array(file, 4 * count), width };
    });
    read.catch(() => sides.delete(url));
    sides.set(url, read);
  }
  return sides.get(url);
}

// The unit vector asked for: the mean of some objects, and of one given, less that of others.
async function asked({ by, plus, minus, vector }) {
  const sum = new Float32Array(by.width);
  const many = plus.length + (vector ? 1 : 0);
  if (vector) {
    const length = Math.hypot(...vector) || 1;
    sum.set(vector.map((value) => value / length / many));
  }
  if (plus.length || minus.length) {
    const { scale, vectors, width } = await side(by);
    const add = (rows, share) => {
      for (const row of rows) {
        if (!scale[row]) throw new Error("absent");
        for (let i = 0; i < width; i++) sum[i] += share * scale[row] * vectors[row * width + i];
      }
    };
    add(plus, 1 / many);
    if (minus.length) add(minus, -1 / minus.length);
  }
  const norm = Math.hypot(...sum) || 1;
  return sum.map((value) => value / norm);
}

self.onmessage = async ({ data }) => {
  try {
    const query = await asked(data);
    const { scale, vectors, width } = await side(data.across);
    const similarity = new Float32Array(scale.length);
    for (let row = 0, at = 0; row < scale.length; row++, at += width) {
      if (!scale[row]) { similarity[row] = NaN; continue; }
      let sum = 0;
      for (let i = 0; i < width; i++) sum += query[i] * vectors[at + i];
      similarity[row] = sum * scale[row];
    }
    self.postMessage({ ticket: data.ticket, similarity }, [similarity.buffer]);
  } catch (error) {
    self.postMessage({ ticket: data.ticket, error: error.message });
  }
};
