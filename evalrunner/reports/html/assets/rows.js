// The filter form. Every change filters again; typing waits for a pause.

const PAUSE_MS = 120;
const MAX_VALUES = 200; // of a column in its menu

function field(id, label, control, kind) {
  return h("p", { class: `field ${kind || ""}` }, h("label", { for: id }, label), control);
}

function choice(id, options, change) {
  return h("select", { id, onchange: (event) => { change(event.target.value); applyFilters(); } }, options.map(([value, text]) => h("option", { value }, text)));
}

function bound(id, change) {
  return h("input", { id, type: "number", step: "any", inputmode: "decimal", oninput: later((event) => change(event.target.value === "" ? null : Number(event.target.value))) });
}

function later(change) {
  let waiting = 0;
  return (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { change(event); applyFilters(); }, PAUSE_MS);
  };
}

function filterForm() {
  const shows = [["all", "all rows"], ["failing", "failures"]];
  if (SEVERAL) shows.push(["disagree", "disagreements"]);
  if (DATA.has_baseline_rows) shows.push(["worse", "regressions"]);
  const names = (parts) => parts.map((part, place) => [place, oneLine(part.name || part, 60)]);
  const several = DATA.scorers.length > 1;
  return h("form", { id: "filters", role: "search", "aria-label": "Filter the rows", onsubmit: (event) => event.preventDefault() },
    field("search", "Search", h("input", { id: "search", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "in inputs, answers, ids …", oninput: later((event) => { QUERY.text = event.target.value; }) }), "grow"),
    field("show", "Show", choice("show", shows, (value) => { QUERY.show = value; })),
    SEVERAL && field("target", "Target", choice("target", [[-1, "any"], ...names(DATA.targets)], (value) => { QUERY.target = Number(value); })),
    several && field("scorer", "Score", choice("scorer", names(DATA.scorers), (value) => { QUERY.scorer = Number(value); })),
    DATA.scorers.length > 0 && field("state", "State", choice("state", [["any", "any"], ...SHAPE.states.map((state) => [state, state])], (value) => { QUERY.state = value; })),
    DATA.scorers.length > 0 && h("fieldset", { class: "field range" }, h("legend", null, "Score between"), h("span", { class: "ends" },
      h("label", { for: "low", class: "unseen" }, "at least"), bound("low", (value) => { QUERY.low = value; }), h("span", { "aria-hidden": "true" }, "–"),
      h("label", { for: "high", class: "unseen" }, "at most"), bound("high", (value) => { QUERY.high = value; }))),
    DATA.columns.length > 0 && field("column", "Column", choice("column", [[-1, "any"], ...names(DATA.columns)], chooseColumn)),
    DATA.columns.length > 0 && field("value", "Value", choice("value", [["", "any"]], (value) => { QUERY.value = value; })),
    field("sort", "Sort by", choice("sort", sorts(), (value) => { [QUERY.sort, QUERY.up] = [value.slice(1), value[0] === "+"]; })),
    h("p", { class: "field" }, h("button", { type: "button", id: "clear", class: "quiet", onclick: resetFilters }, "Reset")));
}

function sorts() {
  const options = [["+place", "order of the dataset"]];
  if (SEVERAL) options.push(["-spread", "largest difference first"]);
  DATA.targets.forEach((target, place) => {
    const of = SEVERAL ? ` of ${oneLine(target.name, 30)}` : "";
    options.push([`+score:${place}`, `lowest score${of}`], [`-score:${place}`, `highest score${of}`], [`-latency:${place}`, `slowest${of}`],
      [`-cost:${place}`, `most expensive${of}`], [`-length:${place}`, `longest answer${of}`]);
  });
  options.push(["+id", "id"], ["+input", "input"]);
  for (const other of ["-id", "-input", "+expected", "-expected", "-place"]) options.push([other, `${other.slice(1)}${other[0] === "-" ? ", descending" : ""}`]);
  return options;
}

// The menu of values of the chosen column.
function chooseColumn(value) {
  QUERY.column = Number(value);
  QUERY.value = "";
  const select = document.getElementById("value");
  const values = new Map();
  if (QUERY.column >= 0)
    for (const row of ROWS) {
      const text = row.metadata(QUERY.column);
      values.set(text, (values.get(text) || 0) + 1);
      if (values.size > MAX_VALUES) break;
    }
  const options = [...values].sort(([one], [other]) => COLLATE.compare(one || "", other || "")).slice(0, MAX_VALUES);
  select.replaceChildren(h("option", { value: "" }, values.size > MAX_VALUES ? `any (the first ${MAX_VALUES} values)` : "any"),
    ...options.map(([text, times]) => { const option = h("option", null, `${text === null ? "(none)" : oneLine(text, 60)} (${count(times)})`); option.value = text === null ? "none" : `=${text}`; return option; }));
}

