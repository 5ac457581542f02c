// Slices: a line for each value of a column. Colors go from worse than the value over all samples to better.

const STEPS = 4; // of color on each side
const SMALL = 0.05; // of the range: smaller differences have no full color

function slicesSection() {
  const names = headlines().filter((name) => DATA.targets.some((target) => target.metrics.some((metric) => metric.slice && metric.name === name)));
  if (!names.length) return null;
  const box = h("div", { id: "slices-table" });
  const draw = (shown) => box.replaceChildren(slicesTable(shown));
  draw(SEVERAL ? [names[0]] : names);
  const intervals = DATA.targets.flatMap((target) => target.metrics).filter((metric) => metric.slice && names.includes(metric.name) && (Number.isFinite(metric.low) || Number.isFinite(metric.high))).length;
  const legend = h("p", { class: "diverging", "aria-hidden": "true" }, "worse ", [-4, -3, -2, -1, 0, 1, 2, 3, 4].map((step) => h("i", { class: deviation(step) })), " better than overall");
  return section("slices", "Slices", h("div", { class: "bar-line" }, legend, SEVERAL && names.length > 1 && pickMetric("slices-scorer", names, (name) => draw([name]))), box,
    h("p", { class: "hint" }, `Each cell: value, difference from all samples, 95% CI, number of samples. ${sideBySide(intervals)}`));
}

function slicesTable(names) {
  const slices = new Map();
  for (const target of DATA.targets)
    for (const metric of target.metrics) if (metric.slice && names.includes(metric.name)) slices.set(sliceKey(metric.slice), metric.slice);
  const shown = names.flatMap((name) => DATA.targets.map((target, place) => [name, target, place]));
  const columns = [["Slice", "who"], ...shown.map(([name, target, place]) => (SEVERAL ? [targetName(place), "", target.name] : [h("span", { class: "mono" }, shortMetric(name)), "", shortMetric(name)]))];
  const largest = new Map(names.map((name) => [name, largestDeviation(name)]));
  const whole = [h("b", null, "All samples"), ...shown.map(([name, target]) => { const metric = metricOf(target, name, null); return metric && metric.value !== null ? h("b", { class: "total" }, valueText(metric)) : h("span", { class: "nought" }, DASH); })];
  const rows = [...slices.values()].map((slice) => [
    h("span", { dir: "auto" }, oneLine(sliceText(slice), 80)),
    ...shown.map(([name, target]) => sliceCell(metricOf(target, name, slice), metricOf(target, name, null), largest.get(name))),
  ]);
  return table(`Slices of ${names.map(shortMetric).join(", ")}`, columns, [whole, ...rows], { class: "heat stack" });
}

// How far the slices of a metric are from its value over all samples at most, in its unit.
function largestDeviation(name) {
  const [low, high] = domainOf(name);
  const sizes = DATA.targets.flatMap((target) => {
    const whole = metricOf(target, name, null);
    return target.metrics.filter((metric) => metric.name === name && metric.slice && metric.value !== null && whole && whole.value !== null).map((metric) => Math.abs(metric.value - whole.value));
  });
  return Math.max((high - low) * SMALL, ...sizes);
}

function deviation(step) {
  return step ? `${step < 0 ? "worse" : "better"}-${Math.abs(step)}` : "level";
}

// What the number of intervals that stand side by side means: each of them misses with 5%.
function sideBySide(intervals) {
  return intervals > 1 ? `${count(intervals)} unadjusted 95% CIs side by side: on average ${Number((0.05 * intervals).toPrecision(2))} of them miss the true value.` : "";
}

function sliceCell(metric, whole, largest) {
  if (!metric || metric.value === null) return h("span", { class: "nought" }, DASH);
  const known = whole && Number.isFinite(whole.value), difference = known ? metric.value - whole.value : 0;
  const step = Math.round((difference / largest) * STEPS) * (metric.higher_is_better ? 1 : -1);
  const ends = endsText(metric);
  const below = known && (metric.higher_is_better ? Number.isFinite(metric.high) && metric.high < whole.value : Number.isFinite(metric.low) && metric.low > whole.value);
  return h("span", { class: `slice-cell ${deviation(step)}` }, h("b", null, valueText(metric)), " ",
    h("small", null, [known && signed(difference), ends !== DASH && ends, `n ${count(metric.n)}`].filter(Boolean).join(" · ")),
    !metric.trusted && h("small", { class: "warn" }, "untrusted"), below && h("small", { class: "warn" }, "worse than overall"));
}
