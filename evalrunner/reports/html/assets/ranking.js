// Targets side by side: the ranking of each metric with what is proven of it, and every pair.

function rankingSection() {
  const found = DATA.comparison;
  if (!found || !found.metrics.length) return null;
  const way = found.paired ? "Compared sample by sample" : "Not paired, so only large differences show";
  return section("ranking", "Ranking",
    found.warnings.length > 0 && h("ul", { class: "notices", "aria-label": "Doubts" }, found.warnings.map((text) => h("li", { dir: "auto" }, text))),
    h("p", { class: "hint" }, `${way}; p is Holm's over ${counted(found.family, "test")}, all pairs × metrics. > stands where all before it are better than all after it, ≈ where that is not proven. Targets that share a letter were not told apart; bold is better than every other one.`),
    found.metrics.map((metric) => rankingOf(metric, found.paired)),
    found.notes.length > 0 && h("ul", { class: "notices", "aria-label": "Notes on the ranking" }, found.notes.map((text) => h("li", { dir: "auto" }, text))));
}

function rankingOf(metric, paired) {
  const { order, signs, letters, best, differing } = metric.ranking;
  const steps = order.flatMap((name, place) => [
    place > 0 && h("span", null, ` ${signs[place - 1]} `),
    h(name === best ? "b" : "span", null, contestantName(name), ` ${number((metric.values[name] || {}).value)} `, h("small", { class: "faint" }, letters[name])),
  ]);
  return h("div", { class: "ranking" },
    h("h3", { class: "mono" }, metric.name),
    h("p", { class: "order" }, steps),
    differing.map(([better, worse]) => h("p", null, contestantName(better), " is better than ", contestantName(worse), " all the same")),
    pairsOf(metric, paired));
}

function pairsOf(metric, paired) {
  const columns = [["Pair", "wide"], ["Difference", "n"], ["95 % interval", "n"], ["p", "n"], ["n", "n"], ...(paired ? [["Win / tie / loss", "n"], ["Left out", "n"]] : [])];
  const rows = metric.pairs.map((pair) => [
    [contestantName(pair.first), " − ", contestantName(pair.second)],
    h(pair.better ? "b" : "span", null, pair.difference === null ? DASH : signed(pair.difference)),
    interval(pair.low, pair.high),
    chanceOf(pair.p_adjusted),
    count(pair.n),
    ...(paired ? [[pair.wins, pair.ties, pair.losses].map(count).join(" / "), count(pair.left_out)] : []),
  ]);
  return h("details", { class: "pairs" }, h("summary", null, "Every pair"), table(`Every pair on ${metric.name}`, columns, rows));
}

function contestantName(name) {
  const place = DATA.targets.findIndex((target) => target.name === name);
  return place < 0 ? h("span", { dir: "auto" }, oneLine(name, 120)) : targetName(place);
}

function chanceOf(p) {
  return p === null ? DASH : p < 0.001 ? "<.001" : p.toFixed(3).replace(/^0/, "");
}
