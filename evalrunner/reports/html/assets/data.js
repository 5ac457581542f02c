// The data of the page: the overview is read at once, the rows pack by pack in the background.

const DATA = JSON.parse(document.getElementById("overview").textContent);
const SHAPE = DATA.shape;
const SCORED = SHAPE.states.indexOf("scored");
const ROWS = [];
let LOADED = false; // whether all rows are in ROWS
const SEVERAL = DATA.targets.length > 1;
// What a line of the table of rows is: a row is a sample × target × epoch, a line has those of all targets
const LINE = !SEVERAL ? "row" : DATA.about.epochs > 1 ? "sample-epoch pair" : "sample";

const at = (names) => Object.fromEntries(names.map((name, place) => [name, place]));
const G = at(SHAPE.group), A = at(SHAPE.answer), C = at(SHAPE.cell), K = at(SHAPE.check);

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
  return bytes;
}

async function unpacked(element) {
  const text = element.textContent;
  if (element.dataset.coding !== "deflate") return JSON.parse(text);
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// Read all packs; `progress` gets the share that is read.
async function loadRows(progress) {
  const packs = [...document.querySelectorAll("script.pack")];
  for (const [place, element] of packs.entries()) {
    const pack = await unpacked(element);
    element.remove();
    for (const group of pack.groups) ROWS.push(new RowOf(group, pack.strings, ROWS.length));
    progress((place + 1) / packs.length);
    if (place % 4 === 3) await new Promise((done) => setTimeout(done));
  }
}

// A sample in one epoch with the answers of all targets.
class RowOf {
  constructor(group, strings, place) {
    this.group = group;
    this.strings = strings;
    this.place = place;
  }
  get id() { return this.group[G.id]; }
  get epoch() { return this.group[G.epoch]; }
  get input() { return this.group[G.input]; }
  get expected() { return this.group[G.expected]; }
  string(place) { return place === null || place === undefined || place < 0 ? null : this.strings[place]; }
  metadata(column) { return this.string(this.group[G.metadata][column]); }
  answer(target) { return this.group[G.answers][target]; }
  finishReason(target) { const answer = this.answer(target); return answer ? this.string(answer[A.finish_reason]) : null; }
  cell(target, scorer) { const answer = this.answer(target); return answer ? answer[A.cells][scorer] : null; }
  state(target, scorer) { const cell = this.cell(target, scorer); return cell ? cell[C.state] : -1; }
  value(target, scorer) { const cell = this.cell(target, scorer); return cell && cell[C.state] === SCORED ? cell[C.value] : null; }
  reason(target, scorer) { const cell = this.cell(target, scorer); return cell ? this.string(cell[C.reason]) : null; }
  detail(target, scorer) { const cell = this.cell(target, scorer); return (cell && cell[C.detail]) || {}; }
  checks(target, scorer) { const cell = this.cell(target, scorer); return (cell && cell[C.checks]) || []; }
  before(target, scorer) { const all = this.group[G.baseline]; return all && all[target] ? all[target][0][scorer] : null; }
  outputBefore(target) { const all = this.group[G.baseline]; return all && all[target] ? all[target][1] : null; }
  output(target) { const answer = this.answer(target); return answer ? answer[A.failure] || answer[A.text] : null; }
  messages(target) {
    const found = this.answer(target) && this.answer(target)[A.messages];
    return typeof found === "number" ? this.messages(found) : found;
  }
}

// Scales: the range of a metric in a chart, and round ticks.

function metricOf(target, name, slice) {
  return target.metrics.find((metric) => metric.name === name && sliceKey(metric.slice) === sliceKey(slice));
}

function sliceKey(slice) {
  return slice ? JSON.stringify(Object.entries(slice).sort()) : "";
}

function sliceText(slice) {
  return Object.entries(slice || {}).map(([column, value]) => `${column} = ${value}`).join(", ");
}

function scorerOf(name) {
  return DATA.scorers.find((scorer) => scorer.name === name);
}

// The headline metric of each scorer over all rows; one for each reducer. That of the scorer that leads the suite is the first.
function headlines() {
  const names = [], leads = (scorer) => (scorer.name === DATA.headline ? 0 : 1);
  for (const scorer of [...DATA.scorers].sort((one, other) => leads(one) - leads(other)))
    for (const target of DATA.targets)
      for (const metric of target.metrics) {
        const headline = metric.scorer === scorer.name && metric.aggregate === (scorer.headline || "mean");
        if (headline && !metric.slice && !names.includes(metric.name)) names.push(metric.name);
      }
  return names;
}

function gatesOf(metricName, targetName) {
  return DATA.gates.filter((gate) => gate.metric === metricName && gate.target === targetName && !gate.slice);
}

// The range of a metric in a chart: that of its scorer, or else that of its values.
function domainOf(metricName) {
  const seen = [];
  let declared = [null, null];
  for (const target of DATA.targets) {
    for (const metric of target.metrics) {
      if (metric.name !== metricName) continue;
      const scorer = scorerOf(metric.scorer);
      if (scorer && !["variance", "total"].includes(metric.aggregate)) declared = scorer.range || declared;
      seen.push(metric.value, metric.low, metric.high);
    }
    for (const gate of gatesOf(metricName, target.name)) seen.push(boundOf(gate), gate.baseline && gate.baseline.value);
  }
  const known = seen.filter((value) => Number.isFinite(value));
  if (!known.length) return [0, 1];
  let low = Math.min(...known), high = Math.max(...known);
  const nought = !Number.isFinite(declared[0]) && low >= 0 ? 0 : low;
  const room = (high - nought || Math.abs(high) || 1) * 0.08;
  low = Number.isFinite(declared[0]) ? Math.min(declared[0], low) : low >= 0 ? 0 : low - room;
  high = Number.isFinite(declared[1]) ? Math.max(declared[1], high) : high + room;
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

// The bound of a gate on the scale of its metric; a drop is measured from the baseline.
function boundOf(gate) {
  if (gate.kind === "max_drop" || gate.kind === "improved") {
    const before = gate.baseline && gate.baseline.value;
    if (!Number.isFinite(before)) return null;
    const allowed = gate.kind === "max_drop" ? gate.bound : 0;
    const metric = DATA.targets.flatMap((target) => target.metrics).find((found) => found.name === gate.metric);
    return metric && !metric.higher_is_better ? before + allowed : before - allowed;
  }
  return gate.bound;
}

function linear([low, high], [from, to]) {
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

function ticks([low, high], wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

function tickText(value, unit) {
  const size = Math.abs(value);
  const text = size >= 1000 && size < 100_000 ? count(value) : size >= 1000 ? value.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 }) : String(Number(value.toPrecision(3)));
  return unit === "USD" ? `$${text}` : unit === "s" ? `${text} s` : text;
}

// A quantile of a sorted list (linear interpolation, as in the metrics).
function quantile(sorted, share) {
  if (!sorted.length) return null;
  const place = (sorted.length - 1) * share, below = Math.floor(place), above = Math.ceil(place);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

// A forest line in words.
function barText(metric, { domain, gates }) {
  const words = [`${metric.name}: ${number(metric.value, metric.unit)}`];
  if (Number.isFinite(metric.low) || Number.isFinite(metric.high))
    words.push(`${percent(metric.level || 0.95)} CI ${interval(metric.low, metric.high)}`);
  for (const gate of gates) {
    if (Number.isFinite(boundOf(gate))) words.push(`gate at ${number(boundOf(gate))}, ${VERDICTS[gate.verdict] || gate.verdict}`);
    if (gate.baseline && Number.isFinite(gate.baseline.value)) words.push(`baseline ${gate.baseline.name} at ${number(gate.baseline.value)}`);
  }
  words.push(`drawn from ${number(domain[0])} to ${number(domain[1])}`);
  return words.join("; ");
}
