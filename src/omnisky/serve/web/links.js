// What is looked at, in the address: #sky=…&o=…&like=…&unlike=…&way=image~spectrum&c=…&f=redshift:0.1:0.3&cone=150,2,5&v=0.1,0.2,0.4

export function read() {
  const words = new URLSearchParams(location.hash.slice(1));
  const numbers = (name, count) => {
    const all = (words.get(name) ?? "").split(",").map(Number);
    return words.get(name) && all.length === count && all.every(Number.isFinite) ? all : null;
  };
  const between = {};
  for (const one of words.getAll("f")) {
    const found = one.match(/^(.+):([^:]*):([^:]*)$/);
    if (found) between[found[1]] = [found[2] === "" ? -Infinity : +found[2], found[3] === "" ? Infinity : +found[3]];
  }
  const cone = numbers("cone", 3);
  return {
    sky: words.get("sky"), object: words.get("o"), like: words.getAll("like"), unlike: words.getAll("unlike"), way: words.get("way"), colour: words.get("c"), least: words.get("min"),
    between, cone: cone && { ra: cone[0], dec: cone[1], radius: cone[2] }, view: numbers("v", 3),
  };
}

export function write({ sky, object, like, unlike, way, colour, least, between, cone, view }) {
  const words = new URLSearchParams();
  const put = (name, value) => value !== null && value !== undefined && value !== "" && words.append(name, value);
  put("sky", sky);
  put("o", object);
  for (const one of like) put("like", one);
  for (const one of unlike) put("unlike", one);
  put("way", way);
  put("c", colour);
  put("min", least);
  for (const [name, [low, high]] of between) put("f", `${name}:${Number.isFinite(low) ? +low.toPrecision(6) : ""}:${Number.isFinite(high) ? +high.toPrecision(6) : ""}`);
  put("cone", cone && [cone.ra, cone.dec, cone.radius].join(","));
  put("v", view && view.map((value) => +value.toPrecision(5)).join(","));
  const hash = `#${words.toString().replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%7E", "~")}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}
