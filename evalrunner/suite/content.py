"""The parts of a message in a prompt: text, images, audio and files, in two spellings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from evalrunner.suite.content_part import ContentPart
from evalrunner.suite.schema import KeyPath, PromptPart
from evalrunner.suite.validate import SectionReader, describe_value

KINDS: Final = ("text", "image", "audio", "file")
DETAILS: Final = ("auto", "low", "high")
EXAMPLE: Final = "{image: '{{ file }}'}"
API_FORMS: Final = {"input_audio": "audio", "file": "file", "input_image": "image", "image": "image"}


def read_content(reader: SectionReader, role: str, items: list[Any], path: KeyPath) -> PromptPart | None:
    """A message of several parts; None and its problems where they are wrong."""
    if role == "messages":
        reader.report(path, "is a list; name the column that has the messages")
        return None
    if not items:
        reader.report(path, f"is empty; add a part, such as {{text: …}} or {EXAMPLE}")
        return None
    parts = [part for place, item in enumerate(items) if (part := _item(reader, item, (*path, place))) is not None]
    for part in parts:
        if part.kind != "text" and role != "user":
            message = f"{part.kind!r} is in a {role} message; providers take attachments in user messages only"
            reader.report(part.key_path, message)
            return None
    if len(parts) < len(items):
        return None
    described = [{part.kind: part.template, **({"detail": part.detail} if part.detail else {})} for part in parts]
    return PromptPart(role, json.dumps(described, ensure_ascii=False), key_path=path, content=tuple(parts))


def _item(reader: SectionReader, item: Any, path: KeyPath) -> ContentPart | None:
    if isinstance(item, str):
        return ContentPart("text", item, key_path=path)
    if not isinstance(item, Mapping):
        reader.report(path, f"is {describe_value(item)}; a part is {{text: …}}, {EXAMPLE}, {{audio: …}} or {{file: …}}")
        return None
    if "type" in item:
        return _api_item(reader, item, path)
    named = [name for name in item if name in KINDS]
    if len(named) != 1:
        reader.check_keys(item, path, (*KINDS, "detail"))
        if len(named) > 1:
            reader.report(path, f"has {' and '.join(named)}; write each as an entry of its own: - {named[0]}: …")
        elif set(item) <= {"detail"}:
            reader.report(path, f"has no content; add one of {', '.join(KINDS)}")
        return None
    kind = named[0]
    before = len(reader.document.problems)
    reader.check_keys(item, path, (kind, "detail") if kind == "image" else (kind,))
    template = _template(reader, item[kind], (*path, kind))
    detail = _detail(reader, item.get("detail"), (*path, "detail"))
    if template is None or len(reader.document.problems) > before:
        return None
    return ContentPart(kind, template, detail, (*path, kind))


def _api_item(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> ContentPart | None:
    """A part as OpenAI's API has it: `{type: text, text: …}`, `{type: image_url, image_url: {url: …}}`."""
    kind = item["type"]
    before = len(reader.document.problems)
    if kind == "text":
        reader.check_keys(item, path, ("type", "text"))
        template = _template(reader, item.get("text"), (*path, "text"))
        return None if template is None else ContentPart("text", template, key_path=(*path, "text"))
    if kind == "image_url":
        reader.check_keys(item, path, ("type", "image_url"))
        linked = item.get("image_url")
        linked = {"url": linked} if isinstance(linked, str) else linked
        here = (*path, "image_url")
        if not isinstance(linked, Mapping) or "url" not in linked:
            reader.report(path, "needs image_url: {url: …}")
            return None
        reader.check_keys(linked, here, ("url", "detail"))
        template = _template(reader, linked["url"], (*here, "url"))
        detail = _detail(reader, linked.get("detail"), (*here, "detail"))
        if template is None or len(reader.document.problems) > before:
            return None
        return ContentPart("image", template, detail, (*here, "url"))
    short = API_FORMS.get(kind) if isinstance(kind, str) else None
    form = f"{{{short}: PATH}}" if short else "{type: text, text: …} or {type: image_url, image_url: {url: …}}"
    reader.report((*path, "type"), f"is {describe_value(kind)}, which is not read here; write {form}")
    return None


def _template(reader: SectionReader, value: Any, path: KeyPath) -> str | None:
    text = reader.text(value, path)
    if text is not None and not text.strip() and path[-1] != "text":
        reader.report(path, f"is empty; it should be a path, a data: URI or a column with one, such as {EXAMPLE}")
        return None
    return text


def _detail(reader: SectionReader, value: Any, path: KeyPath) -> str | None:
    if value is not None and value not in DETAILS:
        reader.report(path, f"is {describe_value(value)}; it should be one of {', '.join(DETAILS)}")
    return value if isinstance(value, str) else None
