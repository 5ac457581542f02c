"""Assertions of promptfoo as checks.

`check_of` gives one check, or None with an entry in the report. What has no equal is a check that fails, or is left by name
with the reason; nothing passes that was not checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from evalrunner.imports.promptfoo.javascript import Scope, translate
from evalrunner.imports.promptfoo.javascript_patterns import python_pattern
from evalrunner.imports.promptfoo.javascript_syntax import Unreadable
from evalrunner.imports.promptfoo.javascript_values import literal, quoted

LEFT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("select-best", "max-score"), "compares the answers of several targets; use `evalrun compare`"),
    **dict.fromkeys(("context-recall", "context-relevance", "context-faithfulness", "answer-relevance",
                     "conversation-relevance"), "another method of a judge; use the scorers of `autoevals`"),
    **dict.fromkeys(("guardrails", "classifier", "moderation"), "asks a service that the configuration does not name"),
    **dict.fromkeys(("perplexity", "perplexity-score"), "needs the log-probabilities of the answer"),
    **dict.fromkeys(("webhook", "ruby"), "runs code elsewhere; write a scorer in Python"),
    "meteor": "there is no such scorer",
}  # fmt: skip
TO_BE_PORTED: Final = {"expr": "output is string and false"}
KNOWN: Final = frozenset({"type", "value", "weight", "metric", "threshold"})


class Report(Protocol):
    """Where it is written what became of an assertion."""

    def carried(self, place: Any, what: str, to: str = "") -> None: ...
    def changed(self, place: Any, what: str, to: str, meaning: str) -> None: ...
    def left(self, place: Any, what: str, reason: str) -> None: ...
    def port(self, place: Any, what: str, where: str) -> None: ...


def check_of(item: Mapping[str, Any], scope: Scope, place: Any, report: Report) -> dict[str, Any] | None:
    """The check of an assertion; None if it is left, which the report then says."""
    written = str(item.get("type", ""))
    kind, negated = written.removeprefix("not-"), written.startswith("not-")
    if kind in LEFT:
        report.left(place, written, LEFT[kind])
        return None
    try:
        check, notes = _check(kind, item, scope, negated=negated)
    except Unreadable as reason:
        report.port(place, f"{written}: {item.get('value')} ({reason})", "a check that fails: to be ported")
        return {**TO_BE_PORTED, **_around(item)}
    except LookupError as reason:
        report.left(place, written, str(reason.args[0]))
        return None
    for key in sorted(map(str, item.keys() - KNOWN)):
        report.left(place, f"{written}: {key}", "this key of an assertion is not read")
    check |= _around(item)
    shown = next(iter(check))
    if notes:
        report.changed(place, written, shown, "; ".join(notes))
    else:
        report.carried(place, written, shown)
    return check


def _around(item: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that stand beside the type of a check."""
    found: dict[str, Any] = {}
    if item.get("metric"):
        found["name"] = str(item["metric"])
    if item.get("weight", 1) != 1:
        found["weight"] = item["weight"]
    return found


