// Positions: read from text, written, and how far apart.

const RAD = Math.PI / 180;

// "150.12 +2.2", "150.12, 2.2", "10:00:28.8 +02:12:00", "10h00m28.8s +2d12m0s", "10 00 28.8 +02 12 00"; null otherwise.
export function readPosition(text) {
  const plain = text.trim().replace(/[−–]/g, "-").replace(/[,;]/g, " ");
  if (!/^[-+\d.:hmsd°′″'"\s]+$/i.test(plain)) return null;
  const sexagesimal = /[:hmd°]/i.test(plain);
  const words = plain.replace(/[:hmsd°′″'"]/gi, " ").trim().split(/\s+/);
  if (!words.every((word) => /^[-+]?(\d+\.?\d*|\.\d+)$/.test(word))) return null;
  const numbers = words.map(Number);
  if (numbers.length === 2 && !sexagesimal) return onTheSky(numbers[0], numbers[1]);
  if (numbers.length !== 6 && numbers.length !== 4) return null;
  const half = numbers.length / 2;
  const [hours, degrees] = [numbers.slice(0, half), numbers.slice(half)].map((parts) =>
    parts.reduce((sum, part, i) => sum + Math.abs(part) / 60 ** i, 0));
  if ([...numbers.slice(1, half), ...numbers.slice(half + 1)].some((part) => part < 0 || part >= 60)) return null;
  return onTheSky(15 * hours, words[half].startsWith("-") ? -degrees : degrees);
}

function onTheSky(ra, dec) {
  return ra >= 0 && ra <= 360 && Math.abs(dec) <= 90 ? { ra, dec } : null;
}

export function apart(ra, dec, ra0, dec0) {
  const a = Math.sin(((dec - dec0) * RAD) / 2) ** 2;
  const b = Math.cos(dec * RAD) * Math.cos(dec0 * RAD) * Math.sin(((ra - ra0) * RAD) / 2) ** 2;
  return (2 * Math.asin(Math.sqrt(Math.min(1, a + b)))) / RAD;
}

export function nearest(sky, { ra, dec }) {
  const [all, decs] = [sky.columns.get("ra").values, sky.columns.get("dec").values];
  let best = { row: null, apart: Infinity };
  for (let row = 0; row < sky.count; row++) {
    if (Math.abs(decs[row] - dec) > best.apart) continue;
    const far = apart(all[row], decs[row], ra, dec);
    if (far < best.apart) best = { row, apart: far };
  }
  return best;
}

export function angle(degrees) {
  if (degrees < 1 / 60) return `${(degrees * 3600).toFixed(degrees < 1 / 360 ? 2 : 1)}″`;
  return degrees < 1 ? `${(degrees * 60).toFixed(1)}′` : `${degrees.toFixed(2)}°`;
}

export function sexagesimal(ra, dec) {
  return `${parts(ra / 15, 2)} ${dec < 0 ? "−" : "+"}${parts(Math.abs(dec), 1)}`;
}

function parts(value, digits) {
  const unit = 10 ** digits;
  const whole = Math.round(value * 3600 * unit);
  const seconds = (whole % (60 * unit)) / unit;
  const minutes = Math.floor(whole / (60 * unit));
  const two = (number) => String(number).padStart(2, "0");
  return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}:${seconds.toFixed(digits).padStart(digits + 3, "0")}`;
}
