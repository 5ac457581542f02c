"""Paired tests: known values, agreement with other software, error rates by enumeration."""

from __future__ import annotations

import math
import random

import pytest

from evalrunner.stats.distributions import difference_tail
from evalrunner.stats.hypothesis_tests import (
    ALPHA,
    NonInferiority,
    SamplesToDecide,
    cluster_inflation,
    holm,
    mcnemar,
    non_inferiority,
    paired_p_values,
    samples_to_prove_equivalence,
    tango,
    tango_score,
)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((40, 20, 160), 0.03086, 0.21806),
        ((12, 2, 50), 0.06111, 0.34471),
        ((209, 152, 1319), 0.01505, 0.07146),
        ((0, 0, 50), -0.07135, 0.07135),
    ],
)
def test_tangos_interval_has_its_known_values(counts: tuple[int, int, int], low: float, high: float) -> None:
    assert tango(*counts) == (pytest.approx(low, abs=6e-6), pytest.approx(high, abs=6e-6))


def test_tangos_interval_mirrors_with_the_pair() -> None:
    low, high = tango(12, 2, 50)
    assert tango(2, 12, 50) == (pytest.approx(-high), pytest.approx(-low))
    assert tango(50, 0, 50)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(("b", "c"), [(209, 152), (0, 0), (5, 0), (0, 5), (7, 7), (1, 4)])
