// The checks of a row: each with its result and why; and which checks of a run fail most.

const FAILING = []; // the checks that some row fails, by their group
const MAX_FAILING = 3; // failing checks of an answer beside its scores
const MAX_CHECK_ROWS = 20; // of the table of checks that is not folded
const CHECK_SIGNS = { failed: "✕", unjudged: "?", skipped: "–", passed: "✓" };

function checkResult(row, check) {
  if (check[K.passed] !== null) return check[K.passed] ? "passed" : "failed";
  return row.string(check[K.state]) === "skipped" ? "skipped" : "unjudged";
}

// The name under which a run counts a check: its own, or its type.
function checkGroup(row, check) {
  return row.string(check[K.name]) || row.string(check[K.type]) || row.string(check[K.text]) || "";
}

function checksOf(row, target) {
  return row.answer(target) ? DATA.scorers.flatMap((_, scorer) => row.checks(target, scorer)).filter((check) => check[K.decides] || check[K.name] >= 0) : [];
}

// A list of all checks of a cell, those that fail first; with groups in their order.
function checkList(row, checks) {
  const order = Object.keys(CHECK_SIGNS), results = checks.map((check) => [checkResult(row, check), check]);
  if (!checks.some((check) => check[K.depth])) results.sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
  return h("ul", { class: "checks plain", "aria-label": "Checks" }, results.map(([result, check]) => checkLine(row, result, check)));
}

function checkLine(row, result, check) {
  const name = row.string(check[K.name]), text = row.string(check[K.text]) || row.string(check[K.type]) || "";
  const facts = [
    check[K.weight] !== 1 && `weight ${scoreText(check[K.weight])}`,
    check[K.value] !== null && ![0, 1].includes(check[K.value]) && `score ${scoreText(check[K.value])}`,
  ].filter(Boolean).join(", ");
  const extracted = check[K.extracted];
  return h("li", { class: `check ${result} depth-${Math.min(check[K.depth], 4)}` },
    h("span", { class: "check-sign", "aria-hidden": "true" }, CHECK_SIGNS[result]),
    h("div", null,
      h("p", { class: "check-head" }, h("span", { class: "unseen" }, `${result}: `), name && h("b", { dir: "auto" }, oneLine(name, 80), " "),
        h("span", { class: name ? "soft" : "", dir: "auto" }, oneLine(text, 200)), result === "unjudged" || result === "skipped" ? [" ", h("span", { class: "chip warn" }, result)] : null, facts && h("span", { class: "faint small" }, ` ${facts}`)),
      check[K.why] && h("p", { class: "reason", dir: "auto" }, shown(kept(check[K.why]))), Array.isArray(check[K.why]) && cutNote(check[K.why]),
      extracted !== null && [h("p", { class: "faint small" }, "extracted"), textBlock(extracted, "extracted")]));
}

// The first failing checks of an answer, for a table of rows.
function failingLine(row, target) {
  const failing = checksOf(row, target).filter((check) => check[K.decides] && checkResult(row, check) === "failed");
  if (!failing.length) return null;
  const label = (check) => oneLine(row.string(check[K.name]) || row.string(check[K.text]) || row.string(check[K.type]) || "", 60);
  const more = failing.length - MAX_FAILING;
  return h("p", { class: "failing-checks" }, failing.slice(0, MAX_FAILING).map((check) => h("span", { dir: "auto" }, `${CHECK_SIGNS.failed} ${label(check)}`)), more > 0 && h("span", null, `${more} more`));
}

// Which checks fail most, by target; known once the rows are read.

function checksSection() {
  return h("div", { id: "checks-box" });
}

// Rows of each check by result: `{name: {rows, passed, failed, unjudged, skipped}}`. A row fails a check if one of its kind fails.
function checkCounts(target) {
  const counts = new Map();
  for (const row of ROWS) {
    const results = new Map();
    for (const check of checksOf(row, target)) {
      const group = checkGroup(row, check);
      if (!results.has(group)) results.set(group, new Set());
      results.get(group).add(checkResult(row, check));
    }
    for (const [group, found] of results) {
      if (!counts.has(group)) counts.set(group, { rows: 0, passed: 0, failed: 0, unjudged: 0, skipped: 0 });
      const result = Object.keys(CHECK_SIGNS).find((name) => found.has(name) && (name !== "skipped" || found.size === 1));
      counts.get(group).rows += result !== "skipped"; // a skipped check does not apply to the row
      counts.get(group)[result] += 1;
    }
  }
  return counts;
}

function fillChecks() {
  const box = document.getElementById("checks-box"), lines = [];
  DATA.targets.forEach((_, target) => {
    for (const [group, found] of checkCounts(target)) if (found.rows) lines.push([group, target, found]);
  });
  if (!lines.length) return;
  const share = ({ passed, failed }) => (passed + failed ? failed / (passed + failed) : -1);
  lines.sort(([one, , a], [other, , b]) => share(b) - share(a) || b.failed - a.failed || COLLATE.compare(one, other));
  const columns = [["Check", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Rows", "n"], ["Passed", "n"], ["Failed", "n"], ["Unjudged", "n"], ["Failed share", "n"]];
  const plainCount = (value) => h("span", { class: value ? "" : "nought" }, count(value));
  const rows = lines.map(([group, target, found]) => [
    h("span", { class: "mono", dir: "auto" }, oneLine(group, 80)),
    ...(SEVERAL ? [targetName(target)] : []),
    count(found.rows), plainCount(found.passed),
    found.failed ? h("a", { href: hashOf("rows", { ...DEFAULT_QUERY, check: group, target: SEVERAL ? target : -1 }, null), onclick: (event) => { event.preventDefault(); goTo("rows", { check: group, target: SEVERAL ? target : -1 }); } }, count(found.failed)) : plainCount(0),
    plainCount(found.unjudged), share(found) < 0 ? h("span", { class: "nought" }, DASH) : percent(share(found)),
  ]);
  const list = table("Checks, those that fail most first", columns, rows, { class: "stack check-counts" });
  box.replaceChildren(section("checks", "Checks", rows.length > MAX_CHECK_ROWS ? h("details", null, h("summary", null, counted(rows.length, "check")), list) : list,
    h("p", { class: "hint" }, "Rows that have the check, by its name or type. A number in Failed leads to its rows.")));
}

// The checks that some row fails, for the filter.
function failingGroups() {
  const found = new Map();
  for (const row of ROWS)
    for (const group of new Set(DATA.targets.flatMap((_, target) => checksOf(row, target).filter((check) => checkResult(row, check) === "failed").map((check) => checkGroup(row, check)))))
      found.set(group, (found.get(group) || 0) + 1);
  return [...found].sort(([one, a], [other, b]) => b - a || COLLATE.compare(one, other)).slice(0, MAX_VALUES);
}

function failsCheck(row, target, group) {
  return checksOf(row, target).some((check) => checkResult(row, check) === "failed" && checkGroup(row, check) === group);
}

// The menu of failing checks, once the rows are read; without checks there is none.
function fillFailing() {
  const groups = failingGroups();
  FAILING.push(...groups.map(([group]) => group));
  const box = document.getElementById("check-field");
  if (!groups.length) return;
  const select = document.getElementById("check");
  box.hidden = false;
  select.replaceChildren(h("option", { value: "" }, "any"), ...groups.map(([group, times]) => { const option = h("option", null, `${oneLine(group, 50)} (${count(times)})`); option.value = group; return option; }));
  select.value = QUERY.check;
}
