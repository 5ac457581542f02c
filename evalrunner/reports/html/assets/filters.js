// The form above the rows. Every change looks again; typing waits for a pause.

const PAUSE_MS = 120;
const MOST_VALUES = 200; // of a column that can be chosen from; more are no slices

function field(id, label, control, kind) {
  return h("p", { class: `field ${kind || ""}` }, h("label", { for: id }, label), control);
}

function choice(id, options, change) {
  return h("select", { id, onchange: (event) => { change(event.target.value); look(); } }, options.map(([value, text]) => h("option", { value }, text)));
}

function bound(id, change) {
  return h("input", { id, type: "number", step: "any", inputmode: "decimal", oninput: later((event) => change(event.target.value === "" ? null : Number(event.target.value))) });
}

function later(change) {
  let waiting = 0;
  return (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { change(event); look(); }, PAUSE_MS);
  };
}

function filterForm() {
  const shows = [["all", "all rows"], ["failing", "only what needs a look"]];
  if (SEVERAL) shows.push(["disagree", "only where targets disagree"]);
  if (DATA.has_baseline_rows) shows.push(["worse", "only worse than the baseline"]);
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
      [`-cost:${place}`, `dearest${of}`], [`-length:${place}`, `longest answer${of}`]);
  });
  options.push(["+id", "id"], ["+input", "input"]);
  for (const other of ["-id", "-input", "+expected", "-expected", "-place"]) options.push([other, `${other.slice(1)}${other[0] === "-" ? ", backwards" : ""}`]);
  return options;
}

// The values of a column, once it is chosen.
function chooseColumn(value) {
  QUERY.column = Number(value);
  QUERY.value = "";
  const select = document.getElementById("value");
  const values = new Map();
  if (QUERY.column >= 0)
    for (const row of ROWS) {
      const text = row.metadata(QUERY.column);
      values.set(text, (values.get(text) || 0) + 1);
      if (values.size > MOST_VALUES) break;
    }
  const options = [...values].sort(([one], [other]) => COLLATE.compare(one || "", other || "")).slice(0, MOST_VALUES);
  select.replaceChildren(h("option", { value: "" }, values.size > MOST_VALUES ? `any (the first ${MOST_VALUES} values)` : "any"),
    ...options.map(([text, times]) => { const option = h("option", null, `${text === null ? "(none)" : oneLine(text, 60)} (${count(times)})`); option.value = text === null ? "none" : `=${text}`; return option; }));
}

function resetFilters() {
  Object.assign(QUERY, { text: "", show: "all", target: -1, scorer: 0, state: "any", column: -1, value: "", low: null, high: null, sort: "place", up: true });
  document.getElementById("filters").reset();
  if (DATA.columns.length) chooseColumn(-1);
  look();
}
