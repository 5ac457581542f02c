"""Targets, judges and scorers of a suite, from data to their typed form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalrunner.domain import EMPTY, NoAnswer
from evalrunner.redact import HIDDEN, register_secret
from evalrunner.suite.schema import KeyPath, ModelSpec, PaceSpec, PromptSpec, ScorerSpec, TargetSpec
from evalrunner.suite.sections import read_price, read_prompt, register_login, shown_address
from evalrunner.suite.validate import SectionReader, shown
from evalrunner.suite.yaml import VARIABLE, has_variable

PACE_KEYS = ("concurrency", "rpm", "tpm", "retries", "timeout", "stream")
MODEL_KEYS = ("model", "name", "base_url", "api_key", "headers", "params", *PACE_KEYS, "prices")
SERVICE = "http"  # the one type of target whose calls go over the network
LOGGED = "mlflow"  # a model that lies with MLflow, at an address of its own where it says so
SERVICE_PACE_KEYS = tuple(name for name in PACE_KEYS if name != "stream")
HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # between the words of PIIDetection
SCORER_KEYS = ("type", "name", "version", "judge", "on_no_answer", "args")


def read_targets(reader: SectionReader, data: Mapping[str, Any]) -> tuple[TargetSpec, ...]:
    """`target:` or `targets:`, each a model string, a model mapping, or `{type: …}` with options."""
    if "target" in data and "targets" in data:
        reader.report(("targets",), "stands beside 'target'; keep one of them")
    if "targets" in data:
        items = data["targets"]
        if not isinstance(items, list) or not items:
            reader.report(("targets",), f"is {shown(items)}; it should be a list with at least one target")
            return ()
        places: list[tuple[Any, KeyPath]] = [(item, ("targets", place)) for place, item in enumerate(items)]
    elif "target" in data:
        places = [(data["target"], ("target",))]
    else:
        reader.report((), "needs 'target' (what is evaluated), such as target: local/smollm2-135m-instruct")
        return ()
    found = [spec for item, path in places if (spec := read_target(reader, item, path)) is not None]
    refuse_double_names(reader, found)
    return tuple(found)


def read_target(reader: SectionReader, item: Any, path: KeyPath) -> TargetSpec | None:
    """One target, or None and its problems."""
    if isinstance(item, Mapping) and "type" in item:
        return _typed_target(reader, item, path)
    prompt: PromptSpec | None = None
    if isinstance(item, Mapping) and item.get("prompt") is not None:
        prompt = read_prompt(reader, item["prompt"], (*path, "prompt"))
    model = read_model(reader, item, path, extra=("prompt",))
    return None if model is None else TargetSpec(model.name, model, prompt, key_path=path)


def _typed_target(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> TargetSpec | None:
    kind = reader.text(item["type"], (*path, "type"))
    name = reader.text(item["name"], (*path, "name")) if "name" in item else default_name(kind, item)
    args = reader.mapping(item["args"], (*path, "args")) if "args" in item else EMPTY
    if kind is None or name is None:
        return None
    options = {name: value for name, value in item.items() if name not in ("type", "name", "args")}
    spec = TargetSpec(name, type=kind, options=options, args=args or EMPTY, key_path=path)
    if kind == LOGGED and isinstance(options.get("uri"), str):
        return _logged(reader, spec)
    return _service(reader, spec) if kind == SERVICE else spec


def _logged(reader: SectionReader, spec: TargetSpec) -> TargetSpec | None:
    """The target with the address of its MLflow filled in, and that as it may be written down."""
    filled = reader.text(spec.options["uri"], (*spec.key_path, "uri"), fill=True)
    if filled is None:
        return None
    register_login(filled)
    return replace(spec, options={**spec.options, "uri": filled}, shown=shown_address({"uri": spec.options["uri"]}))


def _service(reader: SectionReader, spec: TargetSpec) -> TargetSpec | None:
    """The target with its own pace, its address and headers filled in, and what may be written down of them."""
    given, path = spec.options, spec.key_path
    paced = {name: given[name] for name in SERVICE_PACE_KEYS if given.get(name) is not None}
    options = {name: value for name, value in given.items() if name not in SERVICE_PACE_KEYS}
    if isinstance(given.get("url"), str):
        filled = reader.text(given["url"], (*path, "url"), fill=True)
        if filled is None:
            return None
        options["url"] = filled
        _register_variables(reader, given["url"].partition("?")[2])  # what stands in a query is mostly a key
    if isinstance(given.get("headers"), Mapping):
        options["headers"] = _headers(reader, given["headers"], (*path, "headers"))
    shown = {**_shown_secrets(given), **{name: given[name] for name in ("url",) if name in given}}
    return replace(spec, options=options, pace=PaceSpec(**reader.typed(PaceSpec, paced, path)), shown=shown)


def read_model(reader: SectionReader, item: Any, path: KeyPath, *, extra: Sequence[str] = ()) -> ModelSpec | None:
    """A model string, or a mapping with `model`; keys are registered as secrets and shown as their variable."""
    if isinstance(item, str):
        model = reader.text(item, path, fill=True)
        if model is not None and not model.strip():
            reader.report(path, "is empty; name a model, such as openai/gpt-5-mini")
            return None
        return None if model is None else ModelSpec(model, model, shown={"model": model}, key_path=path)
    if not isinstance(item, Mapping):
        reader.report(path, f"is {shown(item)}; it should be a model string or a mapping with 'model'")
        return None
    known = (*MODEL_KEYS, *extra)
    reader.check_keys(item, path, known if "type" not in item else (*known, "type"))
    if "type" in item:
        reader.report((*path, "type"), "is for targets; a judge is a model: {model: …}")
    if not item.get("model"):
        reader.report(path, "needs 'model'")
        return None
    texts = {
        name: reader.text(item[name], (*path, name), fill=True)
        for name in ("model", "name", "base_url", "api_key")
        if item.get(name) is not None
    }
    headers = _headers(reader, item.get("headers"), (*path, "headers"))
    params = reader.mapping(item.get("params") or {}, (*path, "params")) or EMPTY
    model = texts.get("model")
    if model is None:
        return None
    register_secret(texts.get("api_key"))
    return ModelSpec(
        model,
        texts.get("name") or model,
        base_url=texts.get("base_url"),
        api_key=texts.get("api_key"),
        headers=headers,
        params=params,
        pace=PaceSpec(**reader.typed(PaceSpec, item, path)),
        price=read_price(reader, item["prices"], (*path, "prices")) if item.get("prices") is not None else None,
        shown={**{name: value for name, value in texts.items() if name != "api_key"}, **_shown_secrets(item)},
        key_path=path,
    )


def _headers(reader: SectionReader, data: Any, path: KeyPath) -> Mapping[str, str]:
    if data is None:
        return EMPTY
    found: dict[str, str] = {}
    for name, value in (reader.mapping(data, path) or {}).items():
        text = reader.text(value, (*path, name), fill=True)
        if text is None:
            continue
        if not name.isascii() or any(sign in name + text for sign in "\r\n\0") or not name.strip():
            reader.report((*path, name), "is not a header that can be sent")
            continue
        register_secret(text.removeprefix("Bearer ").strip())
        _register_variables(reader, str(value))  # a key with words around it
        found[name] = text
    return found


def _register_variables(reader: SectionReader, text: str) -> None:
    """Keep the values of the variables in a text secret, also where they stand without what is around them."""
    for inside in VARIABLE.findall(text):
        register_secret(reader.environ.get(inside.partition(":-")[0]))


def _shown_secrets(item: Mapping[str, Any]) -> dict[str, Any]:
    """What may be written down of key and headers: their variable, never their value."""

    def shown_as(value: Any) -> str:
        return str(value) if has_variable(str(value)) else HIDDEN

    found: dict[str, Any] = {}
    if item.get("api_key") is not None:
        found["api_key"] = shown_as(item["api_key"])
    if isinstance(item.get("headers"), Mapping):
        found["headers"] = {name: shown_as(value) for name, value in item["headers"].items()}
    found.update((name, item[name]) for name in ("params", *PACE_KEYS, "prices") if item.get(name) is not None)
    return found


def read_scorers(reader: SectionReader, data: Any, *, on_no_answer: NoAnswer) -> tuple[ScorerSpec, ...]:
    """The scorers: bare names, or mappings with `type` and the options of the factory."""
    if not isinstance(data, list) or not data:
        reader.report(("scorers",), f"is {shown(data)}; it should be a list with at least one scorer")
        return ()
    found: list[ScorerSpec] = []
    for place, item in enumerate(data):
        path: KeyPath = ("scorers", place)
        if isinstance(item, str):
            found.append(ScorerSpec(default_name(item, EMPTY) or item, item, on_no_answer=on_no_answer, key_path=path))
        elif isinstance(item, Mapping):
            spec = _scorer(reader, item, path, on_no_answer)
            if spec is not None:
                found.append(spec)
        else:
            reader.report(path, f"is {shown(item)}; it should be a name or a mapping with 'type'")
    refuse_double_names(reader, found)
    return tuple(found)


def _scorer(reader: SectionReader, item: Mapping[str, Any], path: KeyPath, default: NoAnswer) -> ScorerSpec | None:
    if "type" not in item:
        hint = f"; did you mean {{type: {next(iter(item))}, …}}?" if len(item) == 1 else ""
        reader.report(path, f"needs 'type', the name of a scorer{hint}")
        return None
    kind = reader.text(item["type"], (*path, "type"))
    name = reader.text(item["name"], (*path, "name")) if "name" in item else default_name(kind, item)
    if kind is None or name is None:
        return None
    if not name or any(sign in name for sign in "/[]<>= \t\r\n") or not name.isprintable():
        reader.report((*path, "name"), f"{name!r} should have no spaces and none of / [ ] < > =")
    on_no_answer = default
    if "on_no_answer" in item:
        on_no_answer = reader.value(item["on_no_answer"], NoAnswer, (*path, "on_no_answer")) or default
    return ScorerSpec(
        name,
        kind,
        options={key: value for key, value in item.items() if key not in SCORER_KEYS},
        args=(reader.mapping(item["args"], (*path, "args")) or EMPTY) if "args" in item else EMPTY,
        judge=read_model(reader, item["judge"], (*path, "judge")) if "judge" in item else None,
        version=reader.value(item["version"], str | None, (*path, "version")) if "version" in item else None,
        on_no_answer=on_no_answer,
        key_path=path,
    )


def default_name(kind: str | None, item: Mapping[str, Any]) -> str | None:
    """The name of what has none: its type; of people's own code, the name of the function; MLflow's name of a metric."""
    if kind == "mlflow" and isinstance(item.get("metric"), str):
        return mlflow_name(item["metric"], item.get("params"))
    reference = item.get("function") if kind == "python" else kind
    return reference.rpartition(":")[2] or kind if isinstance(reference, str) else kind


def mlflow_name(metric: str, params: Any) -> str:
    """What MLflow calls a metric in its results: `precision_at_3`, `relevance_to_query` for RelevanceToQuery."""
    given = params if isinstance(params, Mapping) else EMPTY
    if isinstance(given.get("name"), str):
        return str(given["name"])
    name = metric.rpartition(".")[2]
    if name[:1].isupper():
        return HUMPS.sub("_", name).lower()
    return f"{name.removesuffix('_k')}_{given['k']}" if name.endswith("_at_k") and "k" in given else name


def refuse_double_names(reader: SectionReader, found: Sequence[TargetSpec | ScorerSpec]) -> None:
    """Report what has the name of another one: their columns and metrics could not be told apart."""
    seen: set[str] = set()
    for spec in found:
        if spec.name in seen:
            reader.report(spec.key_path, f"is the second one called {spec.name!r}; give one a `name:`")
        seen.add(spec.name)
