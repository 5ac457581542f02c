"""The scorer `expr`: an expression over the answer and the columns of its row, as true or false, or as a number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Completion, Declaration, Failure, Sample, Score, Scorer, Skipped
from evalrunner.limits import STANDARD
from evalrunner.plugins import PluginContext, main_option, own_templates
from evalrunner.prompts import template_context
from evalrunner.scorers.call import UNDEFINED_RESULT
from evalrunner.scorers.checks import ROUNDING
from evalrunner.scorers.expression_language import (
    ANSWER_NAMES,
    SAMPLE_NAMES,
    Expression,
    Problem,
    answer_json,
    compile_expression,
    undefined,
)
from evalrunner.scorers.text import parse_number
from evalrunner.stats.distributions import MAX_SCORE
from evalrunner.templates import name_hint

ABOVE_ZERO: Final = 2 * ROUNDING  # a check by a number passes above 0, whatever its rule allows for rounding
TRIALS: Final = (Completion(""), Completion("0 of 1."))
"""Answers for which every expression is evaluated before the first call, to find mistakes that no answer can cause."""


@main_option("value")
@own_templates("value")
def expr(
    context: PluginContext | None = None,
    *,
    value: str,
    low: float | None = None,
    high: float | None = None,
    higher_is_better: bool = True,
    unit: str | None = None,
) -> Scorer:
    """The result of an expression: `output|length < 400`. True is 1, false is 0, and a number is itself.

    Args:
        value: An expression over output, json, latency, cost, tokens, ended, tool_calls, reasoning and the columns.
        low: Lowest possible score of a number; leave it out if there is none.
        high: Highest possible score of a number; leave it out if there is none.
        higher_is_better: Whether a higher score is better.
        unit: Unit of the scores, such as words.
    """
    expression = compile_expression(value, STANDARD if context is None else context.limits)
    if expression.is_bool and (low is not None or high is not None):
        raise ValueError("'low' and 'high' are for numbers; this expression is true or false")
    for name, end in (("low", low), ("high", high)):
        if end is not None and not abs(end) <= MAX_SCORE:
            raise ValueError(f"{name!r} is {end:g}; the largest score is {MAX_SCORE:g}. Leave it out for an open range")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"'low' is {low:g} and 'high' is {high:g}; 'low' should be smaller")
    scorer = ExpressionScorer(expression, low, high)
    if not expression.names - ANSWER_NAMES.keys() and (mistake := scorer.trial(Sample("", ""))) is not None:
        raise ValueError(mistake)
    return Scorer(scorer, declaration_of(expression, low, high, higher_is_better, unit))


def declaration_of(
    expression: Expression, low: float | None, high: float | None, higher_is_better: bool, unit: str | None
) -> Declaration:
    """What an expression declares: 0 or 1 if it can only be true or false, else a number."""
    names = expression.names
    return Declaration(
        low=0.0 if expression.is_bool else low,
        high=1.0 if expression.is_bool else high,
        binary=expression.is_bool,
        infer_binary=not expression.is_bool and unit is None and low in (None, 0) and high in (None, 1),
        higher_is_better=higher_is_better,
        unit=unit,
        passes=None if expression.is_bool or not higher_is_better else ABOVE_ZERO,
        # one that looks at how an answer ended, or at its calls, is about answers without text too
        needs_answer=bool(names & {"output", "json"}) and not names & {"ended", "tool_calls"},
        needs_expected="expected" in names and "expected" not in expression.optional,
        inline=not expression.searches,
    )


@dataclass(frozen=True, slots=True)
class ExpressionScorer(SampleValidator):
    """Evaluates an expression for an answer. What the model's answer leaves undefined is a 0 with the reason."""

    expression: Expression
    low: float | None = None
    high: float | None = None

    def __call__(self, output: str, sample: Sample, completion: Completion) -> Any:
        result = self.expression.evaluate(self._values(output, sample, completion))
        if not isinstance(result, Problem):
            return self._bounded(result)
        if result.kind == "not_reported":
            return Skipped(result.reason)
        if result.kind == "timeout":
            return Failure("timeout", result.reason)
        if result.kind == "limit":
            return Failure("function", result.reason)
        return self._failed(result.reason)

    def check(self, sample: Sample) -> str | None:
        """Why the expression can have no value for a sample, whatever the answer is; None if an answer may give it one."""
        row = template_context(sample)
        for name in sorted(self.expression.columns - self.expression.optional):
            if name not in row:
                return _unknown_name(name, row)
        optional = {*ANSWER_NAMES, *self.expression.optional}
        for path in self.expression.paths:
            if path[0] in row and path[0] not in optional and (problem := _path_problem(row, path)) is not None:
                return problem
        if not self.expression.names - ANSWER_NAMES.keys() or (mistake := self.trial(sample)) is None:
            return None
        return mistake + self._number_hint(row) if "'str'" in mistake else mistake

    def _number_hint(self, row: Mapping[str, Any]) -> str:
        """What to write for a column whose numbers are texts, as those of a CSV file are."""
        texts = [name for name in sorted(self.expression.columns) if isinstance(row.get(name), str)]
        numbers = [name for name in texts if parse_number(row[name]) is not None]
        return f"; {numbers[0]!r} is text in this dataset: write {numbers[0]}|number" if numbers else ""

    def trial(self, sample: Sample) -> str | None:
        """The mistake that shows for every trial answer; None if one of them is fine, or depends on the answer."""
        if self.expression.names >= {"expected"} and not sample.expected:
            return None  # the row is skipped
        reads_answer = bool(self.expression.names & ANSWER_NAMES.keys())
        problem: Any = None
        for completion in TRIALS if reads_answer else TRIALS[:1]:
            trial = replace(completion, latency_s=1.0, cost_usd=0.0, output_tokens=1, input_tokens=1)
            problem = self.expression.evaluate(self._values(completion.text, sample, trial))
            if not isinstance(problem, Problem) or (reads_answer and problem.kind not in ("suite", "limit")):
                return None
        return str(problem.reason)

    def _values(self, output: str, sample: Sample, completion: Completion) -> dict[str, Any]:
        """The values of the names that the expression uses, and nothing else."""
        names = self.expression.names
        values: dict[str, Any] = {}
        if names - ANSWER_NAMES.keys():
            row = template_context(sample)
            values = {name: row[name] for name in names if name in row}
        for name in names & ANSWER_NAMES.keys():
            values[name] = _answer_value(name, output, completion)
        return values

    def _bounded(self, result: Any) -> Any:
        """The result, or 0 with the reason for a number outside of the declared range."""
        if self.low is not None and result < self.low:
            return self._failed(f"the expression gives {result:g}, which is below 'low' ({self.low:g})")
        if self.high is not None and result > self.high:
            return self._failed(f"the expression gives {result:g}, which is above 'high' ({self.high:g})")
        return result

    def _failed(self, reason: str) -> Score:
        """0, or the end of the range next to it."""
        zero = max(0.0, self.low or 0.0)
        return Score(zero if self.high is None else min(zero, self.high), reason, {UNDEFINED_RESULT: True})


