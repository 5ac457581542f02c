// Numbers, and untrusted text that is safe to show. Characters that could mislead a reader are shown as escapes.

const DASH = "–";
// C0 and C1 controls but for tab and line feed, direction overrides, invisible characters, tags, half surrogate pairs; of joiners
// and selectors of variations, which belong to words and emoji, only rows of two and more
const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e00ff}\u{e01f0}-\u{e0fff}\p{Cs}]|[\u200c\u200d]{2,}|[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]{2,}/gu;
const NAMED = { "\0": "\\0", "\x1b": "\\e", "\r": "\\r", "\x07": "\\a", "\b": "\\b" };

function escapesOf(characters) {
  return Array.from(characters, escapeOf).join("");
}

function escapeOf(character) {
  if (NAMED[character]) return NAMED[character];
  const code = character.codePointAt(0);
  if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
  return code > 0xffff ? `\\u{${code.toString(16)}}` : "\\u" + code.toString(16).padStart(4, "0");
}

// The text with nothing in it that acts on its surroundings.
function plain(text) {
  return String(text).replaceAll("\r\n", "\n").replace(UNSAFE, escapesOf);
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
  if (value < 1) return `${grouped(value, value >= 0.1 ? 2 : 3)} s`;
  if (value < 59.95) return `${grouped(value, 1)} s`;
  const whole = Math.round(value), minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// A number with its unit; a dash for none. It has as many more digits as tell it from the values that it stands beside.
function number(value, unit, beside = []) {
  return numbers([value, ...beside], unit)[0];
}

// Numbers that stand side by side: values that differ have different texts (`numbers` of formatting.py).
function numbers(values, unit) {
  const digits = values.map(() => 0);
  let texts = values.map((value) => numberText(value, unit, 0));
  for (let more = 1; more < 15; more++) {
    const same = texts.map((text, place) => texts.some((other, at) => other === text && (values[at] ?? null) !== (values[place] ?? null)));
    if (!same.includes(true)) break;
    texts = texts.map((text, place) => same[place] ? numberText(values[place], unit, ++digits[place]) : text);
  }
  return texts;
}

function numberText(value, unit, more) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  if (unit === "USD") {
    const small = size < 0.01 && value !== 0;
    return "$" + (small ? String(Number(value.toPrecision(2 + more))) : grouped(value, (size < 1 ? 4 : 2) + more));
  }
  if (unit === "tokens") return grouped(value, (Number.isInteger(value) || value >= 1000 ? 0 : 1) + more);
  if (unit === "s" && !more && (size >= 0.0005 || !value)) return seconds(value);
  const tiny = value !== 0 && (size < 0.001 || size >= 1e15);
  const text = tiny ? String(Number(value.toPrecision(Math.min(3 + more, 17)))) : grouped(value, (size < 1000 ? 3 : size < 1e6 ? 1 : 0) + more);
  return unit ? `${text} ${unit}` : text;
}

// A score of one row: whole numbers without decimals, so that 0 and 1 are seen at once.
function scoreText(value) {
  if (value === null || value === undefined) return DASH;
  return Number.isInteger(value) ? count(value) : grouped(value, Math.abs(value) < 1000 ? 3 : 1);
}

function signed(value) {
  return (value > 0 ? "+" : value < 0 ? "−" : "") + number(Math.abs(value));
}

function interval(low, high, unit, beside = []) {
  const missing = (end) => end === null || end === undefined;
  const [first, last] = numbers([low, high, ...beside], unit);
  if (missing(low) || missing(high)) return missing(low) && missing(high) ? DASH : missing(low) ? `≤ ${last}` : `≥ ${first}`;
  return `${first}${low < 0 || unit || /e/.test(first + last) ? " to " : "–"}${last}`;
}

// The value of a metric, and its interval, with enough digits to tell them apart.
function valueText(metric) {
  return number(metric.value, metric.unit, [metric.low, metric.high]);
}

function endsText(metric, unit) {
  return interval(metric.low, metric.high, unit, [metric.value]);
}

function percent(share) {
  return `${grouped(share * 100, share > 0 && share < 0.1 ? 1 : 0)}%`;
}

// A text of the data: `[its start, its length]` where it was cut.
function kept(text) {
  return Array.isArray(text) ? text[0] : text;
}

function lengthOf(text) {
  return Array.isArray(text) ? text[1] : text.length;
}

