"""Streamed chat answers: bytes to server-sent events, events to the reply of a call without streaming.

Pure, and never raises for any bytes. An interrupted stream is a failure, never a short answer. Events are parsed by
https://html.spec.whatwg.org/multipage/server-sent-events.html with one exception: a last event without its blank line
counts, because some servers omit it after [DONE].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalrunner.domain import Completion, Failure
from evalrunner.endpoints.openai_errors import error_text, quote
from evalrunner.endpoints.openai_replies import (
    REASONING_FIELDS,
    load_reply,
    malformed,
    malformed_json,
    part_text,
    stated_status,
    states_error,
    tells_error,
)
from evalrunner.endpoints.vendor_words import ending_of

DONE = "[DONE]"  # OpenAI's last event
DONE_FORMS = frozenset({DONE, "[done]", '"[DONE]"', "DONE"})
FIELDS = frozenset({b"data", b"event", b"id", b"retry", b""})  # a comment has an empty name
MAX_STRAY_BYTES = 20_000  # of the lines in a stream that are none of an event
MAX_FOREIGN_EVENTS = 10_000  # in one stream: as many pings as fit in almost three hours, one each second
CHUNK = "chat.completion.chunk"
NO_WORDS = "an error event without words"
KEEPALIVES = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
NATIVE_NAMES = ("native_finish_reason", "provider_specific_fields")
BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class EventDecoder:
    """Decodes bytes, split anywhere, to events: pairs of name and data, both text. The name is mostly empty."""

    _rest: bytearray = field(default_factory=bytearray)  # the incomplete last line
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _at_start: bool = True
    stray: bytearray = field(default_factory=bytearray)  # lines of no event, such as the error page of a proxy

    def feed(self, piece: bytes) -> list[tuple[str, str]]:
        """The events that this piece completes."""
        self._rest += piece
        if b"\n" not in piece and b"\r" not in piece:  # do not scan a long line twice
            return []
        # a final carriage return may be the first half of a line end
        end = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r", 0, len(self._rest) - 1)) + 1
        complete, self._rest = bytes(self._rest[:end]), self._rest[end:]
        return self._read(complete.splitlines())

    def close(self) -> list[tuple[str, str]]:
        """The last event, if it has no blank line."""
        rest, self._rest = bytes(self._rest), bytearray()
        return self._read([*rest.splitlines(), b""])

    def _read(self, lines: list[bytes]) -> list[tuple[str, str]]:
        events: list[tuple[str, str]] = []
        for line in lines:
            if self._at_start:
                self._at_start, line = False, line.removeprefix(BOM)  # noqa: PLW2901
            if not line:
                if any(self._data) or self._name == "error":
                    events.append((self._name, "\n".join(self._data)))
                self._name, self._data = "", []
                continue
            name, _, value = line.partition(b":")
            if name not in FIELDS and len(self.stray) < MAX_STRAY_BYTES:
                self.stray += line + b"\n"
            text = value.removeprefix(b" ").decode("utf-8", "replace")  # a complete line has complete characters
            if name == b"data":
                self._data.append(text)
            elif name == b"event":
                self._name = text
        return events


@dataclass(slots=True)
class FunctionPieces:
    """A function call that comes in pieces: its name once or every time, its arguments in parts."""

    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def add(self, piece: Mapping[str, Any]) -> None:
        """Add a piece. Arguments that are no text were sent as a whole."""
        name, arguments = piece.get("name"), piece.get("arguments")
        if isinstance(name, str) and not self.name:
            self.name = name
        if isinstance(arguments, str):
            self.arguments.append(arguments)
        elif arguments is not None:
            self.arguments = [json.dumps(arguments, ensure_ascii=False, default=str)]

    def whole(self) -> dict[str, str]:
        """The call as a reply without streaming has it."""
        return {"name": self.name, "arguments": "".join(self.arguments)}


@dataclass(slots=True)
class ChatChunks:
    """The chunks of one chat answer. `begun`: the answer has started; `finished`: its finish reason has arrived."""

    begun: bool = False
    finished: bool = False
    error: Mapping[str, Any] | None = None
    foreign: Mapping[str, Any] | None = None  # the first event before the finish reason that is neither chunk nor error
    _choice: dict[str, Any] | None = None
    _content: list[Any] = field(default_factory=list)
    _other_content: Any = None  # content that is neither text nor parts
    _refusal: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: list[dict[str, Any]] = field(default_factory=list)
    _places: dict[Any, int] = field(default_factory=dict)  # index of a tool call to its place in `_calls`
    _function: FunctionPieces | None = None
    _rest: dict[str, Any] = field(default_factory=dict)
    _foreign_events: int = 0

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Add one chunk. An event that is none, and comes before the finish reason, is an error if it has any words."""
        if states_error(chunk):
            self.error = chunk
            return
        if not chunk.get("choices") and not chunk.get("usage") and ("choices" not in chunk or tells_error(chunk)):
            self._add_foreign(chunk)
            return
        # usage may come with every chunk, growing, or alone in the last one
        self._rest.update((name, chunk[name]) for name in ("usage", "model", "service_tier") if chunk.get(name))
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping) and choice.get("index") in (0, None, "0"):
                self._add_choice(choice)

    def reply(self) -> dict[str, Any]:
        """The reply that /chat/completions would have sent without streaming."""
        if self.error is not None:
            return dict(self.error)
        if self._choice is None:
            return {**self._rest, "choices": []}
        message: dict[str, Any] = {"role": "assistant", "content": self._joined_content()}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._refusal:
            message["refusal"] = "".join(self._refusal)
        if self._calls:
            message["tool_calls"] = [{**call, "function": call["function"].whole()} for call in self._calls]
        if self._function is not None:
            message["function_call"] = self._function.whole()
        return {**self._rest, "choices": [{**self._choice, "message": message}]}

    def _add_foreign(self, event: Mapping[str, Any]) -> None:
        self._foreign_events += 1
        if self._foreign_events > MAX_FOREIGN_EVENTS:
            self.error = {
                "error": {"message": f"more than {MAX_FOREIGN_EVENTS:,} events that are no part of an answer"}
            }
            return
        if self.finished or not event or event.get("type") in KEEPALIVES or event.get("object") == CHUNK:
            return
        if error_text(event).message or stated_status(event) is not None:
            self.error = {"error": event}
        else:
            self.foreign = self.foreign or event

    def _joined_content(self) -> Any:
        if self._other_content is not None:
            return self._other_content
        plain = all(isinstance(part, str) for part in self._content)
        return "".join(self._content) if plain else self._content

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        self._choice = self._choice or {"index": 0, "finish_reason": None}
        delta, whole, text = choice.get("delta"), choice.get("message"), choice.get("text")
        if isinstance(delta, Mapping):
            self._add_delta(delta)
        if (
            isinstance(whole, Mapping) and not self.begun
        ):  # a gateway may send it in one chunk, or repeat all at the end
            self._add_delta(whole)
        if isinstance(text, str) and not delta and not whole:  # of the older API, which some servers use for both
            self._add_delta({"content": text})
        if ending_of(choice.get("finish_reason")) is not None:
            self._choice["finish_reason"] = choice["finish_reason"]
            self.finished = True
        self._choice.update((name, choice[name]) for name in NATIVE_NAMES if choice.get(name))
        if states_error(choice):  # beside finish_reason "error"
            self.error = {"error": choice["error"]}

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        content, refusal, calls = delta.get("content"), delta.get("refusal"), delta.get("tool_calls")
        if isinstance(content, str):
            self._content.append(content)
        elif isinstance(content, list):
            self._content.extend(content)
        elif content is not None:
            self._other_content = content
        if isinstance(refusal, str):
            self._refusal.append(refusal)
        if reasoning := next((text for name in REASONING_FIELDS if (text := part_text(delta.get(name)))), ""):
            self._reasoning.append(reasoning)
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, Mapping):
                self._add_tool_call(call)
        function = delta.get("function_call")
        if isinstance(function, Mapping):  # the predecessor of tool calls
            self._function = self._function or FunctionPieces()
            self._function.add(function)
        self.begun = self.begun or bool(content or refusal or calls or function)

    def _add_tool_call(self, piece: Mapping[str, Any]) -> None:
        """Merge a piece of a tool call into the call with its index.

        Servers differ: some omit the index, some give every call the index 0, some send a new id with each piece.
        """
        given = piece.get("function")
        function: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        index = piece.get("index")
        index = index if isinstance(index, int | float | str) else None  # of any other type it names no call
        place = self._places.get(index) if index is not None else len(self._calls) - 1
        if place is None or place < 0 or _starts_next_call(self._calls[place], piece, function):
            place = len(self._calls)
            self._calls.append({"type": "function", "function": FunctionPieces()})
        self._places[index] = place
        call = self._calls[place]
        if piece.get("id") and "id" not in call:
            call["id"] = piece["id"]
        call["function"].add(function)


