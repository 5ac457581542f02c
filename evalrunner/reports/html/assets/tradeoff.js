// Quality against cost and against latency, with the front: the targets that no other beats in both.

function tradeoffSection() {
  if (!SEVERAL || !headlines().length) return null;
  const figures = h("div", { class: "figures two" });
  const made = section("tradeoff", "Quality against cost and time", targetLegend(), figures);
  DRAW.push(() => {
    figures.replaceChildren(...tradeoffs(headlines()[0]));
    made.hidden = document.querySelector("nav a[href='#tradeoff']").parentElement.hidden = !figures.childElementCount;
  });
  return made;
}

// Cost and time are those of answers that were asked for: one from the cache would make its target look free.
function tradeoffs(name) {
  const sides = [[A.cost_usd, "mean cost of an answer", "USD", mean], [A.latency_s, "latency p50", "s", (values) => quantile(values, 0.5)]];
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
  return figure(`${name} against ${title}`, "Towards the upper left is better. The dashed line is the front: no other target is at least as good in both.".replace("upper", found[0].quality.higher_is_better ? "upper" : "lower"),
    drawing(width, height, `${name} against ${title}`, rows.map((row) => `${row[0]}: ${row[1]} at ${row[3]}${row[4] === "yes" ? ", on the front" : ""}`).join("; "), parts),
    numbersOf(`${name} against ${title}`, [["Target", ""], [name, "n"], ["95 % interval", "n"], [title, "n"], ["On the front", ""]], rows));
}
