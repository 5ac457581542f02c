"""The scorer `autoevals`: every scorer of the package, called for one output at a time.

Those with a judge ask that of the suite, those with embeddings or moderation the `model:` of their scorer.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalrunner.capabilities import SampleFilter, SampleValidator
from evalrunner.domain import EMPTY, Declaration, Failure, Judge, Outcome, Sample, Score, Scorer, Skipped
from evalrunner.errors import listed, nearest
from evalrunner.formatting import plain_text
from evalrunner.limits import STANDARD
from evalrunner.matching import SearchFailed
from evalrunner.plugins import main_option, own_templates
from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES, autoevals_version, expected_text
from evalrunner.scorers.autoevals_catalogue import CLASSIFIER, Entry, classifier_entry, find_entry
from evalrunner.scorers.autoevals_client import Model, describe_error, evaluate, explanation_of, judge_client_class
from evalrunner.scorers.json_schema import Schema, TooManyReferences, compile_schema
from evalrunner.scorers.lenient_json import FENCE
from evalrunner.scorers.similarity import MAX_CELLS
from evalrunner.scorers.text import last_number

BULLETS = "-*•·–+ \t"
MAX_LENGTH = 1_000_000  # characters of an output or accepted answer
MAX_PAIRS = 100_000  # items of both lists: a second or two
NO_NUMBER = "the accepted answers contain no number"


@main_option("scorer")
@own_templates("prompt")
def autoevals(
    *,
    scorer: str,
    prompt: str | None = None,
    choices: dict[str, float] | None = None,
    use_cot: bool = True,
    criteria: str | None = None,
    instructions: str | None = None,
    language: str | None = None,
    context: str | list[str] | None = None,
    params: dict[str, Any] | None = None,
    columns: dict[str, str] | None = None,
) -> Scorer:
    """A scorer of the package autoevals. Those with a judge ask the suite's.

    Args:
        scorer: Name of the scorer, such as ClosedQA or Faithfulness.
        prompt: Of LLMClassifier: a mustache template with {{output}}, {{expected}}, {{input}} or columns.
        choices: Of LLMClassifier: the judge's choices and their scores, such as {Yes: 1, No: 0}.
        use_cot: Let the judge write its reasons before it chooses; they are stored with the score.
        criteria: Of ClosedQA: what the output should meet.
        instructions: Of Battle: the task. By default the input.
        language: Of Translation: the language of the input.
        context: Of the scorers that compare with it: the text, or a list of texts. By default the column context.
        params: Further parameters of the scorer, such as {expected_min: 0.8}, or values of LLMClassifier's prompt.
        columns: Dataset columns for values that the scorer calls by another name, such as {context: passage}.
    """
    backend = f"autoevals {autoevals_version()}"
    given = {"criteria": criteria, "instructions": instructions, "language": language, "context": context}
    given = {name: value for name, value in given.items() if value is not None}
    entry = _entry(scorer, prompt, choices, use_cot, dict(params or {}), given)
    values = Values.of(entry, given, dict(columns or {}))
    declaration = Declaration(
        binary=entry.binary,
        needs_expected="expected" in entry.needs and values.column_of("expected") is None,
        backend=backend,
        infer_binary=not entry.is_known,
    )
    examples = CALIBRATION_EXAMPLES if scorer == "Factuality" and not values.columns else ()
    if entry.asks_judge:
        return Scorer((JudgedWithModel if entry.asks_model else Judged)(values), declaration, examples)
    return Scorer((WithModel if entry.asks_model else Local)(values), declaration)


def _entry(
    name: str,
    prompt: str | None,
    choices: Mapping[str, float] | None,
    use_cot: bool,
    params: dict[str, Any],
    given: dict[str, Any],
) -> Entry:
    if name == CLASSIFIER:
        if prompt is None or choices is None:
            raise ValueError(f"{CLASSIFIER!r} needs {'prompt' if prompt is None else 'choices'!r}")
        given.update(params)
        return classifier_entry(prompt, choices, {"use_cot": use_cot})
    entry = find_entry(name, params if use_cot else {**params, "use_cot": False})
    for option, value in (("prompt", prompt), ("choices", choices)):
        if value is not None:
            raise ValueError(f"{option!r} is an option of {CLASSIFIER}; {name!r} has its own")
    return entry


def scorer_name(options: Mapping[str, Any]) -> str | None:
    """The name of a scorer in autoevals' results, which is that of its class."""
    name = options.get("scorer")
    return name if isinstance(name, str) else None


