// Shared parts of charts: a frame with grid, ticks and names.

const FRAME = { left: 46, right: 12, top: 10, bottom: 34 };

function axes(width, height, domains, names, units) {
  const x = linear(domains[0], [FRAME.left, width - FRAME.right]), y = linear(domains[1], [height - FRAME.bottom, FRAME.top]);
  const parts = [];
  for (const value of ticks(domains[1], 4)) parts.push(
    s("line", { class: "grid", x1: FRAME.left, x2: width - FRAME.right, y1: y(value), y2: y(value) }),
    s("text", { class: "tick", x: FRAME.left - 6, y: y(value) + 3.5, "text-anchor": "end" }, tickText(value, units && units[1])));
  for (const value of ticks(domains[0], width > 400 ? 6 : 4)) parts.push(
    s("text", { class: "tick", x: x(value), y: height - FRAME.bottom + 15, "text-anchor": x(value) > width - 26 ? "end" : "middle" }, tickText(value, units && units[0])));
  parts.push(
    s("line", { class: "axis", x1: FRAME.left, x2: width - FRAME.right, y1: height - FRAME.bottom, y2: height - FRAME.bottom }),
    s("text", { class: "axis-name", x: width - FRAME.right, y: height - 4, "text-anchor": "end" }, names[0]));
  return { x, y, parts };
}

