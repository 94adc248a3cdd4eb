// Asks the worker; an answer to a question that was followed by another is dropped.

let worker = null;
let ticket = 0;
const waiting = new Map();

export function similarities(question) {
  if (!worker) {
    worker = new Worker(new URL("search.worker.js", import.meta.url));
    worker.onmessage = ({ data }) => {
      const { resolve, reject } = waiting.get(data.ticket) ?? {};
      waiting.delete(data.ticket);
      if (data.error) reject?.(new Error(data.error));
      else resolve?.(data.similarity);
    };
  }
  return new Promise((resolve, reject) => {
    waiting.set(++ticket, { resolve, reject });
    worker.postMessage({ ...question, ticket });
  });
}

export function side(sky, name) {
  const one = sky.about.sides.find((one) => one.name === name);
  return { url: new URL(`${sky.folder}/${one.file}`, document.baseURI).href, count: sky.count, width: one.width };
}

// Rows by falling similarity, of those that may answer.
export function best(similarity, k, may) {
  const top = []; // a small heap is not worth its lines at k ≤ 100
  let least = -Infinity;
  for (let row = 0; row < similarity.length; row++) {
    const value = similarity[row];
    if (!(value > least) || !may(row)) continue;
    let at = top.length;
    while (at > 0 && similarity[top[at - 1]] < value) at--;
    top.splice(at, 0, row);
    if (top.length > k) top.pop();
    if (top.length === k) least = similarity[top[k - 1]];
  }
  return top;
}
