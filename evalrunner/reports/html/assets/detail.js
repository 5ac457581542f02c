// One row, whole: input, accepted answers, and of each target the answer, its scores and why, its prompt, what it took.

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
  if (location.hash !== linkOf(row)) history.replaceState(null, "", linkOf(row));
  document.getElementById("detail-title").focus();
}

function closedRow() {
  const row = OPEN;
  OPEN = null;
  history.replaceState(null, "", location.pathname + location.search);
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
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key], to = FOUND[FOUND.indexOf(OPEN) + way];
  if (way && to && FOUND.indexOf(OPEN) >= 0) { event.preventDefault(); openRow(to); }
}

async function copyLink() {
  let text = "The address bar has the link";
  try { await navigator.clipboard.writeText(location.href); text = "Link copied"; } catch { /* the browser does not let a file do that */ }
  document.getElementById("copy-link").textContent = text;
  say(text);
}

function detailBody(row) {
  const metadata = DATA.columns.map((name, column) => [name, row.metadata(column)]).filter(([, value]) => value !== null);
  return [
    h("section", { class: "pair" },
      h("div", null, h("h3", null, "Input"), textBlock(row.input)),
      h("div", null, h("h3", null, row.expected.length > 1 ? "Accepted answers" : "Expected"), row.expected.length ? row.expected.map((text) => textBlock(text)) : h("p", { class: "none" }, "none given"))),
    metadata.length > 0 && h("details", { class: "meta", open: metadata.length <= 6 }, h("summary", null, `Data of the sample (${metadata.length})`),
      h("dl", { class: "facts-list" }, metadata.map(([name, value]) => h("div", null, h("dt", { dir: "auto" }, oneLine(name, 80)), h("dd", { dir: "auto" }, shown(value)))))),
    h("div", { class: `answers count-${Math.min(DATA.targets.length, 4)}` }, DATA.targets.map((target, place) => answerBlock(row, place))),
    compareBlock(row),
  ];
}

function answerBlock(row, target) {
  const answer = row.answer(target);
  if (!answer) return h("section", { class: "answer-block" }, h("h3", null, targetName(target)), h("p", { class: "none" }, "not asked"));
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
    failed && h("p", { class: "pill bad" }, "the call failed"),
    box,
    before !== null && before !== undefined && !failed && h("details", { class: "baseline-diff" }, h("summary", null, "Word diff from the baseline's answer"), diffBlock(before, answer[A.text])),
    answer[A.tool_calls] && [h("h4", null, "Tool calls"), textBlock(answer[A.tool_calls], "mono")],
    h("h4", null, "Scores"), DATA.scorers.map((scorer, place) => cellBlock(row, target, place)),
    promptBlock(row, target));
}

function cellBlock(row, target, place) {
  const reason = row.reason(target, place), detail = Object.entries(row.detail(target, place));
  const explanation = detail.find(([name]) => name === "explanation"), rest = detail.filter(([name]) => name !== "explanation");
  const before = row.before(target, place), cell = row.cell(target, place);
  return h("div", { class: "score-line" }, scorePill(row, target, place, DATA.scorers[place].name),
    Number.isFinite(cell && cell[C.cost_usd]) && h("span", { class: "faint small" }, ` judge ${number(cell[C.cost_usd], "USD")}`),
    Number.isFinite(before) && h("span", { class: "faint small" }, ` baseline ${scoreText(before)}`),
    reason && h("p", { class: "reason", dir: "auto" }, shown(reason)),
    explanation && textBlock(explanation[1], "reason"),
    rest.length > 0 && h("details", null, h("summary", null, "detail"), h("dl", { class: "facts-list" }, rest.map(([name, value]) => h("div", null, h("dt", null, oneLine(name, 80)), h("dd", { dir: "auto" }, shown(kept(value)), Array.isArray(value) && cutNote(value)))))));
}

function promptBlock(row, target) {
  const messages = row.messages(target);
  if (!messages) return null;
  return h("details", { class: "prompt" }, h("summary", null, `Prompt (${counted(messages.length, "message")})`),
    messages.map(([role, text]) => [h("h4", { class: "role" }, oneLine(row.string(role) || "", 40)), textBlock(text)]));
}
