// What the rows are filtered by, and the form that changes it. Typing waits for a pause.

const PAUSE_MS = 120;
const MAX_VALUES = 200; // of a column in its menu
const SHOWS = { all: "All", failures: "Failures", disagreements: "Disagreements", regressions: "Regressions", unscored: "Unscored" };
const FIRST_SCORER = scorerOfInterest();
const DEFAULT_QUERY = Object.freeze({ q: "", show: "all", target: -1, scorer: FIRST_SCORER, state: "any", column: -1, value: "", check: "", low: null, high: null, sort: "place", up: true });
const QUERY = { ...DEFAULT_QUERY };
const COUNTS = {}; // rows of each pill

// The scorer of the worst gate with a baseline, so that regressions are those that the verdict is about; else the one that leads.
function scorerOfInterest() {
  const worst = ["fail", "untrusted", "inconclusive", "pass"];
  const gates = DATA.gates.filter((gate) => gate.baseline).sort((one, other) => worst.indexOf(one.verdict) - worst.indexOf(other.verdict));
  const name = gates.length ? (DATA.targets.flatMap((target) => target.metrics).find((metric) => metric.name === gates[0].metric) || {}).scorer : DATA.headline;
  return Math.max(0, DATA.scorers.findIndex((scorer) => scorer.name === name));
}

// The filters as parts of the address: what differs from the default, by names rather than places.
function queryParts(query) {
  const named = { target: (place) => DATA.targets[place].name, scorer: (place) => DATA.scorers[place].name, column: (place) => DATA.columns[place] };
  const parts = [];
  for (const key of ["show", "q", "target", "scorer", "state", "column", "value", "check", "low", "high"])
    if (query[key] !== DEFAULT_QUERY[key]) parts.push(`${key}=${encoded(String(named[key] ? named[key](query[key]) : query[key]))}`);
  if (query.sort !== "place" || !query.up) parts.push(`sort=${encoded((query.up ? "" : "-") + query.sort)}`);
  return parts;
}

// Take the filters from the address; what the page does not have is ignored.
function readQuery(values) {
  const text = (key) => values.get(key);
  const place = (key, names) => (values.has(key) ? names.indexOf(text(key)) : -1);
  const end = (key) => (values.has(key) && Number.isFinite(Number(text(key))) && text(key) !== "" ? Number(text(key)) : null);
  const names = (parts) => parts.map((part) => part.name);
  const sort = text("sort") || "place";
  const scorer = place("scorer", names(DATA.scorers));
  const wanted = {
    ...DEFAULT_QUERY, q: text("q") || "", show: pills().includes(text("show")) ? text("show") : "all", target: place("target", names(DATA.targets)),
    scorer: scorer < 0 ? FIRST_SCORER : scorer, state: SHAPE.states.includes(text("state")) ? text("state") : "any",
    column: place("column", DATA.columns), value: text("value") || "", check: FAILING.includes(text("check")) ? text("check") : "", low: end("low"), high: end("high"), sort: sort.replace(/^-/, ""), up: !sort.startsWith("-"),
  };
  if (!keyOf(wanted.sort)) Object.assign(wanted, { sort: "place", up: true });
  if (JSON.stringify(wanted) !== JSON.stringify(QUERY)) setQuery(wanted);
}

// Set the filters, and the form to them. Keys that are left out get their default.
function setQuery(wanted) {
  Object.assign(QUERY, DEFAULT_QUERY, wanted);
  fillForm();
  applyFilters();
}

function fillForm() {
  const put = (id, value) => { const control = document.getElementById(id); if (control) control.value = value; };
  put("search", QUERY.q);
  put("target", String(QUERY.target));
  put("scorer", String(QUERY.scorer));
  put("state", QUERY.state);
  put("low", QUERY.low === null ? "" : String(QUERY.low));
  put("high", QUERY.high === null ? "" : String(QUERY.high));
  put("column", String(QUERY.column));
  if (DATA.columns.length) { fillValues(); put("value", QUERY.value); }
  put("check", QUERY.check);
  put("sort", (QUERY.up ? "+" : "-") + QUERY.sort);
  const more = document.getElementById("more-filters");
  if (more && ["state", "low", "high", "column", "value"].some((key) => QUERY[key] !== DEFAULT_QUERY[key])) more.open = true;
}

