// The page is put together: what stands above the rows at once, the rows and their pictures when they are read.

const DRAW = []; // what is drawn of the rows

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

function picturesSection() {
  if (!DATA.scorers.length) return null;
  const scores = h("div", { id: "scores-picture" }, "…"), running = h("div", { id: "running-picture" }, "…");
  const change = (scorer) => {
    scores.replaceChildren(...[scoresPicture(scorer)].flat());
    running.replaceChildren(...[runningPicture(scorer)].flat());
  };
  DRAW.push(() => change(0));
  const latency = h("div", { id: "latency-picture" }, "…");
  DRAW.push(() => latency.replaceChildren(...[latencyPicture()].flat()));
  return section("distributions", "Distributions", h("div", { class: "bar-line" }, targetLegend(), DATA.scorers.length > 1 && pickScorer("picture-scorer", change)),
    h("div", { class: "figures" }, figure("Scores", "how many rows got which score", scores), figure("Value as the rows add up", "the mean of all rows so far", running), figure("Latency", "seconds of one answer; the slowest half per cent is in the last column", latency)));
}

function buildPage() {
  buildTop();
  const main = document.getElementById("main");
  append(main, [noticesOf(), DATA.gates.length > 0 && gatesSection(), rankingSection(), cardsSection(), notScoredSection(), usageSection(), forestSection(), tradeoffSection(), slicesSection(), picturesSection(), rowsSection(), numbersSection(), aboutSection()]);
  append(document.body, [detailDialog()]);
  append(document.getElementById("contents"), [h("ul", null, sectionsMade.filter(([id]) => document.getElementById(id)).map(([id, title]) => h("li", null, h("a", { href: `#${id}` }, title))))]);
  append(document.getElementById("foot"), [h("p", null, `Made by evalrun${DATA.versions["evalrunner"] ? ` ${DATA.versions["evalrunner"]}` : ""}. One file, no network: everything shown here is in it.`)]);
  const theme = rememberedTheme();
  if (theme === "dark" || theme === "light") setTheme(theme);
  else document.getElementById("theme").textContent = currentTheme() === "dark" ? "Light" : "Dark";
  document.addEventListener("keydown", stepRow);
}

function rowsNote() {
  const { groups, shown: kept, limit } = DATA.rows;
  const parts = ["Click a row or press Enter to see all of it; arrow keys go from row to row."];
  if (kept < groups) parts.push(`The page holds the first ${count(kept)} of ${count(groups)} rows; all are in table.csv.`);
  if (ROWS.some((row) => [row.input, ...DATA.targets.map((_, place) => row.output(place))].some(Array.isArray)))
    parts.push(`Texts are cut after ${count(limit)} characters; they are whole in table.csv and rows.jsonl.`);
  return parts.join(" ");
}

async function fillRows() {
  const note = document.getElementById("rows-note");
  await loadRows((share) => {
    note.textContent = `reading the rows: ${percent(share)}`;
    if (!FOUND.length) { FOUND = [...ROWS]; drawPage(); }
  });
  note.textContent = rowsNote();
  look();
  fillCached();
  openLink();
  window.addEventListener("hashchange", openLink);
  for (const draw of DRAW) { await new Promise((done) => setTimeout(done)); draw(); }
  document.documentElement.dataset.ready = "yes";
}

function openLink() {
  const row = rowOfLink(location.hash);
  if (row && row !== OPEN) openRow(row);
  else if (!row && location.hash.startsWith("#row=")) say("there is no such row");
}

buildPage();
document.addEventListener("DOMContentLoaded", fillRows);