function resetFilters() {
  Object.assign(QUERY, { text: "", show: "all", target: -1, scorer: 0, state: "any", column: -1, value: "", low: null, high: null, sort: "place", up: true });
  document.getElementById("filters").reset();
  if (DATA.columns.length) chooseColumn(-1);
  applyFilters();
}

// The filters, and the rows that match them in order.

const QUERY = { text: "", show: "all", target: -1, scorer: 0, state: "any", column: -1, value: "", low: null, high: null, sort: "place", up: true };

function selectedTargets() {
  return QUERY.target < 0 ? DATA.targets.map((_, place) => place) : [QUERY.target];
}

// Whether a row is a failure: its call failed, a score is missing, or a score is in the lower half of its range.
function failing(row, target) {
  const answer = row.answer(target);
  if (!answer) return false;
  if (answer[A.failure]) return true;
  return DATA.scorers.some((scorer, place) => {
    const state = row.state(target, place);
    return state >= 2 || goodness(row.value(target, place), scorer) < 0.5;
  });
}

// A score in 0..1, 1 the best; NaN where it has none or its range is open.
function goodness(value, scorer) {
  const [low, high] = scorer.range || [null, null];
  if (value === null || !Number.isFinite(low) || !Number.isFinite(high)) return NaN;
  const share = (value - low) / (high - low || 1);
  return scorer.higher_is_better ? share : 1 - share;
}

// The spread of the chosen score over targets; infinite if only some have one.
function spread(row) {
  const values = DATA.targets.map((_, target) => row.value(target, QUERY.scorer));
  const known = values.filter((value) => value !== null);
  if (known.length < values.length && known.length) return Infinity;
  return known.length ? Math.max(...known) - Math.min(...known) : 0;
}

function worse(row, target) {
  return DATA.scorers.some((scorer, place) => {
    const before = row.before(target, place), now = row.value(target, place);
    if (before === null || before === undefined) return false;
    return now === null ? row.state(target, place) >= 2 : scorer.higher_is_better ? now < before : now > before;
  });
}

function textsOf(row) {
  const found = [row.id, kept(row.input), ...row.expected.map(kept)];
  for (const target of selectedTargets()) if (row.answer(target)) found.push(kept(row.output(target)) || "");
  return found;
}