function pills() {
  return ["all", "failures", SEVERAL && "disagreements", DATA.has_baseline_rows && "regressions", "unscored"].filter(Boolean);
}

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
  const names = (parts) => parts.map((part, place) => [place, oneLine(part.name || part, 60)]);
  const several = DATA.scorers.length > 1;
  const pill = (show) => h("button", { type: "button", class: "filter-pill", id: `show-${show}`, "data-show": show, "aria-pressed": show === "all" ? "true" : "false", onclick: () => { QUERY.show = show; applyFilters(); } },
    SHOWS[show], h("span", { class: "pill-count", id: `count-${show}` }));
  return h("form", { id: "filters", role: "search", "aria-label": "Filter the rows", onsubmit: (event) => event.preventDefault() },
    h("div", { class: "filter-line" },
      field("search", "Search", h("input", { id: "search", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "Search inputs, answers, ids …", oninput: later((event) => { QUERY.q = event.target.value; }) }), "grow unlabeled"),
      h("div", { class: "pills", role: "group", "aria-label": "Show" }, pills().map(pill))),
    h("div", { class: "filter-line" },
      SEVERAL && field("target", "Target", choice("target", [[-1, "any"], ...names(DATA.targets)], (value) => { QUERY.target = Number(value); })),
      several && field("scorer", "Scorer", choice("scorer", names(DATA.scorers), (value) => { QUERY.scorer = Number(value); countPills(); })),
      h("p", { class: "field", id: "check-field", hidden: true }, h("label", { for: "check" }, "Failing check"), choice("check", [["", "any"]], (value) => { QUERY.check = value; })),
      field("sort", "Sort by", choice("sort", sorts(), (value) => { [QUERY.sort, QUERY.up] = [value.slice(1), value[0] === "+"]; })),
      h("details", { id: "more-filters" }, h("summary", null, "More filters"), h("div", { class: "filter-line" },
        DATA.scorers.length > 0 && field("state", "State", choice("state", [["any", "any"], ...SHAPE.states.map((state) => [state, state])], (value) => { QUERY.state = value; })),
        DATA.scorers.length > 0 && h("fieldset", { class: "field range" }, h("legend", null, "Score between"), h("span", { class: "ends" },
          h("label", { for: "low", class: "unseen" }, "at least"), bound("low", (value) => { QUERY.low = value; }), h("span", { "aria-hidden": "true" }, "–"),
          h("label", { for: "high", class: "unseen" }, "at most"), bound("high", (value) => { QUERY.high = value; }))),
        DATA.columns.length > 0 && field("column", "Column", choice("column", [[-1, "any"], ...names(DATA.columns)], chooseColumn)),
        DATA.columns.length > 0 && field("value", "Value", choice("value", [["", "any"]], (value) => { QUERY.value = value; }))))));
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

function chooseColumn(value) {
  QUERY.column = Number(value);
  QUERY.value = "";
  fillValues();
}

// The menu of values of the chosen column.
function fillValues() {
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
  setQuery({});
}

// How many rows each pill has, whatever else is filtered.
function countPills() {
  for (const show of pills()) {
    const test = showTest(show, DATA.targets.map((_, place) => place));
    COUNTS[show] = test ? ROWS.reduce((sum, row) => sum + (test(row) ? 1 : 0), 0) : ROWS.length;
    document.getElementById(`count-${show}`).textContent = count(COUNTS[show]);
  }
  document.getElementById("tab-rows-note").textContent = COUNTS.regressions ? `${count(COUNTS.regressions)} worse` : count(ROWS.length);
}
