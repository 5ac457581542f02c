// The overview: the verdict, the leaderboard, the gates, and the rows to look at first.

const VERDICTS = { fail: "fail", untrusted: "untrusted", inconclusive: "inconclusive", no_baseline: "no baseline", pass: "pass" };  // worst first
const SIGNS = { pass: "✓", fail: "✕", inconclusive: "?", untrusted: "!", no_baseline: "○" };
const MAX_SCORERS = 4; // of the leaderboard
const MAX_NOTABLE = 5; // rows below it
const CONCLUSIONS_LENGTH = 700; // characters of conclusions that are not folded, in whole metrics, but for the first
const FOREST_WIDTHS = [170, 96]; // of the first scorer, and of the others

// The kind of the verdict, which selects its color, and its word.
function verdictWord() {
  const word = DATA.word.charAt(0) + DATA.word.slice(1).toLowerCase();
  if (DATA.word === "DONE") return ["done", word];
  return [VERDICTS[DATA.verdict] && DATA.about.status !== "interrupted" ? DATA.verdict : "untrusted", word];
}

function badge(verdict) {
  return h("span", { class: `badge ${verdict}` }, h("span", { "aria-hidden": "true" }, SIGNS[verdict] || "·", " "), VERDICTS[verdict] || verdict);
}

function buildTop() {
  const [kind, word] = verdictWord();
  const { about } = DATA;
  const costs = [...DATA.targets, ...Object.values(DATA.judges)].map((part) => (part.usage || {}).cost_usd).filter(Number.isFinite);
  const facts = [
    about.started_at && h("time", { datetime: about.started_at }, dateText(about.started_at)),
    gateCounts(),
    ...sizeFacts(),
    Number.isFinite(about.duration_s) && seconds(about.duration_s),
    costs.length > 0 && number(costs.reduce((sum, cost) => sum + cost, 0), "USD"),
  ].filter(Boolean);
  append(document.getElementById("top"), [
    h("div", { class: "top-line" },
      h("div", null, h("h1", { dir: "auto" }, DATA.suite), DATA.description && h("p", { class: "lead", dir: "auto" }, DATA.description)),
      h("button", { type: "button", id: "theme", class: "quiet", onclick: toggleTheme }, "Dark")),
    h("div", { class: `verdict ${kind}` },
      h("p", { class: "word" }, SIGNS[kind] && h("span", { "aria-hidden": "true" }, SIGNS[kind]), word),
      h("div", null,
        h("p", { class: "why", dir: "auto" }, DATA.sentence),
        h("ul", { class: "causes plain", id: "causes" }, DATA.targets.map((_, place) => causeLine(place, null))))),
    h("p", { class: "facts" }, facts.map((fact) => h("span", null, fact)))]);
}

// `300 samples`, `3 targets`, `2 epochs`; of several targets or epochs also `1,800 rows`, of a run that did not end `182 of 300 rows`.
function sizeFacts() {
  const { rows, rows_planned: planned, epochs } = DATA.about, each = DATA.targets.length * epochs;
  const whole = planned % each === 0, ended = rows === planned;
  return [
    whole && counted(planned / each, "sample"),
    SEVERAL && counted(DATA.targets.length, "target"),
    epochs > 1 && `${epochs} epochs`,
    (!ended || !whole || each > 1) && (ended ? counted(rows, "row") : `${count(rows ?? DATA.rows.groups)} of ${counted(planned, "row")}`),
  ];
}

// How many answers of a target failed and why: `134 of 300 answers failed: server: 503 from api.example.com`.
function causeLine(place, message) {
  const target = DATA.targets[place], metric = answersMetric(target);
  if (!metric || !metric.errors || sentenceCounts(metric.errors)) return null;
  const total = metric.scored + metric.skipped + metric.unscored + metric.errors;
  const kinds = Object.keys((metric.detail || {}).reasons || {}).map((reason) => reason.split(": ")[0]);
  return h("li", { dir: "auto" }, SEVERAL && `${oneLine(target.name, 60)}: `, `${count(metric.errors)} of ${counted(total, "answer")} failed: ${message || [...new Set(kinds)].join(", ")}`);
}

// Whether the banner's sentence counts these failures.
function sentenceCounts(errors) {
  return DATA.verdict === "untrusted" && new RegExp(`(^|\\s)${count(errors)} of [\\d,]+ answers? failed`).test(DATA.sentence);
}

