// Quality against cost and latency, with the Pareto front.

function tradeoffSection() {
  const names = headlines();
  if (!SEVERAL || !names.length) return null;
  const figures = h("div", { class: "figures two" });
  const part = section("tradeoff", "Trade-offs", h("div", { class: "bar-line" }, targetLegend(), names.length > 1 && pickMetric("tradeoff-scorer", names, (name) => figures.replaceChildren(...tradeoffs(name)))), figures);
  onShow("overview", () => {
    figures.replaceChildren(...tradeoffs(names[0]));
    part.hidden = !figures.childElementCount;
  });
  return part;
}

// Cached answers do not count: they would make a target look free.
function pricesOf(place, field) {
  return ROWS.map((row) => row.answer(place)).filter((answer) => answer && !answer[A.cached] && Number.isFinite(answer[field])).map((answer) => answer[field]);
}

function tradeoffs(name) {
  const per1000 = (values) => 1000 * mean(values);
  const sides = [[A.cost_usd, "cost per 1,000 answers", "USD", per1000], [A.latency_s, "latency p50", "s", (values) => quantile(values, 0.5)]];
  return sides.map(([field, title, unit, reduce]) => {
    const found = DATA.targets.map((target, place) => {
      const quality = metricOf(target, name, null), prices = pricesOf(place, field);
      return quality && quality.value !== null && prices.length ? { place, quality, price: reduce(prices.sort((one, other) => one - other)), target } : null;
    }).filter(Boolean);
    return found.length > 1 && found.some((one) => one.price > 0) ? tradeoff(name, title, unit, found) : null;
  }).filter(Boolean);
}

// The cost of 1,000 answers without those from the cache, where the rows say more than the metric does.
function fillPrices() {
  DATA.targets.forEach((target, place) => {
    const cell = document.getElementById(`price-${place}`);
    if (!cell || !ROWS.some((row) => row.answer(place) && row.answer(place)[A.cached])) return;
    const prices = pricesOf(place, A.cost_usd);
    cell.textContent = prices.length ? priceText(mean(prices)) : DASH;
  });
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function paretoFront(found) {
  const better = (one, other) => (one.quality.higher_is_better ? one.quality.value - other.quality.value : other.quality.value - one.quality.value);
  return found.filter((one) => !found.some((other) => other !== one && better(other, one) >= 0 && other.price <= one.price && (better(other, one) > 0 || other.price < one.price)));
}

// The height of a name so that it covers no other one: as wanted, or the nearest free one below.
function freeLevel(levels, wanted) {
  let level = wanted;
  while (levels.some((other) => Math.abs(other - level) < 13)) level += 4;
  levels.push(level);
  return level;
}

function tradeoff(name, title, unit, found) {
  const width = 440, height = 250, heading = `${shortMetric(name)} vs ${title}`;
  const prices = found.map((one) => one.price), ends = found.flatMap(({ quality }) => [quality.value, quality.low, quality.high]).filter(Number.isFinite);
  const low = Math.min(...ends), high = Math.max(...ends), room = (high - low || 0.1) * 0.12;
  const domains = [[0, Math.max(...prices) * 1.12 || 1], [low - room, high + room]];
  const { x, y, parts } = axes(width, height, domains, [title, shortMetric(name)], [unit, null]);
  const front = paretoFront(found).sort((one, other) => one.price - other.price);
  if (front.length > 1) parts.push(s("path", { class: "front", d: path(front.map((one) => [one.price, one.quality.value]), x, y) }));
  const levels = [];
  for (const { place, quality, price, target } of found) {
    if (Number.isFinite(quality.low) && Number.isFinite(quality.high))
      parts.push(s("line", { class: `whisker thin ${cssColour(place)}`, x1: x(price), x2: x(price), y1: y(quality.low), y2: y(quality.high) }));
    const end = x(price) > width * 0.66, level = freeLevel(levels, y(quality.value) + 4);
    parts.push(mark(place, x(price), y(quality.value), 6.5),
      s("text", { class: "point-name", x: x(price) + (end ? -11 : 11), y: level, "text-anchor": end ? "end" : "start" }, oneLine(target.name, 28)));
  }
  const rows = found.map((one) => [one.target.name, number(one.quality.value), interval(one.quality.low, one.quality.high), number(one.price, unit), front.includes(one) ? "yes" : "no"]);
  return figure(heading, "Better is to the upper left. The dashed line is the Pareto front.".replace("upper", found[0].quality.higher_is_better ? "upper" : "lower"),
    drawing(width, height, heading, rows.map((row) => `${row[0]}: ${row[1]} at ${row[3]}${row[4] === "yes" ? ", Pareto-optimal" : ""}`).join("; "), parts),
    numbersOf(heading, [["Target", ""], [shortMetric(name), "n"], ["95% CI", "n"], [title, "n"], ["Pareto-optimal", ""]], rows));
}
