// What it took: calls, tokens, money, time, and what came from the cache.

function usageSection() {
  const always = (target, scorer, aggregate) => (target.metrics.find((metric) => metric.scorer === scorer && metric.aggregate === aggregate && !metric.slice) || {}).value;
  const line = (name, kind, usage, target, place) => [
    name, kind,
    count(usage.calls || 0),
    usage.failures ? h("strong", { class: "warn" }, count(usage.failures)) : "0",
    number(usage.input_tokens ?? null, "tokens"), number(usage.output_tokens ?? null, "tokens"),
    [number(usage.cost_usd ?? null, "USD"), usage.unpriced_calls && Number.isFinite(usage.cost_usd) ? h("span", { class: "note" }, `${count(usage.unpriced_calls)} without a price`) : null],
    ...["p50", "p90", "p99"].map((part) => (target ? number(always(target, "latency", part), "s") : DASH)),
    target ? h("span", { id: `cached-${place}` }, Number.isFinite(usage.cached) ? count(usage.cached) : "…") : DASH,
  ];
  const rows = DATA.targets.map((target, place) => line(targetName(place), modelText(target), target.usage, target, place));
  for (const [scorer, judge] of Object.entries(DATA.judges))
    rows.push(line(h("span", null, "judge of ", h("span", { class: "mono" }, scorer)), modelText(judge), judge.usage || {}));
  const columns = [["Who", ""], ["Model", "wide"], ["Calls", "n"], ["Failed", "n"], ["Tokens in", "n"], ["Tokens out", "n"], ["Cost", "n"], ["Latency p50", "n"], ["p90", "n"], ["p99", "n"], ["Cached", "n"]];
  return section("cost", "Cost, tokens and time",
    table("Calls, tokens, cost and latency", columns, rows),
    h("p", { class: "hint" }, "Latency is that of the last try, without waiting. A cached answer has none and costs nothing."));
}

function modelText(part) {
  const served = part.served_models || [];
  const name = part.model || part.type || DASH;
  const others = served.filter((model) => model !== part.model);
  return [h("span", { class: "mono" }, name), others.length ? h("span", { class: "note" }, `served by ${others.join(", ")}`) : null];
}

// How many answers came from the cache is known when the rows are there.
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