def test_mcnemar_matches_statsmodels(b: int, c: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    assert mcnemar(b, c) == pytest.approx(float(tables.mcnemar([[3, b], [c, 4]], exact=True).pvalue), abs=1e-9)
    binomtest = pytest.importorskip("scipy.stats").binomtest
    if b + c:
        one_sided = float(binomtest(b, b + c, alternative="greater").pvalue)
        assert mcnemar(b, c, sides=1) == pytest.approx(one_sided, abs=1e-9)


def test_mcnemar_of_the_recorded_models() -> None:
    assert mcnemar(209, 152) == pytest.approx(0.00315, abs=5e-6)


def test_holm_matches_statsmodels() -> None:
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    for p_values in ([0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.9], [0.0, 1.0]):
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == ()


def pairs(b: int, c: int, n: int) -> list[float]:
    return [1.0] * b + [-1.0] * c + [0.0] * (n - b - c)


@pytest.mark.parametrize(("max_drop", "decision"), [(0.01, "fail"), (0.05, "inconclusive"), (0.07, "pass")])
def test_a_drop_is_decided_by_both_ends_of_its_interval(max_drop: float, decision: str) -> None:
    result = non_inferiority(pairs(209, 152, 1319), max_drop=max_drop)
    assert (result.decision, result.method, result.n) == (decision, "tango", 1319)
    assert (result.estimate, result.low, result.high) == (
        pytest.approx(0.0432, abs=5e-5),
        pytest.approx(0.0196, abs=5e-5),
        pytest.approx(0.0669, abs=5e-5),
    )
    assert result.worse


def test_an_inconclusive_test_reports_the_rows_needed_to_decide() -> None:
    result = non_inferiority(pairs(4, 4, 40), max_drop=0.02)
    assert (result.decision, result.rows, result.worse) == ("inconclusive", SamplesToDecide(1353, 3093), False)
    at_the_bound = non_inferiority(pairs(5, 4, 50), max_drop=0.02)
    assert at_the_bound.rows == SamplesToDecide(None, None)  # no practical number


def test_rows_needed_exceed_the_rows_that_did_not_decide() -> None:
    drops = [1] * 8 + [-1] * 4 + [0] * 188
    result = non_inferiority(drops, max_drop=0.05)
    assert result.high is not None and result.high > 0.05 and result.rows is not None
    assert (result.decision, result.rows.even) == ("inconclusive", 201)
    clusters = [place % 20 for place in range(600)]  # equal pairs count as one for each cluster
    related = non_inferiority([0.0] * 600, max_drop=0.05, clusters=clusters)
    assert (related.decision, related.rows) == ("inconclusive", SamplesToDecide(1957, 1957))
    more = non_inferiority([0.0] * 600, max_drop=0.05, clusters=[place // 10 for place in range(600)])
    assert more.decision == "pass"


def test_an_identical_run_passes_given_enough_rows() -> None:
    assert samples_to_prove_equivalence(0.02) == 149  # .98 to the power of 149 is below .05
    assert samples_to_prove_equivalence(0.02, alpha=0.005) == 326  # below, Tango's interval decides
    assert [samples_to_prove_equivalence(drop) for drop in (0.0, 1.0)] == [None, None]
    result = non_inferiority(pairs(0, 0, 148), max_drop=0.02)
    assert (result.decision, result.rows) == ("inconclusive", SamplesToDecide(149, 149))
    assert result.p_pass == pytest.approx(0.98**148)
    assert result.note == "no pair differs, but there are too few to rule out the drop"
    assert non_inferiority(pairs(0, 0, 149), max_drop=0.02).decision == "pass"


def test_no_pairs_are_inconclusive() -> None:
    assert non_inferiority([], max_drop=0.02) == NonInferiority(
        None, None, None, "inconclusive", 0, 0.02, None, note="no pairs"
    )


def test_graded_scores_are_padded_with_a_pseudo_pair_at_each_end() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    draw = random.Random(2)
    drops = [draw.gauss(0.01, 0.1) for _ in range(60)]
    result = non_inferiority(drops, max_drop=0.05, span=1.0)
    other = scipy_stats.ttest_1samp([*drops, 1.0, -1.0], 0.05, alternative="less")
    assert result.p_pass == pytest.approx(float(other.pvalue), abs=1e-9)
    bounds = scipy_stats.ttest_1samp([*drops, 1.0, -1.0], 0.05).confidence_interval(0.9)
    assert (result.low, result.high) == (pytest.approx(bounds.low, abs=1e-9), pytest.approx(bounds.high, abs=1e-9))
    assert result.estimate == pytest.approx(math.fsum(drops) / 60)


def test_few_graded_pairs_and_few_clusters_are_inconclusive() -> None:
    few = non_inferiority([0.0] * 19, max_drop=0.9, span=1.0)
    assert (few.decision, few.note) == ("inconclusive", "19 pairs; at least 20 are needed")
    nine = non_inferiority([0.0] * 400, max_drop=0.5, clusters=[place % 9 for place in range(400)])
    assert (nine.decision, nine.note) == ("inconclusive", "9 clusters; at least 10 are needed")


def test_clusters_widen_the_interval_of_a_drop() -> None:
    drops = [1.0 if place // 10 % 8 == 0 else 0.0 for place in range(800)]  # whole clusters differ
    alone = non_inferiority(drops, max_drop=0.15)
    clusters = [place // 10 for place in range(800)]
    result = non_inferiority(drops, max_drop=0.15, clusters=clusters)
    assert (alone.decision, result.decision, result.method) == ("pass", "inconclusive", "tango-clustered")
    graded = non_inferiority([drop / 2 for drop in drops], max_drop=0.08, span=1.0, clusters=clusters)
    assert (graded.decision, graded.method) == ("inconclusive", "t-padded-clustered")


def test_a_constant_drop_is_not_widened_by_rounding() -> None:
    clusters = [place // 4 for place in range(40)]
    befores = [0.1 + 0.2 * cluster for cluster in clusters]
    steady = [before - (before - 0.02) for before in befores]  # .02, but for the last bits
    assert len(set(steady)) > 1
    result = non_inferiority(steady, max_drop=0.05, span=1.0, clusters=clusters)
    equal = non_inferiority([0.02] * 40, max_drop=0.05, span=1.0, clusters=clusters)
    assert (result.low, result.high) == (pytest.approx(equal.low), pytest.approx(equal.high))


def test_all_or_nothing_graded_scores_must_also_pass_the_binary_test() -> None:
    result = non_inferiority([0.0] * 50, max_drop=0.05, span=1.0)
    assert (result.decision, result.p_pass) == ("inconclusive", non_inferiority([0.0] * 50, max_drop=0.05).p_pass)
    scaled = non_inferiority([0.0] * 50, max_drop=0.5, span=10.0)
    assert (scaled.p_pass, scaled.high) == (result.p_pass, pytest.approx(10 * (result.high or 0)))


def deciding_at_margin(n: int, margin: float, discordance: float, decision: str) -> float:
    """How often a model that sits exactly at the margin is decided so: over every possible outcome."""
    worse, better = (discordance + margin) / 2, max(0.0, discordance - margin) / 2
    logs = [math.lgamma(k + 1) for k in range(n + 1)]
    result = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            if better == 0 and c:
                break
            chance = math.exp(
                logs[n] - logs[b] - logs[c] - logs[n - b - c]
                + b * math.log(worse) + (c * math.log(better) if c else 0.0) + (n - b - c) * math.log1p(-discordance)
            )  # fmt: skip
            p = paired_p_values(b, c, n, max_drop=margin) if chance > 1e-9 else None
            if p is not None and (p.p_pass if decision == "pass" else p.p_fail) <= ALPHA:
                result += chance
    return result


@pytest.mark.parametrize("decision", ["pass", "fail"])
@pytest.mark.parametrize("n", [50, 133])
@pytest.mark.parametrize("margin", [0.02, 0.05])
def test_error_rates_at_the_margin_from_the_least_discordance_up(n: int, margin: float, decision: str) -> None:
    for discordance in (margin, 0.1, 0.3):
        assert deciding_at_margin(n, margin, discordance, decision) <= 0.05


def test_tangos_score_alone_rejects_too_often_at_low_discordance() -> None:
    counts = [(b, math.comb(200, b) * 0.03**b * 0.97 ** (200 - b)) for b in range(201)]
    failing = sum(chance for b, chance in counts if tango_score(b, 0, 200, 0.03) >= 1.6448536269514722)
    exact = sum(chance for b, chance in counts if paired_p_values(b, 0, 200, max_drop=0.03).p_fail <= ALPHA)
    assert exact <= 0.05 < 0.08 < failing


def test_difference_tails_match_their_exact_sum() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for n, up, down in ((50, 0.03, 0.01), (200, 0.06, 0.01), (60, 0.2, 0.1), (40, 0.3, 0.7)):
        for least in (-n, -3, 0, 2, 5, 9, 14, n, n + 1):
            exact = sum(
                binom.pmf(c, n, down) * binom.sf(least + c - 1, n - c, up / (1 - down)) for c in range(n + 1)
            )  # fmt: skip
            found = difference_tail(least, n, up, down)
            if up + down < 1:
                assert found == pytest.approx(exact, rel=0.005 if exact < 0.3 else 0.03, abs=1e-9)
            else:
                assert 0 <= found <= 1
    assert difference_tail(3, 30, 0.1, 0.0) == pytest.approx(float(binom.sf(2, 30, 0.1)))


def test_a_drop_that_only_tangos_interval_shows_does_not_fail() -> None:
    drops = pairs(4, 0, 50)
    result = non_inferiority(drops, max_drop=0.0201)
    assert tango_score(4, 0, 50, 0.0201) > 1.6448536269514722 and result.low is not None and result.low > 0.0201
    assert (result.decision, result.note) == (
        "inconclusive", "so few changed samples need an exact test, which is stricter than the interval",
    )  # fmt: skip
    assert non_inferiority(pairs(6, 0, 50), max_drop=0.0201).decision == "fail"


def test_tests_of_clustered_pairs_use_students_tail_at_every_level() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    draw = random.Random(3)
    drops = [draw.choice([1.0, 0.0, 0.0, -1.0]) for _ in range(300)]
    clusters = [place % 30 for place in range(300)]
    inflation, df = cluster_inflation(drops, clusters)
    b, c = drops.count(1.0), drops.count(-1.0)
    for alpha in (0.05, 0.005):
        result = non_inferiority(drops, max_drop=0.05, clusters=clusters, alpha=alpha)
        score = tango_score(b / inflation, c / inflation, 300 / inflation, 0.05)
        assert result.p_fail == pytest.approx(float(scipy_stats.t.sf(score, df)), abs=1e-9)
        assert result.p_pass == pytest.approx(float(scipy_stats.t.cdf(score, df)), abs=1e-9)
        assert result.low is not None and result.high is not None
        quantile = float(scipy_stats.t.ppf(1 - alpha, df))
        for end, sign in ((result.low, 1), (result.high, -1)):
            at = tango_score(b / inflation, c / inflation, 300 / inflation, end)
            assert at == pytest.approx(sign * quantile, rel=0.02)
