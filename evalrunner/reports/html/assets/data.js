// The data of the page: what stands above the rows is read at once, the rows pack by pack while the page can be read.

const DATA = JSON.parse(document.getElementById("overview").textContent);
const SHAPE = DATA.shape;
const SCORED = SHAPE.states.indexOf("scored");
const ROWS = [];
const SEVERAL = DATA.targets.length > 1;

const at = (names) => Object.fromEntries(names.map((name, place) => [name, place]));
const G = at(SHAPE.group), A = at(SHAPE.answer), C = at(SHAPE.cell);

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

// Read all packs; `progress` is told how much is there.
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
  before(target, scorer) { const all = this.group[G.baseline]; return all && all[target] ? all[target][0][scorer] : null; }
  outputBefore(target) { const all = this.group[G.baseline]; return all && all[target] ? all[target][1] : null; }
  output(target) { const answer = this.answer(target); return answer ? answer[A.failure] || answer[A.text] : null; }
  messages(target) {
    const found = this.answer(target) && this.answer(target)[A.messages];
    return typeof found === "number" ? this.messages(found) : found;
  }
}

// What a row is called in a link: its id, and its epoch where there are several.
function linkOf(row) {
  const id = encodeURIComponent(row.id.toWellFormed ? row.id.toWellFormed() : row.id.replace(/\p{Cs}/gu, "\ufffd"));
  return `#row=${id}` + (DATA.about.epochs > 1 ? `&epoch=${row.epoch}` : "");
}

// The row that a link means, or null.
function rowOfLink(hash) {
  const found = /^#row=([^&]*)(?:&epoch=(\d+))?$/.exec(hash);
  if (!found) return null;
  const wanted = linkOf({ id: decoded(found[1]), epoch: Number(found[2] || 1) });
  return ROWS.find((row) => linkOf(row) === wanted) || null;
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}
