// The forest plot: every metric with an interval, a line for each target, on the scale of its metric.

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
        s("text", { class: "forest-value", x: width, y: middle + 4, "text-anchor": "end" }, `${number(metric.value, metric.unit)} ${interval(metric.low, metric.high)}`));
      for (const gate of gatesOf(name, target.name))
        if (Number.isFinite(boundOf(gate))) lines.push(s("line", { class: `gate-line ${gate.verdict}`, x1: x(boundOf(gate)), x2: x(boundOf(gate)), y1: middle - 9, y2: middle + 9 }));
      rows.push([name, target.name, number(metric.value, metric.unit), interval(metric.low, metric.high, metric.unit), metric.method || DASH, count(metric.n)]);
      y += high;
    });
    lines.push(s("text", { class: "tick", x: left, y: y + 11 }, tickText(domain[0])), s("text", { class: "tick", x: width - right, y: y + 11, "text-anchor": "end" }, tickText(domain[1])));
    y = Math.max(y + 20, from + 44);
  }
  const says = rows.map(([name, target, value, range]) => `${name}, ${target}: ${value} ${range}`).slice(0, 12).join("; ");
  return section("intervals", "Intervals", targetLegend(),
    h("div", { class: "scroll picture", tabindex: "0", role: "region", "aria-label": "Interval plot" },
      drawing(width, y, "Metrics with 95 % intervals", `A line for each metric and target: the mark is the value, the line its interval, the tick the gate. ${says}`, lines)),
    numbersOf("Metrics with intervals", [["Metric", "wide"], ["Target", ""], ["Value", "n"], ["95 % interval", "n"], ["Method", ""], ["n", "n"]], rows));
}
