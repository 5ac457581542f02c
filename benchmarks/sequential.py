"""Error rates, rows used and power of sequential gates, by simulation with fixed seeds: `docs/statistics.md` quotes them.

    python benchmarks/sequential.py

Runs are simulated with their completion order: each worker takes the next sample, and a wrong answer takes twice as long
as a right one on average. The monitor looks at the contiguous first samples after every answer.
"""

from __future__ import annotations

import argparse
import random
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt
from scipy import stats

from evalrunner.gates.sequential import LATER_LOOK_SHARE, WAIT_FACTOR
from evalrunner.stats.sequential import BETS, TIE, SequentialTest, ShareTest

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

ALPHA = 0.05
SEED = 20261128


def crossings(values: Array, null: float, *, alpha: float, total: int | None = None, start: int = 0) -> Counts:
    """After how many of its values the test of each row of `values` rejects "the mean is at most `null`".

    One more than there are values where it never does. It is `BettingTest` for many runs at once; before `start` values
    it rejects nothing.
    """
    runs, n = values.shape
    bets, capital = np.asarray(BETS), np.ones((runs, len(BETS)))
    first, sums = np.full(runs, n + 1), np.zeros(runs)
    for place in range(n):
        column = values[:, place]
        means = np.full(runs, null) if total is None else (total * null - sums) / (total - place)
        sums += column
        certain = (means < -TIE) | ((means <= TIE) & (column > TIE))
        playing = means > TIE
        gains = np.where(playing, column / np.where(playing, means, 1.0) - 1.0, 0.0)
        capital *= 1.0 + bets * gains[:, None]
        reached = certain | (capital.mean(axis=1) * alpha >= 1.0)
        first[(first > n) & reached & (place >= start)] = place + 1
    return first


def completion_times(values: Array, workers: int, rng: np.random.Generator) -> Array:
    """When each sample is complete: wrong answers (0) take twice as long as right ones (1) on average."""
    runs, n = values.shape
    free = np.zeros((runs, workers))
    ends = np.empty((runs, n))
    rows = np.arange(runs)
    noise = rng.gamma(4.0, 0.25, (runs, n))
    for place in range(n):
        worker = free.argmin(axis=1)
        ends[:, place] = free[rows, worker] + (2.0 - values[:, place]) * noise[:, place]
        free[rows, worker] = ends[:, place]
    return ends


def rows_used(values: list[float], bound: float, workers: int, draw: random.Random, *, noisy: bool) -> float:
    """The share of samples that a run starts: few while those in flight may decide, none after the decision.

    It is the loop of `engine/runner.py` with the monitor of `gates/sequential.py`, in simulated time.
    """
    test, n = SequentialTest(bound, alpha_pass=ALPHA, alpha_fail=ALPHA), len(values)
    in_flight: list[tuple[float, int]] = []
    complete, started, prefix, now = [False] * n, 0, 0, 0.0
    while True:
        while started < n and len(in_flight) < workers and test.decision is None:
            likely = prefix > 0 and test.samples_left(prefix) <= WAIT_FACTOR * (started - prefix)
            ahead = 4 * len(in_flight) >= workers and started - prefix >= workers
            if in_flight and (likely or ahead):
                break
            takes = (2.0 - values[started]) * (draw.gammavariate(4.0, 0.25) if noisy else 1.0)
            heappush(in_flight, (now + takes, started))
            started += 1
        if not in_flight:
            return started / n
        now, place = heappop(in_flight)
        complete[place] = True
        while prefix < n and complete[prefix]:
            test.add(values[prefix] - bound, values[prefix] - bound)
            prefix += 1


def draws(rng: np.random.Generator, rate: float, runs: int, n: int) -> Array:
    """Right and wrong answers of a model with this true rate."""
    return (rng.random((runs, n)) < rate).astype(float)


