// The top of the page: the verdict, the facts of the run, and every gate with its reason.

const VERDICTS = { fail: "fail", untrusted: "untrusted", inconclusive: "inconclusive", no_baseline: "no baseline", pass: "pass" };  // worst first
const SIGNS = { pass: "✓", fail: "✕", inconclusive: "?", untrusted: "!", no_baseline: "○" };

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
  const rows = about.rows === about.rows_planned ? counted(about.rows ?? 0, "row") : `${count(about.rows ?? DATA.rows.groups)} of ${counted(about.rows_planned, "row")}`;
  const facts = [
    gateCounts(),
    rows,
    SEVERAL && counted(DATA.targets.length, "target"),
    about.epochs > 1 && `${about.epochs} epochs`,
    Number.isFinite(about.duration_s) && seconds(about.duration_s),
    about.started_at && h("time", { datetime: about.started_at }, new Date(about.started_at).toISOString().slice(0, 16).replace("T", " ") + " UTC"),
  ].filter(Boolean);
  append(document.getElementById("top"), [
    h("div", { class: "top-line" },
      h("div", null,
        h("p", { class: "kicker" }, "Run ", h("span", { class: "mono" }, DATA.run_id)),
        h("h1", { dir: "auto" }, DATA.suite)),
      h("button", { type: "button", id: "theme", class: "quiet", onclick: toggleTheme }, "Dark")),
    DATA.description && h("p", { class: "lead", dir: "auto" }, DATA.description),
    h("div", { class: `verdict ${kind}` },
      h("p", { class: "word" }, SIGNS[kind] && h("span", { "aria-hidden": "true" }, SIGNS[kind]), word),
      h("div", null,
        h("p", { class: "why", dir: "auto" }, DATA.sentence),
        h("p", { class: "facts" }, facts.map((fact) => h("span", null, fact)))))]);
}

// The gates counted by verdict, worst first.
function gateCounts() {
  const found = {};
  for (const gate of DATA.gates) found[gate.verdict] = (found[gate.verdict] || 0) + 1;
  return DATA.gates.length > 0 && `${counted(DATA.gates.length, "gate")}: ${Object.keys(VERDICTS).filter((verdict) => found[verdict]).map((verdict) => `${found[verdict]} ${VERDICTS[verdict]}`).join(", ")}`;
}

