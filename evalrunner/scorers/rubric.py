"""The scorer `rubric`: a judge grades the answer by criteria in plain words."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import (
    CalibrationExample,
    Completion,
    Declaration,
    Failure,
    Judge,
    Outcome,
    Parts,
    Sample,
    Score,
    Scorer,
    Skipped,
    Votes,
)
from evalrunner.formatting import plain_text
from evalrunner.plugins import main_option
from evalrunner.prompts import ABSENT, find_value, transcript
from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES, expected_text
from evalrunner.scorers.judge_replies import NoVerdict, read_verdict
from evalrunner.scorers.rubric_prompt import TOOL_CHOICE, Question, keys, response_format, schema, tool
from evalrunner.scorers.rubric_scale import Scale, parse_scale

MAX_CRITERIA = 20
MAX_SAMPLES = 25
EXAMPLE_KEYS = ("answer", "verdict", "input", "expected", "context")
SANITY_CRITERIA = "The answer gives the same facts as the reference answer, in any words. One wrong fact is a fail."


@main_option("criteria")
def rubric(
    *,
    criteria: str | dict[str, str],
    scale: str | dict[str, dict[str, float]] = "pass_fail",
    reference: bool = False,
    input: bool = True,
    context: str | list[str] = (),  # type: ignore[assignment]
    examples: list[dict[str, Any]] = (),  # type: ignore[assignment]
    samples: int = 1,
    vote: Literal["majority", "mean"] | None = None,
) -> Scorer:
    """How well the output meets criteria in plain words. Graded by a judge that writes its reasons first.

    Args:
        criteria: What a good answer is, in plain words; or several texts by name, each with its own metric.
        scale: `pass_fail` (1 or 0), a range such as `1-5`, or `{choices: {A: 1, B: 0.5, C: 0}}`.
        reference: Show the expected answer to the judge.
        input: Show the input to the judge.
        context: Columns to show to the judge.
        examples: Answers with their verdicts, which the judge has to grade correctly before the first row.
        samples: Votes of each judge on an answer.
        vote: How votes are combined. Default: majority, or mean for a range of numbers.
    """
    parsed = parse_scale(scale)
    texts = criteria_of(criteria)
    columns = (context,) if isinstance(context, str) else tuple(context)
    if not 1 <= samples <= MAX_SAMPLES:
        raise ValueError(f"samples is {samples}; it should be 1 to {MAX_SAMPLES}")
    rule = vote or ("mean" if parsed.is_range else "majority")
    function = Rubric(texts, parsed, reference=reference, input=input, context=columns)
    alone = tuple(texts) == ("",)
    part = Declaration(
        low=parsed.low, high=parsed.high, passes=parsed.passes, binary=parsed.binary and rule == "majority"
    )
    declaration = Declaration(
        low=parsed.low, high=parsed.high, passes=parsed.passes, needs_expected=reference,
        binary=part.binary and alone,
        parts={} if alone else dict.fromkeys(texts, part),
    )  # fmt: skip
    votes = Votes(samples, rule)
    if not examples:
        return Scorer(function, declaration, CALIBRATION_EXAMPLES, calibration=general_rubric(), votes=votes)
    known = tuple(function.known_answer(place, item) for place, item in enumerate(examples, 1))
    if len({example.good for example in known}) < 2:
        raise ValueError("examples: give at least one answer that passes and one that fails")
    return Scorer(function, declaration, known, votes=votes)


def criteria_of(criteria: str | Mapping[str, str]) -> Mapping[str, str]:
    """The criteria by name; a single text has the name "". Raises ValueError."""
    texts = {"": criteria} if isinstance(criteria, str) else dict(criteria)
    if not 1 <= len(texts) <= MAX_CRITERIA:
        raise ValueError(f"criteria has {len(texts)} entries; give 1 to {MAX_CRITERIA}")
    for name, text in texts.items():
        if not text.strip():
            raise ValueError(f"criteria {name!r} is empty" if name else "criteria is empty")
    return texts


@functools.cache
def general_rubric() -> Scorer:
    """The rubric of the general sanity check, the same for all rubrics: a judge needs to pass it only once."""
    scale = parse_scale("pass_fail")
    function = Rubric({"": SANITY_CRITERIA}, scale, reference=True)
    return Scorer(function, Declaration(binary=True, needs_expected=True), CALIBRATION_EXAMPLES)


class Rubric(SampleValidator):
    """Asks a judge for the verdict on an answer."""

    def __init__(
        self,
        criteria: Mapping[str, str],
        scale: Scale,
        *,
        reference: bool = False,
        input: bool = True,
        context: Sequence[str] = (),
    ) -> None:
        self.criteria, self.scale = criteria, scale
        self.reference, self.input, self.context = reference, input, tuple(context)
        self.schema = schema(criteria, scale)
        self.forms = {
            name: scale.form(verdict, reasons, alone=len(criteria) == 1)
            for name, (reasons, verdict) in zip(criteria, keys(criteria), strict=True)
        }

    def check(self, sample: Sample) -> str | None:
        """A column of `context` that the sample does not have."""
        for name in self.context:
            if find_value(sample.metadata, name) is ABSENT:
                return f"there is no column {name!r} to show to the judge"
        return None

    def known_answer(self, place: int, item: Mapping[str, Any]) -> CalibrationExample:
        """An entry of `examples`. Raises ValueError."""
        where = f"examples: entry {place}"
        unknown = [str(name) for name in item if name not in EXAMPLE_KEYS]
        if unknown:
            raise ValueError(f"{where} has the unknown key {unknown[0]!r}; it takes {', '.join(EXAMPLE_KEYS)}")
        needed = ("answer", "verdict", *(["expected"] if self.reference else []))
        for name in needed:
            if item.get(name) is None:
                raise ValueError(f"{where} needs {name!r}")
        label = self.scale.form().match(item["verdict"])
        if label is None:
            raise ValueError(
                f"{where} has the verdict {item['verdict']!r}; it should be one of {', '.join(self.scale.scores)}"
            )
        score = self.scale.scores[label]
        context = item.get("context", {})
        if not isinstance(context, Mapping):
            raise ValueError(f"{where}: context should be a mapping of columns to texts")  # noqa: TRY004
        return CalibrationExample(
            plain_text(item.get("input", "")), plain_text(item.get("expected", "")), plain_text(item["answer"]),
            good=score >= self.scale.passes, value=score, tolerance=self.scale.tolerance, metadata=dict(context),
        )  # fmt: skip

    @property
    def example(self) -> tuple[Sample, str]:
        """A question and an answer, to estimate the size of a request."""
        return Sample("example", "input", ("expected",), dict.fromkeys(self.context, "")), "answer"

    async def __call__(
        self, output: str, input: Any, sample: Sample, judge: Judge, completion: Completion | None = None
    ) -> Outcome | Parts:
        if completion is not None and len(completion.turns) > 1:
            input = transcript(completion.turns)
        accepted = [answer for answer in sample.expected if answer.strip()]
        if self.reference and not accepted:
            return Skipped("the expected answer is blank")
        shown = {name: find_value(sample.metadata, name) for name in self.context}
        question = Question(
            self.criteria,
            output,
            plain_text(input) if self.input and input not in (None, "") else None,
            expected_text(accepted) if self.reference else None,
            {name: plain_text(value) for name, value in shown.items() if value is not ABSENT},
        )
        reply = await judge.ask(
            question.messages(self.scale),
            params={"tool_choice": TOOL_CHOICE},
            tools=(tool(self.schema),),
            response_format=response_format(self.schema),
        )
        if isinstance(reply, Failure):
            return reply
        verdicts = {name: self._score(read_verdict(reply, form, question.data)) for name, form in self.forms.items()}
        return verdicts[""] if "" in verdicts else self.combine(verdicts)

    def combine(self, verdicts: Mapping[str, Outcome]) -> Outcome | Parts:
        """The result for the verdicts by criteria."""
        return combine(verdicts)

    def _score(self, verdict: Any) -> Score | NoVerdict:
        if isinstance(verdict, NoVerdict):
            return verdict
        return Score(self.scale.scores[verdict.label], verdict.reasons, {"verdict": verdict.label})


def combine(verdicts: Mapping[str, Outcome]) -> Outcome | Parts:
    """The mean of several criteria, each a part; unscored if one has no verdict."""
    for name, item in verdicts.items():
        if isinstance(item, Failure):
            return Parts(replace(item, message=f"{name}: {item.message}"), verdicts)
        if not isinstance(item, Score):
            return Parts(replace(item, reason=f"{name}: {item.reason}"), verdicts)
    scores = {name: item for name, item in verdicts.items() if isinstance(item, Score)}
    lines = [
        f"{name}: {item.metadata.get('verdict', format(item.value, 'g'))}. {item.explanation or ''}"
        for name, item in scores.items()
    ]
    mean = sum(item.value for item in scores.values()) / len(scores)
    return Score(mean, "\n".join(line.strip() for line in lines), parts=scores)
