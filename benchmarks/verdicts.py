"""Verdicts with missing answers, by simulation: a measured table of docs/statistics.md.

    python benchmarks/verdicts.py                  # all sections, about ten minutes
    python benchmarks/verdicts.py grid families    # some sections
    python benchmarks/verdicts.py --quick          # a tenth of the runs

Each simulated run is judged twice by `check_gates`: as it is, with calls that failed, and as it would have been with
every answer. A verdict is *trusted* if it is pass or fail. It contradicts the full data if those give another verdict.
Needs the extra `dev` (numpy, scipy).
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy
from bands import SEED, Line, at_most, percent
from scenarios import (
    FEWER,
    GRADED,
    PATTERNS,
    Runs,
    Suite,
    graded_runs,
    lose,
    paired_runs,
    single_runs,
    slices_of,
)

SIZES = (50, 200, 1000, 3000)
EPOCHS = (1, 3, 5)
SHARES = (0.01, 0.04, 0.1)
REPEATS = {1: (150, 30, 8, 2), 3: (20, 8, 2, 1), 5: (20, 8, 2, 1)}  # runs of each threshold, by SIZES
RIGHT = 0.8
DROP, CHANGING = 0.05, 0.15
Z = 1.645
TRUSTED = ("pass", "fail")
COVERED = "gate_defaults: {min_coverage: 0.8}"  # or 10% missing would be untrusted without a look at the verdict

# ---- gates with their true values ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A kind of gate. `gate` writes it with a threshold, `truths` are thresholds as seen from the true value."""

    name: str
    gate: Callable[[float, int], str]
    limit: float = 0.05  # share of trusted verdicts that may contradict the full data
    paired: bool = False
    sliced: bool = False
    confident: bool = False
    counted: bool = False


def _point(bound: float, epochs: int) -> str:
    return f"exact_match >= {bound:.4f}"


def _confident(bound: float, epochs: int) -> str:
    return f"{{metric: exact_match, min: {bound:.4f}, confidence: 0.95}}"


def _slice(bound: float, epochs: int) -> str:
    return f"{{metric: exact_match, slice: {{topic: t0}}, min: {bound:.4f}}}"


def _confident_slice(bound: float, epochs: int) -> str:
    return f"{{metric: exact_match, slice: {{topic: t0}}, min: {bound:.4f}, confidence: 0.95}}"


def _per_sample(bound: float, epochs: int) -> str:
    passes = (epochs + 1) // 2
    return f"{{per_sample: {{metric: exact_match, min: 1, passes: {passes}, share: {bound:.4f}}}, confidence: 0.95}}"


def _max_drop(bound: float, epochs: int) -> str:
    return f"{{metric: exact_match, baseline: main, max_drop: {bound:.4f}}}"


def _slice_drop(bound: float, epochs: int) -> str:
    return f"{{metric: exact_match, slice: {{topic: t0}}, baseline: main, max_drop: {bound:.4f}}}"


def _improved(bound: float, epochs: int) -> str:
    return "{metric: exact_match, baseline: main, improved: true}"


RULES = (
    Rule("threshold", _point, limit=0.0),
    Rule("threshold on a slice", _slice, limit=0.0, sliced=True),
    Rule("threshold with confidence", _confident, confident=True),
    Rule("threshold with confidence on a slice", _confident_slice, sliced=True, confident=True),
    Rule("per_sample with confidence", _per_sample, confident=True, counted=True),
    Rule("max_drop", _max_drop, paired=True, confident=True),
    Rule("max_drop on a slice", _slice_drop, paired=True, sliced=True, confident=True),
    Rule("improved", _improved, paired=True, confident=True),
)


def offsets(rule: Rule, n: int, share: float) -> tuple[float, ...]:
    """Distances of the threshold from the true value: at it, where a confidence bound meets it, and off by half of the missing."""
    size = n * FEWER if rule.sliced else n
    variance = CHANGING if rule.paired else RIGHT * (1 - RIGHT)
    if not rule.confident:
        return -share / 2, 0.0, share / 2
    half = Z * math.sqrt(variance / size)
    return -half, share / 2 - half, 0.0, half - share / 2, half


