"""Gates with confidence: one-sided bounds, missing scores, slices, reducers, per-sample rules."""

from __future__ import annotations

import pytest

from evalrunner.domain import Declaration
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.intervals import clopper_pearson
from evalrunner.stats.summary import Design, Measure
from tests.gates.builders import judge, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("quality", Declaration())
TOXIC = Measure("toxicity", Declaration(higher_is_better=False, aggregates=("mean", "ratio"), threshold=0.5))
SURE = "{metric: exact_match, min: %s, confidence: 0.95}"


@pytest.mark.parametrize(
    ("right", "verdict"), [(100, "pass"), (87, "pass"), (86, "inconclusive"), (73, "inconclusive"), (72, "fail")]
)
def test_the_exact_one_sided_bound_decides(right: int, verdict: str) -> None:
    (result,) = judge(SURE % 0.8, EXACT, rows([1.0] * right + [0.0] * (100 - right), "exact_match"))
    low, high = clopper_pearson(right, 100, confidence=0.95)
    assert (result.verdict, result.gate_low, result.gate_high) == (verdict, low, high)
    assert result.low is not None and result.low < low  # the displayed interval is two-sided, so it is wider


def test_a_model_at_the_threshold_passes_in_at_most_5_percent_of_runs() -> None:
    from evalrunner.stats.distributions import binomial_cdf

    for n, bound in ((20, 0.8), (50, 0.9), (100, 0.5)):
        passing = [
            right
            for right in range(n + 1)
            if judge(SURE % bound, EXACT, rows([1.0] * right + [0.0] * (n - right), "exact_match"))[0].verdict == "pass"
        ]
        assert 1 - binomial_cdf(min(passing) - 1, n, bound) <= 0.05


def test_a_gate_with_max_is_mirrored() -> None:
    gate = "{metric: toxicity/ratio, max: 0.2, confidence: 0.95}"
    few = rows([0.9] * 5 + [0.1] * 95, "toxicity")
    many = rows([0.9] * 40 + [0.1] * 60, "toxicity")
    assert [judge(gate, TOXIC, result)[0].verdict for result in (few, many)] == ["pass", "fail"]


def test_missing_scores_that_could_change_the_verdict_make_it_untrusted() -> None:
    scores = [1.0] * 88 + [0.0] * 9 + ["server: 500"] * 3
    (result,) = judge(SURE % 0.83, EXACT, rows(scores, "exact_match"))
    assert (result.verdict, result.reason) == (
        "untrusted",
        "0.9072 on 97 of 100 answers, 0.88 to 0.91 with the rest: the provider failed on 3 (server)",
    )
    assert judge(SURE % 0.7, EXACT, rows(scores, "exact_match"))[0].verdict == "pass"


def test_min_coverage_is_set_per_gate() -> None:
    scores: list[float | str | None] = [1.0] * 90 + ["judge: unreadable"] * 10
    strict, easy = judge(
        "{metric: quality, min: 0.5}, {metric: quality, min: 0.5, min_coverage: 0.9}", GRADED, rows(scores, "quality")
    )
    assert (strict.verdict, strict.reason) == (
        "untrusted",
        "1 on 90 of 100 answers, 0.9 to 1 with the rest: the judge's reply was unreadable on 10",
    )
    assert easy.verdict == "pass"


def test_a_slice_gate_uses_its_samples_only_and_an_empty_slice_fails() -> None:
    topics = [{"topic": "law" if index % 4 == 0 else "art"} for index in range(40)]
    result = judge(
        "'exact_match[topic=law] >= 0.9', 'exact_match[topic=art] >= 0.9', 'exact_match[topic=sun] >= 0.9'",
        EXACT,
        rows([0.0 if index % 4 == 0 else 1.0 for index in range(40)], "exact_match", topics),
        design=Design(slices=("topic",)),
    )
    assert [(gate.verdict, gate.value, gate.slice) for gate in result] == [
        ("fail", 0.0, {"topic": "law"}),
        ("pass", 1.0, {"topic": "art"}),
        ("fail", None, {"topic": "sun"}),
    ]
    assert result[2].reason == "no sample applies: none has 'sun' in 'topic'"


