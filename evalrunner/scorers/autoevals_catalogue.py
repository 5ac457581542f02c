"""The scorers of the installed autoevals, what each of them calls, and the values that it needs.

They are found among the classes of the package. What a scorer needs is observed: from the variables of its template, or
by a trial call with placeholders, whose client records what it is asked and answers by the schema of the tool.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from evalrunner.errors import nearest
from evalrunner.limits import STANDARD
from evalrunner.scorers.autoevals_client import UnusedRateLimitError, describe_error, forget, function_of, tool_reply
from evalrunner.scorers.json_schema import compile_schema
from evalrunner.scorers.judge_arguments import placeholder

Reading: TypeAlias = Literal["text", "number", "list"]
"""How a scorer reads output and expected answer."""

CLASSIFIER: Final = "LLMClassifier"
ROW_VALUES: Final = ("expected", "input", "context")
PLACEHOLDERS: Final[Mapping[Reading, tuple[Any, Any]]] = {"text": ("1", "2"), "number": (1, 2), "list": (["1"], ["2"])}
LISTS: Final = frozenset({"ListContains"})  # would take the characters of a text for items
BINARY: Final = frozenset({"ContextPrecision", "ExactMatch", "Moderation", "ValidJSON"})
FRACTIONS: Final = frozenset(
    {"AnswerCorrectness", "AnswerRelevancy", "AnswerSimilarity", "ContextEntityRecall", "ContextRecall", "ContextRelevancy",
     "EmbeddingSimilarity", "Faithfulness", "JSONDiff", "Levenshtein", "ListContains", "NumericDiff"}
)  # fmt: skip
SUITE_PARAMETERS: Final = frozenset(
    {"client", "model", "api_key", "base_url", "engine", "use_responses_api", "temperature", "max_tokens", "embedding_model",
     "reasoning_effort", "reasoning_enabled", "reasoning_budget"}
)  # fmt: skip
"""Parameters that decide which model is called and how; the suite decides that."""
UNSETTABLE: Final = frozenset({*SUITE_PARAMETERS, "answer_similarity", "name", "prompt_template", "choice_scores"})
NESTED: Final = frozenset({"string_scorer", "number_scorer", "pairwise_scorer"})
"""Parameters that are another scorer of the package, by name."""

_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Entry:
    """A scorer with its parameters: what it calls, the values that it needs, and how it reads texts.

    `make` creates the scorer for a client. `call_params` are passed with each call. `raw` are the values whose fields its
    template reads, such as `input` for `{{input.question}}`. `labels` are the choices of a classifier with their scores. `judge_calls` are made for a row
    in which the judge lists one item of each kind.
    """

    name: str
    make: Callable[[Any], Any]
    needs: tuple[str, ...]
    asks_judge: bool = False
    asks_model: bool = False
    reads: Reading = "text"
    labels: Mapping[str, float] | None = None
    call_params: Mapping[str, Any] | None = None
    raw: frozenset[str] = frozenset()
    judge_calls: int = 1

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""
        if self.labels is not None:
            return set(self.labels.values()) <= {0, 1}
        return self.name in BINARY

    @property
    def is_known(self) -> bool:
        """Whether the kind of its scores is known: not that of a scorer that a later release adds."""
        return self.labels is not None or self.name in BINARY | FRACTIONS


@functools.cache
def scorer_classes() -> Mapping[str, Any]:
    """The classes of scorers by name: those that can be used and from which no other one is derived, and LLMClassifier."""
    with _lock:
        import autoevals

        found = {
            name: item
            for name, item in vars(autoevals).items()
            if inspect.isclass(item) and issubclass(item, autoevals.Scorer) and not name.startswith("_")
        }
    bases = {base for item in found.values() for base in item.__mro__[1:]}
    return {
        name: item
        for name, item in sorted(found.items(), key=lambda pair: pair[0].lower())
        if name == CLASSIFIER or not (item in bases or inspect.isabstract(item) or item.__name__ != name)
    }


def find_class(name: str) -> Any:
    """The class of a name. Raises ValueError, with the nearest name."""
    known = scorer_classes()
    if name not in known:
        exact = next((one for one in known if one.lower() == name.lower().replace("_", "")), None)
        hint = f"; did you mean {exact!r}?" if exact else nearest(name, known)
        raise ValueError(f"autoevals has no scorer {name!r}{hint}; it has {', '.join(known)}")
    return known[name]


def find_entry(name: str, params: Mapping[str, Any]) -> Entry:
    """The scorer of a name with its parameters. Raises ValueError for parameters that it does not accept."""
    return _entry(name, json.dumps(params, sort_keys=True, default=str))


@functools.lru_cache(256)
def _entry(name: str, written: str) -> Entry:
    """The entry for parameters as JSON; kept, since the options of a suite may be rendered for each row."""
    kind, params = find_class(name), json.loads(written)
    spec = _is_template(kind)
    accepted = {**_parameters(kind.__new__ if spec else kind.__init__), **_call_parameters(kind)}
    _check_params(name, params, sorted(set(accepted) - UNSETTABLE))
    if spec:
        return _template_entry(name, kind, params)
    nested = {key: _nested(name, key, value) for key, value in params.items() if key in NESTED}
    at_call = {key: value for key, value in params.items() if key in _call_parameters(kind)}
    if (second := _second_parameter(kind)) != "expected":  # calls pass what they call expected in its place
        if at_call.get("schema") is not None:
            compile_schema(at_call["schema"], STANDARD)  # the package would fetch references, and search slow patterns
        at_call = {"expected": at_call.pop(second, None), **at_call}
    options = {key: value for key, value in {**params, **nested}.items() if key not in _call_parameters(kind)}
    takes_client = "client" in _parameters(kind.__init__)

    def make(client: Any) -> Any:
        given = {**options, "client": client} if takes_client else options
        return kind(**given, **({"model": "judge"} if "model" in _parameters(kind.__init__) else {}))

    return _observed_entry(name, make, at_call)


def _check_params(name: str, params: Mapping[str, Any], accepted: Sequence[str]) -> None:
    for key in params:
        if key in SUITE_PARAMETERS:
            raise ValueError(
                f"'params' has {key!r}, which the suite decides, with its judge and the judge's params; remove it"
            )
        if key not in accepted:
            listed = f"it accepts {', '.join(accepted)}" if accepted else "it accepts none"
            raise ValueError(f"'params' has {key!r}, which {name!r} does not accept{nearest(key, accepted)}; {listed}")


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function that have a name."""
    return {
        name: item
        for name, item in inspect.signature(function).parameters.items()
        if name not in ("self", "cls") and item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
    }


