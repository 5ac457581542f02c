// What is looked for, and the rows that fit it in the order asked for.

const QUERY = { text: "", show: "all", target: -1, scorer: 0, state: "any", column: -1, value: "", low: null, high: null, sort: "place", up: true };

function targetsAsked() {
  return QUERY.target < 0 ? DATA.targets.map((_, place) => place) : [QUERY.target];
}

// Whether a row needs a look: the call failed, a cell has no value, or a score is in the bad half of its range.
function failing(row, target) {
  const answer = row.answer(target);
  if (!answer) return false;
  if (answer[A.failure]) return true;
  return DATA.scorers.some((scorer, place) => {
    const state = row.state(target, place);
    return state >= 2 || goodness(row.value(target, place), scorer) < 0.5;
  });
}

// A score in 0..1, 1 the best; NaN where it has none or its range is open.
function goodness(value, scorer) {
  const [low, high] = scorer.range || [null, null];
  if (value === null || !Number.isFinite(low) || !Number.isFinite(high)) return NaN;
  const share = (value - low) / (high - low || 1);
  return scorer.higher_is_better ? share : 1 - share;
}

// How far the targets are apart in the chosen score; those without a value are as far as can be from those with one.
function spread(row) {
  const values = DATA.targets.map((_, target) => row.value(target, QUERY.scorer));
  const known = values.filter((value) => value !== null);
  if (known.length < values.length && known.length) return Infinity;
  return known.length ? Math.max(...known) - Math.min(...known) : 0;
}

function worse(row, target) {
  return DATA.scorers.some((scorer, place) => {
    const before = row.before(target, place), now = row.value(target, place);
    if (before === null || before === undefined) return false;
    return now === null ? row.state(target, place) >= 2 : scorer.higher_is_better ? now < before : now > before;
  });
}

function textsOf(row) {
  const found = [row.id, kept(row.input), ...row.expected.map(kept)];
  for (const target of targetsAsked()) if (row.answer(target)) found.push(kept(row.output(target)) || "");
  return found;
}

function matcher() {
  const tests = [];
  const asked = targetsAsked();
  if (QUERY.text) {
    const wanted = new RegExp(QUERY.text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&"), "iu");
    tests.push((row) => textsOf(row).some((text) => wanted.test(text)) || DATA.columns.some((_, column) => wanted.test(row.metadata(column) || "")));
  }
  if (QUERY.show === "failing") tests.push((row) => asked.some((target) => failing(row, target)));
  if (QUERY.show === "disagree") tests.push((row) => spread(row) > 0);
  if (QUERY.show === "worse") tests.push((row) => asked.some((target) => worse(row, target)));
  if (QUERY.state !== "any") {
    const state = SHAPE.states.indexOf(QUERY.state);
    tests.push((row) => asked.some((target) => row.state(target, QUERY.scorer) === state));
  }
  if (QUERY.column >= 0 && QUERY.value !== "") {
    const wanted = QUERY.value === "none" ? null : QUERY.value.slice(1);
    tests.push((row) => row.metadata(QUERY.column) === wanted);
  }
  if (QUERY.low !== null || QUERY.high !== null)
    tests.push((row) => asked.some((target) => {
      const value = row.value(target, QUERY.scorer);
      return value !== null && (QUERY.low === null || value >= QUERY.low) && (QUERY.high === null || value <= QUERY.high);
    }));
  return (row) => tests.every((test) => test(row));
}

// What a column is sorted by; rows without a value come last, whichever way.
function keyOf(sort) {
  const [kind, place] = sort.split(":");
  const target = Number(place);
  return {
    place: (row) => row.place,
    id: (row) => row.id,
    input: (row) => kept(row.input),
    expected: (row) => (row.expected.length ? kept(row.expected[0]) : null),
    spread: (row) => spread(row),
    score: (row) => row.value(target, QUERY.scorer),
    latency: (row) => row.answer(target) && row.answer(target)[A.latency_s],
    cost: (row) => row.answer(target) && row.answer(target)[A.cost_usd],
    length: (row) => (row.answer(target) ? lengthOf(row.output(target)) : null),
  }[kind];
}

const COLLATE = new Intl.Collator("en", { numeric: true });

function found() {
  const rows = ROWS.filter(matcher());
  if (QUERY.sort === "place") return QUERY.up ? rows : rows.reverse();
  const key = keyOf(QUERY.sort), way = QUERY.up ? 1 : -1;
  const pairs = rows.map((row) => [key(row), row]);
  const missing = (value) => value === null || value === undefined;
  pairs.sort(([one, a], [other, b]) => {
    if (missing(one) || missing(other)) return missing(one) - missing(other) || a.place - b.place;
    const order = typeof one === "string" ? COLLATE.compare(one, other) : one === other ? 0 : one < other ? -1 : 1;
    return order * way || a.place - b.place;
  });
  return pairs.map(([, row]) => row);
}