def _answer_value(name: str, output: str, completion: Completion) -> Any:
    if name == "output":
        return output
    if name == "json":
        return answer_json(output)
    if name == "ended":
        blank = completion.finish_reason == "stop" and not completion.text.strip()
        return "empty" if blank else completion.finish_reason
    if name == "tool_calls":
        return list(_calls(completion))
    if name == "conversation":
        return [dict(turn) for turn in completion.turns]
    if name == "reasoning":
        return completion.reasoning or ""
    fields = {"latency": "latency_s", "cost": "cost_usd", "tokens": "output_tokens", "input_tokens": "input_tokens"}
    value = getattr(completion, fields[name])
    return undefined(f"the answer has no {name.replace('_', ' ')}", name, reported=False) if value is None else value


def _calls(completion: Completion) -> Iterator[dict[str, Any]]:
    """Name and arguments of each tool call; arguments that are no JSON stay text."""
    for call in completion.tool_calls:
        function = call.get("function")
        given: Mapping[str, Any] = function if isinstance(function, Mapping) else call
        arguments = given.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments) if arguments.strip() else {}
            except (ValueError, RecursionError):
                pass
        yield {"name": str(given.get("name", "")), "arguments": arguments}


def _unknown_name(name: str, row: Mapping[str, Any]) -> str:
    known = [*row, *(one for one in (*ANSWER_NAMES, *SAMPLE_NAMES) if one not in row)]
    return f"the expression uses {name!r}, which is no column of this sample{name_hint(name, known)}"


def _has(value: Any, key: str | int) -> bool:
    """Whether a mapping has a key, or a list or text an index."""
    if isinstance(value, Mapping):
        return key in value
    return isinstance(key, int) and isinstance(value, list | tuple | str) and -len(value) <= key < len(value)


def _path_problem(row: Mapping[str, Any], path: tuple[str | int, ...]) -> str | None:
    """Why a sample has nothing at a path; None if it has, or if the rest is a method of its value."""
    value: Any = row[str(path[0])]
    for place, key in enumerate(path[1:], 1):
        if _has(value, key):
            value = value[key]
        elif isinstance(key, str) and not key.startswith("_") and hasattr(value, key):
            return None
        else:
            inside = f"; it has {', '.join(map(str, list(value)[:8]))}" if isinstance(value, Mapping) and value else ""
            at = ".".join(map(str, path[:place]))
            return f"the expression uses {key!r} of {at}, which this sample does not have{inside}"
    return None