def _starts_next_call(call: Mapping[str, Any], piece: Mapping[str, Any], function: Mapping[str, Any]) -> bool:
    named_before = bool(call["function"].name)
    return named_before and bool(function.get("name")) and piece.get("id") not in (None, "", call.get("id"))


@dataclass(slots=True)
class ChatStream:
    """A streamed reply to /chat/completions. `done`: the server sent its end marker."""

    done: bool = False
    chunks: ChatChunks = field(default_factory=ChatChunks)
    _events: EventDecoder = field(default_factory=EventDecoder)
    _has_events: bool = False
    _raw: bytearray = field(default_factory=bytearray)  # the bytes until the first event: they may be plain JSON
    _unreadable: str | None = None

    @property
    def begun(self) -> bool:
        """Whether the answer has started."""
        return self.chunks.begun

    @property
    def complete(self) -> bool:
        """Whether the answer, or the error in its place, is complete, even if the connection breaks now."""
        return self.done or self.chunks.finished or self.chunks.error is not None

    def feed(self, piece: bytes) -> None:
        """Read the next bytes of the stream."""
        if not self._has_events:
            self._raw += piece
        self._read_events(self._events.feed(piece))

    def reply(self) -> dict[str, Any] | Failure | Completion:
        """The reply as parsed JSON at the end of the stream; of a server that does not stream, the JSON it sent."""
        unreadable = self._unreadable  # read first: the last event may be incomplete
        self._read_events(self._events.close())
        if self.chunks.error is not None:
            return self.chunks.reply()
        stray = bytes(self._events.stray)
        if not self._has_events and not (self._raw.lstrip().startswith(b":") and not stray):
            return load_reply(stray if self._raw.lstrip().startswith(b":") else bytes(self._raw))
        if unreadable is not None:
            return malformed("has an event that is not JSON", unreadable)
        if self.chunks.foreign is not None and not self.chunks.finished:
            return malformed_json("has an event that is no chunk of an answer", self.chunks.foreign)
        if not self.complete:
            return _stray_error(stray) or Failure("connection", "the stream ended before the reply was complete")
        return self.chunks.reply()

    def _read_events(self, events: list[tuple[str, str]]) -> None:
        for name, data in events:
            self._has_events, self._raw = True, bytearray()
            if data.strip() in DONE_FORMS:
                self.done = True
            elif not self.done:
                self._read_event(name, data)

    def _add_unreadable(self, data: str) -> None:
        """Note an event that may have been a part of the answer: one before its finish reason."""
        if not self.chunks.finished:
            self._unreadable = self._unreadable or data

    def _read_event(self, name: str, data: str) -> None:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            if name == "error":
                self.chunks.add({"error": data or NO_WORDS})
            elif "\n" in data:  # a server without blank lines between its events
                self._read_events([(name, line) for line in data.split("\n")])
            else:
                self._add_unreadable(data)
            return
        if chunk is None or isinstance(chunk, bool | int | float):
            return
        if isinstance(chunk, list) and len(chunk) == 1:
            chunk = chunk[0]  # Google's compatible endpoint puts its errors in a list
        if not isinstance(chunk, dict):
            self._add_unreadable(data)
        elif name in KEEPALIVES:
            return
        elif name == "error" and not states_error(chunk):
            self.chunks.add({"error": chunk or {"message": NO_WORDS}})
        else:
            self.chunks.add(chunk)


def _stray_error(text: bytes) -> dict[str, Any] | Failure | None:
    """The error that a proxy appended to a broken stream, as JSON or as a page; None without one."""
    if not text.strip():
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and tells_error(data):
        return {"error": data.get("error") or data}
    ends = quote(text.decode("utf-8", "replace"))
    return Failure("connection", f"the stream ended before the reply was complete; it ends {ends!r}")
