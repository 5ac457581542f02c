// A card for each headline metric: the value of each target, its interval against the gate and the baseline, the counts.

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
      h("span", { class: "value" }, number(metric.value, metric.unit)),
      h("span", { class: "faint n" }, interval(metric.low, metric.high, metric.unit) === DASH ? "no interval" : interval(metric.low, metric.high, metric.unit))),
    bar(metric, place, { domain, gates }),
    h("p", { class: "counts" }, countsOf(metric).map((text) => h("span", null, text)),
      !metric.trusted && h("strong", { class: "warn" }, "too few were scored to trust it")),
    other && h("p", { class: "faint small" }, `${other.on_no_answer === "zero" ? "counting no answer as 0" : "leaving out no answer"}: ${number(other.value, metric.unit)} (n ${count(other.n)})`));
}

// The four counts: always those that were scored, and of the others those that are not nought.
function countsOf(metric) {
  const rest = [["skipped", "skipped"], ["unscored", "unscored"], ["errors", "in error"]];
  return [`${count(metric.n)} scored`, ...rest.filter(([key]) => metric[key]).map(([key, word]) => `${count(metric[key])} ${word}`)];
}
