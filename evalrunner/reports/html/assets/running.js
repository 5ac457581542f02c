// The value as the rows add up, in the order of the dataset: whether it settled, and whether the data is sorted.

const POINTS = 240;

function runningPicture(scorer) {
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
  if (!values.length) return h("p", { class: "none" }, "no row has a score of it");
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
  const title = `Mean of ${DATA.scorers[scorer].name} over the rows so far`;
  return [drawing(width, height, title, "A line for each target; the table below has points of it.", parts),
    numbersOf(title, [["Target", ""], ["After row", "n"], ["Mean", "n"]], rows)];
}
