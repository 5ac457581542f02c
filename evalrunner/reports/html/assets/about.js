// What was run, and what it took.

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
    rows.push(line(judge.role === "user" ? h("span", null, scorer) : h("span", null, "judge of ", h("span", { class: "mono" }, scorer)), modelText(judge), judge.usage || {}));
  const columns = [["Target", ""], ["Model", "wide"], ["Calls", "n"], ["Failed", "n"], ["Input tokens", "n"], ["Output tokens", "n"], ["Cost", "n"], ["Latency p50", "n"], ["p90", "n"], ["p99", "n"], ["Cached", "n"]];
  return section("cost", "Calls, tokens, cost and latency",
    table("Calls, tokens, cost and latency", columns, rows, { class: "stack" }),
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

// The facts of the run, its targets and its suite.
function aboutSections() {
  const { about } = DATA, source = about.source || {}, versions = Object.entries(DATA.versions);
  const facts = [
    ["Run", h("span", { class: "mono" }, DATA.run_id)],
    ["Status", [about.status, about.stopped && `: ${about.stopped}`]],
    ["Exit code", String(DATA.exit_code ?? DASH)],
    ["Started", about.started_at ? dateText(about.started_at) : DASH],
    ["Finished", about.finished_at ? dateText(about.finished_at) : DASH],
    ["Seed", String(about.seed ?? DASH)],
    ["Epochs", String(about.epochs)],
    ["Suite file", about.suite_file && h("span", { class: "mono" }, about.suite_file)],
    ["Dataset", DATA.dataset_hash ? h("span", { class: "mono" }, `sha256 ${DATA.dataset_hash.slice(0, 16)}…`) : DASH],
    ...Object.entries(source).map(([name, value]) => [name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase()), h("span", { class: "mono" }, String(value))]),
    ["Options", Object.keys(about.options || {}).length > 0 && h("span", { class: "mono" }, paramsText(about.options))],
  ].filter(([, value]) => value);
  const targets = DATA.targets.map((target, place) => [targetName(place), modelText(target), target.host || DASH, h("span", { class: "mono small" }, paramsText(target.params) || DASH)]);
  return [
    section("run-facts", "Run", factsList(facts)),
    section("about-targets", "Targets", table("Targets with their models and parameters", [["Target", ""], ["Model", "wide"], ["Host", ""], ["Parameters", "wide"]], targets, { class: "stack" })),
    usageSection(),
    versions.length > 0 && section("environment", "Environment", factsList(versions.map(([name, version]) => [name, version]))),
    DATA.suite_text && section("suite", "Suite", h("details", null, h("summary", null, "The suite as it was read"), textBlock(DATA.suite_text, "mono"))),
  ];
}

function factsList(facts) {
  return h("dl", { class: "facts-list" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function paramsText(params) {
  return Object.entries(params || {}).map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ");
}
