"""What a gate will be able to decide: the true values that it passes, calls worse and fails in four of five runs. Pure.

For 0/1 scores every outcome is gone through with the functions that give the verdict; for graded scores the spread of
earlier scores goes into the formula of their test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from evalrunner.baselines.file import Baseline, BaselineRow
from evalrunner.domain import Metric
from evalrunner.gates.decision import in_family
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import baseline_side
from evalrunner.gates.threshold import false_failure_rate, meets
from evalrunner.stats.aggregates import gate_bounds
from evalrunner.stats.betting_power import BettingPower
from evalrunner.stats.distributions import normal_quantile, t_quantile, variance
from evalrunner.stats.enumeration import (
    DISCORDANCES,
    PairedTest,
    least_count,
    samples_for_equal_model,
    share_for_at_least,
    share_for_at_most,
)
from evalrunner.stats.hypothesis_tests import ALPHA, MAX_ROW_FACTOR, MIN_GRADED_PAIRS
from evalrunner.stats.power import CI_WIDTH, POWER, PairedSpread, paired_spread, smallest_drop
from evalrunner.stats.tally import ANY_SCORE

POINT_POWER: Final = 0.95  # of the true values stated for a gate without confidence, which always decides
MAX_EQUAL: Final = 10_000  # equal scores to look for a decision in
NO_SEQUENTIAL_POWER: Final = "sequential tests are simulated for 0/1 scores without clusters only"


@dataclass(frozen=True, slots=True)
class Case:
    """The true values that pass, are called worse, and fail, each with the stated power; None where no value does.

    For a gate on a baseline they are drops (negative: gains), if a share `discordance` of the samples changes.
    """

    passes: float | None
    worse: float | None
    fails: float | None
    discordance: float | None = None


@dataclass(frozen=True, slots=True)
class GatePower:
    """What one gate on one target can decide with `n` samples.

    `cases` has one entry, or one for each assumed discordance. `pairs` of earlier runs are behind it, if any. `samples`
    are how many let a model as good as the baseline pass with 80% power, the least and the most over plausible
    discordances; or for a threshold how many decide if the last value is the true one. `false_failures` is how often a
    gate without confidence fails if the last value is the true one. `unknown` says why there is no case.
    """

    gate: Gate
    target: str
    n: int
    cases: tuple[Case, ...] = ()
    pairs: int | None = None
    samples: tuple[int, int] | None = None
    false_failures: float | None = None
    unknown: str | None = None


@dataclass(frozen=True, slots=True)
class EarlierPairs:
    """The spread of the differences between a baseline and a later run, and the share of pairs that differ.

    `deff` is the factor by which clusters inflate their variance.
    """

    spread: PairedSpread
    discordance: float
    deff: float = 1.0


@dataclass(frozen=True, slots=True)
class Family:
    """How many gates share a correction with a gate: that of its fail, and for a required improvement that of its pass."""

    fails: int = 1
    gains: int = 1


def family_of(gate: Gate, planned: Sequence[Gate]) -> Family:
    """The family of a gate among all planned ones, each target and slice counted."""
    if not in_family(gate):
        return Family()
    members = [one for one in planned if in_family(one)]
    return Family(len(members), sum(1 for one in members if one.spec.baseline is not None))


def regression_power(gate: Gate, target: str, n: int, *, family: Family, earlier: EarlierPairs | None) -> GatePower:
    """The power of a gate on a baseline."""
    if gate.spec.sequential:
        return _sequential_drop_power(gate, target, n, family, earlier)
    if gate.estimand.is_share:
        return _binary_power(gate, target, n, family, earlier)
    if earlier is None:
        return GatePower(
            gate, target, n, unknown="the spread of the differences; known from a baseline and one more run"
        )
    if n < MIN_GRADED_PAIRS:
        return GatePower(
            gate, target, n, unknown=f"graded scores are not decided on fewer than {MIN_GRADED_PAIRS} pairs"
        )
    return _graded_power(gate, target, n, family, earlier.spread)


def _binary_power(gate: Gate, target: str, n: int, family: Family, earlier: EarlierPairs | None) -> GatePower:
    improved, alpha = gate.spec.kind == "improved", _alpha(gate)
    deff, df = (1.0, None) if earlier is None else (earlier.deff, earlier.spread.df)
    test = PairedTest(
        max(1, round(n / deff)), None if improved else gate.spec.bound,
        alpha / family.gains if improved else alpha, alpha / family.fails, df,
    )  # fmt: skip
    discordances = DISCORDANCES if earlier is None else (earlier.discordance,)
    cases = tuple(
        Case(
            test.drop_for("pass", discordance=psi),
            test.drop_for("worse", discordance=psi),
            test.drop_for("fail", discordance=psi),
            psi,
        )
        for psi in discordances
    )
    samples = None
    if not improved:
        ends = (DISCORDANCES[0], DISCORDANCES[-1]) if earlier is None else discordances
        counts = [samples_for_equal_model(gate.spec.bound, discordance=psi, alpha=alpha, df=df) for psi in ends]
        known = [math.ceil(count * deff) for count in counts if count is not None]
        samples = (min(known), max(known)) if known else None
    return GatePower(gate, target, n, cases, None if earlier is None else earlier.spread.pairs, samples)


def _graded_power(gate: Gate, target: str, n: int, family: Family, spread: PairedSpread) -> GatePower:
    alpha, span = _alpha(gate), gate.estimand.sample_width or 0.0

    def distance(level: float, power: float = POWER) -> float:
        """From a bound to the true drop that is significantly different from it with this power."""
        return smallest_drop(n=n, variance=spread.variance, df=spread.df, span=span, alpha=level, power=power)

    if gate.spec.kind == "improved":
        case = Case(-distance(alpha / family.gains), None, distance(alpha / family.fails))
        return GatePower(gate, target, n, (case,), spread.pairs)
    not_passed = gate.spec.bound - distance(alpha, 1 - POWER)
    case = Case(
        gate.spec.bound - distance(alpha),
        max(not_passed, distance(ALPHA)),
        gate.spec.bound + distance(alpha / family.fails),
    )
    samples = None
    if gate.spec.bound > 0:
        needed = math.ceil(n * (distance(alpha) / gate.spec.bound) ** 2)
        samples = (needed, needed)
    return GatePower(gate, target, n, (case,), spread.pairs, samples)


def threshold_power(
    gate: Gate, target: str, n: int, *, family: Family, last: Metric | None, clustered: bool = False
) -> GatePower:
    """The power of a gate on a threshold. `last` is its metric in the last run, which tells the spread of the scores."""
    chance = None
    if gate.spec.kind == "point" and last is not None:
        chance = false_failure_rate(gate, last, n, clustered=clustered)
    if gate.spec.operator == "==" or not gate.estimand.aggregate.has_interval:
        return GatePower(gate, target, n, false_failures=chance)
    if gate.spec.sequential and gate.spec.confidence is not None:
        return _sequential_share_power(gate, target, n, family, clustered=clustered)
    error_at = _error_at(gate, n, last)
    samples = None if error_at is None or last is None else _samples_to_decide(gate, n, family, last, error_at)
    if gate.estimand.is_share and not clustered:
        if last is not None and last.value in (0.0, 1.0):  # no spread to go by
            samples = _samples_if_all_are_equal(gate, family, last.value)
        case = _share_case(gate, n, family.fails)
    elif error_at is not None:
        case = _mean_case(gate, n, family.fails, error_at)
    else:
        return GatePower(
            gate, target, n, unknown="the spread of the scores; known after one run", false_failures=chance
        )
    return GatePower(gate, target, n, (case,), samples=samples, false_failures=chance)


def _sequential_drop_power(gate: Gate, target: str, n: int, family: Family, earlier: EarlierPairs | None) -> GatePower:
    """The power of a sequential gate on pairs of 0/1 scores; never called worse, as it decides or does not."""
    if not gate.estimand.is_share or (earlier is not None and earlier.spread.df is not None):
        return GatePower(gate, target, n, unknown=NO_SEQUENTIAL_POWER)
    margin = 0.0 if gate.spec.kind == "improved" else gate.spec.bound
    alpha = _alpha(gate) / (family.fails if gate.spec.kind == "improved" else 1)
    # a drop, no change and a gain, as gates/sequential.py places them in 0..1
    test = BettingPower((0.0, 0.5, 1.0), (1 - margin) / 2, n, alpha=alpha, fail_alpha=_alpha(gate) / family.fails)
    cases: list[Case] = []
    for psi in (DISCORDANCES[0], DISCORDANCES[-1]) if earlier is None else (earlier.discordance,):

        def shares(drop: float, psi: float = psi) -> tuple[float, float, float]:
            differing = max(psi, abs(drop))
            return (differing + drop) / 2, 1 - differing, (differing - drop) / 2

        passes, fails = test.value_for("pass", shares, (-1.0, margin)), test.value_for("fail", shares, (1.0, margin))
        cases.append(Case(passes, None, fails, psi))
    return GatePower(gate, target, n, tuple(cases), None if earlier is None else earlier.spread.pairs)


def _sequential_share_power(gate: Gate, target: str, n: int, family: Family, *, clustered: bool) -> GatePower:
    """The power of a sequential gate on a share."""
    if not gate.estimand.is_share or clustered:
        return GatePower(gate, target, n, unknown=NO_SEQUENTIAL_POWER)
    higher, bound = gate.spec.operator in (">=", ">"), gate.spec.bound
    kinds = (1.0, 0.0) if higher else (0.0, 1.0)
    test = BettingPower(
        kinds, bound if higher else 1 - bound, n, alpha=_alpha(gate), fail_alpha=_alpha(gate) / family.fails
    )  # fmt: skip
    best, worst = kinds
    passes = test.value_for("pass", lambda share: (share, 1 - share), (best, bound))
    fails = test.value_for("fail", lambda share: (share, 1 - share), (worst, bound))
    return GatePower(gate, target, n, (Case(passes, None, fails),))


def _share_case(gate: Gate, n: int, tests: int) -> Case:
    """The true shares that pass and fail, by the function that gives the verdict at every count of n."""
    higher = gate.spec.operator in (">=", ">")
    power = POINT_POWER if gate.spec.confidence is None else POWER

    def good(count: int) -> bool:
        """Whether a count passes."""
        return _meets(gate, n, count, good=False, level=_alpha(gate))

    def bad(count: int) -> bool:
        """Whether a count fails."""
        return not _meets(gate, n, count, good=True, level=_alpha(gate) / tests)

    if higher:
        least, most = least_count(n, good), least_count(n, lambda count: not bad(count)) - 1
        return Case(share_for_at_least(least, n, power), None, share_for_at_most(most, n, power))
    most, least = least_count(n, lambda count: not good(count)) - 1, least_count(n, bad)
    return Case(share_for_at_most(most, n, power), None, share_for_at_least(least, n, power))


def _meets(gate: Gate, n: int, count: int, *, good: bool, level: float) -> bool:
    """Whether the bound on the good or the bad side of a share of `count` of n meets the threshold."""
    if gate.spec.confidence is None:
        return meets(gate, count / n)
    high = gate.estimand.threshold if gate.estimand.aggregate.always_share else 1.0
    low = high - 1.0
    bounds = gate_bounds(gate.estimand, [high] * count + [low] * (n - count), confidence=1 - level)
    end = bounds.high if good == (gate.spec.operator in (">=", ">")) else bounds.low
    return end is not None and meets(gate, end)


def _error_at(gate: Gate, n: int, last: Metric | None) -> Callable[[float], float] | None:
    """The standard error of a metric over n samples at each true value, from its interval in the last run.

    A mean in a bounded range has the error of a share of as many effective yes/no outcomes.
    """
    if (
        last is None
        or last.value is None
        or last.low is None
        or last.high is None
        or last.n < 2
        or last.high <= last.low
    ):
        return None
    (low, high), value = gate.estimand.bounds, last.value
    error = (last.high - last.low) / CI_WIDTH * math.sqrt(last.n / n)
    if low is None or high is None or not low < value < high or not gate.estimand.aggregate.paired:
        return lambda _: error
    variances = (value - low) * (high - value)

    def error_at(true: float) -> float:
        inside = min(max(true, low), high)
        return error * math.sqrt((inside - low) * (high - inside) / variances)

    return error_at


def _mean_case(gate: Gate, n: int, tests: int, error_at: Callable[[float], float]) -> Case:
    """The same for other metrics: a quantile of the test and one of the power away from the threshold."""
    (low, high), bound = gate.estimand.bounds, gate.spec.bound
    side = 1.0 if gate.spec.operator in (">=", ">") else -1.0
    df, tested_error = max(1.0, n - 1.0), error_at(bound)
    if (
        gate.estimand.aggregate.paired and low is not None and high is not None
    ):  # the test adds a value at each end of the range
        tested_error = math.hypot(tested_error, math.hypot(bound - low, high - bound) / n)

    def value_for(sign: float, level: float, power: float) -> float | None:
        edge = bound if gate.spec.confidence is None else bound + sign * t_quantile(1 - level, df) * tested_error
        value = edge
        for _ in range(20):  # the error depends on the value
            value = edge + sign * t_quantile(power, df) * error_at(value)
        beyond = (high is not None and value >= high) or (low is not None and value <= low)
        return None if beyond else value

    power = POINT_POWER if gate.spec.confidence is None else POWER
    alpha = _alpha(gate)
    return Case(value_for(side, alpha, power), None, value_for(-side, alpha / tests, power))


def _samples_to_decide(
    gate: Gate, n: int, family: Family, last: Metric, error_at: Callable[[float], float]
) -> tuple[int, int] | None:
    """How many samples decide with 80% power if the last value is the true one; None beyond a practical number."""
    if last.value is None or gate.spec.confidence is None:
        return None
    level = _alpha(gate) if meets(gate, last.value) else _alpha(gate) / family.fails
    width = normal_quantile(1 - level) * error_at(gate.spec.bound) + normal_quantile(POWER) * error_at(last.value)
    gap = abs(last.value - gate.spec.bound)
    if width > gap * math.sqrt(MAX_ROW_FACTOR):
        return None
    needed = math.ceil(n * (width / gap) ** 2)
    return needed, needed


def _samples_if_all_are_equal(gate: Gate, family: Family, share: float) -> tuple[int, int] | None:
    """How many samples decide if all of them count into the share, or none."""
    if gate.spec.confidence is None:
        return None

    def decides(n: int) -> bool:
        if n == 0:
            return False
        count = round(share * n)
        passes = _meets(gate, n, count, good=False, level=_alpha(gate))
        return passes or not _meets(gate, n, count, good=True, level=_alpha(gate) / family.fails)

    needed = least_count(MAX_EQUAL, decides)
    return None if needed > MAX_EQUAL else (needed, needed)


def _alpha(gate: Gate) -> float:
    return 1 - (gate.spec.confidence or 1 - ALPHA)


def earlier_pairs(
    gate: Gate, baseline: Baseline, partner: str, rows: Iterable[BaselineRow], *, epochs: int,
    clusters: Mapping[str, str] | None = None,
) -> EarlierPairs | None:  # fmt: skip
    """The differences between a baseline's target and the rows of one target of another run; None if they tell nothing.

    `clusters` are by sample id, if samples are clustered; a sample without one is its own.
    """
    differences: list[float] = []
    names: list[str] = []
    within: list[float] = []
    for row in rows:
        other = baseline.rows.get((partner, row.key.id))
        if other is None or other.key != row.key:
            continue
        before, now = (baseline_side(gate, side, ANY_SCORE) for side in (other, row))
        if before is None or now is None or before.value is None or now.value is None:
            continue
        differences.append(gate.estimand.of_sample(before.value) - gate.estimand.of_sample(now.value))
        names.append((clusters or {}).get(row.key.id) or row.key.id)
        within.append(_epoch_variance(side.scores.get(gate.measure.name, ()) for side in (other, row)))
    spread = paired_spread(
        differences,
        clusters=None if clusters is None else names,
        within=within if gate.reducer.kind == "mean" else None,
        epochs=epochs,
        planned=gate.epochs,
    )
    if spread is None:
        return None
    unrelated = variance(differences) * len(differences) / (len(differences) - 1)
    deff = max(1.0, spread.variance / unrelated) if clusters is not None else 1.0
    return EarlierPairs(spread, sum(1 for one in differences if one) / len(differences), deff)


def _epoch_variance(sides: Iterable[Sequence[float | None]]) -> float:
    """The sum over both runs of the variance between the epochs of a sample (ddof 1)."""
    scores = [[value for value in side if value is not None] for side in sides]
    return math.fsum(variance(values) * len(values) / (len(values) - 1) for values in scores if len(values) > 1)
