// Export of the matching rows, a line for each answer, as in table.csv. Texts that are cut in the page are cut here too.

const FORMULA = /^[=+\-@\t\r\n]/;

function records() {
  return FOUND.flatMap((row) => selectedTargets().filter((target) => row.answer(target)).map((target) => recordOf(row, target)));
}

function recordOf(row, target) {
  const answer = row.answer(target), failed = answer[A.failure] !== null;
  const record = new Map([["id", row.id], ["target", DATA.targets[target].name], ["epoch", row.epoch], ["input", kept(row.input)]]);
  const taken = new Set([...record.keys(), "expected", "output", "latency", "token_count", "cost_usd", "finish_reason", "cut"]);
  DATA.columns.forEach((name, column) => record.set(taken.has(name) ? `sample.${name}` : name, row.metadata(column)));
  const accepted = row.expected.map(kept);
  record.set("expected", accepted.length > 1 ? `[${accepted.map((text) => JSON.stringify(text)).join(", ")}]` : accepted.length ? accepted[0] : null);
  record.set("output", failed ? null : kept(answer[A.text]));
  DATA.scorers.forEach((scorer, place) => {
    const prefix = scorer.version ? `${scorer.name}/${scorer.version}` : scorer.name, state = row.state(target, place);
    record.set(`${prefix}/score`, row.value(target, place));
    record.set(`${prefix}/state`, state < 0 ? null : SHAPE.states[state]);
    record.set(`${prefix}/justification`, row.reason(target, place) ?? kept(row.detail(target, place).explanation ?? null));
  });
  record.set("latency", answer[A.latency_s]).set("token_count", answer[A.output_tokens]).set("cost_usd", answer[A.cost_usd]).set("finish_reason", row.finishReason(target));
  return record.set("cut", [row.input, answer[A.text], ...row.expected].some(Array.isArray));
}

// One CSV field: quoted if needed, disarmed if a spreadsheet would read a formula.
function csvField(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  let text = value.replaceAll("\0", "");
  if (FORMULA.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function exportCsv() {
  const lines = records();
  const columns = lines.length ? [...lines[0].keys()] : ["id", "target"];
  const text = [columns, ...lines.map((record) => columns.map((name) => record.get(name)))].map((fields) => fields.map(csvField).join(",") + "\n");
  save(text, "csv", "text/csv");
}

function exportJsonl() {
  save(records().map((record) => JSON.stringify(Object.fromEntries(record)) + "\n"), "jsonl", "application/jsonl");
}

function save(parts, ending, type) {
  const link = h("a", { download: `${DATA.suite.replace(/[^\w.-]+/g, "-").slice(0, 60)}-${DATA.run_id.replace(/[^\w.-]+/g, "-")}.${ending}`, href: URL.createObjectURL(new Blob(parts, { type: `${type};charset=utf-8` })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`${counted(parts.length - (ending === "csv" ? 1 : 0), "line")} exported`);
}