// Elements are created here only. A string child becomes a text node, so data never becomes HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : plain(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(plain(child)));
  }
}

function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A drawing with a title and a description for screen readers.
function drawing(width, height, title, description, ...children) {
  const id = `drawing-${(drawing.made = (drawing.made || 0) + 1)}`;
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": `${id}-t ${id}-d` },
    s("title", { id: `${id}-t` }, title), s("desc", { id: `${id}-d` }, description), children);
}

// The text with its escapes highlighted.
function shown(text) {
  const parts = document.createDocumentFragment();
  const whole = text.replaceAll("\r\n", "\n");
  let from = 0;
  for (const found of whole.matchAll(UNSAFE)) {
    if (found.index > from) parts.append(whole.slice(from, found.index));
    parts.append(h("span", { class: "escape" }, escapesOf(found[0])));
    from = found.index + found[0].length;
  }
  parts.append(whole.slice(from));
  return parts;
}

// A block with a text of the data, with a note where it is cut.
function textBlock(text, kind) {
  if (text === null || text === undefined) return h("p", { class: "none" }, "none");
  const block = h("div", { class: `text ${kind || ""}`, dir: "auto" }, shown(kept(text)));
  if (lengthOf(text) === 0) return h("p", { class: "none" }, "empty");
  return Array.isArray(text) ? [block, cutNote(text)] : block;
}

function cutNote(text) {
  return h("p", { class: "cut" }, `truncated: ${count(kept(text).length)} of ${count(text[1])} characters; table.csv and rows.jsonl have the full text`);
}

// A part of a view under a heading of its own. Strings among `children` are text.
function section(id, title, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-h` }, h("h2", { id: `${id}-h` }, title), children);
}

// A table: `columns` are [content, class, name where the content is no text], `rows` lists of cells; the first cell of a row is its heading. The roles are
// those that the elements have anyway; they stay where a style shows the table as a list.
function table(caption, columns, rows, attributes) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { role: "table", ...attributes }, h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(([text, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, text)))),
      h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, place) =>
        h(place ? "td" : "th", { scope: place ? null : "row", role: place ? "cell" : "rowheader", class: columns[place][1], "data-head": columns[place][2] || (typeof columns[place][0] === "string" ? columns[place][0] : null) }, cell)))))));
}

// The numbers of a picture as a table, closed until it is asked for.
function numbersOf(caption, columns, rows) {
  return h("details", { class: "numbers" }, h("summary", null, "The numbers"), table(caption, columns, rows, { class: columns.length > 3 ? "stack" : null }));
}

function say(text) {
  document.getElementById("live").textContent = plain(text);
}

function cssColour(place) {
  return `target-${place % 6}`;
}

// The name of a target behind its mark, so that shape identifies it, not color alone.
function targetName(place) {
  const { name } = DATA.targets[place];
  return h("span", { class: `target-name${name.length <= 26 ? " whole" : ""}` }, targetKey(place), h("span", { dir: "auto" }, oneLine(name, 120)));
}

function targetKey(place) {
  return s("svg", { class: `key ${cssColour(place)}`, viewBox: "-8 -8 16 16", width: 12, height: 12, "aria-hidden": "true" }, mark(place, 0, 0, 6));
}

const SHAPES = [
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
  (r) => `M${-r * 0.88},${-r * 0.88}h${r * 1.76}v${r * 1.76}h${-r * 1.76}z`,
  (r) => `M0,${-r * 1.1}L${r * 1.05},${r * 0.8}H${-r * 1.05}z`,
  (r) => `M0,${-r * 1.2}L${r * 1.2},0L0,${r * 1.2}L${-r * 1.2},0z`,
  (r) => `M0,${r * 1.1}L${r * 1.05},${-r * 0.8}H${-r * 1.05}z`,
  (r) => `M${-r},${-r / 3}h${r * 0.67}v${-r * 0.67}h${r * 0.66}v${r * 0.67}h${r * 0.67}v${r * 0.66}h${-r * 0.67}v${r * 0.67}h${-r * 0.66}v${-r * 0.67}h${-r * 0.67}z`,
];

function mark(place, x, y, radius) {
  return s("path", { class: `mark ${cssColour(place)}`, d: SHAPES[place % SHAPES.length](radius), transform: `translate(${x},${y})` });
}