# ---- the grid --------------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """One cell of the grid: how many runs had a trusted verdict, and how many of these contradict the full data."""

    runs: int = 0
    trusted: int = 0
    wrong: int = 0

    @property
    def rate(self) -> float:
        """Contradictions among all runs."""
        return self.wrong / self.runs

    @property
    def untrusted(self) -> float:
        return 1 - self.trusted / self.runs if self.runs else 0.0


@dataclass
class Grid:
    """The cells of one rule by n, epochs, pattern and share missing. `decided` counts only runs that the full data decides."""

    rule: Rule
    cells: dict[tuple[int, int, str, float], Cell] = field(default_factory=lambda: defaultdict(Cell))
    decided: dict[tuple[int, int, str, float], Cell] = field(default_factory=lambda: defaultdict(Cell))

    def add(self, place: tuple[int, int, str, float], verdicts: Sequence[str], full: Sequence[str]) -> None:
        for now, then in zip(verdicts, full, strict=True):
            for cell in [self.cells[place], *([self.decided[place]] if then in TRUSTED else [])]:
                cell.runs += 1
                cell.trusted += now in TRUSTED
                cell.wrong += now in TRUSTED and now != then

    def line(self) -> Line:
        cells = list(self.cells.values())
        worst, limit = max(cell.rate for cell in cells), self.rule.limit
        met = all(at_most(cell.wrong, cell.runs, limit) if limit else cell.wrong == 0 for cell in cells)
        wrong, runs = sum(cell.wrong for cell in cells), sum(cell.runs for cell in cells)
        return Line(
            self.rule.name,
            f"{wrong:,} of {runs:,}; at most {percent(worst)} in a cell",
            "at most 5% in every cell" if limit else "never",
            met,
        )

    def usefulness(self) -> str:
        """How often the verdict is lost where the full data decides, by share missing: a row of the second table."""
        columns: list[str] = []
        for share in SHARES:
            for n in (200, 3000):
                cells = [cell for (size, _, _, f), cell in self.decided.items() if f == share and size == n]
                runs, trusted = sum(cell.runs for cell in cells), sum(cell.trusted for cell in cells)
                columns.append(f"{100 * (1 - trusted / runs):.0f}%" if runs else "–")
        return f"| {self.rule.name} | {' | '.join(columns)} |"


def grid(scale: float) -> Iterator[Line]:
    tables: list[str] = []
    for number, rule in enumerate(RULES):
        measured = Grid(rule)
        for epochs in EPOCHS:
            for n, repeats in zip(SIZES, REPEATS[epochs], strict=True):
                _measure(measured, n, epochs, max(1, round(repeats * scale)), seed=SEED + number)
        yield measured.line()
        tables.append(measured.usefulness())
    head = " | ".join(f"{share:.0%} lost, n = {n:,}" for share in SHARES for n in (200, 3000))
    TABLES.extend(["", f"| untrusted where the full data decides | {head} |", "|---|" + 6 * "---|", *tables])


TABLES: list[str] = []


