"""Prompts of a suite, from data to their typed form: text, messages in two spellings, and files with either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalrunner.errors import SuiteError, nearest
from evalrunner.storage import EncodingError, decode_utf8, read_file
from evalrunner.suite.content import read_content
from evalrunner.suite.schema import KeyPath, PromptPart, PromptSpec
from evalrunner.suite.shots import SHOTS, read_shots
from evalrunner.suite.validate import SectionReader, describe_value, reads
from evalrunner.suite.yaml import load_document

MAX_PROMPT_BYTES = 16 * 1024 * 1024
SPEAKERS = ("system", "developer", "user", "assistant")
ROLES = (*SPEAKERS, "messages")
PROMPT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
NAME_HINT = "of letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 40 characters"
MESSAGE_KEYS = ("role", "content")  # of a message as OpenAI's API has it


@reads(PromptSpec)
def read_prompt(reader: SectionReader, data: Any, path: KeyPath) -> PromptSpec | None:
    """A prompt: one user message, a list of messages, or `{file: …}` with either inside."""
    if isinstance(data, str):
        return PromptSpec((PromptPart("user", data, key_path=path),), path)
    if isinstance(data, Mapping) and isinstance(data.get("messages"), list):
        return _request(reader, data, path)
    if isinstance(data, Mapping) and not data.keys().isdisjoint((*ROLES, "role")):
        reader.report(path, "is a mapping; write messages as a list: [{user: …}]")
        return None
    if isinstance(data, Mapping):
        return _prompt_file(reader, data, path)
    if not isinstance(data, list) or not data:
        reader.report(
            path, f"is {describe_value(data)}; it should be text, a list of {{role: text}}, or {{file: path}}"
        )
        return None
    parts = [part for place, item in enumerate(data) if (part := _message(reader, item, (*path, place))) is not None]
    if parts and all(part.role == SHOTS for part in parts):
        reader.report(path, "has examples only; add the question: {user: …}")
    return PromptSpec(tuple(parts), path) if parts else None


def _request(reader: SectionReader, data: Mapping[str, Any], path: KeyPath) -> PromptSpec | None:
    """The messages of a request to OpenAI's API, which may have nothing else."""
    for name in data:
        if name != "messages":
            what = (
                "is part of a request, not of a prompt; set the model and its params at the target, and remove it here"
            )
            reader.report((*path, name), what, at_key=True)
    prompt = read_prompt(reader, data["messages"], (*path, "messages"))
    return None if prompt is None else replace(prompt, key_path=path)


def _message(reader: SectionReader, item: Any, path: KeyPath) -> PromptPart | None:
    """One entry of a prompt, `{user: text}` or `{role: user, content: text}`; None and a problem for anything else."""
    if isinstance(item, Mapping) and "role" in item:
        return _api_message(reader, item, path)
    if not isinstance(item, Mapping) or len(item) != 1:
        several = isinstance(item, Mapping) and len(item) > 1
        hint = f"; begin each with '- ': {', '.join(f'- {name}: …' for name in item)}" if several else ""
        what = f"a mapping of {len(item)} keys" if several else describe_value(item)
        reader.report(path, f"is {what}; it should be one role and its text, such as {{user: …}}{hint}")
        return None
    role, template = next(iter(item.items()))
    if role == SHOTS:
        return read_shots(reader, template, (*path, role))
    if role not in ROLES:
        reader.check_keys({role: None}, path, (*ROLES, SHOTS))
        return None
    return _part(reader, role, template, (*path, role))


def _api_message(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> PromptPart | None:
    """A message as OpenAI's API has it, `{role: user, content: …}`."""
    before = len(reader.document.problems)
    reader.check_keys(item, path, MESSAGE_KEYS)
    role = item["role"]
    if role not in SPEAKERS:
        hint = nearest(role, SPEAKERS) if isinstance(role, str) else ""
        reader.report((*path, "role"), f"is {describe_value(role)}; it should be one of {', '.join(SPEAKERS)}{hint}")
    if "content" not in item:
        reader.report(path, "needs 'content', the text of the message")
    if len(reader.document.problems) > before:
        return None
    return _part(reader, role, item["content"], (*path, "content"))


def _part(reader: SectionReader, role: str, template: Any, path: KeyPath) -> PromptPart | None:
    if isinstance(template, list):
        return read_content(reader, role, template, path)
    if isinstance(template, Mapping):
        before = len(reader.document.problems)
        prompt = _prompt_file(reader, template, path)
        if prompt is None:
            return None
        if len(prompt.parts) != 1:
            if len(reader.document.problems) == before:
                reader.report(
                    path, f"is a file with {len(prompt.parts)} messages; use it as the whole prompt: {{file: …}}"
                )
            return None
        return replace(prompt.parts[0], role=role)
    text = reader.text(template, path)
    if role == "messages" and text is not None and not text.strip():
        reader.report(path, "is empty; name the column that has the messages")
        return None
    return None if text is None else PromptPart(role, text, key_path=path)


def _prompt_file(reader: SectionReader, data: Mapping[str, Any], path: KeyPath) -> PromptSpec | None:
    reader.check_keys(data, path, ("file",))
    if "file" not in data:
        reader.report(path, "needs 'file', the path of a prompt")
        return None
    name = reader.text(data["file"], (*path, "file"), fill=True)
    if name is None:
        return None
    file, allowed = reader.folder / name, reader.document.restrictions
    checks = allowed if not reader.document.is_owners(path) else None
    if checks is not None and (refusal := checks.path_refusal(name, reader.folder)) is not None:
        reader.report((*path, "file"), f"{name!r} {refusal}, which --untrusted refuses; copy it into the folder")
        return None
    reader.document.files.append(file)
    try:
        if file.suffix.lower() in (".yaml", ".yml", ".json"):
            inner = load_document(file, label=str(file), regular=True)
            inner.restrictions = allowed
            if file.resolve() in reader.files:
                reader.report((*path, "file"), f"{str(file)!r} reads itself")
                return None
            nested = SectionReader(inner, file.parent, reader.environ, (*reader.files, file.resolve()))
            prompt = read_prompt(nested, inner.data, ())
            reader.document.problems.extend(inner.problems)
            reader.document.files.extend(inner.files)
            if prompt is None:
                return None
            parts = (replace(part, file=part.file or Path(name), key_path=(*path, "file")) for part in prompt.parts)
            return PromptSpec(tuple(parts), path)
        text = decode_utf8(read_file(file, max_bytes=MAX_PROMPT_BYTES))
    except SuiteError as broken:
        reader.document.problems.extend(broken.problems)
        return None
    except EncodingError as broken:
        line = f" (line {broken.line})" if broken.line else ""
        reader.report((*path, "file"), f"{str(file)!r} {broken}{line}")
        return None
    except OSError as broken:
        reader.report((*path, "file"), f"{str(file)!r} cannot be read: {broken.strerror or broken}")
        return None
    return PromptSpec((PromptPart("user", text.rstrip("\n"), Path(name), (*path, "file")),), path)