def _call_parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a call other than the values of a row."""
    known = {"output", *ROW_VALUES}
    return {name: item for name, item in _parameters(kind._run_eval_sync).items() if name not in known}  # noqa: SLF001


def _second_parameter(kind: Any) -> str:
    """The parameter after the output: `expected`, or another one that the package fills with the expected answer."""
    return [*_parameters(kind._run_eval_sync), "expected"][1]  # noqa: SLF001


def _nested(name: str, key: str, value: Any) -> Any:
    """The scorer that is a parameter of another one: one without calls."""
    if not isinstance(value, str):
        raise ValueError(f"'params.{key}' of {name!r} should be the name of a scorer of autoevals")  # noqa: TRY004
    entry = find_entry(value, {})
    if entry.asks_judge or entry.asks_model:
        raise ValueError(f"'params.{key}' of {name!r} should be a scorer without calls to a model, such as Levenshtein")
    return entry.make(None)


def _is_template(kind: Any) -> bool:
    return any(base.__name__ == "SpecFileClassifier" for base in kind.__mro__)


def _template_entry(name: str, kind: Any, params: Mapping[str, Any]) -> Entry:
    prototype = kind(client=object(), model="judge", **params)
    template = "".join(message["content"] for message in prototype.messages)
    return _classifier(name, prototype, template)


def classifier_entry(prompt: str, choices: Mapping[str, float], params: Mapping[str, Any]) -> Entry:
    """An LLMClassifier of the suite. Raises ValueError for a prompt or choices that cannot work."""
    check_prompt(prompt)
    if len(choices) < 2:
        raise ValueError("'choices' should have at least two choices with their scores, such as {Yes: 1, No: 0}")
    for label, score in choices.items():
        if not 0 <= score <= 1:
            raise ValueError(f"'choices' has {label}: {score:g}; the scores of autoevals are from 0 to 1")
    return _own_classifier(prompt, tuple(choices.items()), bool(params.get("use_cot", True)))


@functools.lru_cache(256)
def _own_classifier(prompt: str, choices: tuple[tuple[str, float], ...], use_cot: bool) -> Entry:
    kind = find_class(CLASSIFIER)
    with _lock:
        prototype = kind(CLASSIFIER, prompt, dict(choices), client=object(), model="judge", use_cot=use_cot)
    return _classifier(CLASSIFIER, prototype, prompt)


def _classifier(name: str, prototype: Any, template: str) -> Entry:
    import copy

    names, raw = variables_of(template)

    def make(client: Any) -> Any:
        scorer = copy.copy(prototype)  # rows are judged concurrently, each with its own client
        scorer.client = client
        return scorer

    needs = tuple(one for one in names if one not in ("output", "__choices"))
    return Entry(name, make, needs, asks_judge=True, labels=prototype.choice_scores, raw=raw)


def check_prompt(prompt: str) -> None:
    """Raises ValueError for a prompt that is no mustache template, or in which the output is missing."""
    if "{%" in prompt:
        raise ValueError(
            "'prompt' has {% … %}; the prompts of LLMClassifier are mustache templates: {{output}}, {{column}}"
        )
    names, _ = variables_of(prompt)
    if "output" not in names:
        raise ValueError("'prompt' has no {{output}}, so the judge would not see what it grades")
    for name in names:
        if not name.isidentifier() or name in ("self", "trace"):
            raise ValueError(f"'prompt' has {{{{{name}}}}}; a variable of a mustache template is the name of a column")


def variables_of(template: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The variables of a mustache template, and those whose fields or items it reads. Raises ValueError for a partial."""
    from chevron.tokenizer import tokenize  # of autoevals

    names: dict[str, None] = {}
    raw: set[str] = set()
    inside: list[str] = []
    try:
        for kind, key in tokenize(template):
            if kind == "partial":
                raise ValueError(f"the template reads the file {key!r} ({{{{> {key}}}}}); write its text instead")
            if kind == "end":
                inside = inside[:-1]
            if kind not in ("variable", "no escape", "section", "inverted section") or key == ".":
                continue
            name, _, rest = key.partition(".")
            if not inside:  # within a section, names may be fields of its items
                names[name] = None
            if rest or kind == "section":
                raw.add(name)
            if kind in ("section", "inverted section"):
                inside.append(name)
    except SyntaxError as wrong:
        raise ValueError(f"the template is not valid: {' '.join(str(wrong).split())}") from None
    return tuple(names), frozenset(raw)