def _measure(measured: Grid, n: int, epochs: int, repeats: int, *, seed: int) -> None:
    generator = numpy.random.default_rng([seed, n, epochs])
    rule, slices = measured.rule, slices_of(n)
    if rule.paired:
        before, scores = paired_runs(generator, repeats, n, epochs, p=RIGHT, drop=DROP, discordance=CHANGING)
        truth, stored = DROP, (before,)
        if rule.name == "improved":
            before, scores = scores, before  # better by as much
            stored = (before,)
    else:
        scores, stored = single_runs(generator, repeats, n, epochs, RIGHT), ()
        truth = RIGHT if not rule.counted else float((scores.sum(axis=2) >= (epochs + 1) // 2).mean())
    for share in SHARES:
        lost = {pattern: lose(generator, scores, slices, pattern, share) for pattern in PATTERNS}
        for offset in offsets(rule, n, share) if rule.name != "improved" else (0.0,):
            bound = min(1.0, max(0.0, truth + offset))
            suite = Suite(rule.gate(bound, epochs), epochs, sliced=rule.sliced, keys=COVERED)
            full = _words(suite, Runs(scores, lost[PATTERNS[0]], stored, slices=slices).whole())
            for pattern, which in lost.items():
                now = _words(suite, Runs(scores, which, stored, slices=slices))
                measured.add((n, epochs, pattern, share), now, full)


def _words(suite: Suite, runs: Runs) -> list[str]:
    return [results[0].verdict for results in suite.verdicts(runs)]


# ---- samples that left the pairing -----------------------------------------------------------------------------------


def pairing(scale: float) -> Iterator[Line]:
    """Samples that are changed, removed, or failed in the baseline: exactly those that got worse, or better."""
    for state in ("changed", "removed", "unscored"):
        for side in ("worse", "better"):
            cell, repeats = Cell(), max(10, round(100 * scale))
            for n in SIZES[:3]:
                generator = numpy.random.default_rng([SEED, n])
                before, scores = paired_runs(generator, repeats, n, 1, p=RIGHT, drop=DROP, discordance=CHANGING)
                flags = (before > scores if side == "worse" else before < scores)[:, :, 0]
                chosen = flags & (numpy.cumsum(flags, axis=1) <= round(0.04 * n))
                half = Z * math.sqrt(CHANGING / n)
                for bound in (max(0.0, DROP - half), DROP - 0.02, DROP, DROP + 0.02, DROP + half):
                    suite = Suite(_max_drop(bound, 1))
                    runs = Runs(scores, numpy.zeros_like(scores, bool), (before,), **{state: chosen})
                    for now, full in zip(_words(suite, runs), _words(suite, runs.whole()), strict=True):
                        cell.runs += 1
                        cell.trusted += now in TRUSTED
                        cell.wrong += now in TRUSTED and now != full
            name = {"changed": "changed", "removed": "removed", "unscored": "failed in the baseline"}[state]
            yield Line(
                f"max_drop, 4% of the samples {name}, those that got {side}",
                f"{cell.wrong:,} of {cell.runs:,}; untrusted {percent(cell.untrusted)}",
                "at most 5%",
                at_most(cell.wrong, cell.runs, 0.05),
            )


# ---- graded scores ---------------------------------------------------------------------------------------------------


def graded(scale: float) -> Iterator[Line]:
    for epochs in (1, 3):
        for confident in (False, True):
            cells: list[Cell] = []
            for n in SIZES[:3]:
                generator = numpy.random.default_rng([SEED, n, epochs])
                scores = graded_runs(generator, max(5, round(20 * scale)), n, epochs)
                half = Z * 0.12 / math.sqrt(n * epochs) if confident else 0.0
                for share in (0.01, 0.04):
                    for pattern in PATTERNS:
                        cell = Cell()
                        lost = lose(generator, scores, slices_of(n), pattern, share)
                        for bound in sorted(
                            {0.8, 0.8 - half, 0.8 + half, 0.8 - half - share / 4, 0.8 + half + share / 4}
                        ):
                            gate = f"{{metric: token_f1, min: {bound:.4f}{', confidence: 0.95' if confident else ''}}}"
                            suite = Suite(gate, epochs, GRADED)
                            runs = Runs(scores, lost)
                            for now, full in zip(_words(suite, runs), _words(suite, runs.whole()), strict=True):
                                cell.runs += 1
                                cell.trusted += now in TRUSTED
                                cell.wrong += now in TRUSTED and now != full
                        cells.append(cell)
            worst, limit = max(cells, key=lambda cell: cell.rate), 0.05 if confident else 0.0
            yield Line(
                f"graded, threshold{' with confidence' if confident else ''}, {epochs} epoch{'s' if epochs > 1 else ''}",
                f"{sum(cell.wrong for cell in cells):,} of {sum(cell.runs for cell in cells):,}; "
                f"at most {percent(worst.rate)} in a cell",
                "at most 5% in every cell" if confident else "never",
                all(at_most(cell.wrong, cell.runs, limit) for cell in cells) if confident else worst.wrong == 0,
            )


# ---- nothing missing -------------------------------------------------------------------------------------------------


def threshold(scale: float) -> Iterator[Line]:
    """A model at the threshold, by enumeration of every number of right answers."""
    from scipy import stats

    for n in (50, 200, 1000):
        suite = Suite("{metric: exact_match, min: 0.8, confidence: 0.95}")
        counts = numpy.arange(n + 1)
        likely = counts[stats.binom.pmf(counts, n, RIGHT) > 1e-9]
        scores = (numpy.arange(n)[None, :] < likely[:, None]).astype(float)[:, :, None]
        words = numpy.array(_words(suite, Runs(scores, numpy.zeros_like(scores, bool))))
        chance = stats.binom.pmf(likely, n, RIGHT)
        passes, fails = float(chance[words == "pass"].sum()), float(chance[words == "fail"].sum())
        yield Line(
            f"nothing missing, model at the threshold with confidence, n = {n:,}",
            f"passes {percent(passes)}, fails {percent(fails)}", "at most 5.0% each", max(passes, fails) <= 0.05,
        )  # fmt: skip


# ---- families --------------------------------------------------------------------------------------------------------


def families(scale: float) -> Iterator[Line]:
    repeats, n, count = max(50, round(1000 * scale)), 1000, 10
    gates = ", ".join(
        f"{{metric: exact_match, slice: {{topic: t{at}}}, min: 0.8, confidence: 0.95}}" for at in range(count)
    )
    scores = single_runs(numpy.random.default_rng(SEED), repeats, n, 1, RIGHT)
    runs = Runs(scores, numpy.zeros_like(scores, bool), slices=numpy.arange(n) % count)
    for keys, asked in (("", 0.055), ("gate_defaults: {family: none}", None)):
        hits = _any_fails(Suite(gates, sliced=True, keys=keys), runs)
        yield Line(
            f"ten slice gates at the threshold, 100 samples each, any fails{', family: none' if keys else ''}",
            percent(hits / repeats), "–" if asked is None else "at most 5.5%",
            None if asked is None else at_most(hits, repeats, asked),
        )  # fmt: skip
    repeats, n = max(50, round(1000 * scale)), 500
    generator = numpy.random.default_rng(SEED)
    pairs = [paired_runs(generator, repeats, n, 1, p=RIGHT, drop=DROP, discordance=CHANGING) for _ in "ab"]
    # one run that drops by exactly max_drop from each of two independent baselines
    now = pairs[0][1]
    worse, better = (CHANGING + DROP) / 2 / RIGHT, (CHANGING - DROP) / 2 / (1 - RIGHT)
    right = RIGHT - DROP
    back = numpy.where(now == 1, 1 - (RIGHT * (1 - worse)) / right, RIGHT * worse / (1 - right))
    assert better > 0
    other = numpy.where(generator.random(now.shape) < back, 1 - now, now)
    gates = ", ".join(f"{{metric: exact_match, baseline: {name}, max_drop: {DROP}}}" for name in ("main", "release"))
    runs = Runs(now, numpy.zeros_like(now, bool), (pairs[0][0], other))
    for keys, asked in (("", 0.055), ("gate_defaults: {family: none}", None)):
        hits = _any_fails(Suite(gates, keys=keys), runs)
        yield Line(
            f"two baselines at max_drop, n = 500, any fails{', family: none' if keys else ''}",
            percent(hits / repeats), "–" if asked is None else "at most 5.5%",
            None if asked is None else at_most(hits, repeats, asked),
        )  # fmt: skip


def _any_fails(suite: Suite, runs: Runs) -> int:
    return sum(any(result.verdict == "fail" for result in results) for results in suite.verdicts(runs))


SECTIONS = {"grid": grid, "pairing": pairing, "graded": graded, "threshold": threshold, "families": families}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure verdicts with missing answers.")
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {unknown.pop()!r}")
    print("| verdict | contradicts the full data | required | met |\n|---|---|---|---|")
    lines: list[Line] = []
    for name in options.sections or SECTIONS:
        for line in SECTIONS[name](0.1 if options.quick else 1.0):
            print(line, flush=True)
            lines.append(line)
    print(*TABLES, sep="\n")
    raise SystemExit(any(line.met is False for line in lines))


if __name__ == "__main__":
    main()
