"""What a gate is decided on: the answers of its slice, how many are missing and why, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from evalrunner.domain import Cell, Completion, Declaration, Failure, Row, Sample
from evalrunner.gates.evidence import (
    Evidence,
    amount,
    gather_evidence,
    missing_note,
    percent,
    samples_needed,
    samples_needed_in_detail,
    skipped_note,
    value_of,
    why_unscored,
)
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.aggregates import Reducer
from evalrunner.stats.hypothesis_tests import SamplesToDecide
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, summarize
from evalrunner.stats.tally import ERROR, JUDGE, NO_ANSWER, SCORED, SKIPPED
from evalrunner.suite.schema import GateSpec, PerSample
from tests.gates.builders import rows

EXACT = Measure("exact_match", Declaration(binary=True))
TOXIC = Measure("toxicity", Declaration(higher_is_better=False))
DOWN, REFUSED, UNREADABLE = "server: 503", "no_answer: refused", "judge: no verdict"
TOPICS = ["law", "art", "law", "art", "law", "art"]
BY_TOPIC = Design(slices=("topic",), cluster="page")
ABOUT = [{"topic": topic, "page": f"p{place // 2}"} for place, topic in enumerate(TOPICS)]


def gate_on(measure: Measure = EXACT, topic: str | None = None, **more: object) -> Gate:
    spec = GateSpec("g", measure.name, ">=", 0.5, slice=None if topic is None else {"topic": topic})
    return Gate(replace(spec, **more), measure, "mean", measure.metric_name("mean"))  # type: ignore[arg-type]


def of(found: Sequence[Row], gate: Gate | None = None, **more: object) -> Evidence:
    gate = gate or gate_on()
    return gather_evidence(gate, summarize(found, [gate.measure], ["m"], **more), "m")  # type: ignore[arg-type]


def right(*scores: float | str | Sequence[float | str | None] | None, about: Sequence[object] = ()) -> list[Row]:
    return rows(scores, "exact_match", about)


def test_answers_are_counted_by_sample_and_epoch() -> None:
    evidence = of(right([1.0, 0.0], [1.0, DOWN], [None, 1.0], [None, None]), epochs=2)
    assert (evidence.scored, evidence.total, evidence.missing, evidence.coverage) == (4, 5, 1, 0.8)
    assert list(evidence.values) == [0.5, 1.0, 1.0]
    assert value_of(gate_on(), evidence) == pytest.approx(5 / 6)


def test_samples_without_a_row_are_missing_answers_of_every_epoch() -> None:
    evidence = of(right([1.0, 1.0]), epochs=2, samples=3)
    assert (evidence.scored, evidence.total, evidence.not_run, evidence.elsewhere) == (2, 6, 2, 0)
    assert of([]).coverage == 0.0


def test_a_slice_has_its_own_samples_and_their_clusters() -> None:
    found = right(1.0, 0.0, DOWN, 1.0, 1.0, 0.0, about=ABOUT)
    law, art = (of(found, gate_on(topic=topic), design=BY_TOPIC) for topic in ("law", "art"))
    assert (list(law.values), list(art.values)) == ([1.0, 1.0], [0.0, 1.0, 0.0])
    assert (law.scored, law.total, law.not_run, law.elsewhere) == (2, 3, 0, 0)
    assert law.reduced.clusters is not None
    assert [law.cluster_of(place) for place in (0, 4)] == list(law.reduced.clusters)
    assert law.cluster_of(0) == law.cluster_of(1) != law.cluster_of(2)


def test_a_slice_without_samples_has_no_answers() -> None:
    evidence = of(right(1.0, 0.0, about=ABOUT), gate_on(topic="sport"), design=BY_TOPIC)
    assert (evidence.total, evidence.scored, evidence.reduced.skipped, evidence.coverage) == (0, 0, 0, 0.0)


def test_samples_of_unknown_slices_may_belong_to_any() -> None:
    law = of(right(1.0, 0.0, about=ABOUT), gate_on(topic="law"), design=BY_TOPIC, samples=5)
    assert (law.scored, law.not_run, law.elsewhere, law.total) == (1, 0, 3, 4)


def test_scores_at_most_a_bound_are_counted_as_negated_ones() -> None:
    spec = GateSpec("g", "toxicity", ">=", 0.5, per_sample=PerSample("<=", 0.2, 2, 2))
    gate = Gate(spec, TOXIC, "mean", "toxicity/v1/at_least_2", Reducer("at_least", 2, -0.2), 2)
    found = rows([[0.1, 0.2], [0.1, 0.3], [0.1, DOWN], [0.3, DOWN]], "toxicity")
    evidence = of(found, gate, epochs=2)
    assert list(evidence.values) == [1.0, 0.0, 0.0]
    assert evidence.ends == (0.0, 1.0)
    assert (evidence.per_sample.worst[2], evidence.per_sample.best[2]) == (0.0, 1.0)
    upper = replace(
        gate, spec=replace(spec, per_sample=PerSample(">=", 0.2, 2, 2)), reducer=Reducer("at_least", 2, 0.2)
    )
    assert list(of(found, upper, epochs=2).values)[:2] == [0.0, 0.0]


def test_states_are_counted_inside_the_slice_only() -> None:
    found = right(1.0, DOWN, None, UNREADABLE, DOWN, REFUSED, about=ABOUT)
    codes, of_target = of(found, gate_on(topic="law"), design=BY_TOPIC).count_answers()
    assert (codes, of_target) == ({SCORED: 1, SKIPPED: 1, ERROR: 1}, 1)
    codes, of_target = of(found, gate_on(topic="art"), design=BY_TOPIC).count_answers()
    assert (codes, of_target) == ({ERROR: 1, JUDGE: 1, NO_ANSWER: 1}, 1)


def row(place: int, cell: Cell, *, answer: Completion | Failure | None = None, epoch: int = 1) -> Row:
    return Row(Sample(f"s{place}", "q", index=place), "m", epoch, answer or Completion("x", latency_s=1.0), {"exact_match": cell})  # fmt: skip


FINE = Cell("scored", 1.0)
FAILED_CALL = Failure("timeout", "no answer within 60 s")
RAISED = Failure("function", "target() raised")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([row(0, Cell("error", None, "x", cause="timeout"), answer=FAILED_CALL)], "the provider failed on 1 (timeout)"),
        ([row(0, Cell("error", None, "x", cause="function"), answer=RAISED)], "the target's function failed on 1 (function)"),
        ([row(0, Cell("error", None, "x", cause="function"))], "the scorer failed on 1 (function)"),
        ([row(0, Cell("error", None, "x", cause="server"))], "the judge's provider failed on 1 (server)"),
        (
            [
                row(0, Cell("error", None, "x", cause="timeout"), answer=FAILED_CALL),
                row(1, Cell("error", None, "x", cause="server")),
                row(2, Cell("error", None, "x", cause="server")),
            ],
            "the provider failed on 1 (timeout); the judge's provider failed on 2 (server)",
        ),
        (
            [
                row(0, Cell("error", None, "x", cause="timeout"), answer=FAILED_CALL),
                row(1, Cell("error", None, "x", cause="timeout")),
            ],
            "the provider failed on 1 (timeout); the judge's provider failed on 1 (timeout)",
        ),
        (
            [row(0, Cell("unscored", None, "refused", cause="no_answer")), row(1, Cell("unscored", None, "length", cause="no_answer"))],
            "the model did not answer 2 (refused, length)",
        ),
        ([row(0, Cell("unscored", None, "no verdict", cause="judge"))], "the judge's reply was unreadable on 1"),
        (
            [row(0, Cell("unscored", None, "5 of 12 known answers", cause="judge_check"))],
            "the judge failed its sanity check (5 of 12 known answers)",
        ),
        ([row(0, FINE), row(1, Cell("skipped"))], ""),
    ],
)  # fmt: skip
def test_the_cause_of_missing_answers_is_named(found: list[Row], why: str) -> None:
    assert why_unscored(of(found), "exact_match") == why


def test_one_epoch_of_a_sample_that_failed_does_not_blame_the_provider_for_the_other() -> None:
    broken = [
        row(0, Cell("error", None, "x", cause="timeout"), answer=FAILED_CALL, epoch=1),
        row(0, Cell("error", None, "x", cause="server"), epoch=2),
    ]
    codes, of_target = of(broken, epochs=2).count_answers()
    assert (codes[ERROR], of_target) == (2, 1)


def test_a_measure_of_the_provider_is_not_the_judges_fault() -> None:
    cost = BUILTIN_MEASURES[2]
    gate = Gate(GateSpec("g", "cost_usd", "<=", 0.5), cost, "mean", "cost_usd/mean")
    evidence = gather_evidence(gate, summarize([row(0, FINE)], [EXACT], ["m"]), "m")
    assert why_unscored(evidence, "cost_usd") == "the provider did not report it for 1"


def test_rows_that_never_ran_are_blamed_on_the_provider_only_in_its_slice() -> None:
    down = right(DOWN, about=[{"topic": "art"}])
    known = Design(slices=("topic",))
    law = summarize(down, [EXACT], ["m"], design=known, samples=2)
    for place, topic in ((0, "art"), (1, "law")):
        law.slices["topic"].add(Sample(f"s{place}", "q", index=place, metadata={"topic": topic}))
    assert why_unscored(gather_evidence(gate_on(topic="law"), law, "m"), "exact_match") == (
        "1 did not run because the provider failed (server)"
    )
    assert why_unscored(of(down, samples=3), "exact_match") == "the provider failed on 1 (server); 2 did not run"
    assert why_unscored(of(right(1.0), samples=3), "exact_match") == "2 did not run"


def test_what_is_missing_and_skipped_is_counted_in_words() -> None:
    evidence = of(right(1.0, DOWN, None, None))
    assert missing_note(evidence, "exact_match") == "scored 1 of 2 answers: the provider failed on 1 (server)"
    assert skipped_note(evidence, "exact_match") == "based on 2 of 4 samples; 2 have no expected answer"
    assert skipped_note(of(right(1.0, DOWN)), "exact_match") is None


EPOCHS = [
    ([[1.0, 0.0]] * 10 + [[1.0, 0.5]], True),  # nearly all differences are between answers of one sample
    ([[1.0, 1.0], [0.0, 0.0]] * 5, False),
    ([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] * 4, False),  # within: 1/12 of a total of 2/11
    ([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] * 4, True),
    ([[1.0, 1.0]] * 10, False),
    ([[1.0, 0.0]], False),
]


@pytest.mark.parametrize(("scores", "help"), EPOCHS)
def test_more_epochs_help_if_over_half_of_the_variance_lies_within_samples(
    scores: list[list[float]], *, help: bool
) -> None:
    assert of(right(*scores), epochs=2).more_epochs_help is help
    assert not of(right(*(each[0] for each in scores))).more_epochs_help


@pytest.mark.parametrize(
    ("rows_needed", "text"),
    [
        (None, ""),
        (SamplesToDecide(None, None), " No practical number of samples would decide."),
        (SamplesToDecide(5, 9), " About 9 samples are needed to decide."),
        (SamplesToDecide(50, 99), " About 99 samples are needed to decide."),
        (SamplesToDecide(50, 101), " About 110 samples are needed to decide."),
        (SamplesToDecide(815, 1862), " About 1,900 samples are needed to decide."),
        (SamplesToDecide(815, 1900), " About 1,900 samples are needed to decide."),
    ],
)
def test_samples_needed_are_rounded_up_to_two_digits(rows_needed: SamplesToDecide | None, text: str) -> None:
    assert samples_needed(rows_needed) == text


def test_samples_for_50_and_80_percent_power_are_told_apart() -> None:
    assert samples_needed_in_detail(SamplesToDecide(815, 1862), more_epochs_help=False) == [
        "815 samples decide with 50% power, 1,862 with 80%"
    ]
    assert samples_needed_in_detail(SamplesToDecide(90, 90), more_epochs_help=True) == [
        "90 samples decide with 80% power",
        "more epochs would help as well",
    ]
    assert samples_needed_in_detail(SamplesToDecide(None, None), more_epochs_help=True) == []
    assert samples_needed_in_detail(SamplesToDecide(90, None), more_epochs_help=True) == []
    assert samples_needed_in_detail(None, more_epochs_help=True) == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.081, "8.1 points"), (0.0, "0.0 points"), (0.0005, "0.1 points"), (0.0004, "0.04 points")]
)
def test_amounts_of_shares_are_in_points(value: float, text: str) -> None:
    assert amount(gate_on(), value) == text
    assert amount(gate_on(), value, unit=False) == text.removesuffix(" points")


def test_amounts_of_other_metrics_have_their_unit() -> None:
    grade = Measure("grade", Declaration(low=0.0, high=10.0, unit="grades"))
    assert amount(gate_on(grade), 1.25) == "1.25 grades"
    assert amount(gate_on(grade), 1.25, unit=False) == "1.25"
    assert amount(gate_on(Measure("grade", Declaration(low=0.0, high=10.0))), 1.25) == "1.25"
    assert (percent(0.95), percent(0.999), percent(0.9)) == ("95%", "99.9%", "90%")
