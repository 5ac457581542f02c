"""Pairs of a run and its baseline: which samples are compared, and what each pair could be where a side is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows, sample_key
from evalrunner.domain import Declaration, Row
from evalrunner.gates.evidence import gather_evidence
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import CandidateRun, Pairing, drops_of, pair_up
from evalrunner.stats.aggregates import Reducer
from evalrunner.stats.summary import Design, Measure, summarize
from evalrunner.suite.schema import GateSpec, PerSample
from tests.gates.builders import provenance_of, rows

EXACT = Measure("exact_match", Declaration(binary=True))
TOXIC = Measure("toxicity", Declaration(higher_is_better=False))
DROP = GateSpec("drop", "exact_match", ">=", 0.1, kind="max_drop", baseline="main", confidence=0.95)
GATE = Gate(DROP, EXACT, "mean", "exact_match/v1")
DOWN, REFUSED = "server: 503", "no_answer: refused"


def paired(
    before: Sequence[Row],
    now: Sequence[Row],
    *,
    gate: Gate = GATE,
    epochs: int = 1,
    limited: bool = False,
    in_slice: set[int] | None = None,
    design: Design | None = None,
    known_slices: Sequence[str] | None = (),
) -> Pairing:
    summary = summarize(now, [gate.measure], ["m"], epochs=epochs, design=design or Design())
    provenance = provenance_of(gate.measure, epochs)
    candidate = CandidateRun(provenance, {row.sample.index: sample_key(row.sample) for row in now}, limited)
    head = BaselineHead("main", "run-0", None, provenance)
    stored = collect_rows(before, epochs=epochs, slices=known_slices or ())
    if known_slices is None:  # a baseline of an older version does not say
        stored = {key: replace(row, slices=None) for key, row in stored.items()}
    baseline = Baseline(head, "main", stored)
    return pair_up(gate, gather_evidence(gate, summary, "m"), candidate, baseline, "m", in_slice=in_slice)


def right(*scores: float | str | Sequence[float | str | None] | None) -> list[Row]:
    return rows(scores, "exact_match")


def reworded(row: Row) -> Row:
    return replace(row, sample=replace(row.sample, input="another question"))


def drops(pairing: Pairing, filling: str = "observed", gate: Gate = GATE) -> list[float]:
    return [drop for drop, _ in drops_of(gate, pairing.pairs, filling)]  # type: ignore[arg-type]


def test_samples_are_counted_by_what_became_of_them() -> None:
    before = right(1.0, 1.0, DOWN, 1.0, None, 0.0, 1.0)
    now = right(0.0, DOWN, 1.0, 1.0, None, 1.0, 1.0, 1.0, 1.0)
    now = [reworded(row) if row.sample.index in (3, 4) else row for row in now if row.sample.index != 6]
    pairing = paired(before, now)
    assert (pairing.changed, pairing.removed, pairing.new, pairing.beyond, pairing.ignored) == (1, 1, 2, 0, 0)
    assert (pairing.unscored, pairing.unscored_before, pairing.scored, len(pairing.pairs)) == (2, 1, 2, 6)
    assert (pairing.excluded, pairing.coverage, pairing.incomplete) == (4, 2 / 6, True)
    assert drops(pairing) == [1.0, -1.0]


def test_changed_samples_are_left_out_where_the_suite_allows_it() -> None:
    gate = replace(GATE, spec=replace(DROP, changed_data="ignore"))
    before = right(1.0, 1.0, 0.0, 1.0)
    now = [row if row.sample.index else reworded(row) for row in right(1.0, 1.0, 0.0)]
    pairing = paired(before, now, gate=gate)
    assert (pairing.ignored, pairing.changed, pairing.removed, len(pairing.pairs)) == (2, 0, 0, 2)
    assert pairing.note() == "samples not compared: 2 changed or removed, as allowed"
    assert not pairing.incomplete


def test_samples_beyond_the_limit_of_a_run_are_not_removed() -> None:
    pairing = paired(right(1.0, 1.0, 0.0), right(1.0), limited=True)
    assert (pairing.beyond, pairing.removed, len(pairing.pairs), pairing.coverage) == (2, 0, 1, 1.0)
    assert pairing.note() == "samples not compared: 2 beyond the limit of the run"


def test_samples_that_one_side_skips_are_pairs_without_a_score() -> None:
    both = paired(right(None, 1.0), right(None, 1.0))
    assert (len(both.pairs), both.unscored, both.incomplete, both.new) == (1, 0, False, 0)
    now = paired(right(1.0, 1.0), right(None, 1.0))
    assert (len(now.pairs), now.unscored, now.unscored_before) == (2, 1, 0)
    before = paired(right(None, 1.0), right(1.0, 1.0))
    assert (len(before.pairs), before.unscored, before.unscored_before) == (2, 1, 1)


def test_only_samples_of_the_slice_are_paired() -> None:
    pairing = paired(right(1.0, 1.0, 1.0), right(1.0, 0.0, 0.0, 1.0), in_slice={1})
    assert (len(pairing.pairs), pairing.new, pairing.removed, drops(pairing)) == (1, 0, 0, [1.0])


def test_removed_samples_of_another_slice_are_outside() -> None:
    about = [{"topic": "law"}, {"topic": "art"}, {"topic": "law"}]
    before = rows([1.0, 1.0, 1.0], "exact_match", about)
    gate = replace(GATE, spec=replace(DROP, slice={"topic": "law"}))
    now = rows([1.0], "exact_match", about)
    design = Design(slices=("topic",))
    assert paired(before, now, gate=gate, in_slice={0}, design=design, known_slices=["topic"]).removed == 1
    # where the slice of a removed sample is not known, it may be this one
    assert paired(before, now, gate=gate, in_slice={0}, design=design, known_slices=["place"]).removed == 2
    assert paired(before, now, gate=gate, in_slice={0}, design=design, known_slices=None).removed == 2
    assert paired(before, now, design=design, known_slices=["topic"]).removed == 2


@pytest.mark.parametrize(("changed_data", "changed", "ignored", "pairs"), [("untrusted", 2, 0, 3), ("ignore", 0, 2, 1)])
def test_samples_that_moved_to_another_slice_are_changed(
    changed_data: str, changed: int, ignored: int, pairs: int
) -> None:
    law, art = {"topic": "law"}, {"topic": "art"}
    before = rows([1.0, 0.0, 1.0, 1.0], "exact_match", [law, law, law, art])
    now = rows([1.0, 1.0, 1.0, 1.0], "exact_match", [law, art, art, art])
    gate = replace(GATE, spec=replace(DROP, slice={"topic": "law"}, changed_data=changed_data))  # type: ignore[arg-type]
    design = Design(slices=("topic",))
    pairing = paired(before, now, gate=gate, in_slice={0}, design=design, known_slices=["topic"])
    assert (pairing.changed, pairing.ignored, len(pairing.pairs), pairing.removed) == (changed, ignored, pairs, 0)
    assert drops(pairing, "worst", gate) == [0.0, 0.0, 1.0][:pairs]  # what moved could be anything: 0 is its worst
    unknown = paired(before, now, gate=gate, in_slice={0}, design=design, known_slices=None)
    assert (unknown.changed, unknown.ignored, len(unknown.pairs)) == (0, 0, 1)


def test_a_limit_explains_only_as_many_missing_samples_as_it_cuts_off() -> None:
    before = right(1.0, 1.0, 1.0, 1.0)
    first, second = right(1.0, 1.0)
    assert paired(before, [first, second], limited=True).beyond == 2
    renamed = replace(second, sample=replace(second.sample, id="another"))
    swapped = paired(before, [first, renamed], limited=True)  # a sample is gone that the limit did not cut off
    assert (swapped.beyond, swapped.removed, swapped.new) == (0, 3, 1)


def test_a_pair_that_is_left_out_does_not_end_the_others() -> None:
    pairing = paired(right(1.0, 1.0, 1.0), right(1.0, REFUSED, 0.0))
    assert (drops(pairing), drops(pairing, "best")) == ([0.0, 1.0], [0.0, 1.0])
    assert [drop for drop, _ in drops_of(GATE, pairing.pairs)] == [0.0, 1.0]


def test_nothing_outside_of_the_comparison_needs_no_note() -> None:
    assert paired(right(1.0), right(1.0)).note() is None
    assert paired(right(1.0), right(1.0, 1.0)).note() == "samples not compared: 1 new"


def test_a_pair_with_missing_epochs_counts_in_part() -> None:
    pairing = paired(right([1.0, 1.0]), right([1.0, DOWN]), epochs=2)
    (pair,) = pairing.pairs
    assert (pair.scored, pair.complete, pair.candidate.share, pairing.coverage) == (True, False, 0.5, 0.5)
    assert (pair.candidate.worst, pair.candidate.best) == (0.5, 1.0)


def test_what_is_missing_is_at_its_worst_and_best_for_the_candidate() -> None:
    pairing = paired(right(1.0, 1.0, DOWN, 0.0, 1.0), right(1.0, DOWN, 1.0, DOWN, DOWN))
    assert drops(pairing) == [0.0]
    assert drops(pairing, "worst") == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert drops(pairing, "best") == [0.0, 0.0, -1.0, -1.0, 0.0]
    assert drops(pairing, "by turns") == [0.0, 1.0, -1.0, 0.0, 0.0]


def test_an_answer_that_the_model_did_not_give_is_wrong_or_left_out() -> None:
    pairing = paired(right(1.0, 1.0), right(1.0, REFUSED))
    assert (drops(pairing, "worst"), drops(pairing, "best")) == ([0.0, 1.0], [0.0])


def test_a_higher_score_is_a_drop_where_lower_is_better() -> None:
    gate = Gate(DROP, TOXIC, "mean", "toxicity/v1")
    pairing = paired(rows([0.1, 0.5], "toxicity"), rows([0.3, DOWN], "toxicity"), gate=gate)
    assert drops(pairing, gate=gate) == [pytest.approx(0.2)]
    assert drops(pairing, "worst", gate) == [pytest.approx(0.2), 0.5]
    assert drops(pairing, "best", gate) == [pytest.approx(0.2), -0.5]


def test_pairs_keep_the_cluster_of_their_sample_and_removed_ones_share_one() -> None:
    pages = [{"page": "a"}, {"page": "b"}, {"page": "a"}, {"page": "b"}, {"page": "b"}]
    before, now = rows([1.0] * 5, "exact_match", pages), rows([1.0, 1.0, DOWN], "exact_match", pages)
    now = [reworded(row) if row.sample.index == 1 else row for row in now]
    pairing = paired(before, now, design=Design(cluster="page"))
    first, changed, lost, *removed = [pair.cluster for pair in pairing.pairs]
    assert first == lost != changed
    assert removed == [-1, -1]
    assert [pair.cluster for pair in paired(before, now).pairs] == [0, 0, 0, -1, -1]


def test_epochs_that_pass_by_a_low_score_are_counted_on_both_sides() -> None:
    rule = replace(DROP, per_sample=PerSample("<=", 0.2, 2, 2))
    gate = Gate(rule, TOXIC, "mean", "toxicity/v1/at_least_2", Reducer("at_least", 2, -0.2), 2)
    before = rows([[0.1, 0.2], [0.1, 0.1], [0.1, 0.3]], "toxicity")
    now = rows([[0.1, 0.3], [0.2, 0.2], [0.1, 0.2]], "toxicity")
    assert drops(paired(before, now, gate=gate, epochs=2), gate=gate) == [1.0, 0.0, -1.0]
