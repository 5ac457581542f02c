// The statistics: the ranking with every pair, all metrics with their counts, and where scores vary.

// The ranking of targets by each metric with its significance, and every pair.

function rankingSection() {
  const found = DATA.comparison;
  if (!found || !(found.metrics.length + found.notes.length)) return null;
  const design = found.paired ? "Paired by sample" : "Unpaired, so only large differences are significant";
  return section("ranking", "Ranking",
    found.warnings.length > 0 && h("ul", { class: "notices", "aria-label": "Warnings" }, found.warnings.map((text) => h("li", { dir: "auto" }, text))),
    h("p", { class: "hint" }, found.metrics.length ? `${design}. ${found.adjustment} > significantly better, ≈ not significant.` : found.adjustment),
    found.metrics.map((metric) => rankingOf(metric, found.paired)),
    found.notes.length > 0 && h("ul", { class: "notices", "aria-label": "Notes on the ranking" }, found.notes.map((text) => h("li", { dir: "auto" }, text))));
}

function rankingOf(metric, paired) {
  const { order, signs, letters, best } = metric.ranking;
  const steps = order.flatMap((name, place) => [
    place > 0 && h("span", null, ` ${signs[place - 1]} `),
    h(name === best ? "b" : "span", null, candidateName(name), ` ${number((metric.values[name] || {}).value)} `, h("small", { class: "faint" }, letters[name])),
  ]);
  return h("div", { class: "ranking" },
    h("h3", { class: "mono" }, metric.name),
    h("p", { class: "order" }, steps),
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
  return h("details", { class: "pairs" }, h("summary", null, "Every pair"), table(`Every pair on ${metric.name}`, columns, rows, { class: "stack" }));
}

function candidateName(name) {
  const place = DATA.targets.findIndex((target) => target.name === name);
  return place < 0 ? h("span", { dir: "auto" }, oneLine(name, 120)) : targetName(place);
}

function pValueText(p) {
  return p === null ? DASH : p < 0.001 ? "<.001" : p.toFixed(3).replace(/^0/, "");
}

// Every metric with its counts, and the reasons of unscored rows.

function numbersSection() {
  const counts = countColumns((metric) => !metric.slice);
  const columns = [["Metric", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Value", "n"], ["95% CI", "n"], ...counts.map(([name]) => [name, "n"])];
  const rows = [];
  for (const name of [...new Set(DATA.targets.flatMap((target) => target.metrics.filter((metric) => !metric.slice).map((metric) => metric.name)))])
    DATA.targets.forEach((target, place) => {
      const metric = metricOf(target, name, null);
      if (metric) rows.push([
        h("span", { class: "mono" }, name, (metric.detail || {}).backend ? h("span", { class: "faint" }, ` (${metric.detail.backend})`) : null),
        ...(SEVERAL ? [targetName(place)] : []),
        [valueText(metric), !metric.trusted && metric.value !== null && scorerOf(metric.scorer) ? h("strong", { class: "warn", title: "untrusted: too few samples scored" }, " !") : null],
        h("span", { title: metric.method || "" }, endsText(metric, metric.unit)),
        ...counts.map(([, key]) => h("span", { class: metric[key] ? "" : "nought" }, count(metric[key]))),
      ]);
    });
  return section("numbers", "All metrics", h("details", { open: rows.length <= 24 }, h("summary", null, counted(rows.length, "metric"), " with 95% CI and counts"),
    table("All metrics with 95% CI and counts", columns, rows, { class: "stack" }),
    h("p", { class: "hint" }, "Counts are of answers: samples × epochs. ! untrusted: too few of the answers have a score.")));
}

// The counts of answers to show: those that are not 0 everywhere.
function countColumns(wanted) {
  const metrics = DATA.targets.flatMap((target) => target.metrics).filter(wanted);
  return [["Scored", "scored"], ["Skipped", "skipped"], ["Unscored", "unscored"], ["Errors", "errors"]].filter(([, key]) => key === "scored" || metrics.some((metric) => metric[key]));
}

function unscoredSection() {
  const rows = [], counts = countColumns((metric) => !metric.slice && scorerOf(metric.scorer));
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
        ...counts.map(([, key]) => h("span", { class: metric[key] ? "" : "nought" }, count(metric[key]))),
        reasons.length ? h("ul", { class: "plain" }, reasons.slice(0, 8).map(([reason, times]) => h("li", { dir: "auto" }, `${count(times)} × ${oneLine(reason, 240)}`)),
          reasons.length > 8 && h("li", { class: "faint" }, `and ${reasons.length - 8} other reasons`)) : h("span", { class: "faint" }, "the scorer does not apply"),
      ]);
    });
  const columns = [["Scorer", ""], ...(SEVERAL ? [["Target", ""]] : []), ...counts.map(([name]) => [name, "n"]), ["Reason", "wide"]];
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
