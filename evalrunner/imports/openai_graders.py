"""Testing criteria of OpenAI's hosted evals as checks: string_check, text_similarity, label_model, score_model, python."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project
from evalrunner.imports.source_data import message_text, slug, text_of, unread
from evalrunner.imports.stub import PORT_FILE, TO_BE_PORTED, TO_PORT

JUDGE: Final = "scorers/openai_evals_judge.py"
TEMPLATE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
STEP: Final = re.compile(r"[A-Za-z_]\w*")
PATH: Final = re.compile(r"(?:item|sample)(?:\.[\w -]+|\[\d+\])+")
KEYS: Final = {
    "string_check": {"input", "reference", "operation"},
    "text_similarity": {"input", "reference", "evaluation_metric", "pass_threshold"},
    "label_model": {"input", "labels", "passing_labels", "model", "sampling_params"},
    "score_model": {"input", "model", "range", "pass_threshold", "sampling_params"},
    "python": {"source", "pass_threshold", "image_tag"},
}
SIMILARITY: Final = {
    "fuzzy_match": ("similarity", {}), "bleu": ("bleu", {}), "rouge_1": ("rouge", {"variant": "rouge1"}),
    "rouge_2": ("rouge", {"variant": "rouge2"}), "rouge_l": ("rouge", {"variant": "rougeL"}),
}  # fmt: skip
RESERVED: Final = {"checks", "share"}


@dataclass(frozen=True)
class Check:
    """A criterion: its title in the results, its name here, and the check of new and of recorded answers."""

    title: str
    name: str
    live: dict[str, Any]
    recorded: dict[str, Any]


class Unsayable(Exception):
    """The reason why a template or an option has no form here."""


def check_of(
    criterion: dict[str, Any], place: Place, names: Iterable[str], project: Project, migration: Migration
) -> Check:
    """The check of a criterion; one that fails with "to be ported" if evalrun cannot say it."""
    kind, title = text_of(criterion.get("type")), text_of(criterion.get("name"))
    name = slug(title, kind or "check", taken={*names, *RESERVED}).replace(".", "_")
    builders = {
        "string_check": _string_check, "text_similarity": _text_similarity, "label_model": _label_model,
        "score_model": _score_model, "python": _python,
    }  # fmt: skip
    try:
        if kind not in builders:
            raise Unsayable(f"the type {kind!r} is not known")
        check, meaning = builders[kind](criterion, name, project)
    except Unsayable as reason:
        migration.port(place, f"{kind} {title!r}: {reason}", PORT_FILE)
        project.files[PORT_FILE] = TO_PORT
        check, meaning = {"type": "python", "function": TO_BE_PORTED, "threshold": 1}, None
    else:
        for odd, key in unread(place, criterion, {"type", "name", "id", *KEYS[kind]}):
            migration.left(odd, key, "unknown key")
        if meaning:
            migration.changed(place, f"{kind} {title!r}", f"checks.{name}", meaning)
        else:
            migration.carried(place, f"{kind} {title!r}", f"checks.{name}")
    live = check | {"name": name}
    by_verdict = kind != "string_check" or (meaning is None and "expr" not in check)
    recorded = {"column": f"results.{name}.passed", "threshold": 1, "name": name} if by_verdict else live
    return Check(title, name, live, recorded)


def expression_of(template: str) -> str:
    """An expression with the value of a text with `{{ item.… }}` in it. Raises Unsayable."""
    parts, at = [], 0
    for found in TEMPLATE.finditer(template):
        if found.start() > at:
            parts.append(_quoted(template[at : found.start()]))
        parts.append(_operand(found[1]))
        at = found.end()
    if at < len(template) or not parts:
        parts.append(_quoted(template[at:]))
    return " ~ ".join(parts)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"


def _operand(path: str) -> str:
    if path == "sample.output_text":
        return "output"
    if not PATH.fullmatch(path):
        raise Unsayable(f"{{{{ {path} }}}} is no path into the item or the sample")
    root, *steps = re.findall(r"[^.\[\]]+", path)
    if root == "sample":
        if steps[0] != "output_json":
            raise Unsayable(f"{{{{ {path} }}}} is not recorded here")
        root, steps = "json", steps[1:]
    for step in steps:
        plain = STEP.fullmatch(step) and not keyword.iskeyword(step)
        root += f".{step}" if plain else f"[{step}]" if step.isdigit() else f"[{_quoted(step)}]"
    return f"{root}|string"


def _string_check(criterion: Mapping[str, Any], name: str, project: Project) -> tuple[dict[str, Any], str | None]:
    given, wanted = expression_of(text_of(criterion.get("input"))), expression_of(text_of(criterion.get("reference")))
    operation = text_of(criterion.get("operation"))
    low_given, low_wanted = f"({given})|lower", f"({wanted})|lower"
    forms = {
        "eq": f"({given}) == ({wanted})", "ne": f"({given}) != ({wanted})", "like": f"({wanted}) in ({given})",
        "ilike": f"{low_wanted} in {low_given}",
    }  # fmt: skip
    if operation not in forms:
        raise Unsayable(f"the operation {text_of(operation)!r} is not known")
    simple = re.sub(r"\((output|'[^']*'|[\w.]+\|string)\)", r"\1", forms[operation])
    return {"expr": simple}, "an empty answer fails" if operation == "ne" else None


def _threshold(criterion: Mapping[str, Any], default: float | None = None) -> float:
    value = criterion.get("pass_threshold")
    if isinstance(value, bool) or not isinstance(value, int | float):
        if default is None or value is not None:
            raise Unsayable("it has no pass_threshold, so nothing passes or fails")
        return default
    return value


def _text_similarity(criterion: Mapping[str, Any], name: str, project: Project) -> tuple[dict[str, Any], str | None]:
    metric = text_of(criterion.get("evaluation_metric"))
    if "".join(text_of(criterion.get("input")).split()) != "{{sample.output_text}}":
        raise Unsayable("it compares something else than the whole answer")
    if metric not in SIMILARITY:
        raise Unsayable(f"evalrun has no {metric!r} that counts the same")
    kind, options = SIMILARITY[metric]
    reference = TEMPLATE.sub(
        lambda found: "{{ " + _operand(found[1]).removesuffix("|string") + " }}", text_of(criterion.get("reference"))
    )
    check = {kind: reference, "threshold": _threshold(criterion)} if not options else {
        kind: {"value": reference, **options}, "threshold": _threshold(criterion)
    }  # fmt: skip
    packages = {"similarity": "rapidfuzz", "bleu": "sacrebleu", "rouge": "rouge-score"}
    return check, f"{metric} is that of {packages[kind]}; scores may differ a little from OpenAI's"


def _messages(criterion: Mapping[str, Any]) -> list[dict[str, str]]:
    given = criterion.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    messages = []
    for item in given if isinstance(given, list) else []:
        if isinstance(item, dict):
            role = text_of(item.get("role"))
            messages.append(
                {
                    "role": role if role in ("system", "developer", "assistant") else "user",
                    "content": message_text(item.get("content")),
                }
            )
    if not messages:
        raise Unsayable("it has no messages for the judge")
    for message in messages:
        for found in TEMPLATE.finditer(message["content"]):
            if found[1] != "sample.output_text" and not (
                PATH.fullmatch(found[1]) and found[1].startswith("item") and "[" not in found[1]
            ):
                raise Unsayable(f"{{{{ {found[1]} }}}} is no path into the item or the answer")
    return messages


def _judge(criterion: Mapping[str, Any], project: Project) -> dict[str, Any] | str:
    project.files[JUDGE] = (
        resources.files("evalrunner.imports.scorers").joinpath("openai_evals_judge.py").read_text("utf-8")
    )
    model = text_of(criterion.get("model"))
    if not model:
        raise Unsayable("it names no model")
    model = model if "/" in model else f"openai/{model}"
    given = criterion.get("sampling_params")
    params = {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else {}
    params = {
        ("max_tokens" if key.startswith("max_") else key): value
        for key, value in params.items()
        if isinstance(value, int | float | str)
    }
    return {"model": model, "params": params} if params else model


def _label_model(criterion: Mapping[str, Any], name: str, project: Project) -> tuple[dict[str, Any], str | None]:
    labels, passing = criterion.get("labels"), criterion.get("passing_labels")
    if (
        not isinstance(labels, list)
        or not labels
        or not isinstance(passing, list)
        or not set(map(text_of, passing)) <= set(map(text_of, labels))
    ):
        raise Unsayable("its labels and passing_labels do not fit")
    args = {
        "messages": _messages(criterion),
        "labels": list(map(text_of, labels)),
        "passing_labels": list(map(text_of, passing)),
    }
    check = {
        "type": "python",
        "function": f"{JUDGE}:label_model",
        "threshold": 1,
        "judge": _judge(criterion, project),
        "args": args,
    }
    return check, "the request for a label is added as a last message; a reply without a label is unscored"


def _score_model(criterion: Mapping[str, Any], name: str, project: Project) -> tuple[dict[str, Any], str | None]:
    bounds = criterion.get("range") or [0, 1]
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or not all(isinstance(item, int | float) for item in bounds)
        or bounds[0] >= bounds[1]
    ):
        raise Unsayable("its range is not two numbers")
    args = {"messages": _messages(criterion), "low": float(bounds[0]), "high": float(bounds[1])}
    check = {
        "type": "python", "function": f"{JUDGE}:score_model", "threshold": _threshold(criterion), "judge": _judge(criterion, project), "args": args,
    }  # fmt: skip
    return check, "the request for a number is added as a last message; a reply without one is unscored"


def _python(criterion: Mapping[str, Any], name: str, project: Project) -> tuple[dict[str, Any], str | None]:
    source = text_of(criterion.get("source"))
    try:
        functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as wrong:
        raise Unsayable(f"its source is not valid Python ({type(wrong).__name__})") from None
    if "grade" not in functions:
        raise Unsayable("its source has no function grade(sample, item)")
    module = re.sub(r"\W", "_", name).lower()
    module = f"grader_{module}" if not module.isidentifier() or keyword.iskeyword(module) else module
    project.files[f"graders/{module}.py"] = source.rstrip() + (
        "\n\n\ndef evalrun_check(output, sample):\n"
        '    """The score of the function above, for evalrun."""\n'
        '    return float(grade({"output_text": output}, sample.metadata["item"]))\n'
    )
    check = {
        "type": "python",
        "function": f"graders/{module}.py:evalrun_check",
        "threshold": _threshold(criterion, 1.0),
    }
    return (
        check,
        "the function runs on your machine with your permissions, without OpenAI's sandbox; sample has output_text only",
    )
