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
  return pick(id, DATA.scorers.map((scorer) => scorer.name), change);
}

// A choice of one of the metrics.
function pickMetric(id, names, change) {
  return pick(id, names.map(shortMetric), (place) => change(names[place]));
}

function pick(id, texts, change) {
  const options = texts.map((text, place) => h("option", { value: place }, oneLine(text, 60)));
  return h("label", { for: id, class: "pick" }, "Scorer ", h("select", { id, onchange: (event) => change(Number(event.target.value)) }, options));
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

// The charts of the scores: drawn when the view is shown, and again for another scorer.
function chartsSection() {
  if (!DATA.scorers.length) return null;
  const scores = h("div", { id: "scores-picture" }, "…"), running = h("div", { id: "running-picture" }, "…");
  const change = (scorer) => {
    scores.replaceChildren(...[scoresChart(scorer)].flat());
    running.replaceChildren(...[runningChart(scorer)].flat());
  };
  const latency = h("div", { id: "latency-picture" }, "…");
  onShow("statistics", () => { change(0); latency.replaceChildren(...[latencyChart()].flat()); });
  return section("distributions", "Distributions", h("div", { class: "bar-line" }, targetLegend(), DATA.scorers.length > 1 && pickScorer("picture-scorer", change)),
    h("div", { class: "figures" }, figure("Scores", "rows by score", scores), figure("Running mean", "mean of the rows so far", running), figure("Latency", "seconds per answer; the last bin contains the slowest 0.5%", latency)));
}
