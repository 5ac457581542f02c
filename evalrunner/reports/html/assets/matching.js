// The rows that match the filters, in order.

function selectedTargets() {
  return QUERY.target < 0 ? DATA.targets.map((_, place) => place) : [QUERY.target];
}

// Whether a row is a failure: its call failed, a score is missing, or a score is in the lower half of its range.
function failing(row, target) {
  return unscored(row, target) || DATA.scorers.some((scorer, place) => goodness(row.value(target, place), scorer) < 0.5);
}

// Whether a score is missing: the call failed, or the scorer has no usable value.
function unscored(row, target) {
  const answer = row.answer(target);
  if (!answer) return false;
  return answer[A.failure] !== null || DATA.scorers.some((_, place) => row.state(target, place) >= 2);
}

// A score in 0..1, 1 the best; NaN where it has none or its range is open.
function goodness(value, scorer) {
  const [low, high] = scorer.range || [null, null];
  if (value === null || !Number.isFinite(low) || !Number.isFinite(high)) return NaN;
  const share = (value - low) / (high - low || 1);
  return scorer.higher_is_better ? share : 1 - share;
}

// The spread of the chosen score over targets; infinite if only some have one.
function spread(row) {
  const values = DATA.targets.map((_, target) => row.value(target, QUERY.scorer));
  const known = values.filter((value) => value !== null);
  if (known.length < values.length && known.length) return Infinity;
  return known.length ? Math.max(...known) - Math.min(...known) : 0;
}

// How much a score got worse since the baseline; infinite if it is missing now, 0 if it did not.
function drop(row, target, scorer = QUERY.scorer) {
  const before = row.before(target, scorer), now = row.value(target, scorer);
  if (!Number.isFinite(before)) return 0;
  if (now === null) return row.state(target, scorer) >= 2 ? Infinity : 0;
  return Math.max(0, DATA.scorers[scorer].higher_is_better ? before - now : now - before);
}

function textsOf(row) {
  const found = [row.id, kept(row.input), ...row.expected.map(kept)];
  for (const target of selectedTargets()) if (row.answer(target)) found.push(kept(row.output(target)) || "");
  return found;
}

// The test of a pill; null where all rows pass.
function showTest(show, asked) {
  const any = (test) => (row) => asked.some((target) => test(row, target));
  return { failures: any(failing), unscored: any(unscored), regressions: any((row, target) => drop(row, target) > 0), disagreements: (row) => spread(row) > 0 }[show] || null;
}

function matcher() {
  const tests = [];
  const asked = selectedTargets();
  if (QUERY.q) {
    const wanted = new RegExp(QUERY.q.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&"), "iu");
    tests.push((row) => textsOf(row).some((text) => wanted.test(text)) || DATA.columns.some((_, column) => wanted.test(row.metadata(column) || "")));
  }
  const shown = showTest(QUERY.show, asked);
  if (shown) tests.push(shown);
  if (QUERY.state !== "any") {
    const state = SHAPE.states.indexOf(QUERY.state);
    tests.push((row) => asked.some((target) => row.state(target, QUERY.scorer) === state));
  }
  if (QUERY.column >= 0 && QUERY.value !== "") {
    const wanted = QUERY.value === "none" ? null : QUERY.value.slice(1);
    tests.push((row) => row.metadata(QUERY.column) === wanted);
  }
  if (QUERY.check) tests.push((row) => asked.some((target) => failsCheck(row, target, QUERY.check)));
  if (QUERY.low !== null || QUERY.high !== null)
    tests.push((row) => asked.some((target) => {
      const value = row.value(target, QUERY.scorer);
      return value !== null && (QUERY.low === null || value >= QUERY.low) && (QUERY.high === null || value <= QUERY.high);
    }));
  return (row) => tests.every((test) => test(row));
}

// The sort key of a row; rows without a value come last. Undefined for a sort that the page does not have.
function keyOf(sort) {
  const [kind, place] = sort.split(":");
  const target = Number(place);
  if (place !== undefined && !DATA.targets[target]) return undefined;
  const keys = {
    place: (row) => row.place,
    id: (row) => row.id,
    input: (row) => kept(row.input),
    expected: (row) => (row.expected.length ? kept(row.expected[0]) : null),
    spread: (row) => spread(row),
    score: (row) => row.value(target, QUERY.scorer),
    latency: (row) => row.answer(target) && row.answer(target)[A.latency_s],
    cost: (row) => row.answer(target) && row.answer(target)[A.cost_usd],
    length: (row) => (row.answer(target) ? lengthOf(row.output(target)) : null),
  };
  return Object.hasOwn(keys, kind) ? keys[kind] : undefined;
}

const COLLATE = new Intl.Collator("en", { numeric: true });

function matchingRows() {
  const rows = ROWS.filter(matcher());
  if (QUERY.sort === "place") return QUERY.up ? rows : rows.reverse();
  const key = keyOf(QUERY.sort), direction = QUERY.up ? 1 : -1;
  const pairs = rows.map((row) => [key(row), row]);
  const missing = (value) => value === null || value === undefined;
  pairs.sort(([one, a], [other, b]) => {
    if (missing(one) || missing(other)) return missing(one) - missing(other) || a.place - b.place;
    const order = typeof one === "string" ? COLLATE.compare(one, other) : one === other ? 0 : one < other ? -1 : 1;
    return order * direction || a.place - b.place;
  });
  return pairs.map(([, row]) => row);
}
