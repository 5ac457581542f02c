"""What is missing on one side of a pair, counted in answers, and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from evalrunner.compare.pairs import CandidateScores
from evalrunner.domain import FailureKind
from evalrunner.stats.summary import BUILTIN_MEASURES, Summary
from evalrunner.stats.tally import ERROR, JUDGE, NO_ANSWER

MAX_CAUSES: Final = 3  # in a sentence
NOT_RUN_TEXT: Final = "not run"


@dataclass(frozen=True, slots=True)
class MissingScores:
    """The answers (sample × epoch) of a candidate without a score, of all that should have one, and the causes."""

    answers: int
    total: int
    causes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of all answers that should have a score."""
        return self.answers / self.total if self.total else 0.0

    def text(self, name: str) -> str:
        """`40 of 1,000 answers of a are missing (provider: timeout)`."""
        verb = "is" if self.answers == 1 else "are"
        return f"{self.answers:,} of {self.total:,} answers of {name} {verb} missing{self.listed_causes}"

    @property
    def listed_causes(self) -> str:
        """` (provider: timeout; judge)`, empty where no cause is known."""
        listed = [*self.causes[:MAX_CAUSES], *(["…"] if len(self.causes) > MAX_CAUSES else [])]
        return f" ({'; '.join(listed)})" if listed else ""


def count_missing(
    side: CandidateScores, universe: frozenset[int] | None, *, epochs: int, causes: Sequence[str]
) -> MissingScores:
    """What one side misses. `universe` are the samples of a paired comparison, None for one with samples of its own."""
    own = side.places
    absent = frozenset[int]() if universe is None else universe - own
    skipped = len(absent & side.skipped)
    further = (["skipped here only"] if skipped else []) + ([NOT_RUN_TEXT] if len(absent) > skipped else [])
    answers = sum(side.gaps.values()) + epochs * len(absent)
    return MissingScores(answers, epochs * (len(own) + len(absent)), tuple(dict.fromkeys((*causes, *further))))


def missing_text(names: Sequence[str], sides: Sequence[MissingScores]) -> str | None:
    """`40 of 1,000 answers of a are missing (provider: timeout)`, for one side or both; None if nothing is missing."""
    parts = [(name, side) for name, side in zip(names, sides, strict=True) if side.answers]
    if len(parts) == 1:
        ((name, side),) = parts
        return side.text(name)
    counts = [f"{side.answers:,} of {side.total:,} answers of {name}{side.listed_causes}" for name, side in parts]
    return f"{' and '.join(counts)} are missing" if counts else None


def missing_causes(summary: Summary, target: str, scorer: str, missing: int) -> Iterator[str]:
    """Who is at fault for missing scores and how, most frequent first: `provider: timeout`, `model: empty`.

    If more are `missing` than there are cells without a score, the others did not run.
    """
    reasons = summary.tallies[target, scorer].reasons
    codes = summary.tallies[target, scorer].count_codes()[0]
    calls = summary.tallies[target, BUILTIN_MEASURES[0].name].reasons  # every target has a latency, or a reason why not
    causes: Counter[str] = Counter()
    for reason, count in reasons.items():
        cause, text = reason
        if cause in get_args(FailureKind):
            failed = min(count, calls.get(reason, 0))
            causes[_of_failure(str(cause), target=True)] += failed
            causes[_of_failure(str(cause), target=False)] += count - failed
        elif cause == "no_answer":
            causes[f"model: {text}" if text else "model"] += count
        elif cause is None:
            causes[text or "not reported"] += count
        else:
            causes["judge: sanity check failed" if cause == "judge_check" else "judge"] += count
    causes[NOT_RUN_TEXT] = max(0, missing - codes[NO_ANSWER] - codes[JUDGE] - codes[ERROR])
    yield from (cause for cause, count in causes.most_common() if count)


def _of_failure(kind: str, *, target: bool) -> str:
    if kind == "function":
        return "target function failed" if target else "scorer failed"
    if kind == "missing":
        return "no recorded output"
    return f"{'provider' if target else 'judge'}: {kind}"
