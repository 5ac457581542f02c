"""Sequential gates: the contiguous first samples, missing answers, clusters, baselines, families and later looks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sequential import completion_times
from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows, sample_key
from evalrunner.domain import Declaration, GateResult, Row
from evalrunner.errors import SuiteError
from evalrunner.gates.build import GateBuilder
from evalrunner.gates.check import BaselineContext, check_gates, gates_by_target
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import CandidateRun
from evalrunner.gates.sequential import RunMonitor, SequentialContext, run_monitor
from evalrunner.runs.record import LookRecord
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, Summary, summarize
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document
from tests.gates.builders import provenance_of, rows

PLAIN = Design()
MATCH = Measure("match", Declaration(binary=True))
GRADED = Measure("match", Declaration(low=0.0, high=5.0))
CONFIDENT = "{metric: match, min: 0.8, confidence: 0.95, sequential: true}"
POINT = "{metric: match, min: 0.8, sequential: true}"
DROP = "{metric: match, baseline: main, max_drop: 0.1, sequential: true}"


def build(
    text: str, measure: Measure = MATCH, *, design: Design = PLAIN, epochs: int = 1, stop_early: bool = False
) -> tuple[Gate, ...]:
    document = parse_document(f"gates: [{text}]", file="s.yaml")
    specs = read_gates(SectionReader(document, Path()), document.data)
    builder = GateBuilder(
        document, [measure, *BUILTIN_MEASURES], targets=["m"], design=design, epochs=epochs, stop_early=stop_early
    )
    gates = builder.build(specs)
    document.raise_problems()
    return gates


def summary_of(
    now: Sequence[Row], samples: int, measure: Measure = MATCH, *, design: Design = PLAIN, epochs: int = 1
) -> Summary:
    return summarize(now, [measure], ["m"], epochs=epochs, design=design, samples=samples)


def check(text: str, now: Sequence[Row], samples: int | None = None, **options: Any) -> GateResult:
    """The verdict of one gate on rows of a dataset with `samples` samples, by default those of the rows."""
    measure, context = options.pop("measure", MATCH), options.pop("context", BaselineContext())
    gates = build(text, measure, **options)
    count = len({row.sample.index for row in now}) if samples is None else samples
    (result,) = check_gates(gates, summary_of(now, count, measure, **options), context)
    return result


def compared(now: Sequence[Row], before: Sequence[Row], **context: Any) -> BaselineContext:
    head = BaselineHead("main", "run-0", None, provenance_of(MATCH, 1))
    baseline = Baseline(head, "main", collect_rows(before, epochs=1))
    candidate = CandidateRun(provenance_of(MATCH, 1), {row.sample.index: sample_key(row.sample) for row in now})
    return BaselineContext(candidate, {"main": baseline}, **context)


def bernoulli(rate: float, count: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [float(draw.random() < rate) for _ in range(count)]


def monitor_of(text: str, now: Sequence[Row], samples: int, **options: Any) -> tuple[RunMonitor, Summary]:
    """A monitor before its first row; its summary knows the groups of all samples."""
    context = options.pop("context", BaselineContext())
    gates = build(text, **options)
    summary = summary_of([], samples, **options)
    assert summary.population is not None
    for row in now:
        summary.population.add(row.sample)
    return run_monitor(gates_by_target(gates, summary), summary, context), summary


def test_a_gate_far_from_its_bound_is_decided_early() -> None:
    passed = check(CONFIDENT, rows(bernoulli(0.95, 300, 1), "match"), 1000)
    assert passed.verdict == "pass"
    assert passed.reason.startswith("at least 0.8 with 95% confidence after ") and "of 1,000 samples" in passed.reason
    failed = check(CONFIDENT, rows(bernoulli(0.5, 300, 2), "match"), 1000)
    assert failed.verdict == "fail" and failed.reason.startswith("below 0.8 with 95% confidence after ")


def test_a_sequential_gate_without_evidence_is_inconclusive() -> None:
    assert check(CONFIDENT, rows([1.0] * 5, "match")).reason == "not decided after all 5 samples"
    early = check(CONFIDENT, rows([1.0] * 5, "match"), 100)
    assert (early.verdict, early.reason) == ("inconclusive", "not decided after 5 of 100 samples")


def test_only_the_complete_first_samples_are_looked_at() -> None:
    every = rows([1.0] * 100, "match")
    assert check(CONFIDENT, every, 200).verdict == "pass"
    with_gap = [row for row in every if row.sample.index != 10]
    assert check(CONFIDENT, with_gap, 200).reason == "not decided after 10 of 200 samples"


@pytest.mark.parametrize("text", [CONFIDENT, POINT, "{metric: match, max: 0.8, confidence: 0.95, sequential: true}"])
@pytest.mark.parametrize("rate", [0.6, 0.95])
def test_a_run_in_any_order_decides_as_its_row_log(text: str, rate: float) -> None:
    now = rows(bernoulli(rate, 400, 3), "match")
    monitor, summary = monitor_of(text, now, 400)
    arriving, draw, seen = list(now), random.Random(4), []
    while not monitor.decided:
        row = arriving.pop(draw.randrange(min(64, len(arriving))))  # 64 in flight
        seen.append(row)
        summary.add(row)
        monitor.add(row)
        (result,) = check_gates(build(text), summary_of(seen, 400))
        assert (result.verdict != "inconclusive") == monitor.decided
    ((test, _),) = monitor.tests
    assert (result.verdict, f"after {test.decided_after} of 400 samples" in result.reason) == (test.verdict, True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 64])
def test_a_model_at_the_bound_is_decided_falsely_in_at_most_five_percent(workers: int) -> None:
    """Monitored after every row as it arrives; wrong answers take twice as long as right ones."""
    rng, decisions, count, runs = np.random.default_rng(17), Counter[str](), 200, 600
    draws = (rng.random((runs, count)) < 0.8).astype(float)
    arrival = completion_times(draws, workers, rng).argsort(axis=1)
    for values, order in zip(draws.tolist(), arrival.tolist(), strict=True):
        now = rows(values, "match")
        monitor, summary = monitor_of(CONFIDENT, [], count)
        for place in order:
            summary.add(now[place])
            monitor.add(now[place])
            if monitor.decided:
                break
        ((test, _),) = monitor.tests
        decisions[test.verdict or "undecided"] += 1
    assert max(decisions["pass"], decisions["fail"]) / runs <= 0.05
    assert decisions["undecided"] / runs >= 0.9


def test_a_sample_counts_once_all_its_epochs_are_there() -> None:
    design = Design(reducers=(parse_reducer("at_least_2"),))
    now = rows([[1.0, 1.0, 0.0]] * 60, "match")
    partial = [row for row in now if not (row.sample.index == 5 and row.epoch == 3)]
    assert check(CONFIDENT, now, design=design, epochs=3).verdict == "pass"
    assert check(CONFIDENT, partial, 60, design=design, epochs=3).reason == "not decided after 5 of 60 samples"


def test_a_point_gate_gets_the_verdict_of_the_full_run_from_its_last_sample() -> None:
    near = [1.0] * 8 + [0.0] * 2
    random.Random(1).shuffle(near)
    result = check(POINT, rows(near, "match"))
    assert (result.verdict, result.value) == ("pass", 0.8)
    assert "full run" not in result.reason
    early = check(POINT, rows([1.0] * 90, "match"), 100)
    assert early.reason.startswith("the full run meets the threshold with 95% confidence, after ")


@pytest.mark.parametrize("answer", ["server: 500", "judge: unreadable"])
def test_missing_answers_count_against_either_decision(answer: str) -> None:
    lost = [1.0 if place % 25 else answer for place in range(200)]
    assert check(CONFIDENT, rows(lost, "match")).verdict == "pass"  # they could all be wrong
    many = [1.0 if place % 6 else answer for place in range(300)]
    text = CONFIDENT.replace("sequential", "min_coverage: 0.5, sequential")
    result = check(text, rows(many, "match"))
    assert result.verdict == "untrusted"
    assert result.reason == "not decided after all 300 samples: the missing answers could change the verdict"
    ignored = check(text.replace("sequential", "missing: ignore, sequential"), rows(many, "match"))
    assert ignored.verdict == "pass"


def test_nothing_is_decided_below_the_minimum_coverage() -> None:
    lost = [0.0 if place % 4 else "server: 500" for place in range(100)]
    assert check(CONFIDENT, rows(lost, "match"), 200).reason == "not decided after 100 of 200 samples"
    whole = check(CONFIDENT, rows(lost, "match"))
    assert whole.verdict == "untrusted" and "on 75 of 100 answers" in whole.reason


def test_skipped_samples_are_left_out() -> None:
    skipping = [None if place % 2 else 1.0 for place in range(200)]
    plain, half = (check(CONFIDENT, rows(scores, "match"), 400) for scores in ([1.0] * 100, skipping))
    assert (plain.verdict, half.verdict) == ("pass", "pass")
    assert "after 24 of" in plain.reason and "after 47 of" in half.reason


def test_a_slice_looks_at_its_own_samples() -> None:
    design = Design(slices=("topic",))
    about = [{"topic": "law" if place % 3 else "art"} for place in range(300)]
    scores = [1.0 if place % 3 else 0.0 for place in range(300)]
    now = rows(scores, "match", about)
    sliced = {word: CONFIDENT.replace("match", f"'match[topic={word}]'") for word in ("law", "art")}
    assert check(sliced["law"], now, design=design).reason == (
        "at least 0.8 with 95% confidence after 24 of 200 samples"
    )
    assert check(sliced["art"], now, design=design).verdict == "fail"
    monitor, summary = monitor_of(", ".join(sliced.values()), now, 300, design=design)
    for row in now[:36]:
        summary.add(row)
        monitor.add(row)
    assert monitor.decided and [test.decided_after for test, _ in monitor.tests] == [
        24,
        4,
    ]  # the fail is corrected for two gates


def test_the_samples_of_a_cluster_count_together() -> None:
    design = Design(cluster="page")
    about = [{"page": place // 5} for place in range(600)]
    scores = [float(place // 5 % 10 != 3) for place in range(600)]
    alone = check(CONFIDENT, rows(scores, "match"))
    together = check(CONFIDENT, rows(scores, "match", about), design=design)
    assert (alone.verdict, together.verdict) == ("pass", "pass")
    after = [int(result.reason.split(" after ")[1].split()[0]) for result in (alone, together)]
    assert after[1] > 2 * after[0]


def test_clusters_that_are_not_next_to_each_other_decide_nothing() -> None:
    design = Design(cluster="page")
    about = [{"page": place % 10} for place in range(300)]
    result = check(CONFIDENT, rows([1.0] * 300, "match", about), design=design)
    assert result.reason == "not decided after all 300 samples: samples of a cluster are not next to each other"


def test_a_graded_score_is_scaled_by_its_range() -> None:
    text = CONFIDENT.replace("0.8", "3")
    assert check(text, rows([4.0, 5.0] * 60, "match"), measure=GRADED).verdict == "pass"
    assert check(text, rows([1.0, 0.0] * 60, "match"), measure=GRADED).verdict == "fail"


def test_a_baseline_gate_is_decided_early() -> None:
    before = rows([1.0] * 400, "match")
    equal = check(DROP, before[:200], 400, context=compared(before, before))
    assert equal.verdict == "pass"
    assert equal.reason.startswith("drop of at most 10.0 points with 95% confidence after ")
    worse = rows([float(place % 2) for place in range(200)], "match")
    dropped = check(DROP, worse, 400, context=compared(before, before))
    assert dropped.verdict == "fail" and dropped.reason.startswith("drop of more than 10.0 points")


def test_an_improvement_is_decided_early() -> None:
    text = "{metric: match, baseline: main, improved: true, sequential: true}"
    before, now = rows([0.0, 1.0] * 200, "match"), rows([1.0] * 200, "match")
    assert check(text, now, 400, context=compared(before, before)).verdict == "pass"
    assert check(text, before[:200], 400, context=compared(before, rows([1.0] * 400, "match"))).verdict == "fail"


def test_changed_and_removed_samples_of_a_baseline_count_against_a_pass() -> None:
    before = rows([1.0] * 400, "match")
    changed = [replace(row, sample=replace(row.sample, input="other")) if row.sample.index % 4 == 0 else row for row in before]  # fmt: skip
    text = DROP.replace("sequential", "min_coverage: 0.5, sequential")
    assert check(text, changed, context=compared(changed, before)).verdict == "untrusted"
    shorter = before[:300]
    assert check(text, shorter, context=compared(shorter, before)).verdict == "untrusted"
    allowed = text.replace("sequential", "changed_data: ignore, sequential")
    assert check(allowed, changed, context=compared(changed, before)).verdict == "pass"


def test_samples_that_only_the_run_has_are_no_pairs() -> None:
    now = rows([1.0] * 400, "match")
    result = check(DROP, now, context=compared(now, now[:200]))
    assert result.verdict == "pass"


def test_a_gate_without_its_baseline_does_not_keep_the_run_going() -> None:
    monitor, _ = monitor_of(f"{DROP}, {CONFIDENT}", [], 100)
    assert len(monitor.tests) == 1
    assert check(DROP, rows([1.0] * 10, "match")).verdict == "no_baseline"


def test_fails_share_their_error_rate_over_the_family() -> None:
    now = rows(bernoulli(0.5, 100, 5), "match")

    def decided_after(text: str) -> int | None:
        monitor, summary = monitor_of(text, now, 100)
        for row in now:
            summary.add(row)
            monitor.add(row)
        return monitor.tests[0][0].decided_after

    alone, ten = decided_after(CONFIDENT), decided_after(", ".join([CONFIDENT] * 10))
    outside = decided_after(", ".join([CONFIDENT.replace("sequential", "family: none, sequential")] * 10))
    assert alone is not None and ten is not None and alone < ten
    assert outside == alone
    results = check_gates(build(", ".join([CONFIDENT] * 10)), summary_of(now, 100))
    assert results[0].details == ("fail is corrected for 10 gates",)


LOOK = LookRecord(samples=100, epochs=1, at=datetime(2026, 11, 28, tzinfo=UTC))


def test_a_later_look_at_an_ordinary_gate_uses_the_sequential_bound() -> None:
    text = CONFIDENT.replace(", sequential: true", "")
    context = BaselineContext(sequential=SequentialContext(first_look=LOOK))
    near = rows(bernoulli(0.835, 1000, 6), "match")
    assert check(text, near).verdict == "pass"
    again = check(text, near, context=context)
    assert again.verdict == "inconclusive"
    assert again.reason == "not decided after all 1,000 samples; looked at again: sequential bound"
    clear = check(text, rows([1.0] * 300, "match"), context=context)
    assert clear.reason == (
        "at least 0.8 with 95% confidence after 101 of 300 samples; looked at again: sequential bound"
    )
    point = check("match >= 0.8", near, context=context)
    assert (point.verdict, "looked at" in point.reason) == ("pass", False)


def test_a_later_look_at_a_metric_without_a_range_is_refused() -> None:
    context = BaselineContext(sequential=SequentialContext(first_look=LOOK))
    result = check("{metric: latency/p50, max: 2, confidence: 0.95}", rows([1.0] * 200, "match"), context=context)
    assert result.verdict == "inconclusive"
    assert result.reason == "looked at again, but 'latency/p50' is not a mean of scores; start a new run to decide"


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ("metric: latency/p90, max: 2", "'latency/p90' is not a mean of scores"),
        ("metric: cost_usd/total, max: 2", "'cost_usd/total' is not a mean of scores"),
        ("metric: latency, max: 2", "the scores of 'latency' have no range; declare low and high"),
    ],
)
def test_a_gate_that_cannot_be_sequential_is_an_error_only_if_it_asks_to_be(gate: str, problem: str) -> None:
    with pytest.raises(SuiteError, match="cannot be sequential") as refused:
        build(f"{{{gate}, sequential: true}}")
    assert problem in str(refused.value)
    assert [one.spec.sequential for one in build(f"{{{gate}}}, match >= 0.8", stop_early=True)] == [False, True]


def test_equality_cannot_be_sequential() -> None:
    (gate,) = build("match == 1", stop_early=True)
    assert gate.spec.sequential is False


def test_a_gate_can_opt_out_of_stopping_early() -> None:
    (gate,) = build("{metric: match, min: 0.8, sequential: false}", stop_early=True)
    assert gate.spec.sequential is False
