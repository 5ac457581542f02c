// Builds the page: the overview at once, rows and charts once the rows are read.

const DRAW = []; // draws the charts of rows

function toggleTheme() {
  setTheme(currentTheme() === "dark" ? "light" : "dark");
}

function currentTheme() {
  return document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  try { localStorage.setItem("evalrun-theme", theme); } catch { /* a file may have no storage; the choice lasts for the page */ }
}

function rememberedTheme() {
  try { return localStorage.getItem("evalrun-theme"); } catch { return null; }
}

function chartsSection() {
  if (!DATA.scorers.length) return null;
  const scores = h("div", { id: "scores-picture" }, "…"), running = h("div", { id: "running-picture" }, "…");
  const change = (scorer) => {
    scores.replaceChildren(...[scoresChart(scorer)].flat());
    running.replaceChildren(...[runningChart(scorer)].flat());
  };
  DRAW.push(() => change(0));
  const latency = h("div", { id: "latency-picture" }, "…");
  DRAW.push(() => latency.replaceChildren(...[latencyChart()].flat()));
  return section("distributions", "Distributions", h("div", { class: "bar-line" }, targetLegend(), DATA.scorers.length > 1 && pickScorer("picture-scorer", change)),
    h("div", { class: "figures" }, figure("Scores", "rows by score", scores), figure("Running mean", "mean of the rows so far", running), figure("Latency", "seconds per answer; the last bin contains the slowest 0.5%", latency)));
}

function buildPage() {
  buildTop();
  const main = document.getElementById("main");
  append(main, [noticesOf(), DATA.gates.length > 0 && gatesSection(), rankingSection(), cardsSection(), unscoredSection(), epochsSection(), usageSection(), forestSection(), tradeoffSection(), slicesSection(), chartsSection(), rowsSection(), numbersSection(), aboutSection()]);
  append(document.body, [detailDialog()]);
  append(document.getElementById("contents"), [h("ul", null, sectionsMade.filter(([id]) => document.getElementById(id)).map(([id, title]) => h("li", null, h("a", { href: `#${id}` }, title))))]);
  append(document.getElementById("foot"), [h("p", null, `Written by evalrun${DATA.versions["evalrunner"] ? ` ${DATA.versions["evalrunner"]}` : ""}. One file, no network: the file contains everything it shows.`)]);
  const theme = rememberedTheme();
  if (theme === "dark" || theme === "light") setTheme(theme);
  else document.getElementById("theme").textContent = currentTheme() === "dark" ? "Light" : "Dark";
  document.addEventListener("keydown", stepRow);
}

function rowsNote() {
  const { groups, shown: kept, limit } = DATA.rows;
  const parts = ["Click a row or press Enter for details; arrow keys move between rows."];
  if (kept < groups) parts.push(`The page shows the first ${count(kept)} of ${count(groups)} rows; table.csv has all of them.`);
  if (ROWS.some((row) => [row.input, ...DATA.targets.map((_, place) => row.output(place))].some(Array.isArray)))
    parts.push(`Texts are truncated after ${count(limit)} characters; table.csv and rows.jsonl have the full texts.`);
  return parts.join(" ");
}

async function fillRows() {
  const note = document.getElementById("rows-note");
  await loadRows((share) => {
    note.textContent = `loading rows: ${percent(share)}`;
    if (!FOUND.length) { FOUND = [...ROWS]; drawPage(); }
  });
  note.textContent = rowsNote();
  applyFilters();
  fillCached();
  openLink();
  window.addEventListener("hashchange", openLink);
  for (const draw of DRAW) { await new Promise((done) => setTimeout(done)); draw(); }
  document.documentElement.dataset.ready = "yes";
}

function openLink() {
  const row = rowOfLink(location.hash);
  if (row && row !== OPEN) openRow(row);
  else if (!row && location.hash.startsWith("#row=")) say("row not found");
}

buildPage();
document.addEventListener("DOMContentLoaded", fillRows);
