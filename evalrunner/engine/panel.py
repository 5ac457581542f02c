"""The judges of one scorer: one or several, each with one or several votes on an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from evalrunner.domain import (
    EMPTY,
    Cell,
    Completion,
    Declaration,
    Failure,
    Outcome,
    Parts,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.scorers.call import BoundScorer, as_number, call_parts_async, calls_of, cells_from, outcome_async

if TYPE_CHECKING:
    from evalrunner.engine.judge import JudgeSession

AGREEMENT = "agreement"
AGREEMENT_PART = Declaration(low=0.0, high=1.0, passes=None)


@dataclass(frozen=True, slots=True)
class Vote:
    """The result of one judge's vote; `name` is the judge's."""

    name: str
    outcome: Any


@dataclass(frozen=True, slots=True)
class JudgePanel:
    """The sessions of a scorer's judges, at least one, with the number of votes of each.

    `independent`: they do not vote together, each judges other things.
    """

    sessions: tuple[JudgeSession, ...]
    samples: int = 1
    independent: bool = False

    @property
    def votes(self) -> int:
        """Votes on one answer."""
        return len(self.sessions) * self.samples

    @property
    def aborted(self) -> tuple[JudgeSession, ...]:
        return tuple(session for session in self.sessions if session.open_reason is not None)

    @property
    def decides(self) -> bool:
        """Whether the judges that were not aborted are enough for a verdict."""
        if self.independent:
            return not self.aborted
        return has_quorum(len(self.sessions) - len(self.aborted), len(self.sessions))

    async def cells(self, bound: BoundScorer, sample: Sample, completion: Completion, row: str) -> dict[str, Cell]:
        """The cells of the scorer and its parts for one answer."""
        if self.votes == 1:
            (session,) = self.sessions
            refusal = await session.ensure_checked()
            if refusal is not None:
                return cells_from(refusal, bound)
            return await call_parts_async(bound, sample, completion, session.for_row(row))
        calls: list[Any] = []

        async def vote(session: JudgeSession, number: int) -> Vote:
            refusal = await session.ensure_checked()
            if refusal is not None:
                return Vote(session.name, refusal)
            judge = session.for_row(row, number)
            outcome = await outcome_async(bound, sample, completion, judge)
            calls.extend(calls_of(judge))
            return Vote(session.name, outcome)

        numbers = range(1, self.samples + 1)
        votes = await asyncio.gather(*(vote(session, number) for session in self.sessions for number in numbers))
        return cells_from(combine_votes(votes, bound), bound, calls=tuple(calls))


def with_agreement(scorer: Scorer) -> Scorer:
    """The scorer with the part `agreement`: the share of votes for the most frequent score."""
    declaration = scorer.declaration
    parts = {**declaration.parts, AGREEMENT: AGREEMENT_PART}
    return replace(scorer, declaration=replace(declaration, parts=parts))


def has_quorum(votes: int, total: int) -> bool:
    """Whether that many votes of a total decide: more than half."""
    return 2 * votes > total


def combine_votes(votes: Sequence[Vote], bound: BoundScorer) -> Outcome | Parts:
    """One result of several votes: the majority of scores that are 0 or 1, or the mean, for the scorer and each part.

    More than half of the votes have to be there, and a tie is unscored.
    """
    names = [name for name in bound.scorer.declaration.parts if name != AGREEMENT]
    rule, is_measured = rule_of(bound.scorer), AGREEMENT in bound.scorer.declaration.parts
    if not names:
        outcome = combine(votes, rule)
        if not is_measured or not isinstance(outcome, Score):
            return outcome
        return _with_parts(outcome, {AGREEMENT: outcome.metadata[AGREEMENT]})
    parts = {name: combine([_of_part(vote, name) for vote in votes], rule) for name in names}
    agreement = [part.metadata[AGREEMENT] for part in parts.values() if isinstance(part, Score)]
    merge = getattr(bound.scorer.function, "combine", None)
    main = combine(votes, "mean") if merge is None else merge(parts)
    shared = {AGREEMENT: sum(agreement) / len(agreement)} if agreement and is_measured else {}
    return _with_parts(main, {**parts, **shared})


def rule_of(scorer: Scorer) -> Literal["majority", "mean"]:
    """How the votes of a scorer are combined."""
    is_binary = scorer.declaration.binary or scorer.declaration.infer_binary
    return scorer.votes.rule or ("majority" if is_binary else "mean")


def combine(votes: Sequence[Vote], rule: Literal["majority", "mean"]) -> Outcome:
    """One outcome of several."""
    outcomes = [_as_outcome(vote.outcome) for vote in votes]
    skipped = next((item for item in outcomes if isinstance(item, Skipped)), None)
    if skipped is not None:
        return skipped
    scores = [item for item in outcomes if isinstance(item, Score)]
    if not has_quorum(len(scores), len(votes)):
        return _without_quorum(votes, outcomes, len(scores))
    counts = Counter(item.value for item in scores)
    (value, count), *others = counts.most_common()
    agreement = count / len(scores)
    if rule == "mean":
        value = sum(item.value for item in scores) / len(scores)
    elif others and others[0][1] == count:
        split = ", ".join(f"{number} × {score:g}" for score, number in sorted(counts.items(), reverse=True))
        return Unscored("judge", f"the votes are tied: {split}")
    named = list(zip((vote.name for vote in votes), outcomes, strict=True))
    lines = [f"{name}: {_line(item)}" for name, item in named]
    summary = f"{count} of {len(scores)} votes agree" + (
        f", {len(votes) - len(scores)} of {len(votes)} missing" if len(scores) < len(votes) else ""
    )
    detail = {"votes": [_vote_detail(name, item) for name, item in named], AGREEMENT: agreement}
    return Score(value, "\n".join((summary, *lines)), detail)


def _without_quorum(votes: Sequence[Vote], outcomes: Sequence[Outcome], count: int) -> Outcome:
    """The outcome where half of the votes or more are missing: an error if calls failed, which a resume can repeat."""
    named = list(zip((vote.name for vote in votes), outcomes, strict=True))
    for name, item in named:
        if isinstance(item, Failure):
            return replace(item, message=f"{count} of {len(votes)} votes; {name}: {item.message}")
    missing = [(name, item) for name, item in named if isinstance(item, Unscored)]
    name, first = missing[0]
    cause = first.cause if all(item.cause == first.cause for _, item in missing) else "judge"
    return Unscored(cause, f"{count} of {len(votes)} votes; {name}: {first.reason}")


def _as_outcome(outcome: Any) -> Outcome:
    if outcome is None:
        return Skipped("the scorer returned None")
    if isinstance(outcome, Parts):
        return outcome.main
    if isinstance(outcome, Score | Skipped | Unscored | Failure):
        return outcome
    number = as_number(outcome)
    return Failure("function", f"the scorer returned {number}") if isinstance(number, str) else Score(number)


def _of_part(vote: Vote, name: str) -> Vote:
    """The vote on a part; one without parts has the outcome of the whole."""
    parts = vote.outcome.parts if isinstance(vote.outcome, Score | Parts) else EMPTY
    return replace(vote, outcome=parts.get(name, _as_outcome(vote.outcome)))


def _with_parts(outcome: Outcome, parts: Mapping[str, Any]) -> Outcome | Parts:
    if isinstance(outcome, Score):
        return replace(outcome, parts=parts)
    return Parts(outcome, parts) if parts else outcome


def _line(outcome: Outcome) -> str:
    if not isinstance(outcome, Score):
        return outcome.message if isinstance(outcome, Failure) else outcome.reason
    verdict = str(outcome.metadata.get("verdict", f"{outcome.value:g}"))
    return f"{verdict}. {outcome.explanation}" if outcome.explanation else verdict


def _vote_detail(name: str, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Score):
        explanation = {"explanation": outcome.explanation} if outcome.explanation else {}
        return {"judge": name, "value": outcome.value, **dict(outcome.metadata), **explanation}
    return {"judge": name, "reason": outcome.message if isinstance(outcome, Failure) else outcome.reason}