function path(points, x, y) {
  return points.map(([a, b], place) => `${place ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
}

function figure(title, note, picture, more) {
  return h("figure", { class: "figure" }, h("figcaption", null, h("h3", null, title), note && h("p", { class: "faint small" }, note)), picture, more);
}

function targetLegend() {
  return SEVERAL ? h("ul", { class: "legend targets" }, DATA.targets.map((target, place) => h("li", null, targetName(place)))) : null;
}

// A choice of the scorer of a chart.
function pickScorer(id, change) {
  const options = DATA.scorers.map((scorer, place) => h("option", { value: place }, oneLine(scorer.name, 60)));
  return h("label", { for: id, class: "pick" }, "Scorer ", h("select", { id, onchange: (event) => change(Number(event.target.value)) }, options));
}

// The forest plot: every metric with a 95% CI, a line for each target.

function forestSection() {
  const names = [...new Set(DATA.targets.flatMap((target) => target.metrics
    .filter((metric) => !metric.slice && scorerOf(metric.scorer) && Number.isFinite(metric.low)).map((metric) => metric.name)))];
  if (!names.length) return null;
  const lines = [], rows = [];
  const width = 720, left = 210, right = 150, high = 22;
  let y = 6;
  for (const name of names) {
    const domain = domainOf(name), x = linear(domain, [left, width - right]);
    const from = y;
    lines.push(s("text", { class: "forest-name", x: 0, y: y + 15 }, oneLine(name, 34)));
    if (SEVERAL) y += 20;
    DATA.targets.forEach((target, place) => {
      const metric = metricOf(target, name, null);
      if (!metric || metric.value === null) return;
      const middle = y + high / 2;
      const low = Number.isFinite(metric.low) ? metric.low : domain[0], top = Number.isFinite(metric.high) ? metric.high : domain[1];
      if (SEVERAL) lines.push(s("text", { class: "tick", x: left - 10, y: middle + 4, "text-anchor": "end" }, oneLine(target.name, 30)));
      lines.push(
        s("line", { class: "grid", x1: left, x2: width - right, y1: middle, y2: middle }),
        s("line", { class: `whisker ${cssColour(place)}`, x1: x(low), x2: x(top), y1: middle, y2: middle }),
        mark(place, x(metric.value), middle, 5),
        s("text", { class: "forest-value", x: width, y: middle + 4, "text-anchor": "end" }, `${valueText(metric)} (${endsText(metric)})`));
      for (const gate of gatesOf(name, target.name))
        if (Number.isFinite(boundOf(gate))) lines.push(s("line", { class: `gate-line ${gate.verdict}`, x1: x(boundOf(gate)), x2: x(boundOf(gate)), y1: middle - 9, y2: middle + 9 }));
      rows.push([name, target.name, valueText(metric), endsText(metric, metric.unit), metric.method || DASH, count(metric.n)]);
      y += high;
    });
    lines.push(s("text", { class: "tick", x: left, y: y + 11 }, tickText(domain[0])), s("text", { class: "tick", x: width - right, y: y + 11, "text-anchor": "end" }, tickText(domain[1])));
    y = Math.max(y + 20, from + 44);
  }
  const says = rows.map(([name, target, value, range]) => `${name}, ${target}: ${value} ${range}`).slice(0, 12).join("; ");
  return section("intervals", "Confidence intervals", targetLegend(),
    h("div", { class: "scroll picture", tabindex: "0", role: "region", "aria-label": "Interval plot" },
      drawing(width, y, "Metrics with 95% CIs", `A line for each metric and target: the mark is the value, the line its 95% CI, the tick the gate. ${says}`, lines)),
    numbersOf("Metrics with 95% CIs", [["Metric", "wide"], ["Target", ""], ["Value", "n"], ["95% CI", "n"], ["Method", ""], ["n", "n"]], rows));
}

// Distributions of scores and latency.

function bins(values, [low, high], wanted) {
  const counts = new Array(wanted).fill(0);
  for (const value of values) {
    const place = Math.floor(((value - low) / (high - low)) * wanted);
    counts[Math.min(wanted - 1, Math.max(0, place))] += 1;
  }
  return counts;
}

// A small chart for each target, all on the same scale.
function histogram(title, series, domain, wanted, unit, marks) {
  const places = series.map((_, place) => place).filter((place) => series[place].length);
  const width = 380, each = places.length > 1 ? 92 : 150, height = each * places.length + 30;
  const counts = places.map((place) => bins(series[place], domain, wanted));
  const x = linear(domain, [FRAME.left, width - FRAME.right]);
  const parts = [], rows = [];
  const most = Math.max(1, ...counts.flat());
  counts.forEach((found, level) => {
    const place = places[level];
    const floor = each * (level + 1) - 4, y = linear([0, most], [0, each - 22]);
    parts.push(s("line", { class: "axis", x1: FRAME.left, x2: width - FRAME.right, y1: floor, y2: floor }),
      s("text", { class: "tick", x: FRAME.left - 6, y: floor - y(most) + 4, "text-anchor": "end" }, count(most)),
      s("text", { class: "tick", x: FRAME.left - 6, y: floor, "text-anchor": "end" }, "0"));
    found.forEach((size, bin) => {
      const from = domain[0] + ((domain[1] - domain[0]) * bin) / wanted, to = domain[0] + ((domain[1] - domain[0]) * (bin + 1)) / wanted;
      if (size) parts.push(s("rect", { class: `column ${cssColour(place)}`, x: x(from) + 0.7, width: Math.max(1, x(to) - x(from) - 1.4), y: floor - Math.max(1, y(size)), height: Math.max(1, y(size)) },
        s("title", null, `${DATA.targets[place].name}: ${count(size)} between ${number(from, unit)} and ${number(to, unit)}`)));
      if (size) rows.push([DATA.targets[place].name, `${number(from, unit)} to ${number(to, unit)}`, count(size)]);
    });
    const lines = (marks ? marks(series[place]) : []).filter(([, value]) => value !== null && value >= domain[0] && value <= domain[1]);
    const close = lines.length > 1 && x(lines[1][1]) - x(lines[0][1]) < 28;
    for (const [name, value] of lines) {
      const anchor = close ? (name === lines[0][0] ? "end" : "start") : "middle";
      parts.push(s("line", { class: "quantile", x1: x(value), x2: x(value), y1: floor - each + 20, y2: floor }),
        s("text", { class: "tick", x: x(value), y: floor - each + 16, "text-anchor": anchor }, name));
    }
  });
  for (const value of ticks(domain, 4)) parts.push(s("text", { class: "tick", x: x(value), y: height - 14, "text-anchor": "middle" }, tickText(value, unit)));
  const chart = drawing(width, height, title, `Histogram of ${counted(series.reduce((sum, values) => sum + values.length, 0), "value")}; the table below has the counts.`, parts);
  return [chart, numbersOf(title, [["Target", ""], ["From … to", ""], ["Rows", "n"]], rows)];
}

function scoresChart(scorer) {
  const series = DATA.targets.map((_, target) => ROWS.map((row) => row.value(target, scorer)).filter((value) => value !== null));
  const all = series.flat();
  if (!all.length) return h("p", { class: "none" }, "no row has this score");
  const declared = DATA.scorers[scorer].range || [];
  const low = Number.isFinite(declared[0]) ? declared[0] : all.reduce((one, other) => Math.min(one, other)), high = Number.isFinite(declared[1]) ? declared[1] : all.reduce((one, other) => Math.max(one, other));
  return histogram(`Scores of ${DATA.scorers[scorer].name}`, series, low < high ? [low, high] : [low - 0.5, low + 0.5], 20);
}

function latencyChart() {
  const series = DATA.targets.map((_, target) => ROWS.map((row) => row.answer(target) && row.answer(target)[A.latency_s]).filter((value) => Number.isFinite(value)).sort((one, other) => one - other));
  const all = series.flat().sort((one, other) => one - other);
  if (!all.length) return h("p", { class: "none" }, "no answer has a latency");
  const high = Math.max(quantile(all, 0.995) * 1.05, 0.001);
  const marks = (values) => [["p50", quantile(values, 0.5)], ["p90", quantile(values, 0.9)]];
  return histogram("Latency", series, [0, high], 32, "s", marks);
}

// The running mean in the order of the dataset: whether it converged, and whether the data is sorted.

const POINTS = 240;

function runningChart(scorer) {
  const lines = DATA.targets.map((_, target) => {
    const found = [];
    let sum = 0, n = 0;
    ROWS.forEach((row, place) => {
      const value = row.value(target, scorer);
      if (value === null) return;
      sum += value; n += 1;
      found.push([place + 1, sum / n]);
    });
    const step = Math.max(1, Math.floor(found.length / POINTS));
    return found.filter((_, place) => place % step === 0 || place === found.length - 1);
  });
  const values = lines.flat().map(([, value]) => value);
  if (!values.length) return h("p", { class: "none" }, "no row has this score");
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || 0.1) * 0.06;
  const width = 380, height = 210, domain = [Math.max(low - room, low >= 0 ? 0 : -Infinity), high + room];
  const { x, y, parts } = axes(width, height, [[0, Math.max(ROWS.length, 1)], domain], ["rows, in the order of the dataset"]);
  const rows = [];
  lines.forEach((points, place) => {
    if (!points.length) return;
    parts.push(s("path", { class: `stroke ${cssColour(place)}`, d: path(points, x, y) }), mark(place, x(points.at(-1)[0]), y(points.at(-1)[1]), 4.5));
    for (const share of [0.1, 0.25, 0.5, 0.75, 1]) {
      const point = points[Math.min(points.length - 1, Math.floor(points.length * share))];
      rows.push([DATA.targets[place].name, count(point[0]), number(point[1])]);
    }
  });
  const title = `Running mean of ${DATA.scorers[scorer].name}`;
  return [drawing(width, height, title, "A line for each target; the table below lists some of its points.", parts),
    numbersOf(title, [["Target", ""], ["After row", "n"], ["Mean", "n"]], rows)];
}

// Quality against cost and latency, with the Pareto front.

function tradeoffSection() {
  if (!SEVERAL || !headlines().length) return null;
  const figures = h("div", { class: "figures two" });
  const part = section("tradeoff", "Quality against cost and latency", targetLegend(), figures);
  DRAW.push(() => {
    figures.replaceChildren(...tradeoffs(headlines()[0]));
    part.hidden = document.querySelector("nav a[href='#tradeoff']").parentElement.hidden = !figures.childElementCount;
  });
  return part;
}

// Cached answers do not count: they would make a target look free.
function tradeoffs(name) {
  const sides = [[A.cost_usd, "mean cost per answer", "USD", mean], [A.latency_s, "latency p50", "s", (values) => quantile(values, 0.5)]];
  return sides.map(([field, title, unit, reduce]) => {
    const found = DATA.targets.map((target, place) => {
      const quality = metricOf(target, name, null);
      const prices = ROWS.map((row) => row.answer(place)).filter((answer) => answer && !answer[A.cached] && Number.isFinite(answer[field])).map((answer) => answer[field]);
      return quality && quality.value !== null && prices.length ? { place, quality, price: reduce(prices.sort((one, other) => one - other)), target } : null;
    }).filter(Boolean);
    return found.length > 1 ? tradeoff(name, title, unit, found) : null;
  }).filter(Boolean);
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function paretoFront(found) {
  const better = (one, other) => (one.quality.higher_is_better ? one.quality.value - other.quality.value : other.quality.value - one.quality.value);
  return found.filter((one) => !found.some((other) => other !== one && better(other, one) >= 0 && other.price <= one.price && (better(other, one) > 0 || other.price < one.price)));
}

function tradeoff(name, title, unit, found) {
  const width = 440, height = 260;
  const prices = found.map((one) => one.price), ends = found.flatMap(({ quality }) => [quality.value, quality.low, quality.high]).filter(Number.isFinite);
  const low = Math.min(...ends), high = Math.max(...ends), room = (high - low || 0.1) * 0.12;
  const domains = [[0, Math.max(...prices) * 1.12 || 1], [low - room, high + room]];
  const { x, y, parts } = axes(width, height, domains, [title, name], [unit, null]);
  const front = paretoFront(found).sort((one, other) => one.price - other.price);
  if (front.length > 1) parts.push(s("path", { class: "front", d: path(front.map((one) => [one.price, one.quality.value]), x, y) }));
  for (const { place, quality, price, target } of found) {
    if (Number.isFinite(quality.low) && Number.isFinite(quality.high))
      parts.push(s("line", { class: `whisker thin ${cssColour(place)}`, x1: x(price), x2: x(price), y1: y(quality.low), y2: y(quality.high) }));
    const end = x(price) > width * 0.66;
    parts.push(mark(place, x(price), y(quality.value), 6.5),
      s("text", { class: "point-name", x: x(price) + (end ? -11 : 11), y: y(quality.value) + 4, "text-anchor": end ? "end" : "start" }, oneLine(target.name, 28)));
  }
  const rows = found.map((one) => [one.target.name, number(one.quality.value), interval(one.quality.low, one.quality.high), number(one.price, unit), front.includes(one) ? "yes" : "no"]);
  return figure(`${name} against ${title}`, "Better is to the upper left. The dashed line is the Pareto front.".replace("upper", found[0].quality.higher_is_better ? "upper" : "lower"),
    drawing(width, height, `${name} against ${title}`, rows.map((row) => `${row[0]}: ${row[1]} at ${row[3]}${row[4] === "yes" ? ", Pareto-optimal" : ""}`).join("; "), parts),
    numbersOf(`${name} against ${title}`, [["Target", ""], [name, "n"], ["95% CI", "n"], [title, "n"], ["Pareto-optimal", ""]], rows));
}

// Slices as a heat map: a line for each value of a column.

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
  const intervals = DATA.targets.flatMap((target) => target.metrics).filter((metric) => metric.slice && sliced.includes(metric.name) && (Number.isFinite(metric.low) || Number.isFinite(metric.high))).length;
  return section("slices", "Slices", h("p", { class: "hint" }, `Stronger color: better. In parentheses the 95% CI; n: samples. ${sideBySide(intervals)}`), table("Metrics by slice", columns, rows, { class: "heat" }));
}

// What the number of intervals that stand side by side means: each of them misses with 5%.
function sideBySide(intervals) {
  return intervals > 1 ? `${count(intervals)} unadjusted 95% CIs side by side: on average ${Number((0.05 * intervals).toPrecision(2))} of them miss the true value.` : "";
}

function heatCell(metric, whole, domain) {
  if (!metric || metric.value === null) return h("span", { class: "nought" }, DASH);
  const share = (metric.value - domain[0]) / (domain[1] - domain[0]);
  const good = Math.round(Math.min(1, Math.max(0, metric.higher_is_better ? share : 1 - share)) * 8);
  const ends = endsText(metric);
  const below = whole && Number.isFinite(metric.high) && Number.isFinite(whole.value) && (metric.higher_is_better ? metric.high < whole.value : metric.low > whole.value);
  return h("span", { class: `heat-${good}` }, h("b", null, valueText(metric)), h("small", null, `${ends === DASH ? "" : ` (${ends})`} n ${count(metric.n)}`), !metric.trusted && h("small", { class: "warn" }, " untrusted"), below && h("small", { class: "warn" }, " worse than overall"));
}