def _check(kind: str, item: Mapping[str, Any], scope: Scope, *, negated: bool) -> tuple[dict[str, Any], list[str]]:
    value, threshold = item.get("value"), item.get("threshold")
    prefix = "not_" if negated else ""
    if kind == "javascript":
        return _javascript(str(value), scope, threshold, negated=negated)
    if kind in ("contains", "icontains"):
        return _contains(value, prefix, ignore_case=kind == "icontains")
    if kind in ("contains-any", "contains-all", "icontains-any", "icontains-all"):
        parts = [str(part) for part in value] if isinstance(value, list) else _split(str(value))
        ignored = {"ignore_case": True} if kind.startswith("i") else {}
        return {f"{prefix}contains_{kind[-3:]}": parts, **ignored}, []
    if kind in ("starts-with", "equals") and not isinstance(value, Mapping | list):
        return _compared(kind, _plain(value), prefix)
    if kind == "equals":
        return {f"{prefix}json": {"equals": value}}, []
    if kind == "regex":
        pattern, _ = python_pattern(str(value))
        return {f"{prefix}regex": pattern}, []
    if kind in ("is-json", "contains-json") and (value is None or isinstance(value, Mapping)):
        options: dict[str, Any] = {"lenient": True} if kind == "contains-json" else {}
        options |= {} if value is None else {"schema": dict(value)}
        notes = ["a list in the text counts as JSON too"] if options.get("lenient") else []
        return {f"{prefix}json": options} if options else {"type": f"{prefix}json"}, notes
    if kind == "levenshtein":
        return {
            f"{prefix}levenshtein": {"value": _plain(value), "max_distance": int(5 if threshold is None else threshold)}
        }, []
    if kind in ("latency", "cost"):
        if not isinstance(threshold, int | float) or isinstance(threshold, bool) or threshold <= 0:
            raise LookupError(f"{kind} needs a threshold above 0")
        bound = {"latency_under": threshold / 1000} if kind == "latency" else {"cost_under": threshold}
        return {prefix + name: number for name, number in bound.items()}, []
    if kind == "word-count":
        return {"expr": f"not ({_word_count(value)})" if negated else _word_count(value)}, []
    if kind == "llm-rubric" and isinstance(value, str):
        if threshold is not None:
            raise LookupError("llm-rubric with a threshold: the judge's score counts there beside its verdict")
        return {f"{prefix}rubric": {"criteria": value}}, [
            "another prompt for the judge; a judge that fails is not a failed answer"
        ]
    raise LookupError("unknown type" if kind else "an assertion without a type")


def _javascript(code: str, scope: Scope, threshold: Any, *, negated: bool) -> tuple[dict[str, Any], list[str]]:
    found = translate(code, scope, negated=negated)
    name = "not_expr" if negated and not found.always_fails else "expr"
    check: dict[str, Any] = {name: found.expression}
    if isinstance(threshold, int | float) and not found.is_bool:
        if negated:
            raise Unreadable("a threshold of a negated number")
        check["threshold"] = threshold
    elif negated and not found.is_bool:
        check = {"not_expr": f"({found.expression}) > 0"}
    return check, list(found.notes)


def _plain(value: Any) -> str:
    """A value as JavaScript prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _contains(value: Any, prefix: str, *, ignore_case: bool) -> tuple[dict[str, Any], list[str]]:
    text = _plain(value)
    if not text or isinstance(value, list | Mapping):
        raise LookupError("without a text it is an error in promptfoo")
    if text == text.strip():
        return {f"{prefix}contains": text, **({"ignore_case": True} if ignore_case else {})}, []
    if "{{" in text or "{%" in text:
        return {f"{prefix}contains": text, **({"ignore_case": True} if ignore_case else {})}, [
            "spaces at the ends do not count"
        ]
    code = f"{quoted(text.lower())} in output|lower" if ignore_case else f"{quoted(text)} in output"
    return {f"{prefix}expr": code}, []


def _compared(kind: str, text: str, prefix: str) -> tuple[dict[str, Any], list[str]]:
    if "{{" in text or "{%" in text:
        name = "starts_with" if kind == "starts-with" else "exact_match"
        return {f"{prefix}{name}": {"value": text}}, ["spaces at the ends do not count"]
    code = f"output.startswith({quoted(text)})" if kind == "starts-with" else f"output == {quoted(text)}"
    return {f"{prefix}expr": code}, []


def _split(text: str) -> list[str]:
    """The parts of a list with commas, where quotes keep a comma."""
    parts = re.findall(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)', text)
    return [part for quoted_part, bare in parts if (part := quoted_part or bare.strip())]


def _word_count(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"output|words|length == {literal(value)}"
    if isinstance(value, Mapping) and value and not value.keys() - {"min", "max"}:
        bounds = [
            f"output|words|length {sign} {literal(value[key])}"
            for key, sign in (("min", ">="), ("max", "<="))
            if key in value
        ]
        return " and ".join(bounds)
    raise LookupError("word-count needs a number, or min or max")
