// Word diff: the fewest words to take out and put in (Myers 1986, "An O(ND) difference algorithm"), up to a limit.

const MAX_EDITS = 600; // beyond, the texts have little in common and a diff would only be confetti
const MOST_WORDS = 6000;

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}\p{M}_]+|[^\s\p{L}\p{N}\p{M}_]/gu) || [];
}

// A list of [kind, text] from one text to another: "same", "out", "in".
function diffWords(from, to) {
  const a = words(from), b = words(to);
  if (a.length + b.length > MOST_WORDS) return null;
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const middle = edits(a.slice(start, a.length - end), b.slice(start, b.length - end));
  if (!middle) return null;
  return joined([...a.slice(0, start).map((word) => ["same", word]), ...middle, ...(end ? a.slice(-end) : []).map((word) => ["same", word])]);
}

function edits(a, b) {
  const most = Math.min(a.length + b.length, MAX_EDITS);
  const reach = new Int32Array(2 * most + 3), trail = [];
  for (let d = 0; d <= most; d++) {
    trail.push(reach.slice(most + 1 - d - 1, most + 1 + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[most + 1 + k - 1] < reach[most + 1 + k + 1]);
      let x = down ? reach[most + 1 + k + 1] : reach[most + 1 + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach[most + 1 + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trail);
    }
  }
  return null;
}

function walkBack(a, b, trail) {
  const found = [];
  let x = a.length, y = b.length;
  for (let d = trail.length - 1; d >= 0; d--) {
    const reach = (k) => trail[d][k + d + 1], k = x - y;
    const before = k === -d || (k !== d && reach(k - 1) < reach(k + 1)) ? k + 1 : k - 1;
    const fromX = d ? reach(before) : 0, fromY = d ? fromX - before : 0;
    while (x > fromX && y > fromY) { found.push(["same", a[--x]]); y--; }
    if (d) found.push(before === k + 1 ? ["in", b[--y]] : ["out", a[--x]]);
  }
  return found.reverse();
}

// Neighbours of one kind as one piece, what goes out before what comes in. Blanks between two changes belong to both.
function joined(pieces) {
  const found = [];
  let out = "", put = "";
  const flush = () => { if (out) found.push(["out", out]); if (put) found.push(["in", put]); out = put = ""; };
  pieces.forEach(([kind, text], place) => {
    const changing = (out || put) && place + 1 < pieces.length && pieces[place + 1][0] !== "same";
    if (kind === "out") out += text;
    else if (kind === "in") put += text;
    else if (changing && /^[ \t]+$/.test(text)) { out += text; put += text; }
    else {
      flush();
      if (found.length && found.at(-1)[0] === "same") found.at(-1)[1] += text; else found.push(["same", text]);
    }
  });
  flush();
  return found;
}

// The two texts with removed and added words marked.
function diffBlock(from, to) {
  const pieces = diffWords(kept(from), kept(to));
  if (!pieces) return [h("p", { class: "cut" }, "too long or too different for a word diff"), textBlock(to)];
  if (!pieces.some(([kind]) => kind !== "same")) return [h("p", { class: "none" }, "identical"), textBlock(to)];
  return h("div", { class: "text", dir: "auto" }, pieces.map(([kind, text]) =>
    kind === "same" ? shown(text) : h(kind === "out" ? "del" : "ins", null, h("span", { class: "unseen" }, kind === "out" ? " removed: " : " added: "), shown(text), h("span", { class: "unseen" }, " "))));
}

// The expected answer that is closest to the output.
function nearest(accepted, output) {
  let best = null, fewest = Infinity;
  for (const text of accepted.slice(0, 12)) {
    const pieces = diffWords(kept(text), kept(output));
    const size = pieces ? pieces.reduce((sum, [kind, piece]) => sum + (kind === "same" ? 0 : piece.length), 0) : 1e9;
    if (size < fewest) [best, fewest] = [text, size];
  }
  return best;
}

// The detail of a row: input, expected answers, and for each target output, scores with reasons, prompt, cost and latency.

let OPEN = null;

function detailDialog() {
  return h("dialog", { id: "detail", "aria-labelledby": "detail-title", onclose: closedRow, onclick: (event) => { if (event.target.id === "detail") event.target.close(); } });
}

function openRow(row) {
  OPEN = row;
  const dialog = document.getElementById("detail");
  dialog.replaceChildren(h("div", { class: "sheet" }, detailHead(row), h("div", { class: "detail-body" }, detailBody(row))));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  writeAddress();
  document.getElementById("detail-title").focus();
}

function closedRow() {
  const row = OPEN;
  OPEN = null;
  writeAddress();
  const links = [...document.querySelectorAll("#row-table tbody th a")];
  const link = row && document.querySelector(`#row-table tr[data-place="${row.place}"] a`);
  if (link) focusRow(links, link);
}

function detailHead(row) {
  const place = FOUND.indexOf(row);
  const step = (to, text, key) => h("button", { type: "button", class: "quiet", disabled: !FOUND[to], onclick: () => openRow(FOUND[to]), "aria-keyshortcuts": key }, text);
  const link = h("button", { type: "button", class: "quiet", id: "copy-link", onclick: copyLink }, "Copy link");
  return h("header", { class: "detail-head" },
    h("h2", { id: "detail-title", tabindex: "-1" }, h("span", { class: "mono" }, shown(row.id)), DATA.about.epochs > 1 && h("span", { class: "note" }, ` epoch ${row.epoch}`)),
    h("p", { class: "buttons" }, place >= 0 && h("span", { class: "faint" }, `${count(place + 1)} of ${count(FOUND.length)}`),
      step(place - 1, "Previous", "ArrowLeft"), step(place < 0 ? -1 : place + 1, "Next", "ArrowRight"), link,
      h("button", { type: "button", id: "close", onclick: () => document.getElementById("detail").close() }, "Close")));
}

function stepRow(event) {
  if (!OPEN || event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], to = FOUND[FOUND.indexOf(OPEN) + step];
  if (step && to && FOUND.indexOf(OPEN) >= 0) { event.preventDefault(); openRow(to); }
}

async function copyLink() {
  let text = "The link is in the address bar";
  try { await navigator.clipboard.writeText(location.href); text = "Link copied"; } catch { /* the browser does not let a file do that */ }
  document.getElementById("copy-link").textContent = text;
  say(text);
}

function detailBody(row) {
  const metadata = DATA.columns.map((name, column) => [name, row.metadata(column)]).filter(([, value]) => value !== null);
  return [
    h("section", { class: "pair" },
      h("div", null, h("h3", null, "Input"), textBlock(row.input), attachmentList(row)),
      h("div", null, h("h3", null, row.expected.length > 1 ? "Accepted answers" : "Expected"), row.expected.length ? row.expected.map((text) => textBlock(text)) : h("p", { class: "none" }, "none"))),
    metadata.length > 0 && h("details", { class: "meta", open: metadata.length <= 6 }, h("summary", null, `Sample fields (${metadata.length})`),
      h("dl", { class: "facts-list" }, metadata.map(([name, value]) => h("div", null, h("dt", { dir: "auto" }, oneLine(name, 80)), h("dd", { dir: "auto" }, shown(value)))))),
    h("div", { class: `answers count-${Math.min(DATA.targets.length, 4)}` }, DATA.targets.map((target, place) => answerBlock(row, place))),
    compareBlock(row),
  ];
}

function answerBlock(row, target) {
  const answer = row.answer(target);
  if (!answer) return h("section", { class: "answer-block" }, h("h3", null, targetName(target)), h("p", { class: "none" }, "no answer"));
  const finishReason = row.finishReason(target);
  const facts = [finishReason, Number.isFinite(answer[A.latency_s]) && seconds(answer[A.latency_s]), Number.isFinite(answer[A.ttft_s]) && `first token ${seconds(answer[A.ttft_s])}`,
    Number.isFinite(answer[A.output_tokens]) && `${count(answer[A.output_tokens])} tokens`, Number.isFinite(answer[A.cost_usd]) && number(answer[A.cost_usd], "USD"),
    row.string(answer[A.model]), answer[A.cached] ? "cached" : null].filter(Boolean);
  const failed = answer[A.failure] !== null;
  const box = h("div", { class: "answer-text" });
  const compared = !failed && row.expected.length > 0;
  const before = row.outputBefore(target);
  const showDiff = (on) => box.replaceChildren(...[on ? diffBlock(nearest(row.expected, answer[A.text]), answer[A.text]) : textBlock(failed ? answer[A.failure] : answer[A.text], failed ? "failed" : "")].flat());
  showDiff(false);
  return h("section", { class: "answer-block" },
    h("h3", null, targetName(target)),
    h("p", { class: "facts" }, facts.map((fact) => h("span", null, oneLine(fact, 80)))),
    compared && h("label", { class: "switch" }, h("input", { type: "checkbox", class: "diff-switch", onchange: (event) => showDiff(event.target.checked) }), "word diff from the expected answer"),
    failed && h("p", { class: "chip bad" }, "the call failed"),
    box,
    answer[A.extracted] !== null && answer[A.extracted] !== undefined && [h("h4", null, "Extracted, and scored"), textBlock(answer[A.extracted])],
    before !== null && before !== undefined && !failed && h("details", { class: "baseline-diff" }, h("summary", null, "Word diff from the baseline"), diffBlock(before, answer[A.text])),
    reasoningBlock(answer),
    answer[A.tool_calls] && [h("h4", null, "Tool calls"), textBlock(answer[A.tool_calls], "mono")],
    h("h4", null, "Scores"), DATA.scorers.map((scorer, place) => cellBlock(row, target, place)),
    promptBlock(row, target));
}

function reasoningBlock(answer) {
  const length = answer[A.reasoning_length], tokens = answer[A.reasoning_tokens];
  if (!Number.isFinite(length) && !Number.isFinite(tokens)) return null;
  const facts = [Number.isFinite(length) && counted(length, "character"), Number.isFinite(tokens) && counted(tokens, "token")].filter(Boolean).join(", ");
  if (!Number.isFinite(length)) return h("p", { class: "faint small" }, `Reasoning: ${facts}, not shown by the provider`);
  return h("details", { class: "prompt reasoning" }, h("summary", null, `Reasoning, not scored (${facts})`), textBlock(answer[A.reasoning]));
}

function cellBlock(row, target, place) {
  const reason = row.reason(target, place), detail = Object.entries(row.detail(target, place));
  const explanation = detail.find(([name]) => name === "explanation"), rest = detail.filter(([name]) => name !== "explanation");
  const cell = row.cell(target, place), checks = row.checks(target, place);
  return h("div", { class: "score-line" }, scoreChip(row, target, place),
    Number.isFinite(cell && cell[C.cost_usd]) && h("span", { class: "faint small" }, ` judge ${number(cell[C.cost_usd], "USD")}`),
    reason && h("p", { class: "reason", dir: "auto" }, shown(reason)),
    explanation && textBlock(explanation[1], "reason"),
    checks.length > 0 && checkList(row, checks),
    rest.length > 0 && h("details", null, h("summary", null, "detail"), h("dl", { class: "facts-list" }, rest.map(([name, value]) => h("div", null, h("dt", null, oneLine(name, 80)), h("dd", { dir: "auto" }, shown(kept(value)), Array.isArray(value) && cutNote(value)))))));
}

// What the prompts attach: a picture where the page has one, else what it is. The same for several targets is shown once.
function attachmentList(row) {
  const items = new Map();
  for (const place of DATA.targets.keys())
    for (const [, , files] of row.messages(place) || [])
      for (const [picture, label] of files || []) items.set(row.string(label), row.string(picture));
  if (!items.size) return null;
  return h("ul", { class: "attachments", "aria-label": "Attachments" }, [...items].map(([label, uri]) => h("li", null,
    uri !== null && PICTURE.test(uri) && h("img", { src: uri, alt: "" }), h("span", { class: "faint small", dir: "auto" }, shown(label)))));
}

const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*$/;

function promptBlock(row, target) {
  const messages = row.messages(target);
  if (!messages) return null;
  return h("details", { class: "prompt" }, h("summary", null, `Prompt (${counted(messages.length, "message")})`),
    messages.map(([role, text]) => [h("h4", { class: "role" }, oneLine(row.string(role) || "", 40)), textBlock(text)]));
}

// The word diff of two targets' outputs.

function compareBlock(row) {
  const asked = DATA.targets.map((_, place) => place).filter((place) => row.answer(place) && row.answer(place)[A.failure] === null);
  if (asked.length < 2) return null;
  const box = h("div", { class: "answer-text" });
  const options = () => asked.map((place) => h("option", { value: place }, oneLine(DATA.targets[place].name, 60)));
  const pick = (id, label) => h("label", { for: id, class: "pick" }, `${label} `, h("select", { id, onchange: () => draw() }, options()));
  const one = pick("diff-from", "From"), other = pick("diff-to", "to");
  const draw = () => {
    const [from, to] = [one, other].map((label) => Number(label.querySelector("select").value));
    box.replaceChildren(...[diffBlock(row.answer(from)[A.text], row.answer(to)[A.text])].flat());
  };
  other.querySelector("select").value = String(asked[1]);
  draw();
  return h("section", { class: "between" }, h("h3", null, "Compare two targets"), h("p", null, one, " ", other), box);
}