@functools.cache
def _trial_class() -> Any:
    from autoevals.oai import LLMClient

    class Trial(LLMClient):  # type: ignore[misc]
        """Answers calls with placeholders, and records which kinds were made."""

        def __init__(self) -> None:
            self.calls: list[str] = []
            self.is_async = self._is_wrapped = False
            self.RateLimitError = UnusedRateLimitError

        def complete(self, *, tools: Any = (), **params: Any) -> dict[str, Any]:
            self.calls.append("judge")
            name, schema = function_of(tools)
            return tool_reply(name, placeholder(schema, schema))

        def embed(self, **params: Any) -> dict[str, Any]:
            self.calls.append("model")
            return {"data": [{"embedding": [1.0]}]}

        def moderation(self, **params: Any) -> dict[str, Any]:
            self.calls.append("model")
            return {"results": [{"flagged": False, "categories": {}, "category_scores": {}}]}

    return Trial


def _observed_entry(name: str, make: Callable[[Any], Any], at_call: Mapping[str, Any]) -> Entry:
    """The entry of a scorer by a trial of it. Raises ValueError if it fails with every kind of placeholder."""
    problem = ""
    for reads, (one, other) in PLACEHOLDERS.items():
        if name in LISTS and reads != "list":
            continue
        text = {"input": "1", "context": "1"}
        values = {"output": one, "expected": one, **text}
        try:
            score, calls = _try(make, values, at_call)
        except ImportError as missing:
            package = missing.name or "scipy"
            raise ValueError(
                f"{name!r} needs the package {package}, which is not installed: pip install {package}"
            ) from None
        except Exception as failed:  # the next kind may suit it
            problem = problem or describe_error(failed)
            continue
        needs = [key for key in ROW_VALUES if _fails(make, {**values, key: None}, at_call)]
        if "expected" not in needs and not calls and _try(make, {**values, "expected": other}, at_call)[0] != score:
            needs.insert(0, "expected")
        return Entry(
            name, make, tuple(needs), "judge" in calls, "model" in calls, reads, None, at_call or None,
            judge_calls=calls.count("judge"),
        )  # fmt: skip
    raise ValueError(f"{name!r} does not work with these params: {problem}")


def _try(make: Callable[[Any], Any], values: Mapping[str, Any], at_call: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The score of a call with placeholders, and the kinds of calls that the scorer made."""
    client = _trial_class()()
    with _lock, contextlib.redirect_stderr(io.StringIO()):
        from autoevals import EmbeddingSimilarity

        try:
            return make(client).eval(**{**values, **at_call}).score, client.calls
        finally:
            forget(EmbeddingSimilarity, client)


def _fails(make: Callable[[Any], Any], values: Mapping[str, Any], at_call: Mapping[str, Any]) -> bool:
    try:
        _try(make, values, at_call)
    except Exception:  # it says so itself
        return True
    return False


def entries() -> Iterator[Entry]:
    """Every scorer of the package without parameters, except LLMClassifier."""
    for name in scorer_classes():
        if name != CLASSIFIER:
            yield find_entry(name, {})