function matcher() {
  const tests = [];
  const asked = selectedTargets();
  if (QUERY.text) {
    const wanted = new RegExp(QUERY.text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&"), "iu");
    tests.push((row) => textsOf(row).some((text) => wanted.test(text)) || DATA.columns.some((_, column) => wanted.test(row.metadata(column) || "")));
  }
  if (QUERY.show === "failing") tests.push((row) => asked.some((target) => failing(row, target)));
  if (QUERY.show === "disagree") tests.push((row) => spread(row) > 0);
  if (QUERY.show === "worse") tests.push((row) => asked.some((target) => worse(row, target)));
  if (QUERY.state !== "any") {
    const state = SHAPE.states.indexOf(QUERY.state);
    tests.push((row) => asked.some((target) => row.state(target, QUERY.scorer) === state));
  }
  if (QUERY.column >= 0 && QUERY.value !== "") {
    const wanted = QUERY.value === "none" ? null : QUERY.value.slice(1);
    tests.push((row) => row.metadata(QUERY.column) === wanted);
  }
  if (QUERY.low !== null || QUERY.high !== null)
    tests.push((row) => asked.some((target) => {
      const value = row.value(target, QUERY.scorer);
      return value !== null && (QUERY.low === null || value >= QUERY.low) && (QUERY.high === null || value <= QUERY.high);
    }));
  return (row) => tests.every((test) => test(row));
}

// The sort key of a row; rows without a value come last.
function keyOf(sort) {
  const [kind, place] = sort.split(":");
  const target = Number(place);
  return {
    place: (row) => row.place,
    id: (row) => row.id,
    input: (row) => kept(row.input),
    expected: (row) => (row.expected.length ? kept(row.expected[0]) : null),
    spread: (row) => spread(row),
    score: (row) => row.value(target, QUERY.scorer),
    latency: (row) => row.answer(target) && row.answer(target)[A.latency_s],
    cost: (row) => row.answer(target) && row.answer(target)[A.cost_usd],
    length: (row) => (row.answer(target) ? lengthOf(row.output(target)) : null),
  }[kind];
}

const COLLATE = new Intl.Collator("en", { numeric: true });

function matchingRows() {
  const rows = ROWS.filter(matcher());
  if (QUERY.sort === "place") return QUERY.up ? rows : rows.reverse();
  const key = keyOf(QUERY.sort), direction = QUERY.up ? 1 : -1;
  const pairs = rows.map((row) => [key(row), row]);
  const missing = (value) => value === null || value === undefined;
  pairs.sort(([one, a], [other, b]) => {
    if (missing(one) || missing(other)) return missing(one) - missing(other) || a.place - b.place;
    const order = typeof one === "string" ? COLLATE.compare(one, other) : one === other ? 0 : one < other ? -1 : 1;
    return order * direction || a.place - b.place;
  });
  return pairs.map(([, row]) => row);
}

// The matching rows, paginated, with one column for each target.

const ROWS_PER_PAGE = 50;
let FOUND = [];
let PAGE = 0;

function rowsSection() {
  return section("rows", "Rows", h("p", { class: "hint", id: "rows-note" }, "loading rows …"), filterForm(),
    h("div", { class: "results" }, h("p", { id: "count", class: "count" }),
      h("p", { class: "buttons" }, h("button", { type: "button", id: "export-csv", onclick: exportCsv }, "Export CSV"), h("button", { type: "button", id: "export-jsonl", onclick: exportJsonl }, "Export JSONL"))),
    h("div", { class: "scroll rows-scroll", tabindex: "0", role: "region", "aria-label": "Rows, scrollable" }, h("table", { id: "row-table", role: "table", class: `rows targets-${Math.min(DATA.targets.length, 4)}`, onkeydown: moveRow })),
    h("div", { id: "pages", class: "pages", role: "group", "aria-label": "Pages of rows" }));
}

// Filter the rows again and show the first page.
function applyFilters() {
  FOUND = matchingRows();
  PAGE = 0;
  drawPage();
  const text = FOUND.length === ROWS.length ? `${counted(ROWS.length, "row")}` : `${count(FOUND.length)} of ${counted(ROWS.length, "row")}`;
  document.getElementById("count").textContent = text;
  say(`${text} found`);
}

function drawPage() {
  const start = PAGE * ROWS_PER_PAGE, part = FOUND.slice(start, start + ROWS_PER_PAGE);
  const scorer = DATA.scorers.length ? QUERY.scorer : -1;
  document.getElementById("row-table").replaceChildren(
    h("caption", { class: "unseen" }, "Rows with input, expected answers, and each target's answer and scores. Enter opens a row."),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, sortHead("Row", "id", "row-id"), sortHead("Input", "input"), sortHead("Expected", "expected", "expected"),
      DATA.targets.map((target, place) => scorer < 0 ? h("th", { scope: "col", role: "columnheader" }, targetName(place)) : sortHead(targetName(place), `score:${place}`, "", oneLine(DATA.scorers[scorer].name, 24))))),
    h("tbody", { role: "rowgroup" }, part.map(rowLine),
      !part.length && h("tr", { role: "row" }, h("td", { role: "cell", colspan: 3 + DATA.targets.length, class: "none" }, ROWS.length ? "No matching rows. " : "There are no rows. ", ROWS.length > 0 && h("button", { type: "button", class: "quiet", onclick: resetFilters }, "Show all")))));
  drawPages(start, part.length);
}

function sortHead(name, key, kind, note) {
  const own = QUERY.sort === key;
  const click = () => {
    [QUERY.up, QUERY.sort] = [own ? !QUERY.up : true, key];
    const select = document.getElementById("sort"), value = (QUERY.up ? "+" : "-") + key;
    select.value = value;
    applyFilters();
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
  if (!answer) return h("td", { role: "cell", "data-head": head, class: "nought" }, "no answer");
  const finishReason = row.finishReason(target);
  return h("td", { role: "cell", class: "answer", "data-head": head },
    h("p", { class: "scores" }, DATA.scorers.length > 0 && scorePill(row, target, QUERY.scorer), finishReason !== "stop" && h("span", { class: "pill bad" }, finishReason), row.answer(target)[A.cached] ? h("span", { class: "pill" }, "cached") : null, changePill(row, target)),
    h("p", { class: "clip", dir: "auto" }, oneLine(kept(row.output(target)) || "", 220)));
}

// A score, or its state where it has none.
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
  const pages = Math.max(1, Math.ceil(FOUND.length / ROWS_PER_PAGE));
  const turn = (to) => () => { PAGE = to; drawPage(); document.getElementById("rows").scrollIntoView(); say(`page ${to + 1} of ${pages}`); };
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
