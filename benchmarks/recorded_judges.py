"""Recorded judges and human labels of `openqa_eval`, resampled: do corrected rates cover what people say?

    python benchmarks/recorded_judges.py DATA [--repeats 2000]

DATA is the folder with NQ301_human.tsv, NQ301_gpt-4.tsv and NQ301_text-davinci-003.tsv (ehsk/OpenQA-eval). Rows are drawn
with replacement, so that the rate over all rows is the true one.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalrunner.stats.intervals import wilson
from evalrunner.stats.judge_agreement import JudgedPairs
from evalrunner.stats.prediction_powered import JudgedRows, powered_difference, powered_mean
from evalrunner.stats.rogan_gladen import JudgeRates, corrected_share

JUDGES = {"gpt-4": ("NQ301_gpt-4.tsv", 3), "text-davinci-003": ("NQ301_text-davinci-003.tsv", 2)}
ANNOTATOR_2 = 5  # the column of the second annotator: seven rows were labeled by one person only, and are left out


@dataclass(frozen=True, slots=True)
class RecordedJudge:
    """Verdicts and labels of the rows that two people labeled and whose verdict can be read; `questions` are clusters."""

    name: str
    verdicts: list[int]
    labels: list[int]
    questions: list[int]
    lengths: list[int]

    @property
    def pairs(self) -> JudgedPairs:
        """As pairs, clustered by question."""
        return JudgedPairs(self.labels, self.verdicts, clusters=self.questions)

    @property
    def human_rate(self) -> float:
        """The share of answers that people accept."""
        return sum(self.labels) / len(self.labels)


def read_judges(folder: Path) -> dict[str, RecordedJudge]:
    """The recorded judges by name."""
    people = _table(folder / "NQ301_human.tsv")
    judges: dict[str, RecordedJudge] = {}
    for name, (file, column) in JUDGES.items():
        rows = [
            (int(verdict[column].startswith("Yes")), int(human[3].startswith("Yes")), int(human[0]), len(human[2]))
            for human, verdict in zip(people, _table(folder / file), strict=True)
            if human[ANNOTATOR_2] and verdict[column]
        ]
        judges[name] = RecordedJudge(name, *(list(column) for column in zip(*rows, strict=True)))
    return judges


def _table(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]


@dataclass(slots=True)
class Coverage:
    """How often an interval contains the true value, and the root of the mean squared error of the estimate."""

    hits: int = 0
    missing: int = 0
    squares: float = 0.0
    width: float = 0.0
    count: int = 0

    def add(self, value: float | None, low: float | None, high: float | None, true: float) -> None:
        """Count one estimate."""
        if value is None or low is None or high is None:
            self.missing += 1
            return
        self.count += 1
        self.hits += low <= true <= high
        self.squares += (value - true) ** 2
        self.width += high - low

    @property
    def share(self) -> float:
        """Share of the intervals that contain the true value."""
        return self.hits / self.count

    @property
    def error(self) -> float:
        """Root mean squared error."""
        return math.sqrt(self.squares / self.count)


def resample(judge: RecordedJudge, *, rows: int, labels: int, repeats: int, seed: int = 0) -> dict[str, Coverage]:
    """Coverage of the naive interval, of labels alone, of PPI++ and of Rogan–Gladen, for one size of run."""
    source, size = random.Random(seed), len(judge.labels)
    found = {name: Coverage() for name in ("naive", "labels", "ppi++", "rogan-gladen")}
    for _ in range(repeats):
        places = [source.randrange(size) for _ in range(rows)]
        verdicts = [judge.verdicts[place] for place in places]
        shown = [judge.labels[place] if count < labels else None for count, place in enumerate(places)]
        true, known = judge.human_rate, shown[:labels]
        share = sum(verdicts) / rows
        found["naive"].add(share, *wilson(sum(verdicts), rows), true)
        right = sum(label or 0 for label in known)
        found["labels"].add(right / labels, *wilson(right, labels), true)
        powered = powered_mean(JudgedRows(verdicts, shown))
        found["ppi++"].add(powered.value, powered.low, powered.high, true)
        rates = JudgeRates(
            sum(1 for a, b in zip(known, verdicts, strict=False) if a == 1 and b == 1), right,
            sum(1 for a, b in zip(known, verdicts, strict=False) if a == 0 and b == 0), labels - right,
        )  # fmt: skip
        other = corrected_share(sum(verdicts[labels:]) / (rows - labels), rows - labels, rates)
        found["rogan-gladen"].add(other.value, other.low, other.high, true)
    return found


def false_better(
    judge: RecordedJudge, *, rows: int, labels: int, repeats: int, leniency: float = 0.5, seed: int = 0
) -> tuple[float, float]:
    """How often one of two equal targets is called better: by raw verdicts, and corrected, with a judge biased to it.

    Both targets give the answers of the same rows. Of the first one the judge accepts that share of what it would reject.
    """
    source, size = random.Random(seed), len(judge.labels)
    raw = corrected = 0
    for _ in range(repeats):
        sides: list[JudgedRows] = []
        for lenient in (leniency, 0.0):
            places = [source.randrange(size) for _ in range(rows)]
            verdicts = [max(judge.verdicts[place], int(source.random() < lenient)) for place in places]
            sides.append(JudgedRows(verdicts, _some([judge.labels[place] for place in places], labels, source)))
        first, second = sides
        gap = (sum(first.verdicts) - sum(second.verdicts)) / rows
        spread = math.sqrt(sum((a - b - gap) ** 2 for a, b in zip(first.verdicts, second.verdicts, strict=True))) / rows
        raw += gap > 1.645 * spread
        corrected += powered_difference(first, second).p_above() <= 0.05
    return raw / repeats, corrected / repeats


def _some(labels: Sequence[int], count: int, source: random.Random) -> list[float | None]:
    chosen = set(source.sample(range(len(labels)), count))
    return [label if place in chosen else None for place, label in enumerate(labels)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    judges = read_judges(options.data)
    for judge in judges.values():
        kappa, same = judge.pairs.kappa(), judge.pairs.agreement()
        print(f"{judge.name}: {len(judge.labels):,} rows, people accept {judge.human_rate:.3f}")
        print(f"  agreement {same.value:.3f} [{same.low:.3f}, {same.high:.3f}]")
        print(f"  kappa     {kappa.value:.3f} [{kappa.low:.3f}, {kappa.high:.3f}]")
        for rows in (300, len(judge.labels)):
            found = resample(judge, rows=rows, labels=100, repeats=options.repeats)
            for name, coverage in found.items():
                relative = coverage.error / found["labels"].error
                print(
                    f"  {rows:>5} rows, 100 labels, {name:13} covers {coverage.share:6.1%}, error {relative:.3f} of the "
                    f"labels', width {coverage.width / coverage.count:.3f}, none in {coverage.missing}"
                )
            raw, corrected = false_better(judge, rows=rows, labels=100, repeats=options.repeats)
            print(f"  {rows:>5} rows, biased judge, equal targets: better {raw:.1%} raw, {corrected:.1%} corrected")


if __name__ == "__main__":
    main()