def clustered_draws(rng: np.random.Generator, rate: float, icc: float, size: int, runs: int, clusters: int) -> Array:
    """The share of right answers in clusters of `size` samples, with this intra-class correlation."""
    spread = (1 - icc) / icc
    return rng.binomial(size, rng.beta(rate * spread, (1 - rate) * spread, (runs, clusters))) / size


def pair_values(rng: np.random.Generator, drop: float, discordance: float, runs: int, n: int) -> Array:
    """Paired differences mapped to 0..1: 0 where only the baseline is right, 1 where only the candidate is."""
    u = rng.random((runs, n))
    worse, better = (discordance + drop) / 2, (discordance - drop) / 2
    return np.where(u < worse, 0.0, np.where(u < worse + better, 1.0, 0.5))


def print_errors_at_the_bound(runs: int) -> None:
    """False pass and false fail of a gate that is monitored after every row, for a model exactly at the bound."""
    rng = np.random.default_rng(SEED)
    print("\nA model at the bound: false pass, false fail (contiguous first samples); false pass in completion order")
    for rate in (0.5, 0.8, 0.95):
        for n in (500, 1000):
            values = draws(rng, rate, runs, n)
            falsely = [(crossings(side, null, alpha=ALPHA) <= n).mean() for side, null in ((values, rate), (1 - values, 1 - rate))]  # fmt: skip
            line = f"rate {rate:<5} n {n:>5}: pass {falsely[0]:6.1%}  fail {falsely[1]:6.1%}"
            for workers in (1, 64):
                ends = completion_times(values, workers, rng)
                arrived = np.take_along_axis(values, ends.argsort(axis=1, kind="stable"), axis=1)
                line += (
                    f"  {workers} workers, completion order {(crossings(arrived, rate, alpha=ALPHA) <= n).mean():6.1%}"
                )
            print(line, flush=True)


def print_point_gates(runs: int) -> None:
    """How often a point gate differs from the full run: datasets whose own mean is at or just below the bound."""
    rng = np.random.default_rng(SEED + 1)
    print("\nPoint gates: verdicts that differ from the full run")
    for n in (100, 500, 1000):
        for right in (int(0.8 * n) - 1, int(0.8 * n)):
            dataset = np.array([1.0] * right + [0.0] * (n - right))
            values = rng.permuted(np.broadcast_to(dataset, (runs, n)), axis=1)
            side, null = (values, 0.8) if right < 0.8 * n else (1 - values, 1 - 0.8)
            wrong = (crossings(side, null, alpha=ALPHA, total=n) <= n).mean()
            print(f"n {n:>5}, {right} right, gate >= 0.8: {wrong:6.1%}", flush=True)


def print_pairs_and_clusters(runs: int) -> None:
    """The same for baseline gates at their margin, and for clusters."""
    rng = np.random.default_rng(SEED + 2)
    print("\nBaseline gates at their margin: false pass, false fail")
    for margin, discordance in ((0.01, 0.05), (0.02, 0.1), (0.05, 0.1), (0.05, 0.3)):
        values = pair_values(rng, margin, discordance, runs, 1000)
        null = (1 - margin) / 2
        falsely = [(crossings(side, mean, alpha=ALPHA) <= 1000).mean() for side, mean in ((values, null), (1 - values, 1 - null))]  # fmt: skip
        print(
            f"margin {margin:<4} discordance {discordance:<4}: pass {falsely[0]:6.1%}  fail {falsely[1]:6.1%}",
            flush=True,
        )
    print("\nClusters of five samples, at the bound: false pass, false fail")
    for icc in (0.1, 0.3, 0.7):
        values = clustered_draws(rng, 0.8, icc, 5, runs, 200)
        falsely = [(crossings(side, null, alpha=ALPHA) <= 200).mean() for side, null in ((values, 0.8), (1 - values, 1 - 0.8))]  # fmt: skip
        print(f"ICC {icc}: pass {falsely[0]:6.1%}  fail {falsely[1]:6.1%}", flush=True)


