// Slices as a heat table: a line for each value of a column, the number in every cell, its shade beside it.

function slicesSection() {
  const names = headlines();
  const keys = new Map();
  for (const target of DATA.targets)
    for (const metric of target.metrics) if (metric.slice && names.includes(metric.name)) keys.set(sliceKey(metric.slice), metric.slice);
  if (!keys.size) return null;
  const sliced = names.filter((name) => DATA.targets.some((target) => target.metrics.some((metric) => metric.slice && metric.name === name)));
  const columns = [["Slice", ""], ...sliced.flatMap((name) => DATA.targets.map((target, place) => [[h("span", { class: "mono" }, name), SEVERAL && h("span", { class: "note" }, targetName(place))], "n"]))];
  const domains = new Map(sliced.map((name) => [name, domainOf(name)]));
  const rows = [...keys.values()].map((slice) => [
    h("span", { dir: "auto" }, oneLine(sliceText(slice), 80)),
    ...sliced.flatMap((name) => DATA.targets.map((target) => heatCell(metricOf(target, name, slice), metricOf(target, name, null), domains.get(name)))),
  ]);
  return section("slices", "Slices", h("p", { class: "hint" }, "The stronger the colour, the better. ± is half of the 95 % interval; n is how many samples were scored."), table("Metrics by slice", columns, rows, { class: "heat" }));
}

function heatCell(metric, whole, domain) {
  if (!metric || metric.value === null) return h("span", { class: "nought" }, DASH);
  const share = (metric.value - domain[0]) / (domain[1] - domain[0]);
  const good = Math.round(Math.min(1, Math.max(0, metric.higher_is_better ? share : 1 - share)) * 8);
  const half = Number.isFinite(metric.low) && Number.isFinite(metric.high) ? ` ±${number((metric.high - metric.low) / 2)}` : "";
  const below = whole && Number.isFinite(metric.high) && Number.isFinite(whole.value) && (metric.higher_is_better ? metric.high < whole.value : metric.low > whole.value);
  return h("span", { class: `heat-${good}` }, h("b", null, number(metric.value, metric.unit)), h("small", null, `${half} n ${count(metric.n)}`), below && h("small", { class: "warn" }, " below the whole"));
}
