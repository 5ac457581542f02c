"""The scorer `json`: whether an output is JSON, fits a schema, has a value at a path, and how many of its fields are right."""

from __future__ import annotations

import hashlib
import json as json_module
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import (
    EMPTY,
    Cell,
    Completion,
    Declaration,
    Failure,
    Parts,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.egress import EgressPolicy
from evalrunner.json_path import MISSING, JsonPath, compile_path
from evalrunner.matching import SearchFailed
from evalrunner.plugin_table import BUILTIN
from evalrunner.plugins import NEGATION, PluginContext, call_factory, factory_options, main_option, resolve
from evalrunner.redact import redact_start
from evalrunner.scorers.answer_json import parse_answer
from evalrunner.scorers.call import BoundScorer, call_sync, offer
from evalrunner.scorers.json_schema import Schema, TooManyReferences, canonical, compile_schema, read_schema
from evalrunner.scorers.option_templates import fit
from evalrunner.suite.untrusted import Restrictions
from evalrunner.suite.validate import check_options

MAX_LENGTH: Final = 1_000_000  # characters of an output that is validated or compared
MAX_FIELDS: Final = 100
MAX_SHOWN: Final = 80  # characters of a value in an explanation
MAX_SHALLOW: Final = 50  # levels of a document that no schema needs recursion for
UNSAFE: Final = frozenset({"mlflow", "python", "toxicity"})  # run Python or load models
TOO_DEEP: Final = Score(0.0, "nested too deeply")


@main_option("schema")
def json(
    context: PluginContext | None = None,
    *,
    schema: str | dict[str, Any] | None = None,
    path: str | None = None,
    equals: Any = MISSING,
    contains: Any = MISSING,
    equals_expected: bool = False,
    fields: dict[str, Any] | None = None,
    record: str | None = None,
    lenient: bool = False,
) -> Scorer:
    """1 if the output is JSON that meets the options, else 0. With `fields` the share of those that are right.

    Args:
        schema: JSON Schema, or the path of a JSON or YAML file with one.
        path: JSONPath of the value that the other options are about, such as $.items[0].price. It has to exist.
        equals: Value to compare with.
        contains: Element of a list, part of a text, or key of an object.
        equals_expected: Compare with the JSON of an accepted answer.
        fields: Fields and the scorer of each, by names or paths. Each is a metric of its own.
        record: Column with the expected record of the fields, instead of the expected answer.
        lenient: Also accept JSON in a Markdown fence or in prose.
    """
    where = None if path is None else compile_path(path)
    if fields is not None:
        if schema is not None or equals is not MISSING or contains is not MISSING or equals_expected:
            raise ValueError("'fields' cannot be combined with other comparisons; write two scorers")
        return _fields_scorer(context or _no_context(), fields, record, where, lenient)
    if record is not None:
        raise ValueError("'record' is for 'fields', which are missing")
    compiled, backend = (None, None) if schema is None else _compile(schema, context or _no_context())
    function = JsonMatch(compiled, where, equals, contains, equals_expected, lenient)
    declaration = Declaration(binary=True, needs_expected=equals_expected, inline=compiled is None, backend=backend)
    return Scorer(function, declaration)


def _no_context() -> PluginContext:
    return PluginContext(Path(), Path("runs"), EMPTY)


def _compile(schema: str | dict[str, Any], context: PluginContext) -> tuple[Schema, str | None]:
    """The schema, and for one from a file its name with a digest of what it says. Raises ValueError."""
    if not isinstance(schema, str):
        return compile_schema(schema, context.limits), None
    if context.limits.fixed or context.confined:
        allowed = Restrictions(context.folder.resolve(), context.runs.resolve(), EgressPolicy())
        if (refusal := allowed.path_refusal(schema, context.folder)) is not None:
            who = "--untrusted refuses it" if context.limits.fixed else "data cannot name it"
            raise ValueError(f"'schema' names the file {schema!r}, which {refusal}; {who}")
    content = read_schema(context.folder / schema, schema)
    digest = hashlib.sha256(json_module.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return compile_schema(content, context.limits), f"schema {Path(schema).name}@{digest[:12]}"


def parse_output(output: str, lenient: bool) -> tuple[Any, str]:
    """The document of an output, or MISSING and why there is none."""
    if lenient:
        value = parse_answer(output)
        return value, "no JSON in the output"
    try:
        return STRICT.decode(output.strip()), ""
    except json_module.JSONDecodeError as wrong:
        reason = f"not JSON: {wrong.msg} at line {wrong.lineno} column {wrong.colno}"
    except (ValueError, RecursionError) as wrong:
        reason = "nested too deeply" if isinstance(wrong, RecursionError) else f"not JSON: {wrong}"
    if parse_answer(output) is not MISSING:
        reason += "; there is JSON in a fence or in prose, which 'lenient: true' accepts"
    return MISSING, reason


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


STRICT: Final = json_module.JSONDecoder(parse_constant=_refuse_constant)


def same_json(one: Any, other: Any) -> bool:
    """Whether two documents are equal: numbers by value, true is not 1, keys in any order."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(item, other[name]) for name, item in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(type(one) is type(other) or isinstance(one, int | float)) and bool(one == other)


def is_deeper(document: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more levels than that."""
    current = [document]
    for _ in range(levels):
        current = [
            item
            for value in current
            for item in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
        if not current:
            return False
    return True


def quoted(value: Any) -> str:
    """A value as JSON, shortened, for an explanation."""
    try:
        text = json_module.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = "a value that JSON cannot hold"
    return redact_start(text, MAX_SHOWN) + ("…" if len(text) > MAX_SHOWN else "")


@dataclass(frozen=True, slots=True)
class JsonMatch:
    """Whether the output is JSON, and the value at `path` fits everything that is asked of it."""

    schema: Schema | None
    path: JsonPath | None
    equals: Any
    contains: Any
    equals_expected: bool
    lenient: bool

    def __call__(self, output: str, sample: Sample) -> Score | Failure:
        if len(output) > MAX_LENGTH:
            return Failure("function", f"too long: {len(output):,} characters; the limit is {MAX_LENGTH:,}")
        document, reason = parse_output(output, self.lenient)
        if document is MISSING:
            return Score(0.0, reason)
        value = document if self.path is None else self.path(document)
        if value is MISSING:
            assert self.path is not None
            return Score(0.0, f"nothing at {self.path.text}")
        try:
            problem = self._problem(value, sample)
        except SearchFailed as failed:
            return Failure("timeout", str(failed))
        except TooManyReferences:
            return Failure("function", "the schema follows too many references for this output")
        except OverflowError:  # of multipleOf
            return Score(0.0, "a number beyond 64 bits")
        except RecursionError:
            if self.schema is not None and not is_deeper(value, MAX_SHALLOW):
                return Failure("function", "the schema refers to itself without an end")
            return TOO_DEEP
        return Score(1.0) if problem is None else Score(0.0, problem)

    def _problem(self, value: Any, sample: Sample) -> str | None:
        """What is wrong with the value; None if nothing is."""
        place = "the output" if self.path is None else self.path.text
        if self.schema is not None and (errors := self.schema(value)):
            return "; ".join(errors)
        if self.equals is not MISSING and not same_json(value, self.equals):
            return f"{place} is {quoted(value)}, not {quoted(self.equals)}"
        if self.contains is not MISSING and not _has(value, self.contains):
            return f"{place} is {quoted(value)}, without {quoted(self.contains)}"
        if self.equals_expected and not any(same_json(value, _document(answer)) for answer in sample.expected):
            return f"{place} is {quoted(value)}, not {' or '.join(sample.expected)[:MAX_SHOWN]}"
        return None


def _has(value: Any, wanted: Any) -> bool:
    """Whether a list has an equal element, a text the part, or an object the key."""
    if isinstance(value, list):
        return any(same_json(item, wanted) for item in value)
    return isinstance(value, str | dict) and isinstance(wanted, str) and wanted in value


def _document(answer: str) -> Any:
    """The JSON of an accepted answer; the text itself if it is none."""
    try:
        return STRICT.decode(answer.strip())
    except (ValueError, RecursionError):
        return answer


def _fields_scorer(
    context: PluginContext, fields: Mapping[str, Any], record: str | None, path: JsonPath | None, lenient: bool
) -> Scorer:
    """The scorer of several fields. Raises ValueError for a field whose scorer cannot score it."""
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise ValueError(f"'fields' should have 1 to {MAX_FIELDS} fields")
    bound = tuple(_field(context, str(name), spec) for name, spec in fields.items())
    parts = {field.name: field.scorer.scorer.declaration for field in bound}
    if len(parts) < len(bound):
        raise ValueError("'fields' has a field twice")
    needs_expected = record is None and any(part.needs_expected for part in parts.values())
    declaration = Declaration(needs_expected=needs_expected, passes=1.0, parts=parts)
    return Scorer(JsonFields(bound, record, path, lenient), declaration)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, its place in both records, and its scorer."""

    name: str
    path: JsonPath
    scorer: BoundScorer


def _field(context: PluginContext, name: str, spec: Any) -> Field:
    """A field of the suite: the type of its scorer, or a mapping with type and options. Raises ValueError."""
    options = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    kind = options.pop("type", None)
    if not isinstance(kind, str):
        raise ValueError(  # noqa: TRY004  a problem of the suite
            f"the field {name!r} should name a scorer: exact_match, or {{type: numeric_match, tolerance: 0.01}}"
        )
    if context.limits.fixed and (kind in UNSAFE or kind not in BUILTIN["scorers"]):
        raise ValueError(f"the field {name!r}: {kind} may run Python, which --untrusted refuses")
    if context.confined and (kind.removeprefix(NEGATION) in UNSAFE or ":" in kind):
        raise ValueError(
            f"the field {name!r}: {kind} runs code, which neither data nor options with templates can name"
        )
    try:
        factory = resolve("scorers", kind, folder=context.folder)
        known, problems = factory_options(factory), list[str]()
        given = {key: fit(item, known[key].annotation) if key in known else item for key, item in options.items()}
        checked = check_options(
            given, known, (), lambda at, what: problems.append(f"{'.'.join(map(str, at))} {what}".strip())
        )
        if problems:
            raise ValueError("; ".join(problems))
        made = call_factory(factory, checked, context)
        bound = BoundScorer.bind(name, made if isinstance(made, Scorer) else Scorer(made))
    except ValueError as wrong:
        raise ValueError(f"the field {name!r}: {wrong}") from None
    declared = bound.scorer.declaration
    if bound.is_async or declared.parts or not declared.higher_is_better or (declared.low, declared.high) != (0.0, 1.0):
        raise ValueError(
            f"the field {name!r}: {kind} cannot score a field, only scorers without a model from 0 to 1 can"
        )
    return Field(metric_name(name), compile_path(name), bound)


def metric_name(path: str) -> str:
    """The name of a field's metric: `order.total` for `$.order.total`, `items.0` for `$.items[0]`, `a_name` for `$['a name']`."""
    plain = re.sub(r"\[['\"]?([^\]]*?)['\"]?\]", r".\1", path.removeprefix("$"))
    return re.sub(r"[\s/\[\]<>=]+", "_", plain.strip("."))


@dataclass(frozen=True, slots=True)
class JsonFields(SampleValidator):
    """The share of the fields that are right, and each field as a part."""

    fields: tuple[Field, ...]
    record: str | None
    path: JsonPath | None
    lenient: bool

    def check(self, sample: Sample) -> str | None:
        """That a record of this sample is no JSON object; None for a sample that has no expected answer at all."""
        if self.record is not None and self.record not in sample.metadata:
            return f"has no column {self.record!r}, which 'record' names"
        if any(not isinstance(record, Mapping) for record in self._records(sample)):
            source = "the expected answer" if self.record is None else f"the column {self.record!r}"
            return f"{source} is no JSON object, which 'fields' needs"
        return None

    def __call__(self, output: str, sample: Sample, completion: Completion) -> Score | Parts | Skipped | Failure:
        if len(output) > MAX_LENGTH:
            return Failure("function", f"too long: {len(output):,} characters; the limit is {MAX_LENGTH:,}")
        document, reason = parse_output(output, self.lenient)
        if document is not MISSING and self.path is not None:
            document = self.path(document)
            reason = f"nothing at {self.path.text}"
        best: Score | Parts | None = None
        for record in self._records(sample) or [{}]:
            parts: dict[str, Any] = {}
            for field in self.fields:
                try:
                    answer = field.path(record)
                    result = MISSING if document is MISSING else field.path(document)
                    lacks = reason if document is MISSING else "missing in the output"
                    parts[field.name] = _score_field(field, result, answer, lacks, sample, completion)
                except RecursionError:
                    parts[field.name] = TOO_DEEP
            outcome = _with_share(parts, reason if document is MISSING else None)
            if isinstance(outcome, Parts):
                return outcome
            if best is None or outcome.value > best.value:  # type: ignore[union-attr]
                best = outcome
        assert best is not None
        return best

    def _records(self, sample: Sample) -> list[Any]:
        """The accepted records, none if the sample has no expected answer; texts that are no JSON stay texts."""
        if self.record is None:
            given: list[Any] = list(sample.expected)
        else:
            value = sample.metadata.get(self.record)
            given = value if isinstance(value, list) else [value]
        given = [item for item in given if item is not None and not (isinstance(item, str) and not item.strip())]
        return [_document(item) if isinstance(item, str) else item for item in given]


def _with_share(parts: Mapping[str, Any], reason: str | None) -> Score | Parts:
    """The mean of the fields that have a score; the first failure if one failed."""
    failed = next((part for part in parts.values() if isinstance(part, Failure | Unscored)), None)
    scores = {name: part.value for name, part in parts.items() if isinstance(part, Score)}
    if failed is not None:
        return Parts(failed, parts)
    if not scores:
        return Parts(Skipped("the expected record has none of the fields"), parts)
    wrong = [name for name, value in scores.items() if value < 1]
    explanation = reason or (f"wrong: {', '.join(wrong)}" if wrong else None)
    return Score(sum(scores.values()) / len(scores), explanation, parts=parts)


def _score_field(
    field: Field, result: Any, answer: Any, lacks: str, sample: Sample, completion: Completion
) -> Score | Skipped | Unscored | Failure:
    """The outcome of one field: what the output has, compared with what the record has."""
    needs_answer = field.scorer.scorer.declaration.needs_expected
    if needs_answer and answer is MISSING:
        return Skipped(f"the expected record has no {field.name}")
    if needs_answer and (answer is None or (isinstance(answer, str) and not answer.strip())):
        empty = result is MISSING or result is None or (isinstance(result, str) and not result.strip())
        return Score(float(empty), None if empty else f"{quoted(result)}, expected nothing")
    if result is MISSING or result is None:
        return Score(0.0, lacks if result is MISSING else "null in the output")
    answers = () if answer is MISSING else (as_text(answer),)
    text = as_text(result)
    if not text.strip():
        return Score(0.0, "blank in the output")
    offered = offer(replace(sample, expected=answers), replace(completion, text=text))
    cell = call_sync(field.scorer, offered)
    return _outcome(cell, quoted(result) if answer is MISSING else f"{quoted(result)} for {quoted(answer)}")


def as_text(value: Any) -> str:
    """A value of a document as a text that scorers compare: strings as they are, others as JSON in one spelling."""
    return value if isinstance(value, str) else canonical(value)


def _outcome(cell: Cell, comparison: str) -> Score | Skipped | Unscored | Failure:
    """The outcome that a cell was made of; a score below 1 says what was compared."""
    if cell.state == "scored" and cell.value is not None:
        own = (cell.detail or {}).get("explanation")
        return Score(cell.value, own or (comparison if cell.value < 1 else None))
    if cell.state == "skipped":
        return Skipped(cell.reason or "")
    if cell.state == "unscored":
        return Unscored("no_answer", cell.reason or "")
    return Failure("function", cell.reason or "")
