// The matching rows, paginated, with one column for each target.

const ROWS_PER_PAGE = 50;
const SHORT_ID = 10; // characters of an id in the table; its title and the opened row have all of it
let FOUND = [];
const MAX_CHIPS = 8; // scores of an answer beside it
let PAGE = 0;

const STACKED_BELOW = [720, 720, 980, 1180]; // pixels of the window, by the number of targets

function rowsSection() {
  const wide = DATA.targets.length > 3; // it scrolls in a box of its own, with its header
  const narrow = matchMedia(`(max-width: ${STACKED_BELOW[Math.min(DATA.targets.length, 4) - 1]}px)`);
  const rows = h("table", { id: "row-table", role: "table", class: `rows targets-${Math.min(DATA.targets.length, 6)}`, onkeydown: moveRow });
  const stack = () => rows.classList.toggle("stacked", narrow.matches);
  narrow.addEventListener("change", stack);
  stack();
  return section("row-section", "Rows", filterForm(),
    h("div", { class: "results" }, h("p", { id: "count", class: "count" }),
      h("p", { class: "buttons" }, h("button", { type: "button", id: "clear", class: "quiet", hidden: true, onclick: resetFilters }, "Reset filters"), h("button", { type: "button", id: "export-csv", onclick: exportCsv }, "Export CSV"), h("button", { type: "button", id: "export-jsonl", onclick: exportJsonl }, "Export JSONL"))),
    h("div", { class: `scroll rows-scroll ${wide ? "boxed" : ""}`, tabindex: "0", role: "region", "aria-label": "Rows" }, rows),
    h("div", { id: "pages", class: "pages", role: "group", "aria-label": "Pages of rows" }),
    h("p", { class: "hint", id: "rows-note" }, "loading rows …"));
}

// Filter the rows again and show the first page.
function applyFilters() {
  FOUND = matchingRows();
  PAGE = 0;
  for (const show of pills()) document.getElementById(`show-${show}`).setAttribute("aria-pressed", QUERY.show === show ? "true" : "false");
  document.getElementById("clear").hidden = JSON.stringify(QUERY) === JSON.stringify(DEFAULT_QUERY);
  drawPage();
  const text = FOUND.length === ROWS.length ? counted(ROWS.length, LINE) : `${count(FOUND.length)} of ${counted(ROWS.length, LINE)}`;
  document.getElementById("count").textContent = text;
  say(`${text} found`);
  if (LOADED && VIEW === "rows") writeAddress();
}

function drawPage() {
  const start = PAGE * ROWS_PER_PAGE, part = FOUND.slice(start, start + ROWS_PER_PAGE);
  const scorer = DATA.scorers.length ? QUERY.scorer : -1;
  document.getElementById("row-table").replaceChildren(
    h("caption", { class: "unseen" }, "Rows with input, expected answers, and each target's answer and scores. Enter opens a row."),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, sortHead("Sample", "id", "row-id"), sortHead("Input", "input"), sortHead("Expected", "expected", "expected"),
      DATA.targets.map((target, place) => scorer < 0 ? h("th", { scope: "col", role: "columnheader" }, targetName(place)) : sortHead(targetName(place), `score:${place}`, "", `by ${oneLine(DATA.scorers[scorer].name, 24)}`)))),
    h("tbody", { role: "rowgroup" }, part.map(rowLine),
      !part.length && h("tr", { role: "row" }, h("td", { role: "cell", colspan: 3 + DATA.targets.length, class: "none" }, ROWS.length ? "No matching rows. " : "There are no rows. ", ROWS.length > 0 && h("button", { type: "button", class: "quiet", onclick: resetFilters }, "Show all")))));
  drawPages(start, part.length);
}

function sortHead(name, key, kind, note) {
  const own = QUERY.sort === key;
  const click = () => {
    [QUERY.up, QUERY.sort] = [own ? !QUERY.up : true, key];
    fillForm();
    applyFilters();
    document.querySelector(`button[data-sort="${key}"]`).focus();
  };
  return h("th", { scope: "col", role: "columnheader", class: kind, "aria-sort": own ? (QUERY.up ? "ascending" : "descending") : null },
    h("button", { type: "button", class: "sort", "data-sort": key, onclick: click }, name, note && own && h("span", { class: "note" }, note), h("span", { class: "arrow", "aria-hidden": "true" }, own ? (QUERY.up ? "▲" : "▼") : "")));
}

function shortId(id) {
  return oneLine(id, id.length <= SHORT_ID + 2 ? SHORT_ID + 2 : SHORT_ID) || "(no id)";
}