@dataclass(frozen=True, slots=True)
class Values:
    """The values that a scorer needs of a row: the `constants` of the suite, and the dataset `columns` for the others."""

    entry: Entry
    constants: Mapping[str, Any]
    columns: Mapping[str, str]

    @classmethod
    def of(cls, entry: Entry, given: Mapping[str, Any], columns: Mapping[str, str]) -> Values:
        """Raises ValueError for values that the scorer does not need."""
        needed = f"it needs {listed(entry.needs, 'and')}" if entry.needs else "it needs only the output"
        for name in (*given, *columns):
            if name not in entry.needs:
                hint = nearest(name, entry.needs)
                raise ValueError(f"{name!r} is not needed by {entry.name}{hint}; {needed}")
        if both := [name for name in columns if name in given]:
            raise ValueError(f"{both[0]!r} is set twice, by its value and by its column; remove one")
        return cls(entry, given, columns)

    def column_of(self, name: str, sample: Sample | None = None) -> str | None:
        """The dataset column for a value; None for the input, the accepted answers and what the suite gives."""
        if name in self.columns:
            return self.columns[name]
        if name in self.constants or name in ("input", "expected"):
            return None
        if name == "instructions" and (sample is None or name not in sample.metadata):
            return None
        return name

    def missing(self, sample: Sample) -> str | None:
        """A message about the column that a sample lacks, or None."""
        for name in self.entry.needs:
            column = self.column_of(name, sample)
            if column is not None and column not in sample.metadata:
                own = f", or give {name}: …" if name in ("criteria", "language", "context") else ""
                hint = nearest(column, sample.metadata) or f"; name it with columns: {{{name}: COLUMN}}{own}"
                return f"needs {name!r}, but there is no column {column!r}{hint}"
        return None

    def read(self, output: str, sample: Sample) -> dict[str, Any] | Skipped | Failure:
        """The arguments of the scorer for a row, with all accepted answers in one text."""
        if (lacking := self.missing(sample)) is not None:
            return Failure("function", lacking)
        values: dict[str, Any] = {"output": output}
        for name in self.entry.needs:
            value = self._value(name, sample)
            if value is None or value in ([], {}) or (isinstance(value, str) and not value.strip()):
                return Skipped("the expected answer is blank" if name == "expected" else f"no {name}")
            values[name] = value if name in self.entry.raw else _as_text(value)
        return values

    def _value(self, name: str, sample: Sample) -> Any:
        if name in self.constants:
            return self.constants[name]
        if (column := self.column_of(name, sample)) is not None:
            return sample.metadata[column]
        if name == "expected":
            answers = [answer for answer in sample.expected if answer.strip()]
            return expected_text(answers) if answers else None
        return sample.input

    def example(self) -> tuple[Sample, str]:
        """A placeholder row with every column and a wrong output, to estimate the size of judge calls."""
        columns = {column: "x" for name in self.entry.needs if (column := self.column_of(name)) is not None}
        return Sample("example", "x", ("x",), columns), "y"


def _as_text(value: Any) -> str:
    """A value as the judge reads it; a list of texts, such as the passages of a context, with one on each line."""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return plain_text(value)


class _RowScorer(SampleValidator):
    def __init__(self, values: Values) -> None:
        self.values = values
        self.entry = values.entry
        self.call_params = values.entry.call_params or EMPTY

    def check(self, sample: Sample) -> str | None:
        """The problem of a sample, known before the first call."""
        return self.values.missing(sample)

    def answers(self, sample: Sample) -> Sequence[str]:
        """The accepted answers, or the one in the column that the suite names."""
        column = self.values.column_of("expected")
        if column is not None:
            return [_as_text(sample.metadata[column])]
        return [answer for answer in sample.expected if answer.strip()]


class Judged(_RowScorer):
    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.example = values.example()
        self.calls_per_row = values.entry.judge_calls

    async def __call__(self, output: str, sample: Sample, judge: Judge) -> Outcome:
        return await self.ask(output, sample, judge, None)

    async def ask(self, output: str, sample: Sample, judge: Judge | None, model: Model | None) -> Outcome:
        """The score of one call of the scorer."""
        values = self.values.read(output, sample)
        if isinstance(values, Skipped | Failure):
            return values
        graded = [value for value in values.values() if isinstance(value, str)]
        client = judge_client_class()(judge, graded, model)
        return await evaluate(self.entry.make(client), client, {**values, **self.call_params})


class JudgedWithModel(Judged):
    async def __call__(self, output: str, sample: Sample, judge: Judge, model: Model) -> Outcome:  # type: ignore[override]
        return await self.ask(output, sample, judge, model)


class WithModel(_RowScorer):
    """A scorer that compares embeddings, with each accepted answer by itself, or that asks for moderation."""

    async def __call__(self, output: str, sample: Sample, model: Model) -> Outcome:
        values = self.values.read(output, sample)
        if isinstance(values, Skipped | Failure):
            return values
        answers = self.answers(sample) if "expected" in values else [None]
        outcomes = await asyncio.gather(*(self._ask(values, answer, model) for answer in answers))
        scores = [outcome for outcome in outcomes if isinstance(outcome, Score)]
        if len(scores) < len(outcomes):
            return next(outcome for outcome in outcomes if not isinstance(outcome, Score))
        return max(scores, key=lambda score: score.value)

    async def _ask(self, values: Mapping[str, Any], answer: str | None, model: Model) -> Outcome:
        client = judge_client_class()(None, (), model)
        given = values if answer is None else {**values, "expected": answer}
        return await evaluate(self.entry.make(client), client, {**given, **self.call_params})


