// Builds the page: the overview at once, rows and charts once the rows are read and their view is shown.

function onShow(view, draw) {
  const before = ON_SHOW[view];
  ON_SHOW[view] = before ? () => { before(); draw(); } : draw;
}

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

function buildPage() {
  buildTop();
  append(document.getElementById("tabs"), tabList());
  document.getElementById("tabs").addEventListener("keydown", moveTab);
  append(document.getElementById("main"), [
    panel("overview", noticesOf(), leaderboardSection(), conclusionsBlock(), notableSection(), checksSection(), DATA.gates.length > 0 && gatesSection(), tradeoffSection(), slicesSection()),
    panel("rows", rowsSection()),
    panel("statistics", rankingSection(), unscoredSection(), chartsSection(), epochsSection(), numbersSection()),
    panel("about", aboutSections()),
  ]);
  onShow("overview", fillNotable);
  onShow("overview", fillChecks);
  onShow("about", fillCached);
  append(document.body, [detailDialog()]);
  append(document.getElementById("foot"), [h("p", null, `Written by evalrun${DATA.versions["evalrunner"] ? ` ${DATA.versions["evalrunner"]}` : ""}. One file, no network: the file contains everything it shows.`)]);
  const theme = rememberedTheme();
  if (theme === "dark" || theme === "light") setTheme(theme);
  else document.getElementById("theme").textContent = currentTheme() === "dark" ? "Light" : "Dark";
  document.addEventListener("keydown", stepRow);
  window.addEventListener("beforeprint", () => Object.keys(VIEWS).forEach(drawView));
  showView(parseHash(location.hash).view);
}

function rowsNote() {
  const { groups, shown: kept, limit } = DATA.rows;
  const parts = ["Click a row or press Enter for details; arrow keys move between rows."];
  if (kept < groups) parts.push(`The page shows the first ${count(kept)} of ${counted(groups, LINE)}; table.csv has all of them.`);
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
  countPills();
  fillPrices();
  fillCauses();
  fillBaselines();
  fillFailing();
  applyFilters();
  LOADED = true; // from here on, the filters are in the address
  followAddress();
  window.addEventListener("hashchange", followAddress);
  window.addEventListener("popstate", followAddress);
  document.documentElement.dataset.ready = "yes";
}

buildPage();
document.addEventListener("DOMContentLoaded", fillRows);