// The most common message of each target's failures, known once the rows are read. A notice that says the same goes.
function fillCauses() {
  const lines = DATA.targets.map((_, place) => {
    const found = new Map();
    for (const row of ROWS) {
      const failure = row.answer(place) && row.answer(place)[A.failure];
      if (failure) { const text = oneLine(kept(failure), 200); found.set(text, (found.get(text) || 0) + 1); }
    }
    if (!found.size) return causeLine(place, null);
    const [text, times] = [...found].reduce((most, next) => (next[1] > most[1] ? next : most));
    const said = text.replace(/^\w+: /, "");
    for (const notice of document.querySelectorAll("#notices li")) if (oneLine(notice.textContent, 1000).endsWith(said)) notice.remove();
    return causeLine(place, text + (found.size > 1 ? ` (${count(times)}×)` : ""));
  });
  document.getElementById("causes").replaceChildren(...lines.filter(Boolean));
  const notices = document.getElementById("notices");
  if (notices && !notices.childElementCount) notices.remove();
}

// `28 Nov 2026 10:16 UTC`
function dateText(stamp) {
  const [date, time] = new Date(stamp).toISOString().split("T");
  const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  const [year, month, day] = date.split("-").map(Number);
  return `${day} ${months[month - 1]} ${year} ${time.slice(0, 5)} UTC`;
}

// The gates counted by verdict, worst first.
function gateCounts() {
  const found = {};
  for (const gate of DATA.gates) found[gate.verdict] = (found[gate.verdict] || 0) + 1;
  return DATA.gates.length > 0 && `${counted(DATA.gates.length, "gate")}: ${Object.keys(VERDICTS).filter((verdict) => found[verdict]).map((verdict) => `${found[verdict]} ${VERDICTS[verdict]}`).join(", ")}`;
}

// The leaderboard: a line for each target, the best first, with the baseline on a line of its own.

function leaderboardSection() {
  const names = headlines(), shown = names.slice(0, MAX_SCORERS);
  if (!names.length) return null;
  const domains = new Map(shown.map((name) => [name, closeDomain(name)]));
  const prices = DATA.targets.map((target) => alwaysMetric(target, "cost_usd", "mean"));
  const latencies = DATA.targets.map((target) => alwaysMetric(target, "latency", "p50"));
  const priced = prices.some((metric) => metric && metric.value), timed = latencies.some((metric) => metric && metric.value !== null);
  const columns = [["Target", "who"],
    ...shown.map((name, place) => [metricHead(name, domains.get(name), place), "metric", shortMetric(name)]),
    ...(timed ? [["p50", "n"]] : []), ...(priced ? [["$/1k", "n"]] : []), ["Errors", "n"]];
  const rows = leaders(names[0]).flatMap((place) => {
    const target = DATA.targets[place];
    const line = [targetName(place), ...shown.map((name, at) => metricCell(metricOf(target, name, null), place, domains.get(name), at)),
      ...(timed ? [number((latencies[place] || {}).value ?? null, "s")] : []),
      ...(priced ? [h("span", { id: `price-${place}` }, priceText((prices[place] || {}).value))] : []), errorsText(target)];
    const before = baselineOf(target, shown), run = target.baseline || {};
    const unknown = (text) => (text ? text : h("span", { class: "nought", title: target.baseline ? "unknown" : "the run of the baseline is not in the runs folder" }, DASH));
    const rest = [...(timed ? [unknown(Number.isFinite(run.p50) && number(run.p50, "s"))] : []),
      ...(priced ? [unknown(Number.isFinite(run.cost) && priceText(run.cost))] : []), unknown(Number.isFinite(run.errors) && h("span", { class: "nought" }, count(run.errors)))];
    return before ? [line, [h("span", { class: "base-name" }, diamond(), h("span", { dir: "auto" }, oneLine(before.name, 60), h("span", { class: "faint" }, " baseline"))),
      ...shown.map((name, at) => h("div", { id: `base-${place}-${at}` }, baselineCell(before.values.get(name), name, domains.get(name), at, baselineMetric(target, name)))), ...rest]] : [line];
  });
  const notes = [names.length > shown.length && `${counted(names.length - shown.length, "more metric")} in Statistics.`, "Lines: 95% CI" + (DATA.gates.some((gate) => Number.isFinite(boundOf(gate))) ? ", dashed: gate." : "."), priced && "$/1k: cost of 1,000 answers."].filter(Boolean);
  return section("leaderboard", "Leaderboard", table("Leaderboard", columns, rows, { class: `leaderboard stack ${shown.length > 3 ? "compact" : ""}` }), h("p", { class: "hint" }, notes.join(" ")));
}

// The targets in the order of the first metric, the best first; those without a value or with an untrusted one come last.
function leaders(name) {
  const metrics = DATA.targets.map((target) => metricOf(target, name, null));
  const rank = (place) => (!metrics[place] || metrics[place].value === null ? 2 : metrics[place].trusted ? 0 : 1);
  const value = (place) => (rank(place) < 2 ? metrics[place].value * (metrics[place].higher_is_better ? 1 : -1) : 0);
  return metrics.map((_, place) => place).sort((one, other) => rank(one) - rank(other) || value(other) - value(one) || one - other);
}