class Local(_RowScorer, SampleFilter):
    """A scorer without calls, which the engine runs in a thread. The best accepted answer counts."""

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.scorer = self.entry.make(None)
        schema = self.call_params.get("expected") if self.entry.name == "ValidJSON" else None
        self.schema = None if schema is None else compile_schema(schema, STANDARD)

    def __call__(self, output: str, sample: Sample) -> Outcome:
        values = self.values.read(output, sample)
        if isinstance(values, Skipped | Failure):
            return values
        if len(output) > MAX_LENGTH:
            return Failure("function", f"too long: {len(output):,} characters; the limit is {MAX_LENGTH:,}")
        if self.schema is not None:
            return self._validate(self.schema, output)
        if "expected" not in values:
            return self._compare(output, None)
        wanted = self._accepted(sample)
        if not wanted:
            return Skipped(NO_NUMBER)
        found = output if self.entry.reads == "text" else self._read(output)
        if found is None:
            return Score(0.0, "no number in the output")
        if (failure := self._too_large(found, wanted)) is not None:
            return failure
        outcomes = [self._compare(found, answer) for answer in wanted]
        scores = [outcome for outcome in outcomes if isinstance(outcome, Score)]
        return max(scores, key=lambda score: score.value) if scores else outcomes[0]

    def _validate(self, schema: Schema, output: str) -> Outcome:
        """The score of ValidJSON, which has no limit of time in the package."""
        try:
            return Score(float(not schema(json.loads(output))))
        except SearchFailed as failed:
            return Failure("timeout", str(failed))
        except TooManyReferences:
            return Failure("function", "the schema follows too many references for this output")
        except (ValueError, OverflowError, RecursionError):
            return Score(0.0)

    def _too_large(self, found: Any, wanted: Sequence[Any]) -> Failure | None:
        """That the package would take too long to compare; None if it does not."""
        if self.entry.reads == "number":
            return None
        pairs = sum(len(found) * len(answer) for answer in wanted)
        is_list, limit = self.entry.reads == "list", MAX_CELLS
        if is_list and pairs <= MAX_PAIRS:  # the sum of products of lengths is the product of sums
            pairs = sum(len(str(item)) for item in found) * sum(len(str(item)) for answer in wanted for item in answer)
        elif is_list:
            limit = MAX_PAIRS
        if pairs <= limit:
            return None
        return Failure(
            "function", f"too long to compare: the product of both lengths is {pairs:,}; it may be {limit:,}"
        )

    def skip_reason(self, sample: Sample) -> str | None:
        """That no accepted answer has a number where the scorer compares numbers; None if one has."""
        return NO_NUMBER if self.entry.reads == "number" and not self._accepted(sample) else None

    def _accepted(self, sample: Sample) -> list[Any]:
        """The accepted answers as the scorer reads them; several ones are the items of one list."""
        answers = self.answers(sample)
        if self.entry.reads == "list":
            return [self._read(answers[0]) if len(answers) == 1 else list(answers)]
        return [answer for answer in map(self._read, answers) if answer is not None]

    def _read(self, text: str) -> Any:
        if self.entry.reads == "number":
            return number_in(text)
        return items_of(text) if self.entry.reads == "list" else text

    def _compare(self, output: Any, wanted: Any) -> Outcome:
        try:
            return self._score(output, wanted)
        except Exception as crash:  # of a text that the package cannot read, such as JSON with a million brackets
            problem = describe_error(crash)
        try:
            if wanted is not None:
                self._score(wanted, wanted)
        except Exception:
            return Failure("function", f"{self.entry.name} cannot compare the accepted answer with itself: {problem}")
        return Score(0.0, f"{self.entry.name} cannot read the output: {problem}")

    def _score(self, output: Any, wanted: Any) -> Score:
        values = {"output": output, "expected": wanted, **self.call_params}
        result = self.scorer.eval(**values)
        value = float(result.score)
        if not math.isfinite(value):
            raise ValueError(f"the score is {value}")
        return Score(value, explanation_of(result.metadata))


def number_in(text: str) -> float | None:
    """The last number of a text, as numeric_match reads it; None if there is none that a float can hold."""
    found = last_number(text)
    if found is None:
        return None
    number = float(found)
    return number if math.isfinite(number) else None


def items_of(text: str) -> list[Any]:
    """The items of a text: those of a JSON list, else its lines without bullets."""
    try:
        value = json.loads(FENCE.sub("", text))
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list):
        return [item if isinstance(item, str | int | float) else json.dumps(item) for item in value]
    return [line for raw in text.splitlines() if (line := raw.strip(BULLETS))]
