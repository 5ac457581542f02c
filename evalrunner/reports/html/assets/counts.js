// Every number with its four counts, and what was not scored and why.

function numbersSection() {
  const columns = [["Metric", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Value", "n"], ["95 % interval", "n"], ["Scored", "n"], ["Skipped", "n"], ["Unscored", "n"], ["Errors", "n"]];
  const rows = [];
  for (const name of [...new Set(DATA.targets.flatMap((target) => target.metrics.filter((metric) => !metric.slice).map((metric) => metric.name)))])
    DATA.targets.forEach((target, place) => {
      const metric = metricOf(target, name, null);
      if (metric) rows.push([
        h("span", { class: "mono" }, name, (metric.detail || {}).backend ? h("span", { class: "faint" }, ` (${metric.detail.backend})`) : null),
        ...(SEVERAL ? [targetName(place)] : []),
        [number(metric.value, metric.unit), !metric.trusted && metric.value !== null && scorerOf(metric.scorer) ? h("strong", { class: "warn", title: "too few rows were scored" }, " !") : null],
        h("span", { title: metric.method || "" }, interval(metric.low, metric.high, metric.unit)),
        ...["n", "skipped", "unscored", "errors"].map((key) => h("span", { class: metric[key] ? "" : "nought" }, count(metric[key]))),
      ]);
    });
  return section("numbers", "All numbers", h("details", { open: rows.length <= 24 }, h("summary", null, counted(rows.length, "number"), " with intervals and counts"),
    table("All metrics with intervals and counts", columns, rows)));
}

function notScoredSection() {
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
        ...["n", "skipped", "unscored", "errors"].map((key) => h("span", { class: metric[key] ? "" : "nought" }, count(metric[key]))),
        reasons.length ? h("ul", { class: "plain" }, reasons.slice(0, 8).map(([reason, times]) => h("li", { dir: "auto" }, `${count(times)} × ${oneLine(reason, 240)}`)),
          reasons.length > 8 && h("li", { class: "faint" }, `and ${reasons.length - 8} other reasons`)) : h("span", { class: "faint" }, "the scorer does not apply to them"),
      ]);
    });
  const columns = [["Scorer", ""], ...(SEVERAL ? [["Target", ""]] : []), ["Scored", "n"], ["Skipped", "n"], ["Unscored", "n"], ["Errors", "n"], ["Why", "wide"]];
  return section("not-scored", "What was not scored, and why", rows.length
    ? [h("p", { class: "hint" }, "Only scored samples enter a number. Skipped: the scorer does not apply. Unscored: no usable value. Error: the provider or the scorer failed."),
       table("Samples that were not scored", columns, rows, { class: "stack" })]
    : h("p", null, "Everything was scored."));
}