function alwaysMetric(target, scorer, aggregate) {
  return target.metrics.find((metric) => metric.scorer === scorer && metric.aggregate === aggregate && !metric.slice);
}

// A metric that every answer has, unless its call failed.
function answersMetric(target) {
  return alwaysMetric(target, "latency", "p50") || target.metrics.find((metric) => !metric.slice);
}

function priceText(mean) {
  return Number.isFinite(mean) ? (mean < 0.1 ? String(Number((1000 * mean).toPrecision(3))) : grouped(1000 * mean, 0)) : DASH;
}

// The answers of a target that failed.
function errorsText(target) {
  const metric = answersMetric(target), errors = metric ? metric.errors : 0;
  return errors ? h("strong", { class: "warn" }, count(errors)) : h("span", { class: "nought" }, "0");
}

// The range of a metric's values, CIs, gates and baselines with room around it: small differences stay visible.
function closeDomain(name) {
  const whole = domainOf(name), seen = [];
  for (const target of DATA.targets) {
    const metric = metricOf(target, name, null);
    if (metric) seen.push(metric.value, metric.low, metric.high);
    for (const gate of gatesOf(name, target.name)) seen.push(boundOf(gate), gate.baseline && gate.baseline.value);
    const before = baselineMetric(target, name);
    if (before) seen.push(before.value, before.low, before.high);
  }
  const known = seen.filter(Number.isFinite);
  if (!known.length) return whole;
  const low = Math.min(...known), high = Math.max(...known), room = Math.max((high - low) * 0.15, (whole[1] - whole[0]) * 0.02);
  return [Math.max(whole[0], low - room), Math.min(whole[1], high + room)];
}

function metricHead(name, domain, place) {
  const width = FOREST_WIDTHS[place ? 1 : 0], [low, high] = domain.map((end) => (Math.abs(end) < 10 ? end.toFixed(2) : tickText(end)));
  return [h("span", { class: "mono metric-name" }, shortMetric(name)),
    s("svg", { class: "scale", viewBox: `0 0 ${width} 14`, width, height: 14, "aria-hidden": "true" }, s("text", { class: "tick", x: 0, y: 11 }, low), s("text", { class: "tick", x: width, y: 11, "text-anchor": "end" }, high))];
}

// The name of a metric without its version: `contains/v1` is `contains`, `token_f1/v1/mean` is `token_f1`.
function shortMetric(name) {
  const metric = DATA.targets.flatMap((target) => target.metrics).find((found) => found.name === name);
  if (!metric) return name;
  const same = headlines().filter((other) => DATA.targets.some((target) => target.metrics.some((found) => found.name === other && found.scorer === metric.scorer)));
  return same.length > 1 ? name : metric.scorer;
}

function metricCell(metric, place, domain, at) {
  if (!metric || metric.value === null) return h("span", { class: "nought" }, DASH);
  const ends = endsText(metric, metric.unit);
  return h("div", { class: "measure" }, forestLine(metric, place, domain, FOREST_WIDTHS[at ? 1 : 0]),
    h("div", null, h("b", { class: "value" }, valueText(metric)), ends !== DASH && h("span", { class: "ends" }, ends),
      !metric.trusted && h("strong", { class: "warn untrusted-mark", title: "untrusted: too few answers have a score" }, "untrusted")));
}

function diamond() {
  return s("svg", { class: "key", viewBox: "-8 -8 16 16", width: 12, height: 12, "aria-hidden": "true" }, s("path", { class: "before", d: "M0,-6L6,0L0,6L-6,0z" }));
}

// A small forest line: the value on its 95% CI, the gate as a dashed line, the baseline as a diamond.
function forestLine(metric, place, domain, width) {
  const gates = gatesOf(metric.name, DATA.targets[place].name), x = linear(domain, [7, width - 7]);
  const inside = (value) => Math.min(width - 2, Math.max(2, x(value)));
  const low = Number.isFinite(metric.low) ? metric.low : domain[0], high = Number.isFinite(metric.high) ? metric.high : domain[1];
  const has = Number.isFinite(metric.low) || Number.isFinite(metric.high);
  return s("svg", { class: `forest ${cssColour(place)}`, viewBox: `0 0 ${width} 20`, width, height: 20, role: "img", "aria-label": barText(metric, { domain, gates }) },
    s("line", { class: "grid", x1: 0, x2: width, y1: 10, y2: 10 }),
    gates.filter((gate) => Number.isFinite(boundOf(gate))).map((gate) => s("line", { class: `gate-line ${gate.verdict}`, x1: inside(boundOf(gate)), x2: inside(boundOf(gate)), y1: 0, y2: 20 })),
    has && s("line", { class: "whisker", x1: inside(low), x2: inside(high), y1: 10, y2: 10 }),
    mark(place, inside(metric.value), 10, 4.5));
}