def test_a_reducer_is_named_in_the_metric() -> None:
    design = Design(reducers=(parse_reducer("mean"), parse_reducer("pass_at_2")))
    scores = [(1.0, 0.0)] * 60 + [(0.0, 0.0)] * 40
    mean, either = judge(
        "exact_match >= 0.3, exact_match/v1/pass_at_2 >= 0.6",
        EXACT,
        rows(scores, "exact_match"),
        epochs=2,
        design=design,
    )
    assert (mean.metric, mean.value, mean.verdict) == ("exact_match/v1", 0.3, "pass")
    assert (either.metric, either.value, either.verdict) == ("exact_match/v1/pass_at_2", 0.6, "pass")


@pytest.mark.parametrize(
    ("rule", "metric", "value"),
    [
        ("metric: exact_match, min: 1, passes: 2, share: 0.7", "exact_match/v1/at_least_2", 0.7),
        ("metric: exact_match, max: 0, passes: 2, share: 0.2", "exact_match/v1/at_least_2", 0.3),
    ],
)
def test_per_sample_gates_count_passed_epochs(rule: str, metric: str, value: float) -> None:
    scores = [(1.0, 1.0, 0.0)] * 70 + [(1.0, 0.0, 0.0)] * 30
    plain, sure = judge(
        f"{{per_sample: {{{rule}}}}}, {{per_sample: {{{rule}}}, confidence: 0.95}}",
        EXACT,
        rows(scores, "exact_match"),
        epochs=3,
    )
    assert (plain.metric, plain.value, plain.verdict) == (metric, value, "pass")
    assert (sure.gate_low, sure.gate_high) == clopper_pearson(round(100 * value), 100, confidence=0.95)


def test_a_sample_with_too_few_scored_epochs_is_unscored() -> None:
    scores: list[list[float | str | None]] = [[1.0, "server: 500"]] * 4 + [[1.0, 1.0]] * 96
    gate = "{per_sample: {metric: exact_match, min: 1, passes: 2, share: 0.98}}"
    (result,) = judge(gate, EXACT, rows(scores, "exact_match"), epochs=2)
    assert result.verdict == "untrusted"
    assert result.reason == "1 on 196 of 200 answers, 0.96 to 1 with the rest: the provider failed on 4 (server)"


def test_clustered_samples_widen_the_interval() -> None:
    scores = [1.0] * 85 + [0.0] * 15
    apart = judge(SURE % 0.75, EXACT, rows(scores, "exact_match"))[0]
    passages = [{"passage": f"p{index // 10}"} for index in range(100)]
    design = Design(cluster="passage")
    related = judge(SURE % 0.75, EXACT, rows(scores, "exact_match", passages), design=design)[0]
    assert (apart.verdict, related.verdict) == ("pass", "inconclusive")


def test_too_few_clusters_are_inconclusive() -> None:
    passages = [{"passage": f"p{index % 3}"} for index in range(100)]
    (result,) = judge(
        SURE % 0.75, EXACT, rows([1.0] * 100, "exact_match", passages), design=Design(cluster="passage")
    )  # fmt: skip
    assert (result.verdict, result.reason) == (
        "inconclusive",
        "not conclusive: no interval: 3 clusters, at least 10 are needed",
    )


def test_more_epochs_are_suggested_where_they_would_help() -> None:
    mixed = [(1.0, 0.0)] * 30 + [(1.0, 1.0)] * 5 + [(0.0, 0.0)] * 5
    (result,) = judge("{metric: quality, min: 0.47, confidence: 0.95}", GRADED, rows(mixed, "quality"), epochs=2)
    assert result.verdict == "inconclusive"
    assert "more epochs would help as well" in result.details


OPEN = Measure("cost", Declaration(low=None, high=None, higher_is_better=False))


@pytest.mark.parametrize(
    ("base", "step", "between"),
    [(1e9, 1.0, "between 1,000,000,000.47 and 1,000,000,000.53"), (0.0, 4e-7, "between 1.896e-07 and 2.104e-07")],
)
def test_a_reason_tells_the_ends_of_large_and_tiny_intervals_apart(base: float, step: float, between: str) -> None:
    scores = [base + step * (place % 2) for place in range(1000)]
    (result,) = judge(f"{{metric: cost, max: {base + step / 2!r}, confidence: 0.95}}", OPEN, rows(scores, "cost"))
    assert result.verdict == "inconclusive"
    assert result.reason.startswith(between), result.reason
