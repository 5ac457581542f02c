// Of the overview: the gates with their reasons, and the rows to look at first.

// The gates, worst verdict first.
function gatesSection() {
  const columns = [["Verdict", ""], ["Gate", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Value", "n"], ["95% CI", "n"], ["Reason", "wide"]];
  const worstFirst = Object.keys(VERDICTS);
  const gates = [...DATA.gates].sort((one, other) => worstFirst.indexOf(one.verdict) - worstFirst.indexOf(other.verdict));
  const rows = gates.map((gate) => {
    const metric = DATA.targets.flatMap((target) => (target.name === gate.target ? target.metrics : [])).find((found) => found.name === gate.metric);
    const place = DATA.targets.findIndex((target) => target.name === gate.target);
    return [
      badge(gate.verdict),
      h("span", { class: "mono" }, gate.gate, gate.line ? h("span", { class: "faint" }, ` line ${gate.line}`) : null),
      ...(SEVERAL ? [place < 0 ? gate.target : targetName(place)] : []),
      number(gate.value, metric && metric.unit, [gate.low, gate.high, gate.bound]),
      interval(gate.low, gate.high, metric && metric.unit, [gate.value, gate.bound]),
      [h("span", { dir: "auto" }, gate.reason), gateNotes(gate).map((note) => h("span", { class: "note" }, note))],
    ];
  });
  return section("gates", "Gates", table("Gates with their verdicts", columns, rows, { class: "gates stack" }));
}

// Facts about a gate that its reason does not contain.
function gateNotes(gate) {
  const notes = [];
  const before = gate.baseline;
  if (before) {
    notes.push(`baseline ${before.name}: ${number(before.value)}, ${counted(before.n, "pair")}` +
      (before.excluded ? `, ${counted(before.excluded, "sample")} excluded` : "") + (before.missing ? `, ${before.missing} unscored` : ""));
    if (Number.isFinite(before.origin_drop)) notes.push(`drop since its origin, ${before.origin}: ${signed(before.origin_drop)}`);
  } else if (gate.confidence && (Number.isFinite(gate.gate_low) || Number.isFinite(gate.gate_high)))
    notes.push(`one-sided ${percent(gate.confidence)} bound: ${interval(gate.gate_low, gate.gate_high)}`);
  notes.push(...(gate.details || []));
  return notes;
}

function noticesOf() {
  const notices = [...DATA.notices];
  for (const [scorer, judge] of Object.entries(DATA.judges)) {
    const check = judge.sanity_check;
    if (!check || check.passed) continue;
    notices.push(check.failure ? `${scorer}: judge ${judge.name} could not be checked and gives no scores: ${check.failure}`
      : `${scorer}: judge ${judge.name} failed its sanity check (${check.right} of ${check.total} known answers${check.good && check.bad ? `: ${check.good.right} of ${check.good.total} good, ${check.bad.right} of ${check.bad.total} bad` : ""}${check.note ? `; ${check.note}` : ""})`);
  }
  return notices.length ? h("ul", { class: "notices", id: "notices", "aria-label": "Notes" }, notices.map((text) => h("li", { dir: "auto" }, text))) : null;
}

// The rows to look at first: those that got worse, else the lowest scores.

function notableSection() {
  if (!DATA.rows.groups || !DATA.scorers.length) return null;
  const box = h("div", { id: "notable" }, h("p", { class: "hint" }, "loading rows …"));
  return h("div", { id: "notable-box" }, box);
}

// The kinds of notable rows: which filter has all of them, the heading, and how notable a row of a target is.
function notableKinds() {
  const missing = 2, other = 1e-6; // no score comes first; a failure by another scorer comes last
  const shortfall = (row, target) => {
    const good = goodness(row.value(target, FIRST_SCORER), DATA.scorers[FIRST_SCORER]);
    return Number.isNaN(good) ? missing : Math.max(1 - good, other);
  };
  return [
    DATA.has_baseline_rows && { show: "regressions", title: "Changed for the worse", weight: (row, target) => drop(row, target, FIRST_SCORER) },
    { show: "failures", title: "Lowest scores", weight: (row, target) => (failing(row, target) ? shortfall(row, target) : 0) },
  ].filter(Boolean);
}

function fillNotable() {
  const box = document.getElementById("notable");
  if (!box) return;
  for (const kind of notableKinds()) {
    const found = ROWS.flatMap((row) => DATA.targets.map((_, target) => [kind.weight(row, target), row, target]).filter(([weight]) => weight > 0));
    if (!found.length) continue;
    found.sort(([one, a], [other, b]) => other - one || a.place - b.place);
    const all = new Set(found.map(([, row]) => row)).size;
    const more = h("a", { class: "more", href: hashOf("rows", { ...DEFAULT_QUERY, show: kind.show }, null), onclick: (event) => { event.preventDefault(); goTo("rows", { show: kind.show }); } }, `${all === 1 ? "The row" : `All ${count(all)}`} in Rows →`);
    box.replaceChildren(section("notable-rows", kind.title, more, notableTable(kind, firstOfSamples(found))));
    return;
  }
  box.replaceChildren(h("p", { class: "hint" }, "No row is a failure."));
}

// The first rows, each sample once for a target: its epochs often have the same scores.
function firstOfSamples(found) {
  const seen = new Set(), first = [];
  for (const each of found) {
    const key = JSON.stringify([each[1].id, each[2]]);
    if (!seen.has(key)) first.push(each);
    seen.add(key);
    if (first.length === MAX_NOTABLE) break;
  }
  return first;
}

function notableTable(kind, found) {
  const changed = kind.show === "regressions", outputs = changed && found.some(([, row, target]) => row.outputBefore(target) !== null && row.outputBefore(target) !== undefined);
  const columns = [["Input", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ...(changed ? (outputs ? [["Was", "text-cell"]] : []) : [["Expected", "text-cell"]]), [changed ? "Now" : "Answer", "text-cell"], ["Scores", "chips-cell"]];
  const rows = found.map(([, row, target]) => [
    h("a", { class: "clip", href: hashOf("overview", QUERY, row), dir: "auto", onclick: (event) => { event.preventDefault(); openRow(row); } }, oneLine(kept(row.input), 160) || "(empty input)"),
    ...(SEVERAL ? [targetName(target)] : []),
    ...(changed ? (outputs ? [clipped(row.outputBefore(target))] : []) : [row.expected.length ? clipped(row.expected.map(kept).join(" | ")) : h("span", { class: "nought" }, DASH)]),
    clipped(row.output(target)),
    scoreChips(row, target),
  ]);
  return table(kind.title, columns, rows, { class: "notable stack" });
}

function clipped(text) {
  const line = text === null || text === undefined ? "" : oneLine(kept(text), 160);
  return line ? h("span", { class: "clip", dir: "auto" }, line) : h("span", { class: "nought" }, "empty");
}
