// Distributions: of the scores of a scorer, and of the latency.

function bins(values, [low, high], wanted) {
  const counts = new Array(wanted).fill(0);
  for (const value of values) {
    const place = Math.floor(((value - low) / (high - low)) * wanted);
    counts[Math.min(wanted - 1, Math.max(0, place))] += 1;
  }
  return counts;
}

// A small picture for each target, all on the same scales, so that they can be compared by eye.
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
  const picture = drawing(width, height, title, `Histogram of ${counted(series.reduce((sum, values) => sum + values.length, 0), "value")}; the numbers stand in the table below it.`, parts);
  return [picture, numbersOf(title, [["Target", ""], ["From … to", ""], ["Rows", "n"]], rows)];
}

function scoresPicture(scorer) {
  const series = DATA.targets.map((_, target) => ROWS.map((row) => row.value(target, scorer)).filter((value) => value !== null));
  const all = series.flat();
  if (!all.length) return h("p", { class: "none" }, "no row has a score of it");
  const declared = DATA.scorers[scorer].range || [];
  const low = Number.isFinite(declared[0]) ? declared[0] : all.reduce((one, other) => Math.min(one, other)), high = Number.isFinite(declared[1]) ? declared[1] : all.reduce((one, other) => Math.max(one, other));
  return histogram(`Scores of ${DATA.scorers[scorer].name}`, series, low < high ? [low, high] : [low - 0.5, low + 0.5], 20);
}

function latencyPicture() {
  const series = DATA.targets.map((_, target) => ROWS.map((row) => row.answer(target) && row.answer(target)[A.latency_s]).filter((value) => Number.isFinite(value)).sort((one, other) => one - other));
  const all = series.flat().sort((one, other) => one - other);
  if (!all.length) return h("p", { class: "none" }, "no answer has a latency");
  const high = Math.max(quantile(all, 0.995) * 1.05, 0.001);
  const marks = (values) => [["p50", quantile(values, 0.5)], ["p90", quantile(values, 0.9)]];
  return histogram("Latency", series, [0, high], 32, "s", marks);
}
