// What the pictures share: a frame with a grid, numbers along it, and names.

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

// The scorers that have values in the rows, for pictures of one scorer.
function pickScorer(id, change) {
  const options = DATA.scorers.map((scorer, place) => h("option", { value: place }, oneLine(scorer.name, 60)));
  return h("label", { for: id, class: "pick" }, "Scorer ", h("select", { id, onchange: (event) => change(Number(event.target.value)) }, options));
}