def print_rows_used(runs: int) -> None:
    """The share of rows that a run asks before its gate `>= 0.8` is decided."""
    rng, draw = np.random.default_rng(SEED + 3), random.Random(SEED)
    print("\nGate >= 0.8 with 95% confidence: share decided, mean share of rows used")
    for rate in (0.7, 0.77, 0.8, 0.83, 0.9):
        for n in (500, 1000, 5000):
            exact = ShareTest(0.8, n, alpha_pass=ALPHA, alpha_fail=ALPHA).decisions(rate)
            line = f"rate {rate:<5} n {n:>5}: pass {exact.passes:6.1%}  fail {exact.fails:6.1%}  one worker {exact.used:5.2f}"
            for noisy in (False, True):
                values = draws(rng, rate, 400 if n < 5000 else 40, n)
                used = [rows_used(row.tolist(), 0.8, 64, draw, noisy=noisy) for row in values]
                line += f"  64 workers{', noisy' if noisy else ''} {sum(used) / len(used):5.2f}"
            print(line, flush=True)
    print("\nPoint gate >= 0.8")
    for rate in (0.7, 0.77, 0.83, 0.9):
        for n in (500, 1000):
            values = draws(rng, rate, runs, n)
            decided = np.minimum(crossings(values, 0.8, alpha=ALPHA, total=n), crossings(1 - values, 1 - 0.8, alpha=ALPHA, total=n))  # fmt: skip
            print(f"rate {rate:<5} n {n:>5}: {np.minimum(decided, n).mean() / n:5.2f} of the rows", flush=True)


def exact_bounds(right: Array, n: int) -> tuple[Array, Array]:
    """The one-sided lower and upper 95% bounds of Clopper and Pearson."""
    low = np.where(right > 0, stats.beta.ppf(ALPHA, right, n - right + 1), 0.0)
    high = np.where(right < n, stats.beta.ppf(1 - ALPHA, right + 1, n - right), 1.0)
    return low, high


def print_power() -> None:
    """What it costs in power to look after every row, over all outcomes."""
    print("\nPower of a gate >= 0.8 at 95% confidence: sequential, ordinary (one look at the end)")
    for rate in (0.83, 0.85, 0.77, 0.75):
        for n in (500, 1000, 2000):
            right = np.arange(n + 1)
            low, high = exact_bounds(right.astype(float), n)
            ordinary = stats.binom.pmf(right, n, rate)[(low >= 0.8) if rate > 0.8 else (high < 0.8)].sum()
            exact = ShareTest(0.8, n, alpha_pass=ALPHA, alpha_fail=ALPHA).decisions(rate)
            print(
                f"rate {rate} n {n:>5}: {exact.passes if rate > 0.8 else exact.fails:.2f}  {ordinary:.2f}", flush=True
            )


def print_later_looks(runs: int) -> None:
    """An ordinary gate looked at once, then after every further row by the sequential bound: any false pass or fail."""
    rng = np.random.default_rng(SEED + 5)
    print(
        "\nOrdinary gate, then every later row by the sequential bound at a part of the rate: any false pass, any false fail"
    )
    for rate in (0.5, 0.8, 0.95):
        values = draws(rng, rate, runs, 2000)
        for first in (50, 200, 500):
            low, high = exact_bounds(values[:, :first].sum(axis=1), first)
            later = [
                crossings(side, null, alpha=ALPHA / LATER_LOOK_SHARE, start=first) <= 2000
                for side, null in ((values, rate), (1 - values, 1 - rate))
            ]
            print(
                f"rate {rate:<5} first look at {first:>4}: {((low >= rate) | later[0]).mean():6.2%} "
                f"({(low >= rate).mean():.2%} at the first)  {((high < rate) | later[1]).mean():6.2%} "
                f"({(high < rate).mean():.2%})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000, help="simulated runs of each cell (default: 4000)")
    runs: int = parser.parse_args().runs
    print_errors_at_the_bound(runs)
    print_point_gates(runs)
    print_pairs_and_clusters(runs)
    print_rows_used(runs // 2)
    print_power()
    print_later_looks(runs)


if __name__ == "__main__":
    main()
