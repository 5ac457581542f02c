// From values to places: the range that a metric is drawn over, and round numbers along it.

function metricOf(target, name, slice) {
  return target.metrics.find((metric) => metric.name === name && sliceKey(metric.slice) === sliceKey(slice));
}

function sliceKey(slice) {
  return slice ? JSON.stringify(Object.entries(slice).sort()) : "";
}

function sliceText(slice) {
  return Object.entries(slice || {}).map(([column, value]) => `${column} = ${value}`).join(", ");
}

function scorerOf(name) {
  return DATA.scorers.find((scorer) => scorer.name === name);
}

// Headline metrics: what a scorer's bare name means, over all rows; several reducers give several.
function headlines() {
  const names = [];
  for (const scorer of DATA.scorers)
    for (const target of DATA.targets)
      for (const metric of target.metrics) {
        const headline = metric.scorer === scorer.name && metric.aggregate === (scorer.headline || "mean");
        if (headline && !metric.slice && !names.includes(metric.name)) names.push(metric.name);
      }
  return names;
}

function gatesOf(metricName, targetName) {
  return DATA.gates.filter((gate) => gate.metric === metricName && gate.target === targetName && !gate.slice);
}

// The range that a metric is drawn over: that of its scorer, or else what there is to see.
function domainOf(metricName) {
  const seen = [];
  let declared = [null, null];
  for (const target of DATA.targets) {
    for (const metric of target.metrics) {
      if (metric.name !== metricName) continue;
      const scorer = scorerOf(metric.scorer);
      if (scorer && !["variance", "total"].includes(metric.aggregate)) declared = scorer.range || declared;
      seen.push(metric.value, metric.low, metric.high);
    }
    for (const gate of gatesOf(metricName, target.name)) seen.push(boundOf(gate), gate.baseline && gate.baseline.value);
  }
  const known = seen.filter((value) => Number.isFinite(value));
  if (!known.length) return [0, 1];
  let low = Math.min(...known), high = Math.max(...known);
  const nought = !Number.isFinite(declared[0]) && low >= 0 ? 0 : low;
  const room = (high - nought || Math.abs(high) || 1) * 0.08;
  low = Number.isFinite(declared[0]) ? Math.min(declared[0], low) : low >= 0 ? 0 : low - room;
  high = Number.isFinite(declared[1]) ? Math.max(declared[1], high) : high + room;
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

// The bound of a gate on the scale of its metric; a drop is measured from the baseline.
function boundOf(gate) {
  if (gate.kind === "max_drop" || gate.kind === "improved") {
    const before = gate.baseline && gate.baseline.value;
    if (!Number.isFinite(before)) return null;
    const allowed = gate.kind === "max_drop" ? gate.bound : 0;
    const metric = DATA.targets.flatMap((target) => target.metrics).find((found) => found.name === gate.metric);
    return metric && !metric.higher_is_better ? before + allowed : before - allowed;
  }
  return gate.bound;
}

function linear([low, high], [from, to]) {
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

function ticks([low, high], wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

function tickText(value, unit) {
  const size = Math.abs(value);
  const text = size >= 1000 && size < 100_000 ? count(value) : size >= 1000 ? value.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 }) : String(Number(value.toPrecision(3)));
  return unit === "USD" ? `$${text}` : unit === "s" ? `${text} s` : text;
}

// The value below which a share of a sorted list lies (linear, as the metrics have it).
function quantile(sorted, share) {
  if (!sorted.length) return null;
  const place = (sorted.length - 1) * share, below = Math.floor(place), above = Math.ceil(place);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}
