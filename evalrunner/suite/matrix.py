"""Targets × prompts: a suite with `prompts` asks every model with each of them, as a target of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalrunner.errors import nearest
from evalrunner.suite.models import default_name, refuse_double_names
from evalrunner.suite.prompts import NAME_HINT, PROMPT_NAME, read_prompt
from evalrunner.suite.schema import KeyPath, PromptSpec, TargetSpec
from evalrunner.suite.validate import SectionReader, reads

KEY = "prompts"


@reads(Mapping[str, PromptSpec])
def read_prompts(reader: SectionReader, data: Any, path: KeyPath) -> Mapping[str, PromptSpec] | None:
    """The `prompts:` of a suite by their names."""
    if isinstance(data, list):
        reader.report(path, "is a list; give each prompt a name: {short: …, long: …}")
        return None
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    if not mapping:
        reader.report(path, "is empty; name a prompt, such as {short: …}, or remove the key")
    prompts: dict[str, PromptSpec] = {}
    for name, item in mapping.items():
        if not PROMPT_NAME.fullmatch(str(name)):
            reader.report((*path, name), f"{str(name)!r} should be a name {NAME_HINT}", at_key=True)
        elif (prompt := read_prompt(reader, item, (*path, name))) is not None:
            prompts[str(name)] = prompt
    return prompts


def combined_targets(
    reader: SectionReader, targets: Sequence[TargetSpec], prompts: Mapping[str, PromptSpec]
) -> tuple[TargetSpec, ...]:
    """The targets, each model with every prompt as `model/prompt`; one with a prompt of its own stays as it is.

    Problems are reported: unknown names, and names that clash.
    """
    given = reader.document.data.get(KEY)
    if given is None:
        for spec in targets:
            if spec.prompts is not None:
                reader.report(
                    (*spec.key_path, KEY), "names prompts, but the suite has no 'prompts'; add them at its top"
                )
        return tuple(targets)
    if reader.document.data.get("prompt") is not None:
        reader.report((KEY,), "cannot be combined with 'prompt'; keep one of them")
    known = list(given) if isinstance(given, Mapping) else []
    combined = [one for spec in targets for one in _combinations(reader, spec, prompts, known)]
    refuse_double_names(reader, combined)
    if ("targets",) not in reader.document.overridden:  # which may select some of them
        used = {spec.prompt_name for spec in combined}
        for name in prompts.keys() - used:
            reader.report((KEY, name), "is not used: no target is a model that takes it; remove it", at_key=True)
    return tuple(combined)


def _combinations(
    reader: SectionReader, spec: TargetSpec, prompts: Mapping[str, PromptSpec], known: Sequence[str]
) -> Iterator[TargetSpec]:
    if spec.prompts is not None and spec.prompt is not None:
        reader.report((*spec.key_path, KEY), "cannot be combined with 'prompt'; keep one of them")
    if spec.model is None or spec.prompt is not None:
        yield spec
        return
    for place, name in enumerate(spec.prompts or ()):
        if name not in known:
            hint = nearest(name, known) or f"; it has {', '.join(known)}"
            reader.report((*spec.key_path, KEY, place), f"the suite has no prompt {name!r}{hint}")
    for name in prompts if spec.prompts is None else spec.prompts:
        if name in prompts:
            yield replace(spec, name=f"{spec.name}/{name}", prompt=prompts[name], prompt_name=name)


def target_items(data: Mapping[str, Any]) -> dict[str, Any]:
    """The targets in the data of a suite by their names; with `prompts`, each combination too, as `model/prompt`.

    The item of a combination is that of its target, for this prompt alone.
    """
    several = data.get("targets")
    items = [
        *(several if isinstance(several, list) else []),
        *([data["target"]] if data.get("target") is not None else []),
    ]
    names = {name: item for item in items if (name := target_name(item)) is not None}
    prompts = data.get(KEY)
    if not isinstance(prompts, Mapping):
        return names
    found: dict[str, Any] = {}
    for name, item in names.items():
        found[name] = item
        form = item if isinstance(item, Mapping) else {"model": item, "name": item}
        if form.get("model") is None or form.get("prompt") is not None:
            continue
        for prompt in form[KEY] if isinstance(form.get(KEY), list) else prompts:
            found[f"{name}/{prompt}"] = {**form, KEY: [prompt]}
    return found


def selected_items(known: Mapping[str, Any], selected: Sequence[str]) -> list[Any]:
    """The items of the selected names, a model string for an unknown one; combinations of one target are one item."""
    items: list[Any] = []
    for name in selected:
        item = known.get(name, name)
        own = item.get(KEY) if isinstance(item, Mapping) else None
        same = [one for one in items if isinstance(one, dict) and own and {**one, KEY: own} == item]
        if same and isinstance(own, list):
            same[0][KEY] = [*same[0][KEY], *own]
        else:
            items.append(dict(item) if isinstance(item, Mapping) else item)
    return items


def target_name(item: Any) -> str | None:
    """The name of a target in the data of a suite."""
    if not isinstance(item, dict):
        return item if isinstance(item, str) else None
    name = item.get("name") or item.get("model") or default_name(item.get("type"), item)
    return name if isinstance(name, str) else None
