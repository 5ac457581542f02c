// Untrusted texts and bare numbers, made fit to be read. Whatever could steer a reader's eye is shown as an escape.

const DASH = "–";
// C0 and C1 controls but for tab and line feed, direction overrides, invisible characters, tags, half surrogate pairs
const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]/gu;
const NAMED = { "\0": "\\0", "\x1b": "\\e", "\r": "\\r", "\x07": "\\a", "\b": "\\b" };

function escapeOf(character) {
  if (NAMED[character]) return NAMED[character];
  const code = character.codePointAt(0);
  if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
  return code > 0xffff ? `\\u{${code.toString(16)}}` : "\\u" + code.toString(16).padStart(4, "0");
}

// The text with nothing in it that acts on its surroundings.
function plain(text) {
  return String(text).replaceAll("\r\n", "\n").replace(UNSAFE, escapeOf);
}

// The text on one line, cut to `limit` characters.
function oneLine(text, limit) {
  const line = plain(text.slice(0, limit * 2).replace(/\s+/g, " ").trim());
  return line.length > limit || text.length > limit * 2 ? line.slice(0, limit - 1) + "…" : line;
}

function grouped(value, digits) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function count(value) {
  return grouped(value, 0);
}

function counted(value, noun) {
  return value === 1 ? `1 ${noun}` : `${count(value)} ${noun}s`;
}

function seconds(value) {
  if (value < 1) return `${grouped(value, 3)} s`;
  if (value < 59.95) return `${grouped(value, 1)} s`;
  const whole = Math.round(value), minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// A number as people read it, its unit behind it, a dash for none.
function number(value, unit) {
  if (value === null || value === undefined) return DASH;
  if (unit === "USD") {
    const small = Math.abs(value) < 0.01 && value !== 0;
    return "$" + (small ? String(Number(value.toPrecision(2))) : grouped(value, Math.abs(value) < 1 ? 4 : 2));
  }
  if (unit === "tokens") return grouped(value, Number.isInteger(value) || value >= 1000 ? 0 : 1);
  if (unit === "s") return seconds(value);
  const text = grouped(value, Math.abs(value) < 1000 ? 3 : 1);
  return unit ? `${text} ${unit}` : text;
}

// A score of one row: whole numbers without decimals, so that 0 and 1 are seen at once.
function scoreText(value) {
  if (value === null || value === undefined) return DASH;
  return Number.isInteger(value) ? count(value) : grouped(value, Math.abs(value) < 1000 ? 3 : 1);
}

function signed(value) {
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + number(Math.abs(value));
}

function interval(low, high, unit) {
  const missing = (end) => end === null || end === undefined;
  if (missing(low) && missing(high)) return DASH;
  return `[${missing(low) ? "…" : number(low, unit)}, ${missing(high) ? "…" : number(high, unit)}]`;
}

function percent(share) {
  return `${grouped(share * 100, share > 0 && share < 0.1 ? 1 : 0)} %`;
}

// A text of the data: `[what is kept, its length]` where it was cut.
function kept(text) {
  return Array.isArray(text) ? text[0] : text;
}

function lengthOf(text) {
  return Array.isArray(text) ? text[1] : text.length;
}