function gatesSection() {
  const columns = [["Gate", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Verdict", ""], ["Value", "n"], ["95% CI", "n"], ["Reason", "wide"]];
  const rows = DATA.gates.map((gate) => {
    const metric = DATA.targets.flatMap((target) => (target.name === gate.target ? target.metrics : [])).find((found) => found.name === gate.metric);
    const place = DATA.targets.findIndex((target) => target.name === gate.target);
    return [
      h("span", { class: "mono" }, gate.gate, gate.line ? h("span", { class: "faint" }, ` line ${gate.line}`) : null),
      ...(SEVERAL ? [place < 0 ? gate.target : targetName(place)] : []),
      badge(gate.verdict),
      number(gate.value, metric && metric.unit, [gate.low, gate.high, gate.bound]),
      interval(gate.low, gate.high, metric && metric.unit, [gate.value, gate.bound]),
      [h("span", { dir: "auto" }, gate.reason), gateNotes(gate).map((note) => h("span", { class: "note" }, note))],
    ];
  });
  return section("gates", "Gates", table("Gates with their verdicts", columns, rows, { class: "gates stack" }));
}

// Facts about a gate that its reason does not contain.
function gateNotes(gate) {
  const notes = [];
  const before = gate.baseline;
  if (before) {
    notes.push(`baseline ${before.name}: ${number(before.value)}, ${counted(before.n, "pair")}` +
      (before.excluded ? `, ${counted(before.excluded, "sample")} excluded` : "") + (before.missing ? `, ${before.missing} unscored` : ""));
    if (Number.isFinite(before.origin_drop)) notes.push(`drop since its origin, ${before.origin}: ${signed(before.origin_drop)}`);
  } else if (gate.confidence && (Number.isFinite(gate.gate_low) || Number.isFinite(gate.gate_high)))
    notes.push(`one-sided ${percent(gate.confidence)} bound: ${interval(gate.gate_low, gate.gate_high)}`);
  notes.push(...(gate.details || []));
  return notes;
}

function noticesOf() {
  const notices = [...DATA.notices];
  for (const [scorer, judge] of Object.entries(DATA.judges)) {
    const check = judge.sanity_check;
    if (!check || check.passed) continue;
    notices.push(check.failure ? `${scorer}: judge ${judge.name} could not be checked and gives no scores: ${check.failure}`
      : `${scorer}: judge ${judge.name} failed its sanity check (${check.right} of ${check.total} known answers${check.good && check.bad ? `: ${check.good.right} of ${check.good.total} good, ${check.bad.right} of ${check.bad.total} bad` : ""}${check.note ? `; ${check.note}` : ""})`);
  }
  return notices.length ? h("ul", { class: "notices", "aria-label": "Notes" }, notices.map((text) => h("li", { dir: "auto" }, text))) : null;
}

// The ranking of targets by each metric with its significance, and every pair.

function rankingSection() {
  const found = DATA.comparison;
  if (!found || !(found.metrics.length + found.notes.length)) return null;
  const design = found.paired ? "Paired by sample" : "Unpaired, so only large differences are significant";
  return section("ranking", "Ranking",
    found.warnings.length > 0 && h("ul", { class: "notices", "aria-label": "Warnings" }, found.warnings.map((text) => h("li", { dir: "auto" }, text))),
    h("p", { class: "hint" }, found.metrics.length ? `${design}. ${found.adjustment} > significantly better, ≈ not significant.` : found.adjustment),
    found.metrics.map((metric, place) => rankingOf(metric, found.conclusions[place], found.paired)),
    found.notes.length > 0 && h("ul", { class: "notices", "aria-label": "Notes on the ranking" }, found.notes.map((text) => h("li", { dir: "auto" }, text))));
}

function rankingOf(metric, conclusions, paired) {
  const { order, signs, letters, best } = metric.ranking;
  const steps = order.flatMap((name, place) => [
    place > 0 && h("span", null, ` ${signs[place - 1]} `),
    h(name === best ? "b" : "span", null, candidateName(name), ` ${number((metric.values[name] || {}).value)} `, h("small", { class: "faint" }, letters[name])),
  ]);
  return h("div", { class: "ranking" },
    h("h3", { class: "mono" }, metric.name),
    h("p", { class: "order" }, steps),
    conclusions.map((text) => h("p", { dir: "auto" }, text)),
    pairsOf(metric, paired));
}

function pairsOf(metric, paired) {
  const columns = [["Pair", "wide"], ["Difference", "n"], ["95% CI", "n"], ["p", "n"], ["n", "n"], ...(paired ? [["Win / tie / loss", "n"], ["Excluded", "n"]] : [])];
  const rows = metric.pairs.map((pair) => [
    [candidateName(pair.first), " − ", candidateName(pair.second)],
    h(pair.better ? "b" : "span", null, pair.difference === null ? DASH : signed(pair.difference)),
    interval(pair.low, pair.high),
    pValueText(pair.p_adjusted),
    count(pair.n),
    ...(paired ? [[pair.wins, pair.ties, pair.losses].map(count).join(" / "), count(pair.excluded)] : []),
  ]);
  return h("details", { class: "pairs" }, h("summary", null, "Every pair"), table(`Every pair on ${metric.name}`, columns, rows));
}

function candidateName(name) {
  const place = DATA.targets.findIndex((target) => target.name === name);
  return place < 0 ? h("span", { dir: "auto" }, oneLine(name, 120)) : targetName(place);
}

function pValueText(p) {
  return p === null ? DASH : p < 0.001 ? "<.001" : p.toFixed(3).replace(/^0/, "");
}

// A card for each headline metric: the value of each target, its 95% CI with gate and baseline, the counts.

function cardsSection() {
  const names = headlines();
  const cards = names.map((name) => {
    const found = DATA.targets.map((target) => metricOf(target, name, null));
    const first = found.find(Boolean), scorer = scorerOf(first.scorer);
    const domain = domainOf(name);
    return h("article", { class: "card" },
      h("header", null,
        h("h3", { class: "mono" }, name),
        h("p", { class: "faint" }, [first.higher_is_better ? "higher is better" : "lower is better", scorer && scorer.backend].filter(Boolean).join(" · "))),
      DATA.targets.map((target, place) => found[place] ? cardLine(found[place], target, place, domain) : null),
      h("p", { class: "scale", "aria-hidden": "true" }, domain.map((end) => h("span", null, tickText(end, first.unit)))));
  });
  if (!cards.length) return null;
  return section("metrics", "Metrics", barLegend(), h("div", { class: "cards" }, cards));
}

function cardLine(metric, target, place, domain) {
  const gates = gatesOf(metric.name, target.name);
  const other = (metric.detail || {}).other_reading;
  return h("div", { class: "line" },
    h("p", { class: "line-head" },
      SEVERAL ? targetName(place) : h("span", { class: "faint" }, target.name),
      h("span", { class: "value" }, valueText(metric)),
      h("span", { class: "faint n" }, endsText(metric, metric.unit) === DASH ? "no interval" : endsText(metric, metric.unit))),
    bar(metric, place, { domain, gates }),
    h("p", { class: "counts" }, h("span", { dir: "auto" }, metric.answers),
      !metric.trusted && h("strong", { class: "warn" }, "untrusted: too few scored")),
    other && h("p", { class: "faint small" }, `${other.on_no_answer === "zero" ? "counting missing answers as 0" : "excluding missing answers"}: ${number(other.value, metric.unit)} (n ${count(other.n)})`));
}

// Every metric with its counts, and the reasons of unscored rows.

function numbersSection() {
  const columns = [["Metric", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Value", "n"], ["95% CI", "n"], ["Scored", "n"], ["Skipped", "n"], ["Unscored", "n"], ["Errors", "n"]];
  const rows = [];
  for (const name of [...new Set(DATA.targets.flatMap((target) => target.metrics.filter((metric) => !metric.slice).map((metric) => metric.name)))])
    DATA.targets.forEach((target, place) => {
      const metric = metricOf(target, name, null);
      if (metric) rows.push([
        h("span", { class: "mono" }, name, (metric.detail || {}).backend ? h("span", { class: "faint" }, ` (${metric.detail.backend})`) : null),
        ...(SEVERAL ? [targetName(place)] : []),
        [valueText(metric), !metric.trusted && metric.value !== null && scorerOf(metric.scorer) ? h("strong", { class: "warn", title: "untrusted: too few samples scored" }, " !") : null],
        h("span", { title: metric.method || "" }, endsText(metric, metric.unit)),
        ...["scored", "skipped", "unscored", "errors"].map((key) => h("span", { class: metric[key] ? "" : "nought" }, count(metric[key]))),
      ]);
    });
  return section("numbers", "All metrics", h("details", { open: rows.length <= 24 }, h("summary", null, counted(rows.length, "metric"), " with 95% CI and counts"),
    table("All metrics with 95% CI and counts", columns, rows),
    h("p", { class: "hint" }, "Counts are of answers: samples × epochs. ! untrusted: too few of the answers have a score.")));
}

function unscoredSection() {
  const rows = [];
  for (const scorer of DATA.scorers)
    DATA.targets.forEach((target, place) => {
      const metric = target.metrics.find((found) => found.scorer === scorer.name && !found.slice);
      if (!metric) return;
      const left = metric.skipped + metric.unscored + metric.errors;
      if (!left) return;
      const reasons = Object.entries((metric.detail || {}).reasons || {}).sort((one, other) => other[1] - one[1]);
      rows.push([
        h("span", { class: "mono" }, scorer.name),
        ...(SEVERAL ? [targetName(place)] : []),
        ...["scored", "skipped", "unscored", "errors"].map((key) => h("span", { class: metric[key] ? "" : "nought" }, count(metric[key]))),
        reasons.length ? h("ul", { class: "plain" }, reasons.slice(0, 8).map(([reason, times]) => h("li", { dir: "auto" }, `${count(times)} × ${oneLine(reason, 240)}`)),
          reasons.length > 8 && h("li", { class: "faint" }, `and ${reasons.length - 8} other reasons`)) : h("span", { class: "faint" }, "the scorer does not apply"),
      ]);
    });
  const columns = [["Scorer", ""], ...(SEVERAL ? [["Target", ""]] : []), ["Scored", "n"], ["Skipped", "n"], ["Unscored", "n"], ["Errors", "n"], ["Reason", "wide"]];
  return section("unscored", "Unscored rows", rows.length
    ? [h("p", { class: "hint" }, "Metrics use scored answers only. Skipped: the scorer does not apply. Unscored: no usable value. Errors: the provider or the scorer failed."),
       table("Unscored answers", columns, rows, { class: "stack" })]
    : h("p", null, "All answers are scored."));
}

// With several epochs: what samples differ by, what one prompt flips by, and what more calls would gain.

function epochsSection() {
  const rows = DATA.targets.flatMap((target, place) => (target.epochs || []).filter((split) => split.between + split.within > 0).map((split) => {
    const share = split.within / (split.between + split.within);
    return [
      h("span", { class: "mono" }, split.scorer),
      ...(SEVERAL ? [targetName(place)] : []),
      percent(1 - share), percent(share),
      split.flaky ? [count(split.flaky), h("span", { class: "note mono", dir: "auto" }, split.flaky_samples.map((id) => oneLine(id, 40)).join(", ") + (split.flaky > split.flaky_samples.length ? ", …" : ""))] : "0",
      number(split.error), number(split.error_with_samples), number(split.error_with_epochs),
    ];
  }));
  if (!rows.length) return null;
  const columns = [["Scorer", ""], ...(SEVERAL ? [["Target", ""]] : []), ["Between samples", "n"], ["Within samples", "n"], ["Flaky samples", "wide"], ["Standard error", "n"], ["100 calls: new samples", "n"], ["100 calls: more epochs", "n"]];
  return section("epochs", "Epochs",
    h("p", { class: "hint" }, "The variance of one answer's score, between samples and within them. Flaky: the epochs of a sample differ by half of the range or more. The last two columns are the standard error after 100 more calls."),
    table("Variance between and within samples", columns, rows, { class: "stack" }));
}

// Cost and latency: calls, tokens, money, time, cache hits.

function usageSection() {
  const always = (target, scorer, aggregate) => (target.metrics.find((metric) => metric.scorer === scorer && metric.aggregate === aggregate && !metric.slice) || {}).value;
  const line = (name, kind, usage, target, place) => [
    name, kind,
    count(usage.calls || 0),
    usage.failures ? h("strong", { class: "warn" }, count(usage.failures)) : "0",
    number(usage.input_tokens ?? null, "tokens"), [number(usage.output_tokens ?? null, "tokens"), usage.reasoning_tokens ? h("span", { class: "note" }, `${count(usage.reasoning_tokens)} reasoning`) : null],
    [number(usage.cost_usd ?? null, "USD"), usage.unpriced_calls && Number.isFinite(usage.cost_usd) ? h("span", { class: "note" }, `${count(usage.unpriced_calls)} unpriced`) : null],
    ...["p50", "p90", "p99"].map((part) => (target ? number(always(target, "latency", part), "s") : DASH)),
    target ? h("span", { id: `cached-${place}` }, Number.isFinite(usage.cached) ? count(usage.cached) : "…") : DASH,
  ];
  const rows = DATA.targets.map((target, place) => line(targetName(place), modelText(target), target.usage, target, place));
  for (const [scorer, judge] of Object.entries(DATA.judges))
    rows.push(line(h("span", null, "judge of ", h("span", { class: "mono" }, scorer)), modelText(judge), judge.usage || {}));
  const columns = [["Target", ""], ["Model", "wide"], ["Calls", "n"], ["Failed", "n"], ["Input tokens", "n"], ["Output tokens", "n"], ["Cost", "n"], ["Latency p50", "n"], ["p90", "n"], ["p99", "n"], ["Cached", "n"]];
  return section("cost", "Cost and latency",
    table("Calls, tokens, cost and latency", columns, rows),
    h("p", { class: "hint" }, "Latency is that of the last attempt, without waits. Cached answers have no latency and no cost."));
}

function modelText(part) {
  const served = part.served_models || [];
  const name = part.model || part.type || DASH;
  const others = served.filter((model) => model !== part.model);
  return [h("span", { class: "mono" }, name), others.length ? h("span", { class: "note" }, `served by ${others.join(", ")}`) : null];
}

// Cache hits are known once the rows are read.
function fillCached() {
  DATA.targets.forEach((target, place) => {
    const cell = document.getElementById(`cached-${place}`);
    if (!Number.isFinite(target.usage.cached))
      cell.textContent = count(ROWS.reduce((sum, row) => sum + (row.answer(place) ? row.answer(place)[A.cached] : 0), 0));
  });
}

function aboutSection() {
  const facts = [
    ["Run", h("span", { class: "mono" }, DATA.run_id)],
    ["Status", DATA.about.status],
    ["Seed", String(DATA.about.seed ?? DASH)],
    ["Dataset", DATA.dataset_hash ? h("span", { class: "mono" }, `sha256 ${DATA.dataset_hash.slice(0, 16)}…`) : DASH],
    ["Exit code", String(DATA.exit_code ?? DASH)],
    ["Versions", Object.entries(DATA.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
  ];
  const params = DATA.targets.map((target, place) => h("li", null, targetName(place), " ",
    h("span", { class: "mono small" }, Object.entries(target.params).map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ") || "no params")));
  return section("about", "About this run", h("dl", { class: "facts-list" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    h("ul", { class: "plain" }, params));
}
