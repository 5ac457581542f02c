"""Targets, judges and scorers of a suite, from data to their typed form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from evalrunner.domain import EMPTY, NoAnswer
from evalrunner.example_models import HOSTED
from evalrunner.formatting import plain_text
from evalrunner.plugin_table import OPTION_OF_NAME
from evalrunner.plugins import known_names, load
from evalrunner.redact import REDACTED, register_secret, register_secrets_of, without_secrets
from evalrunner.secret_names import PLAIN_HEADERS, is_secret_name, looks_random
from evalrunner.storage import is_file
from evalrunner.suite.checks import has_own_model, read_form
from evalrunner.suite.environment import VARIABLE, SuiteEnvironment, has_variable, public_path, public_url
from evalrunner.suite.presets import expand_presets
from evalrunner.suite.prompts import read_prompt
from evalrunner.suite.schema import (
    KeyPath,
    ModelSpec,
    PaceSpec,
    PromptSpec,
    ReasoningMode,
    ScorerSpec,
    TargetSpec,
    TransportSpec,
)
from evalrunner.suite.sections import public_address, register_login
from evalrunner.suite.tools import read_tools, with_tools
from evalrunner.suite.validate import Key, SectionReader, describe_value, keys_of, reads
from evalrunner.suite.yaml import dotted

NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
PROGRAM = "command"
SERVICE = "http"  # the one built-in type of target whose calls use the network


@reads(tuple[TargetSpec, ...])
def read_targets(reader: SectionReader, data: Any, path: KeyPath) -> tuple[TargetSpec, ...]:
    """The `targets:`: each a model string, a model mapping, or `{type: …}` with options."""
    if "target" in reader.document.data:
        reader.report(path, "cannot be combined with 'target'; keep one of them")
    if not isinstance(data, list) or not data:
        reader.report(path, f"is {describe_value(data)}; it should be a list with at least one target")
        return ()
    specs = [spec for place, item in enumerate(data) if (spec := read_target(reader, item, (*path, place))) is not None]
    refuse_double_names(reader, specs)
    return tuple(specs)


@reads(TargetSpec)
def read_target(reader: SectionReader, item: Any, path: KeyPath) -> TargetSpec | None:
    """One target, or None and its problems."""
    if isinstance(item, Mapping) and "type" in item:
        return _typed_target(reader, item, path)
    prompt: PromptSpec | None = None
    if isinstance(item, Mapping) and item.get("prompt") is not None:
        prompt = read_prompt(reader, item["prompt"], (*path, "prompt"))
    model = read_model(reader, item, path, known=keys_of(TargetSpec, "model"))
    if model is None:
        return None
    if isinstance(item, Mapping) and item.get("tools") is not None:
        tools = read_tools(reader, item["tools"], (*path, "tools"))
        model = replace(model, params=with_tools(reader, model.params, tools, path))
        if tools is not None:
            model = replace(model, public={**model.public, "tools": list(tools.tools)})
    extract = item.get("extract") if isinstance(item, Mapping) else None
    reasoning = _reasoning(reader, item, path)
    prompts = _prompt_names(reader, item, path)
    return TargetSpec(model.name, model, prompt, prompts, reasoning=reasoning, extract=extract, key_path=path)


def _prompt_names(reader: SectionReader, item: Any, path: KeyPath) -> tuple[str, ...] | None:
    if not isinstance(item, Mapping) or item.get("prompts") is None:
        return None
    names: tuple[str, ...] | None = reader.fields({"prompts": keys_of(TargetSpec)["prompts"]}, item, path).get(
        "prompts"
    )
    if names == ():
        reader.report((*path, "prompts"), "is empty; name a prompt of the suite, or remove the key")
    return names


def _reasoning(reader: SectionReader, item: Any, path: KeyPath) -> ReasoningMode:
    if not isinstance(item, Mapping) or item.get("reasoning") is None:
        return "strip"
    mode: ReasoningMode = reader.fields({"reasoning": keys_of(TargetSpec)["reasoning"]}, item, path).get(
        "reasoning", "strip"
    )
    return mode


def _typed_target(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> TargetSpec | None:
    kind = reader.text(item["type"], (*path, "type"))
    name = reader.text(item["name"], (*path, "name")) if "name" in item else default_name(kind, item)
    args = reader.mapping(item["args"], (*path, "args")) if "args" in item else EMPTY
    if kind is None or name is None:
        return None
    options = {name: value for name, value in item.items() if name not in keys_of(TargetSpec, "type")}
    reasoning = _reasoning(reader, item, path)
    spec = TargetSpec(
        name,
        type=kind,
        options=options,
        args=args or EMPTY,
        reasoning=reasoning,
        extract=item.get("extract"),
        key_path=path,
    )
    if isinstance(options.get("uri"), str):
        return _with_address(reader, spec)
    if kind == PROGRAM:
        return _program(reader, spec)
    return _service(reader, spec) if kind == SERVICE else spec


def _program(reader: SectionReader, spec: TargetSpec) -> TargetSpec | None:
    """The target with its environment filled in, and its public form, which names variables."""
    given, path = spec.options.get("env"), (*spec.key_path, "env")
    if not isinstance(given, Mapping):
        return spec
    filled: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, bool | int | float):  # as YAML reads `DEBUG: 1`
            filled[name] = plain_text(value)
            continue
        text = reader.text(value, (*path, name), fill=True)
        if text is None:
            return None
        if is_secret_name(str(name)):
            register_secret(text)
        _register_variables_of_url(reader, str(value))
        filled[name] = text
    return replace(spec, options={**spec.options, "env": filled}, public={"env": without_secrets(dict(given))})


def _with_address(reader: SectionReader, spec: TargetSpec) -> TargetSpec | None:
    """The target with its option `uri` filled in, and its public form."""
    filled = reader.text(spec.options["uri"], (*spec.key_path, "uri"), fill=True)
    if filled is None:
        return None
    register_login(filled)
    return replace(spec, options={**spec.options, "uri": filled}, public=public_address({"uri": spec.options["uri"]}))


def _service(reader: SectionReader, spec: TargetSpec) -> TargetSpec | None:
    """The target with its own limits, its address and headers filled in, and their public form."""
    given, path = spec.options, spec.key_path
    keys = keys_of(PaceSpec, "http")
    pace = reader.fields(keys, {name: value for name, value in given.items() if value is not None}, path)
    options = {name: value for name, value in given.items() if name not in keys}
    if isinstance(given.get("url"), str):
        filled = reader.text(given["url"], (*path, "url"), fill=True)
        if filled is None:
            return None
        options["url"] = filled
        _register_variables_of_url(reader, given["url"])
    if isinstance(given.get("headers"), Mapping):
        options["headers"] = _headers(reader, given["headers"], (*path, "headers"))
    public = {**_public_secrets(given), **{name: given[name] for name in ("url",) if name in given}}
    return replace(spec, options=options, pace=PaceSpec(**pace), public=public)


@reads(TransportSpec)
def read_transport(reader: SectionReader, item: Any, path: KeyPath) -> TransportSpec | None:
    """`httpx`, or a mapping; its files are relative to the suite."""
    if reader.document.restrictions is not None and isinstance(item, Mapping):
        # Python, local sockets, files, and anybody's certificates
        refused = [name for name in item if name != "type" and not reader.document.is_owners((*path, name))]
        for name in refused:
            advice = f"set it yourself with --set {dotted((*path, name))}=…, or remove it"
            reader.report((*path, name), f"changes how connections are made, which --untrusted refuses; {advice}")
        if refused:
            return None
    fields = reader.section(TransportSpec, {"type": item} if isinstance(item, str) else item, path)
    if fields is None:
        return None
    before = len(reader.document.problems)
    for name in ("uds", "cert", "key", "verify"):
        if isinstance(fields.get(name), str):
            fields[name] = str(reader.folder / fields[name])
            if name != "uds" and not is_file(reader.folder / fields[name]):
                reader.report((*path, name), f"there is no file {fields[name]!r}")
    if len(reader.document.problems) > before:
        return None  # opening a pipe as a certificate would block
    spec = TransportSpec(**fields)
    settings = [name for name in ("uds", "cert", "key", "verify") if name in fields]
    if spec.client is not None and settings:
        reader.report((*path, settings[0]), "cannot be combined with 'client'; set it on the client itself")
    if spec.type == "pyreqwest" and spec.needs_httpx:
        name = "client" if spec.client is not None else settings[0]
        reader.report((*path, "type"), f"is pyreqwest, which has no {name!r}; use httpx, or leave 'type' out")
    if spec.key is not None and spec.cert is None:
        reader.report((*path, "key"), "needs 'cert', the certificate of this key")
    return spec


@reads(ModelSpec)
def read_model(
    reader: SectionReader, item: Any, path: KeyPath, *, known: Mapping[str, Key] | None = None
) -> ModelSpec | None:
    """A model string, or a mapping with `model`; API keys are registered as secrets and written as their variable."""
    if isinstance(item, list) and known is None:
        return _read_panel(reader, item, path)
    if isinstance(item, str):
        model = reader.text(item, path, fill=True)
        if model is not None and not model.strip():
            reader.report(path, f"is empty; name a model, such as {HOSTED}")
            return None
        if model is None:
            return None
        return ModelSpec(
            model, model, api_key=provider_key(reader, model, path), public={"model": model}, key_path=path
        )
    if not isinstance(item, Mapping):
        reader.report(path, f"is {describe_value(item)}; it should be a model string or a mapping with 'model'")
        return None
    keys = keys_of(ModelSpec)
    reader.check_keys(item, path, (*(known or keys), *(("type",) if "type" in item else ())))
    if "type" in item:
        reader.report((*path, "type"), "is for targets; here a model is named: {model: …}")
    if not item.get("model"):
        reader.report(path, "needs 'model'")
        return None
    given = {name: value for name, value in item.items() if value is not None}
    plain = {name: key for name, key in keys.items() if name != "headers"}  # which may hold secrets
    fields = reader.fields(plain, given, path)
    headers = _headers(reader, item.get("headers"), (*path, "headers"))
    if "model" not in fields:
        return None
    if fields.get("base_url") is None:
        fields.setdefault("api_key", provider_key(reader, fields["model"], path))
    register_secret(fields.get("api_key"))
    texts = {name: value for name, value in fields.items() if isinstance(value, str) and name != "api_key"}
    if isinstance(item.get("base_url"), str) and "base_url" in texts:
        texts["base_url"] = public_url(item["base_url"], reader.environ)
        _register_variables_of_url(reader, item["base_url"])
    return ModelSpec(
        **{**fields, "name": fields.get("name") or fields["model"]},
        headers=headers,
        public={**texts, **_public_secrets(item)},
        key_path=path,
    )


def _read_panel(reader: SectionReader, items: list[Any], path: KeyPath) -> ModelSpec | None:
    """Several judges as the first one with the others."""
    specs = [read_model(reader, item, (*path, place)) for place, item in enumerate(items)]
    if not specs:
        reader.report(path, f"is an empty list; name a model, such as {HOSTED}")
        return None
    first, *others = specs
    if first is None or any(spec is None or spec.others for spec in others) or first.others:
        if all(spec is not None for spec in specs):
            reader.report(path, "has a list within a list; name each judge by itself")
        return None
    names = [spec.name for spec in specs if spec is not None]
    for place, name in enumerate(names):
        if name in names[:place]:
            reader.report((*path, place), f"{name!r} is listed twice; for several votes of one judge use samples")
            return None
    return replace(first, others=tuple(spec for spec in others if spec is not None))


def provider_key(reader: SectionReader, model: str, path: KeyPath) -> str | None:
    """The API key of a model without `base_url` in the `.env` files, if the environment has none.

    Other settings of the provider in these files are reported: without them, the key would go to another address.
    """
    if not isinstance(reader.environ, SuiteEnvironment):
        return None
    restrictions = reader.document.restrictions
    if restrictions is not None and not reader.document.is_owners(path):
        return restrictions.provider_key(model, reader.environ)
    if (problem := reader.environ.ignored_setting(model)) is not None:
        reader.report(path, problem)
    return reader.environ.provider_key(model)


def _headers(reader: SectionReader, data: Any, path: KeyPath) -> Mapping[str, str]:
    if data is None:
        return EMPTY
    headers: dict[str, str] = {}
    for name, value in (reader.mapping(data, path) or {}).items():
        text = reader.text(value, (*path, name), fill=True)
        if text is None:
            continue
        if not name.isascii() or any(sign in name + text for sign in "\r\n\0") or not name.strip():
            reader.report((*path, name), "is not a valid HTTP header")
            continue
        if name.lower() not in PLAIN_HEADERS:
            register_secrets_of({"headers": [text]})
        _register_variables(reader, str(value))  # a key inside other text
        headers[name] = text
    return headers


def _register_variables(reader: SectionReader, text: str) -> None:
    """Register the values of the variables in a text as secrets of their own."""
    for inside in VARIABLE.findall(text):
        register_secret(reader.environ.get(inside.partition(":-")[0]))


def _register_variables_of_url(reader: SectionReader, url: str) -> None:
    """Register the variables of a query, which often hold API keys, and those of a path that are keys by name or value."""
    _register_variables(reader, url.partition("?")[2])
    for inside in VARIABLE.findall(public_path(url)):
        name = inside.partition(":-")[0]
        value = reader.environ.get(name) or ""
        if is_secret_name(name) or looks_random(value):
            register_secret(value)


def _public_secrets(item: Mapping[str, Any]) -> dict[str, Any]:
    """The public form of API key and headers: the name of a variable, never a value."""

    def public_value(value: Any) -> str:
        return str(value) if has_variable(str(value)) else REDACTED

    public: dict[str, Any] = {}
    if item.get("api_key") is not None:
        public["api_key"] = public_value(item["api_key"])
    if isinstance(item.get("headers"), Mapping):
        public["headers"] = {name: public_value(value) for name, value in item["headers"].items()}
    public.update((name, item[name]) for name in ("params", *keys_of(PaceSpec), "prices") if item.get(name) is not None)
    return public


@reads(tuple[ScorerSpec, ...])
def read_scorers(reader: SectionReader, data: Any, path: KeyPath) -> tuple[ScorerSpec, ...]:
    """The scorers: bare names, presets, or mappings with `type` and the options of the factory."""
    if not isinstance(data, list) or not data:
        reader.report(path, f"is {describe_value(data)}; it should be a list with at least one scorer")
        return ()
    specs: list[ScorerSpec] = []
    for here, item in expand_presets(reader, data, path):
        if isinstance(item, str):
            name, default = default_name(item, EMPTY) or item, default_on_no_answer(reader)
            specs.append(ScorerSpec(name, item, on_no_answer=default, key_path=here))
        elif isinstance(item, Mapping):
            spec = _scorer(reader, item, here)
            if spec is not None:
                specs.append(spec)
        else:
            reader.report(here, f"is {describe_value(item)}; it should be a name or a mapping with 'type'")
    refuse_double_names(reader, specs)
    return tuple(specs)


def _scorer(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> ScorerSpec | None:
    keys = keys_of(ScorerSpec)
    if has_own_model(item):
        keys = {name: key for name, key in keys.items() if name != "model"}
    form = read_form(item, keys, path, reader.report)
    if form is None:
        return None
    own = {"type": form.type, **form.beside}
    fields = reader.fields(keys, own, path)
    kind = fields.get("type")
    name = fields.get("name") if "name" in own else default_name(kind, {**own, **form.options})
    if kind is None or name is None:
        return None
    if not name or any(sign in name for sign in "/[]<>= \t\r\n") or not name.isprintable():
        reader.report((*path, "name"), f"{name!r} should have no spaces and none of / [ ] < > =")
    fields.setdefault("on_no_answer", default_on_no_answer(reader))
    options = dict(form.options)
    if (option := OPTION_OF_NAME.get(kind.removeprefix("not_"))) is not None:
        options.setdefault(option, name)
    return ScorerSpec(**{**fields, "name": name}, options=options, key_path=path)


def default_on_no_answer(reader: SectionReader) -> NoAnswer:
    """The suite's `on_no_answer`, for scorers that do not set it."""
    default = reader.document.data.get("on_no_answer")
    return next((choice for choice in get_args(NoAnswer) if choice == default), "unscored")


def default_name(kind: str | None, item: Mapping[str, Any]) -> str | None:
    """The name of a target or scorer that sets none: its type, or the name of its custom function or external metric."""
    if kind in known_names("scorer_names") and (name := load("scorer_names", kind)(item)) is not None:
        return str(name)
    reference = item.get("function") if kind == "python" else kind
    return reference.rpartition(":")[2] or kind if isinstance(reference, str) else kind


def refuse_double_names(reader: SectionReader, specs: Sequence[TargetSpec | ScorerSpec]) -> None:
    """Report duplicate names: their columns and metrics would clash. Report names that no table could show."""
    seen: set[str] = set()
    for spec in specs:
        if isinstance(spec, TargetSpec) and (not spec.name.strip() or NOT_IN_NAMES.search(spec.name)):
            reader.report(
                (*spec.key_path, "name"), f"{spec.name!r} should be a name on one line, without control characters"
            )
        if spec.name in seen:
            reader.report(spec.key_path, f"duplicate name {spec.name!r}; set `name:` on one of them")
        seen.add(spec.name)
