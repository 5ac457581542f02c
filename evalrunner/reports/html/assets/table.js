// The rows that were found, a page of them at a time, the targets side by side.

const EACH_PAGE = 50;
let FOUND = [];
let PAGE = 0;

function rowsSection() {
  return section("rows", "Rows", h("p", { class: "hint", id: "rows-note" }, "reading the rows …"), filterForm(),
    h("div", { class: "results" }, h("p", { id: "count", class: "count" }),
      h("p", { class: "buttons" }, h("button", { type: "button", id: "export-csv", onclick: exportCsv }, "Export CSV"), h("button", { type: "button", id: "export-jsonl", onclick: exportJsonl }, "Export JSONL"))),
    h("div", { class: "scroll rows-scroll", tabindex: "0", role: "region", "aria-label": "Rows, scrollable" }, h("table", { id: "row-table", role: "table", class: `rows targets-${Math.min(DATA.targets.length, 4)}`, onkeydown: moveRow })),
    h("div", { id: "pages", class: "pages", role: "group", "aria-label": "Pages of rows" }));
}

// Look for the rows again, and show the first page of them.
function look() {
  FOUND = found();
  PAGE = 0;
  drawPage();
  const text = FOUND.length === ROWS.length ? `${counted(ROWS.length, "row")}` : `${count(FOUND.length)} of ${counted(ROWS.length, "row")}`;
  document.getElementById("count").textContent = text;
  say(`${text} found`);
}

function drawPage() {
  const start = PAGE * EACH_PAGE, part = FOUND.slice(start, start + EACH_PAGE);
  const scorer = DATA.scorers.length ? QUERY.scorer : -1;
  document.getElementById("row-table").replaceChildren(
    h("caption", { class: "unseen" }, "Rows with input, expected answers, and each target's answer and scores. Enter opens a row."),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, sortHead("Row", "id", "row-id"), sortHead("Input", "input"), sortHead("Expected", "expected", "expected"),
      DATA.targets.map((target, place) => scorer < 0 ? h("th", { scope: "col", role: "columnheader" }, targetName(place)) : sortHead(targetName(place), `score:${place}`, "", oneLine(DATA.scorers[scorer].name, 24))))),
    h("tbody", { role: "rowgroup" }, part.map(rowLine),
      !part.length && h("tr", { role: "row" }, h("td", { role: "cell", colspan: 3 + DATA.targets.length, class: "none" }, ROWS.length ? "No row fits. " : "There are no rows. ", ROWS.length > 0 && h("button", { type: "button", class: "quiet", onclick: resetFilters }, "Show all")))));
  drawPages(start, part.length);
}

function sortHead(name, key, kind, note) {
  const own = QUERY.sort === key;
  const click = () => {
    [QUERY.up, QUERY.sort] = [own ? !QUERY.up : true, key];
    const select = document.getElementById("sort"), value = (QUERY.up ? "+" : "-") + key;
    select.value = value;
    look();
    document.querySelector(`button[data-sort="${key}"]`).focus();
  };
  return h("th", { scope: "col", role: "columnheader", class: kind, "aria-sort": own ? (QUERY.up ? "ascending" : "descending") : null },
    h("button", { type: "button", class: "sort", "data-sort": key, onclick: click }, name, note && h("span", { class: "note" }, note), h("span", { class: "arrow", "aria-hidden": "true" }, own ? (QUERY.up ? "▲" : "▼") : "")));
}

function rowLine(row, place) {
  const opens = (event) => { if (!event.target.closest("a")) openRow(row); };
  return h("tr", { class: "row", role: "row", "data-place": row.place, onclick: opens },
    h("th", { scope: "row", role: "rowheader", class: "row-id" }, h("a", { href: linkOf(row), class: "mono", tabindex: place ? "-1" : "0", onclick: (event) => { event.preventDefault(); openRow(row); } }, oneLine(row.id, 40) || "(no id)"),
      DATA.about.epochs > 1 && h("span", { class: "note" }, `epoch ${row.epoch}`)),
    h("td", { role: "cell", "data-head": "Input" }, h("p", { class: "clip", dir: "auto" }, oneLine(kept(row.input), 240))),
    h("td", { role: "cell", "data-head": "Expected" }, row.expected.length ? h("p", { class: "clip", dir: "auto" }, oneLine(row.expected.map(kept).join(" | "), 160)) : h("span", { class: "nought" }, DASH)),
    DATA.targets.map((target, at) => answerCell(row, at)));
}

function answerCell(row, target) {
  const answer = row.answer(target);
  const head = DATA.targets[target].name;
  if (!answer) return h("td", { role: "cell", "data-head": head, class: "nought" }, "not asked");
  const finishReason = row.finishReason(target);
  return h("td", { role: "cell", class: "answer", "data-head": head },
    h("p", { class: "scores" }, DATA.scorers.length > 0 && scorePill(row, target, QUERY.scorer), finishReason !== "stop" && h("span", { class: "pill bad" }, finishReason), row.answer(target)[A.cached] ? h("span", { class: "pill" }, "cached") : null, changePill(row, target)),
    h("p", { class: "clip", dir: "auto" }, oneLine(kept(row.output(target)) || "", 220)));
}

// The score of one cell: its value, or its state where it has none; in words and shade alike.
function scorePill(row, target, scorer, name) {
  const state = row.state(target, scorer), value = row.value(target, scorer);
  const good = goodness(value, DATA.scorers[scorer]);
  const kind = state === SCORED ? (Number.isNaN(good) ? "" : good >= 0.5 ? "good" : "bad") : state < 0 ? "" : SHAPE.states[state] === "skipped" ? "" : "warn";
  const text = state === SCORED ? scoreText(value) : state < 0 ? DASH : SHAPE.states[state];
  return h("span", { class: `pill ${kind}` }, name && h("span", { class: "pill-name" }, `${oneLine(name, 40)} `), h("b", null, text));
}

function changePill(row, target) {
  const before = DATA.scorers.length ? row.before(target, QUERY.scorer) : null, now = DATA.scorers.length ? row.value(target, QUERY.scorer) : null;
  return Number.isFinite(before) && now !== null && now !== before ? h("span", { class: "pill" }, `was ${scoreText(before)}`) : null;
}

function drawPages(start, size) {
  const pages = Math.max(1, Math.ceil(FOUND.length / EACH_PAGE));
  const turn = (to) => () => { PAGE = to; drawPage(); document.getElementById("rows").scrollIntoView(); say(`page ${to + 1} of ${pages}`); };
  const button = (text, to, able) => h("button", { type: "button", disabled: !able, onclick: turn(to) }, text);
  document.getElementById("pages").replaceChildren(...(pages < 2 ? [] : [
    button("First", 0, PAGE > 0), button("Previous", PAGE - 1, PAGE > 0),
    h("span", null, `${count(start + 1)}–${count(start + size)} of ${count(FOUND.length)}`),
    button("Next", PAGE + 1, PAGE < pages - 1), button("Last", pages - 1, PAGE < pages - 1)]));
}

// Arrow keys go from row to row, Home and End to the first and last; Enter is the link's own.
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
