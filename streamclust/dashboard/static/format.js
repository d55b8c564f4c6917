// Numbers, times and foreign text for people; the same forms as on the command line.

const plain = new Map();

function decimals(value, digits) {
  const format = plain.get(digits) ?? new Intl.NumberFormat("en", { maximumFractionDigits: digits });
  plain.set(digits, format);
  return format.format(value);
}

export const NONE = "–";

export function count(value) {
  return Number.isFinite(value) ? decimals(value, 0) : NONE;
}

// Four significant digits, and an exponent only for very large and very small values.
export function number(value, digits = 4) {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size && (size < 1e-4 || (size >= 1e7 && size >= 10 ** digits))) return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  const left = size >= 1 ? Math.floor(Math.log10(size)) + 1 : size ? Math.ceil(Math.log10(size)) : 1;
  return decimals(value, Math.max(0, Math.min(8, digits - left)));
}

// Digits that tell values apart: far from zero, more are needed.
export function digitsFor(values, step = Math.max(...values) - Math.min(...values)) {
  const largest = Math.max(...values.map(Math.abs));
  return step > 0 && largest > 0 ? Math.min(15, Math.max(4, Math.ceil(Math.log10(largest / step)) + 3)) : 4;
}

// 12,345 -> 12.3k: for columns that must stay narrow.
export function short(value) {
  if (!Number.isFinite(value)) return NONE;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) return decimals(value / (unit === "k" ? 1e3 : size), 1) + unit;
  }
  return decimals(value, 0);
}

export function percent(share) {
  if (!Number.isFinite(share)) return NONE;
  if (share > 0 && share < 0.001) return "<0.1 %";
  return `${decimals(share * 100, share < 0.1 ? 1 : 0)} %`;
}

export function rate(value) {
  if (!Number.isFinite(value)) return NONE;
  return value > 0 && value < 10 ? decimals(value, 1) : short(value);
}

export function plural(value, noun, nouns = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : nouns}`;
}

export function ago(timeMs, nowMs) {
  if (!Number.isFinite(timeMs)) return NONE;
  const seconds = (nowMs - timeMs) / 1e3;
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (Math.abs(seconds) >= unit) {
      const words = `${count(Math.floor(Math.abs(seconds) / unit))} ${name}`;
      return seconds > 0 ? `${words} ago` : `in ${words}`;
    }
  }
  return "just now";
}

export function clock(timeMs) {
  if (!Number.isFinite(timeMs) || Math.abs(timeMs) > 8.64e15) return NONE;
  const time = new Date(timeMs);
  const two = (value) => String(value).padStart(2, "0");
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

// The time of day, and the date too if it isn't today.
export function moment(timeMs, nowMs) {
  const text = clock(timeMs);
  return text.slice(0, 10) === clock(nowMs).slice(0, 10) ? text.slice(11) : text;
}

export function bytes(value) {
  if (!Number.isFinite(value)) return NONE;
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (value >= size) return `${decimals(value / size, 1)} ${unit}`;
  }
  return `${count(value)} B`;
}

// Escape what can't be seen or reorders the text around it: names come from producers.
export function printable(text, limit = 4000) {
  const shown = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return shown.replace(/[\p{C}\p{Z}]/gu, (char) => {
    if (char === " ") return char;
    const code = char.codePointAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}