// A metric of the baseline's run, which has a CI: of the same samples that a gate compares, or of a metric without such a gate.
function baselineMetric(target, name) {
  const found = target.baseline && target.baseline.metrics.find((metric) => metric.name === name);
  const gate = gatesOf(name, target.name).find((each) => each.baseline && Number.isFinite(each.baseline.value));
  return found && (!gate || Math.abs(gate.baseline.value - found.value) < 1e-9) ? found : null;
}

// The baseline of a target: its name and the values that its gates compare with.
function baselineOf(target, names) {
  const values = new Map();
  let first = null;
  for (const name of names)
    for (const gate of gatesOf(name, target.name))
      if (gate.baseline && Number.isFinite(gate.baseline.value)) { values.set(name, gate.baseline.value); first = first || gate.baseline.name; }
  for (const name of names) {
    const metric = baselineMetric(target, name);
    if (metric && !values.has(name)) values.set(name, metric.value);
  }
  return first === null ? null : { name: first, values };
}

function baselineCell(value, name, domain, at, metric) {
  if (!Number.isFinite(value)) return h("span", { class: "nought" }, DASH);
  const width = FOREST_WIDTHS[at ? 1 : 0], x = linear(domain, [7, width - 7]);
  const inside = (end) => Math.min(width - 2, Math.max(2, x(end))), ends = metric ? endsText(metric, metric.unit) : DASH;
  return h("div", { class: "measure" },
    s("svg", { class: "forest", viewBox: `0 0 ${width} 20`, width, height: 20, role: "img", "aria-label": `${shortMetric(name)} of the baseline: ${number(value)}${ends === DASH ? "" : `, 95% CI ${ends}`}` },
      s("line", { class: "grid", x1: 0, x2: width, y1: 10, y2: 10 }),
      ends !== DASH && s("line", { class: "whisker", x1: inside(metric.low ?? domain[0]), x2: inside(metric.high ?? domain[1]), y1: 10, y2: 10 }),
      s("path", { class: "before", d: "M0,-5L5,0L0,5L-5,0z", transform: `translate(${Math.min(width - 5, Math.max(5, x(value)))},10)` })),
    h("div", null, h("b", { class: "value" }, number(value)), ends !== DASH && h("span", { class: "ends" }, ends)));
}

// The baseline's values of metrics that no gate compares, where the rows have its scores and the metric is their mean.
function fillBaselines() {
  DATA.targets.forEach((target, place) => headlines().slice(0, MAX_SCORERS).forEach((name, at) => {
    const cell = document.getElementById(`base-${place}-${at}`), metric = metricOf(target, name, null);
    if (!cell || !metric || baselineOf(target, [name]) || baselineMetric(target, name)) return;
    const scorer = DATA.scorers.findIndex((found) => found.name === metric.scorer);
    const now = ROWS.map((row) => row.value(place, scorer)).filter((value) => value !== null);
    const before = ROWS.map((row) => row.before(place, scorer)).filter(Number.isFinite);
    if (before.length && now.length && Math.abs(mean(now) - metric.value) < 1e-9) cell.replaceChildren(baselineCell(mean(before), name, closeDomain(name), at));
  }));
}

// Who beats whom, in the words of every output; of many metrics the first ones.
function conclusionsBlock() {
  const found = DATA.comparison;
  if (!found) return null;
  const lines = found.metrics.map((metric, place) => found.conclusions[place].map((text, at) => [at ? "" : shortMetric(metric.name), text]));
  const list = (parts) => h("dl", { class: "conclusions" }, parts.map(([name, text]) => h("div", null, h("dt", { class: "mono" }, name), h("dd", { dir: "auto" }, text))));
  let length = 0;
  const fitting = lines.findIndex((metric, place) => { length += metric.reduce((sum, [, text]) => sum + text.length, 0); return place > 0 && length > CONCLUSIONS_LENGTH; });
  const shown = fitting < 0 ? lines.length : fitting;
  const first = lines.slice(0, shown).flat(), rest = lines.slice(shown).flat();
  if (found.cost) first.push(["cost", found.cost]);
  return first.length ? h("div", { class: "conclusions-box" }, list(first), rest.length > 0 && h("details", null, h("summary", null, `${counted(lines.length - shown, "more metric")}`), list(rest))) : null;
}
