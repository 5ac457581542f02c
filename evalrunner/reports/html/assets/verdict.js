// The top of the page: the verdict, what it is about, and every gate with the sentence why.

const VERDICTS = { fail: "fail", untrusted: "untrusted", inconclusive: "inconclusive", no_baseline: "no baseline yet", pass: "pass" };  // worst first
const SIGNS = { pass: "✓", fail: "✕", inconclusive: "?", untrusted: "!", no_baseline: "○" };

// The kind of the verdict, which says the colour, and the word for it.
function verdictWord() {
  const word = DATA.word.charAt(0) + DATA.word.slice(1).toLowerCase();
  if (DATA.word === "DONE") return ["done", word];
  return [VERDICTS[DATA.verdict] && DATA.about.status !== "interrupted" ? DATA.verdict : "untrusted", word];
}

function badge(verdict) {
  return h("span", { class: `badge ${verdict}` }, h("span", { "aria-hidden": "true" }, SIGNS[verdict] || "·", " "), VERDICTS[verdict] || verdict);
}

function buildTop() {
  const [kind, word] = verdictWord();
  const { about } = DATA;
  const rows = about.rows === about.rows_planned ? counted(about.rows ?? 0, "row") : `${count(about.rows ?? DATA.rows.groups)} of ${counted(about.rows_planned, "row")}`;
  const facts = [
    gateCounts(),
    rows,
    SEVERAL && counted(DATA.targets.length, "target"),
    about.epochs > 1 && `${about.epochs} epochs`,
    Number.isFinite(about.duration_s) && seconds(about.duration_s),
    about.started_at && h("time", { datetime: about.started_at }, new Date(about.started_at).toISOString().slice(0, 16).replace("T", " ") + " UTC"),
  ].filter(Boolean);
  append(document.getElementById("top"), [
    h("div", { class: "top-line" },
      h("div", null,
        h("p", { class: "kicker" }, "Evaluation of ", h("span", { class: "mono" }, DATA.run_id)),
        h("h1", { dir: "auto" }, DATA.suite)),
      h("button", { type: "button", id: "theme", class: "quiet", onclick: toggleTheme }, "Dark")),
    DATA.description && h("p", { class: "lead", dir: "auto" }, DATA.description),
    h("div", { class: `verdict ${kind}` },
      h("p", { class: "word" }, SIGNS[kind] && h("span", { "aria-hidden": "true" }, SIGNS[kind]), word),
      h("div", null,
        h("p", { class: "why", dir: "auto" }, DATA.sentence),
        h("p", { class: "facts" }, facts.map((fact) => h("span", null, fact)))))]);
}

// How many gates came to what, the worst first.
function gateCounts() {
  const found = {};
  for (const gate of DATA.gates) found[gate.verdict] = (found[gate.verdict] || 0) + 1;
  return DATA.gates.length > 0 && `${counted(DATA.gates.length, "gate")}: ${Object.keys(VERDICTS).filter((verdict) => found[verdict]).map((verdict) => `${found[verdict]} ${VERDICTS[verdict]}`).join(", ")}`;
}

function gatesSection() {
  const columns = [["Gate", "wide"], ...(SEVERAL ? [["Target", ""]] : []), ["Verdict", ""], ["Value", "n"], ["95 % interval", "n"], ["Why", "wide"]];
  const rows = DATA.gates.map((gate) => {
    const metric = DATA.targets.flatMap((target) => (target.name === gate.target ? target.metrics : [])).find((found) => found.name === gate.metric);
    const place = DATA.targets.findIndex((target) => target.name === gate.target);
    return [
      h("span", { class: "mono" }, gate.gate, gate.line ? h("span", { class: "faint" }, ` line ${gate.line}`) : null),
      ...(SEVERAL ? [place < 0 ? gate.target : targetName(place)] : []),
      badge(gate.verdict),
      number(gate.value, metric && metric.unit),
      interval(gate.low, gate.high, metric && metric.unit),
      [h("span", { dir: "auto" }, gate.reason), gateNotes(gate).map((note) => h("span", { class: "note" }, note))],
    ];
  });
  return section("gates", "Gates", table("Gates with their verdicts", columns, rows, { class: "gates stack" }));
}

// What is known of a gate besides the sentence why, which has the drop, what was compared and what would decide.
function gateNotes(gate) {
  const notes = [];
  const before = gate.baseline;
  if (before) {
    notes.push(`baseline ${before.name}: ${number(before.value)}, ${counted(before.n, "pair")}` +
      (before.left_out ? `, ${counted(before.left_out, "sample")} left out` : "") + (before.missing ? `, ${before.missing} without a score` : ""));
    if (Number.isFinite(before.origin_drop)) notes.push(`drop against its origin, ${before.origin}: ${signed(before.origin_drop)}`);
  } else if (gate.confidence && (Number.isFinite(gate.gate_low) || Number.isFinite(gate.gate_high)))
    notes.push(`one-sided at ${percent(gate.confidence)}: ${interval(gate.gate_low, gate.gate_high)}`);
  notes.push(...(gate.details || []));
  return notes;
}

function noticesOf() {
  const said = [...DATA.notices];
  for (const [scorer, judge] of Object.entries(DATA.judges)) {
    const check = judge.self_check;
    if (!check || check.passed) continue;
    said.push(check.failure ? `${scorer}: the judge ${judge.name} could not be checked, so it gave no verdict: ${check.failure}`
      : `${scorer}: the judge ${judge.name} failed its self-check (${check.right} of ${check.total} known pairs right, ${check.needed} needed)`);
  }
  return said.length ? h("ul", { class: "notices", "aria-label": "Notes" }, said.map((text) => h("li", { dir: "auto" }, text))) : null;
}
