// The address of the page: the view, the filters and the open row are in the hash, so that a link shows the same again.
// `#rows&show=failures&q=refund&row=q7`: first the view, if it is not the overview, then what differs from the default.

const VIEWS = { overview: "Overview", rows: "Rows", statistics: "Statistics", about: "About" };
const PANELS = {}; // the panel of each view
const ON_SHOW = {}; // draws a view when it is shown for the first time
let VIEW = "overview";

function parseHash(hash) {
  const found = { view: "overview", values: new Map() };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const end = part.indexOf("=");
    if (end < 0 && Object.hasOwn(VIEWS, part)) found.view = part;
    if (end > 0) found.values.set(part.slice(0, end), decoded(part.slice(end + 1)));
  }
  return found;
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function encoded(text) {
  return encodeURIComponent(text.toWellFormed ? text.toWellFormed() : text.replace(/\p{Cs}/gu, "\ufffd"));
}

// The address of a view with these filters and this row.
function hashOf(view, query, row) {
  const parts = view === "overview" ? [] : [view];
  if (view === "rows") parts.push(...queryParts(query));
  if (row) parts.push(`row=${encoded(row.id)}`, DATA.about.epochs > 1 && `epoch=${row.epoch}`);
  return parts.filter(Boolean).length ? `#${parts.filter(Boolean).join("&")}` : "";
}

// The link of a row: its id, and its epoch if there are several.
function linkOf(row) {
  return hashOf(VIEW, QUERY, row);
}

// The row of a link, or null.
function rowOfLink(values) {
  const id = values.get("row"), epoch = Number(values.get("epoch") || 1);
  const match = (row) => encoded(row.id) === encoded(id) && (DATA.about.epochs < 2 || row.epoch === epoch);
  return id === undefined ? null : ROWS.find(match) || null;
}

function writeAddress() {
  const hash = hashOf(VIEW, QUERY, OPEN);
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
}

// Show what the address says: on load, and when somebody edits it or goes back.
function followAddress() {
  const { view, values } = parseHash(location.hash);
  if (view === "rows") readQuery(values);
  showView(view);
  const row = rowOfLink(values), dialog = document.getElementById("detail");
  if (row && row !== OPEN) openRow(row);
  else if (!row && dialog.open) dialog.close();
  if (!row && values.has("row")) say("row not found");
}

// The tabs. All panels are in the page, so that the browser's print has them; only one is shown.

function tabList() {
  const tab = (view) => h("button", { type: "button", role: "tab", id: `tab-${view}`, "aria-controls": `panel-${view}`, onclick: () => goTo(view) }, h("span", null, VIEWS[view]), view === "rows" && h("span", { class: "tab-note", id: "tab-rows-note" }));
  return Object.keys(VIEWS).map(tab);
}

function panel(view, ...children) {
  PANELS[view] = h("div", { id: `panel-${view}`, class: "panel", role: "tabpanel", "aria-labelledby": `tab-${view}`, tabindex: "-1" }, children);
  return PANELS[view];
}

function showView(view) {
  VIEW = view;
  for (const name of Object.keys(VIEWS)) {
    const tab = document.getElementById(`tab-${name}`);
    PANELS[name].hidden = name !== view;
    tab.setAttribute("aria-selected", name === view ? "true" : "false");
    tab.setAttribute("tabindex", name === view ? "0" : "-1");
  }
  drawView(view);
}

// Draw what a view shows of the rows; only once, and only when the rows are there.
function drawView(view) {
  if (!LOADED || !ON_SHOW[view]) return;
  const draw = ON_SHOW[view];
  delete ON_SHOW[view];
  draw();
}

// Go to a view by a click: it gets an entry in the history.
function goTo(view, query) {
  if (query) setQuery(query);
  history.pushState(null, "", hashOf(view, QUERY, null) || location.pathname + location.search);
  showView(view);
  const top = document.getElementById("tabs").getBoundingClientRect().top + scrollY;
  if (scrollY > top) scrollTo({ top, behavior: "instant" });
}

function moveTab(event) {
  const names = Object.keys(VIEWS), here = names.indexOf(VIEW);
  const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: names.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const name = names[(to + names.length) % names.length];
  goTo(name);
  document.getElementById(`tab-${name}`).focus();
}
