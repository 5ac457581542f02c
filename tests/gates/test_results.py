"""Gates by target and slice, what blocks a run, and the verdict of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows, sample_key
from evalrunner.domain import Cell, Completion, Declaration, GateResult, Row, Sample
from evalrunner.gates.check import BaselineContext, check_gates, expand_slices, gates_by_target, run_verdict
from evalrunner.gates.metric_lookup import Gate, UnknownMetric, find_metric
from evalrunner.gates.pairing import CandidateRun
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import BUILTIN_MEASURES, STREAMING_MEASURES, Design, Measure, summarize
from evalrunner.suite.schema import GateSpec
from evalrunner.verdicts import Verdict
from tests.gates.builders import judge, provenance_of, rows

EXACT = Measure("exact_match", Declaration(binary=True))
PYTHON = Measure("ours", Declaration(infer_binary=True))
TOXIC = Measure("toxicity", Declaration(higher_is_better=False, aggregates=("mean", "p90", "ratio"), headline="p90"))
TOPICS = ["law", "art", "", "sun"]
BY_TOPIC = Design(slices=("topic",))


def gate(**more: object) -> Gate:
    spec = GateSpec("exact_match[topic=*] >= 0.5", "exact_match", ">=", 0.5)
    return Gate(replace(spec, **more), EXACT, "mean", "exact_match/v1")  # type: ignore[arg-type]


def row(place: int, target: str, score: float, measure: Measure = EXACT) -> Row:
    topic = {"topic": TOPICS[place % 4]} if TOPICS[place % 4] else {}
    sample = Sample(f"s{place}", "q", metadata=topic, index=place)
    return Row(sample, target, 1, Completion("x", latency_s=1.0), {measure.name: Cell("scored", score)})


def test_a_gate_on_every_value_is_one_for_each_text_in_order() -> None:
    summary = summarize([row(place, "m", 1.0) for place in range(4)], [EXACT], ["m"], design=BY_TOPIC)
    each = list(expand_slices(gate(slice={"topic": "*"}), summary.slices))
    assert [(one.spec.text, one.spec.slice) for one in each] == [
        ("exact_match[topic=art] >= 0.5", {"topic": "art"}),
        ("exact_match[topic=law] >= 0.5", {"topic": "law"}),
        ("exact_match[topic=sun] >= 0.5", {"topic": "sun"}),
    ]
    for one in (gate(), gate(slice={"topic": "art"})):
        assert list(expand_slices(one, summary.slices)) == [one]


def test_a_slice_that_only_the_baseline_has_keeps_its_gate() -> None:
    about = [{"topic": "law"}, {"topic": "old"}, {}]
    stored = collect_rows(rows([1.0, 1.0, 1.0], "exact_match", about), epochs=1, slices=["topic"])
    baseline = Baseline(BaselineHead("main", "run-0", None, provenance_of(EXACT, 1)), "main", stored)
    summary = summarize([row(0, "m", 1.0)], [EXACT], ["m"], design=BY_TOPIC)

    def texts(changed_data: Literal["untrusted", "ignore"]) -> list[object]:
        one = gate(slice={"topic": "*"}, changed_data=changed_data)
        return [each.spec.slice for each in expand_slices(one, summary.slices, baseline)]

    assert texts("untrusted") == [{"topic": "law"}, {"topic": "old"}]
    assert texts("ignore") == [{"topic": "law"}]
    unknown = replace(baseline, rows={key: replace(one, slices=None) for key, one in stored.items()})
    assert [each.spec.slice for each in expand_slices(gate(slice={"topic": "*"}), summary.slices, unknown)] == [
        {"topic": "law"}
    ]


def test_a_gate_is_on_its_target_or_on_all() -> None:
    summary = summarize([row(0, target, 1.0) for target in "ab"], [EXACT], ["a", "b"])
    gates = [gate(target="b"), gate()]
    assert [target for _, target in gates_by_target(gates, summary)] == ["b", "a", "b"]


@pytest.mark.parametrize(("score", "binary"), [(0.0, True), (0.5, False)])
def test_a_gate_knows_whether_the_scores_turned_out_to_be_binary(score: float, *, binary: bool) -> None:
    summary = summarize([row(0, "m", 1.0, PYTHON), row(1, "m", score, PYTHON)], [PYTHON], ["m"])
    one = Gate(GateSpec("g", "ours", ">=", 0.5), PYTHON, "mean", "ours/v1/mean")
    ((found, _),) = gates_by_target([one], summary)
    assert (found.binary, found.estimand.is_share) == (binary, binary)


def test_a_result_has_the_numbers_behind_its_verdict() -> None:
    scores = [1.0] * 84 + [0.0] * 16
    (sure,) = judge("{metric: exact_match, min: 0.8, confidence: 0.95}", EXACT, rows(scores, "exact_match"))
    assert (sure.verdict, sure.value, sure.bound, sure.kind, sure.confidence, sure.target, sure.line) == (
        "inconclusive", 0.84, 0.8, "confidence", 0.95, "m", 1,
    )  # fmt: skip
    assert sure.low is not None and sure.gate_low is not None and sure.gate_high is not None and sure.high is not None
    assert sure.low < sure.gate_low < 0.84 < sure.gate_high < sure.high
    assert sure.samples_to_decide is not None and sure.samples_to_decide[0] < sure.samples_to_decide[1]
    (point,) = judge("exact_match >= 0.8", EXACT, rows(scores, "exact_match"))
    assert (point.kind, point.confidence, point.gate_low, point.gate_high, point.samples_to_decide) == (
        "point", None, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("right", "policy", "blocks"),
    [
        (84, "block_if_worse", False), (76, "block_if_worse", True),
        (84, "block", True), (76, "block", True), (84, "warn", False), (76, "warn", False),
    ],
)  # fmt: skip
def test_the_suite_says_whether_an_inconclusive_gate_blocks(right: int, policy: str, *, blocks: bool) -> None:
    text = f"{{metric: exact_match, min: 0.8, confidence: 0.95, inconclusive: {policy}}}"
    (result,) = judge(text, EXACT, rows([1.0] * right + [0.0] * (100 - right), "exact_match"))
    assert (result.verdict, result.blocks) == ("inconclusive", blocks)


@pytest.mark.parametrize("required", [False, True])
def test_the_suite_says_whether_a_missing_baseline_blocks(*, required: bool) -> None:
    text = f"{{metric: exact_match, baseline: main, max_drop: 0.1, baseline_required: {str(required).lower()}}}"
    (result,) = judge(text, EXACT, rows([1.0], "exact_match"))
    assert (result.verdict, result.blocks) == ("no_baseline", required)


def test_a_pass_and_a_fail_always_block_or_not_by_themselves() -> None:
    summary = summarize([row(0, "m", 1.0)], [EXACT], ["m"])
    passed, failed = check_gates([gate(), gate(bound=2.0)], summary)
    assert [(one.verdict, one.exit_code) for one in (passed, failed)] == [("pass", 0), ("fail", 1)]


def test_samples_that_a_decided_run_did_not_ask_are_not_missing_from_its_pairs() -> None:
    found = rows([1.0] * 40, "exact_match")
    baseline = Baseline(
        BaselineHead("main", "run-0", None, provenance_of(EXACT, 1)), "main", collect_rows(found, epochs=1)
    )
    keys = {one.sample.index: sample_key(one.sample) for one in found}
    context = BaselineContext(CandidateRun(provenance_of(EXACT, 1), keys), {"main": baseline})
    drop = gate(kind="max_drop", baseline="main", confidence=0.95, bound=0.2)
    summary = summarize(found[:30], [EXACT], ["m"], samples=40)
    (short,) = check_gates([drop], summary, context)
    assert (short.verdict, short.baseline is not None and short.baseline.coverage) == ("untrusted", 0.75)
    summary.decided = True
    (decided,) = check_gates([drop], summary, context)
    assert decided.baseline is not None
    assert (decided.verdict, decided.baseline.coverage, decided.baseline.n) == ("pass", 1.0, 30)
    assert "samples not compared: 10 beyond the limit of the run" in decided.details


def test_means_of_several_epochs_are_no_shares() -> None:
    spec = GateSpec("g", "exact_match", ">=", 0.5)
    assert [Gate(spec, EXACT, "mean", "m", epochs=epochs).estimand.is_share for epochs in (1, 2)] == [True, False]


def result(verdict: Verdict, *, blocks: bool = True) -> GateResult:
    base = check_gates([gate()], summarize([row(0, "m", 1.0)], [EXACT], ["m"]))[0]
    return replace(base, verdict=verdict, blocks=blocks)


@pytest.mark.parametrize(
    ("verdicts", "unfinished", "interrupted", "expected"),
    [
        ([], False, False, ("pass", 0)),
        (["pass"], False, False, ("pass", 0)),
        (["pass"], True, False, ("untrusted", 3)),
        (["pass"], False, True, ("untrusted", 130)),
        (["fail"], True, False, ("fail", 1)),
        (["fail"], True, True, ("fail", 130)),
        (["inconclusive"], True, False, ("untrusted", 3)),
        (["untrusted", "pass"], False, False, ("untrusted", 3)),
        ([], True, True, ("untrusted", 130)),
    ],
)
def test_a_run_that_did_not_finish_never_passes(
    verdicts: Sequence[Verdict], unfinished: bool, interrupted: bool, expected: tuple[str, int]
) -> None:
    results = [result(verdict) for verdict in verdicts]
    assert run_verdict(results, unfinished=unfinished, interrupted=interrupted) == expected
    if not interrupted:
        assert run_verdict(results, unfinished=unfinished) == expected


MEASURES = [EXACT, TOXIC, *BUILTIN_MEASURES]
REDUCERS = (parse_reducer("mean"), parse_reducer("pass_at_2"))


@pytest.mark.parametrize(
    ("text", "aggregate", "reducer"),
    [
        ("exact_match", "mean", "mean"),
        ("exact_match/v1", "mean", "mean"),
        ("toxicity", "p90", "mean"),
        ("toxicity/v1/ratio", "ratio", "mean"),
        ("toxicity/pass_at_2", "mean", "pass_at_2"),
        ("exact_match/v1/pass_at_2", "mean", "pass_at_2"),
        ("latency/p90", "p90", "mean"),
    ],
)
def test_a_metric_is_found_by_its_parts(text: str, aggregate: str, reducer: str) -> None:
    _, found, by = find_metric(text, MEASURES, REDUCERS)
    assert (found, by.name) == (aggregate, reducer)


def test_the_first_reducer_is_behind_plain_names_except_for_measures_of_the_answer() -> None:
    worst_first = (parse_reducer("max"), parse_reducer("mean"))
    assert find_metric("exact_match", MEASURES, worst_first)[2].name == "max"
    assert find_metric("latency/p50", MEASURES, worst_first)[2].name == "mean"
    with pytest.raises(UnknownMetric):
        find_metric("latency/pass_at_2", MEASURES, REDUCERS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft/p50", "metric 'ttft/p50' needs streamed answers; set stream: true in run:"),
        ("speed", "no metric 'speed' in this suite; it has exact_match, toxicity, latency, token_count, cost_usd"),
        ("exact_match/pass_at_3", "no metric 'exact_match/pass_at_3' in this suite; add the reducer 'pass_at_3' to 'reducer:'"),
        ("toxicity/p90/p90", "no metric 'toxicity/p90/p90' in this suite; a metric ends with one aggregate or reducer: toxicity/p90"),
        (
            "toxicity/zzzzzzzzzzzzzzzzzzzz",
            "no metric 'toxicity/zzzzzzzzzzzzzzzzzzzz' in this suite; it has toxicity/mean, toxicity/p90, toxicity/ratio, toxicity/pass_at_2",
        ),
    ],
)  # fmt: skip
def test_an_unknown_metric_says_what_there_is(text: str, message: str) -> None:
    with pytest.raises(UnknownMetric) as refused:
        find_metric(text, MEASURES, REDUCERS)
    assert str(refused.value) == message


def test_streamed_measures_are_found_where_answers_are_streamed() -> None:
    measure, aggregate, _ = find_metric("ttft", [*MEASURES, *STREAMING_MEASURES])
    assert (measure.name, aggregate) == ("ttft", "mean")


def test_the_direction_of_a_gate_is_that_of_its_metric() -> None:
    spec = GateSpec("g", "toxicity", "<=", 0.5)
    assert not Gate(spec, TOXIC, "mean", "toxicity/v1/mean").higher_is_better
    assert Gate(spec, EXACT, "mean", "exact_match/v1").higher_is_better
    counted = Gate(spec, TOXIC, "mean", "toxicity/v1/at_least_2", parse_reducer("at_least_2"), 2)
    assert counted.higher_is_better  # more passed epochs are better
