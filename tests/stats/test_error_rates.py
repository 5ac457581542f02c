"""How often intervals cover and gates err: a fast part of benchmarks/coverage.py, with fixed seeds."""

from __future__ import annotations

import numpy
import pytest

from evalrunner.stats.aggregates import Estimand, gate_bounds, metric_interval
from evalrunner.stats.hypothesis_tests import holm, non_inferiority, tango_score
from evalrunner.stats.power import smallest_drop

stats = pytest.importorskip("scipy.stats")
REPEATS = 1_500
GRADED = Estimand(low=0.0, high=1.0)


def plausible(hits: int, low: float, high: float, repeats: int = REPEATS) -> bool:
    """Whether neither "the rate is at most high" nor "at least low" is refuted at .001."""
    return bool(stats.binom.sf(hits - 1, repeats, high) >= 0.001 and stats.binom.cdf(hits, repeats, low) >= 0.001)


@pytest.mark.parametrize("n", [20, 100])
def test_coverage_of_graded_means_where_students_t_fails(n: int) -> None:
    generator = numpy.random.default_rng(11)
    drawn = numpy.where(generator.random((REPEATS, n)) < 0.9, 1.0, generator.beta(2, 2, (REPEATS, n)))
    result = [metric_interval(GRADED, values) for values in drawn.tolist()]
    covered = sum((each.low or 0) <= 0.95 <= (each.high or 0) for each in result)
    assert plausible(covered, 0.93, 0.98)
    half = stats.t.ppf(0.975, n - 1) * drawn.std(axis=1, ddof=1) / n**0.5
    plain = int((abs(drawn.mean(axis=1) - 0.95) <= half).sum())
    assert plain < covered and (n > 20 or not plausible(plain, 0.93, 0.98))


@pytest.mark.parametrize("n", [30, 100])
def test_coverage_of_lognormal_means_where_students_t_fails(n: int) -> None:
    generator = numpy.random.default_rng(17)
    drawn, mean = generator.lognormal(0, 1, (REPEATS, n)), numpy.exp(0.5)
    result = [metric_interval(Estimand(), values) for values in drawn.tolist()]
    assert plausible(sum((each.low or 0) <= mean <= (each.high or 0) for each in result), 0.93, 0.98)
    half = stats.t.ppf(0.975, n - 1) * drawn.std(axis=1, ddof=1) / n**0.5
    assert not plausible(int((abs(drawn.mean(axis=1) - mean) <= half).sum()), 0.95, 0.98)
    missed = sum((gate_bounds(Estimand(), values, confidence=0.95).high or 0) < mean for values in drawn.tolist())
    assert plausible(missed, 0.0, 0.055)


@pytest.mark.parametrize("share", [0.8, 0.95])
def test_coverage_of_ten_clusters_that_are_nearly_one_answer_each(share: float) -> None:
    generator, clusters = numpy.random.default_rng(18), [place // 20 for place in range(200)]
    shape = 0.3 / 0.7  # ICC .7
    covered = 0
    for centres in generator.beta(share * shape, (1 - share) * shape, (REPEATS, 10)):
        values = (generator.random(200) < centres[clusters]).astype(float).tolist()
        result = metric_interval(Estimand(binary=True), values, clusters=clusters)
        covered += (result.low or 0) <= share <= (result.high or 0)
    assert plausible(covered, 0.93, 1.0)


def test_coverage_of_clustered_intervals_and_of_ignoring_clusters() -> None:
    generator = numpy.random.default_rng(12)
    clusters = [place // 10 for place in range(200)]
    heeded = ignored = 0
    for _ in range(REPEATS):
        centres = generator.beta(0.8 * 7 / 3, 0.2 * 7 / 3, 20)[clusters]  # ICC .3
        values = (generator.random(200) < centres).astype(float).tolist()
        for way in (clusters, None):
            result = metric_interval(Estimand(binary=True), values, clusters=way)
            inside = (result.low or 0) <= 0.8 <= (result.high or 0)
            heeded, ignored = heeded + (inside and way is not None), ignored + (inside and way is None)
    assert plausible(heeded, 0.87, 0.99)
    assert ignored < 0.8 * REPEATS


@pytest.mark.parametrize("icc", [0.0, 0.3])
def test_false_pass_rate_of_a_clustered_model_at_the_margin(icc: float) -> None:
    generator = numpy.random.default_rng(13)
    clusters = [place // 5 for place in range(100)]
    shares = [0.125, 0.075, 0.8]  # a drop of .05, a fifth of the pairs differing
    hits = 0
    for _ in range(REPEATS):
        alone, common = (generator.choice([1.0, -1.0, 0.0], size, p=shares) for size in (100, 20))
        drops = numpy.where(generator.random(100) < icc**0.5, common[clusters], alone).tolist()
        hits += non_inferiority(drops, max_drop=0.05, clusters=clusters).decision == "pass"
    assert plausible(hits, 0.0, 0.065)


@pytest.mark.parametrize("n", [20, 50, 200])
def test_false_pass_rate_of_a_graded_model_with_rare_large_drops(n: int) -> None:
    generator = numpy.random.default_rng(14)
    large = generator.random((REPEATS, n)) < 0.05
    noise = generator.normal(0, 0.02, (REPEATS, n))
    for drawn in (large.astype(float), numpy.where(large, 0.81, 0.01) + noise):
        result = [non_inferiority(drops, max_drop=0.05, span=1.0).decision for drops in drawn.tolist()]
        assert plausible(result.count("pass"), 0.0, 0.065)


def test_holm_controls_the_false_fail_rate_of_five_gates() -> None:
    generator = numpy.random.default_rng(15)
    plain = corrected = 0
    for _ in range(REPEATS):
        counts = generator.multinomial(500, [0.115, 0.085, 0.8], size=5)
        p_values = [float(stats.norm.sf(tango_score(int(b), int(c), 500, 0.03))) for b, c, _ in counts]
        plain, corrected = plain + (min(p_values) <= 0.05), corrected + (min(holm(p_values)) <= 0.05)
    assert plausible(corrected, 0.0, 0.055)
    assert plausible(plain, 0.18, 0.26)


def test_the_smallest_detectable_drop_is_found_with_80_percent_power() -> None:
    generator = numpy.random.default_rng(16)
    for spread in (0.1, 0.3):  # constant scores, where the pseudo-pairs are most of the width, and others
        graded = smallest_drop(n=100, variance=spread**2, span=1.0)
        drawn = generator.normal(graded, spread, (REPEATS, 100)).tolist()
        result = sum(non_inferiority(drops, max_drop=0.0, span=1.0).decision == "fail" for drops in drawn)
        assert plausible(result, 0.77, 0.86)