function rowLine(row, place) {
  const opens = (event) => { if (!event.target.closest("a") && !String(getSelection())) openRow(row); };
  return h("tr", { class: "row", role: "row", "data-place": row.place, onclick: opens },
    h("th", { scope: "row", role: "rowheader", class: "row-id" }, h("a", { href: linkOf(row), class: "mono", title: oneLine(row.id, 200), tabindex: place ? "-1" : "0", onclick: (event) => { event.preventDefault(); openRow(row); } }, shortId(row.id)),
      DATA.about.epochs > 1 && h("span", { class: "note" }, `epoch ${row.epoch}`)),
    h("td", { role: "cell", "data-head": "Input" }, h("p", { class: "clip", dir: "auto" }, oneLine(kept(row.input), 240))),
    h("td", { role: "cell", "data-head": "Expected" }, row.expected.length ? h("p", { class: "clip", dir: "auto" }, oneLine(row.expected.map(kept).join(" | "), 160)) : h("span", { class: "nought" }, DASH)),
    DATA.targets.map((target, at) => answerCell(row, at)));
}

function answerCell(row, target) {
  const answer = row.answer(target);
  const head = SEVERAL ? DATA.targets[target].name : "Answer";
  if (!answer) return h("td", { role: "cell", "data-head": head, class: "nought" }, "no answer");
  const text = oneLine(kept(row.output(target)) || "", 220);
  return h("td", { role: "cell", class: "answer", "data-head": head },
    text && h("p", { class: `clip ${answer[A.failure] === null ? "" : "failed-text"}`, dir: "auto" }, text),
    scoreChips(row, target));
}

// All scores of an answer as chips, with what they were in the baseline, and what else is notable about it.
function scoreChips(row, target) {
  const answer = row.answer(target), finishReason = row.finishReason(target);
  const failed = answer[A.failure] !== null; // one chip says it for all scores
  const scorers = DATA.scorers.map((_, scorer) => scorer), chosen = mostTelling(row, target, scorers);
  return [h("p", { class: "scores" },
    finishReason !== "stop" && h("span", { class: "chip bad" }, finishReason),
    !failed && chosen.map((scorer) => scoreChip(row, target, scorer)),
    !failed && scorers.length > chosen.length && h("span", { class: "chip" }, `${scorers.length - chosen.length} more`),
    answer[A.cached] ? h("span", { class: "chip" }, "cached") : null), failingLine(row, target)];
}

// Of many scorers the first ones and the lowest, in the order of the suite; those that do not apply go first.
function mostTelling(row, target, scorers) {
  if (scorers.length <= MAX_CHIPS) return scorers;
  const rank = (scorer) => (scorer < 2 ? -1 : row.state(target, scorer) < 0 || SHAPE.states[row.state(target, scorer)] === "skipped" ? 3 : Number.isNaN(goodness(row.value(target, scorer), DATA.scorers[scorer])) ? 1 : goodness(row.value(target, scorer), DATA.scorers[scorer]));
  const ranked = [...scorers].sort((one, other) => rank(one) - rank(other) || one - other).slice(0, MAX_CHIPS);
  return ranked.sort((one, other) => one - other);
}

// A score under the name of its scorer, or its state where it has none: `contains 0 was 1`.
function scoreChip(row, target, scorer) {
  const state = row.state(target, scorer), value = row.value(target, scorer), before = row.before(target, scorer);
  const good = goodness(value, DATA.scorers[scorer]);
  const kind = state === SCORED ? (Number.isNaN(good) ? "" : good >= 0.5 ? "good" : "bad") : state < 0 || SHAPE.states[state] === "skipped" ? "" : "warn";
  const text = state === SCORED ? scoreText(value) : state < 0 ? DASH : SHAPE.states[state];
  const changed = Number.isFinite(before) && value !== null && value !== before;
  return h("span", { class: `chip ${kind}` }, h("span", { class: "chip-name" }, oneLine(DATA.scorers[scorer].name, 24), " "), h("b", null, text), changed && h("span", { class: "chip-was" }, ` was ${scoreText(before)}`));
}

function drawPages(start, size) {
  const pages = Math.max(1, Math.ceil(FOUND.length / ROWS_PER_PAGE));
  const turn = (to) => () => { PAGE = to; drawPage(); document.querySelector(".results").scrollIntoView(); say(`page ${to + 1} of ${pages}`); };
  const button = (text, to, able) => h("button", { type: "button", disabled: !able, onclick: turn(to) }, text);
  document.getElementById("pages").replaceChildren(...(pages < 2 ? [] : [
    button("First", 0, PAGE > 0), button("Previous", PAGE - 1, PAGE > 0),
    h("span", null, `${count(start + 1)}–${count(start + size)} of ${count(FOUND.length)}`),
    button("Next", PAGE + 1, PAGE < pages - 1), button("Last", pages - 1, PAGE < pages - 1)]));
}

// Arrow keys, Home and End move between rows; Enter follows the link.
function moveRow(event) {
  const links = [...document.querySelectorAll("#row-table tbody th a")], here = links.indexOf(document.activeElement);
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: links.length - 1 }[event.key];
  if (here < 0 || to === undefined || !links[to]) return;
  event.preventDefault();
  focusRow(links, links[to]);
}

function focusRow(links, link) {
  for (const other of links) other.setAttribute("tabindex", other === link ? "0" : "-1");
  link.focus();
}
