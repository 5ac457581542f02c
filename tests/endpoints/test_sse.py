"""Streamed answers from bytes: split anywhere, with every variant of a chunk that servers send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure
from evalrunner.endpoints.openai_replies import read_chat
from evalrunner.endpoints.sse import ChatStream, EventDecoder
from tests.fakes.server import DONE, delta, event

WORDS = ("Zü", "rich 🏔", "\n\n", "東京")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
WHOLE = b"".join(
    [
        b": keep-alive\n\n",
        event(delta(role="assistant", content="")),
        *(event(delta(content=word)) for word in WORDS),
        event(delta("stop")),
        event({"choices": [], "usage": USAGE, "model": "m-2"}),
        DONE,
    ]
)


def heard(*pieces: bytes) -> Completion | Failure:
    """The result of a stream of these pieces."""
    stream = ChatStream()
    for piece in pieces:
        stream.feed(piece)
    reply = stream.reply()
    return reply if isinstance(reply, Failure) else read_chat(reply)


def said(*chunks: Any, end: bytes = DONE) -> Completion | Failure:
    return heard(*(event(chunk) for chunk in chunks), end)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_may_be_split_anywhere(size: int, line_end: bytes) -> None:
    raw = WHOLE.replace(b"\n", line_end)
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
    whole = Completion("".join(WORDS), "stop", input_tokens=3, output_tokens=4, served_model="m-2")
    assert heard(*pieces) == whole


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("", "a"), ("", "b")]),
        (b"event: error\ndata: {\ndata: }\n\n", [("error", "{\n}")]),
        (b"data:a\ndata:  b\n\n", [("", "a\n b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b": only\n: comments\n\n", []),
        (b"id: 1\nretry: 5\ndata\n\nevent: x\n\n", []),
        (b"data: a\n\ndata: without an end", [("", "a"), ("", "without an end")]),
        (b"data: \xff\xfe\n\n", [("", "\ufffd\ufffd")]),
    ],
)
def test_events_follow_the_standard(raw: bytes, events: list[tuple[str, str]]) -> None:
    reader = EventDecoder()
    assert [*reader.feed(raw), *reader.close()] == events


def test_a_long_line_in_many_pieces_is_scanned_once() -> None:
    text = "x" * 3_000_000
    raw = event(delta("stop", content=text))
    result = heard(*(raw[start : start + 100] for start in range(0, len(raw), 100)))
    assert isinstance(result, Completion)
    assert result.text == text


@pytest.mark.parametrize("end", range(len(WHOLE) - len(DONE) - 130, 0, -23))
def test_an_interrupted_stream_is_never_an_answer(end: int) -> None:
    """The last pieces, which only contain usage, may be missing."""
    result = heard(WHOLE[:end])
    assert isinstance(result, Failure), result
    assert result.kind in ("connection", "malformed")


def test_an_answer_is_complete_without_usage_or_done() -> None:
    result = said(delta(content="Paris"), delta("stop"), end=b"")
    assert result == Completion("Paris", "stop", served_model="scripted-1")
    assert said(delta(content="Paris")) == Completion(
        "Paris", "stop", served_model="scripted-1", unknown_finish_reason=""
    )
    assert heard(event(delta("length", content="Par")), b'data: {"choices": [], "usage": {"prom') == Completion(
        "Par", "length", served_model="scripted-1"
    )


def test_usage_in_every_chunk_counts_from_the_last() -> None:
    chunks = [{**delta(content="a"), "usage": {"completion_tokens": 1}}, {**delta("stop"), "usage": USAGE}]
    result = said(*chunks)
    assert isinstance(result, Completion)
    assert (result.input_tokens, result.output_tokens) == (3, 4)


def call(index: int | None, name: str | None = None, arguments: str = "", id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name is not None else {})}
    return {"function": function, **({"index": index} if index is not None else {}), **({"id": id} if id else {})}


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "f", "", "c1"), call(0, None, '{"a"'), call(1, "g", "{}", "c2"), call(0, None, ": 1}")],
        [call(0, "f", '{"a": 1}', "c1"), call(0, "g", "{}", "c2")],  # each whole, each with the index 0
        [call(None, "f", '{"a"', "c1"), call(None, None, ": 1}"), call(None, "g", "{}", "c2")],  # without an index
        [call(0, "f", '{"a"', "c1"), call(0, None, ": 1}", "new"), call(1, "g", "{}", "c2")],  # a new id each time
        [call(0, "f", '{"a"', "c1"), call(0, "f", ": 1}", "c1"), call(1, "g", "{}", "c2")],  # the name each time
    ],
)
def test_pieces_of_tool_calls_are_merged(pieces: list[dict[str, Any]]) -> None:
    result = said(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls"))
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason) == ("", "tool_calls")
    assert [(item.get("id"), item["function"]) for item in result.tool_calls] == [
        ("c1", {"name": "f", "arguments": '{"a": 1}'}),
        ("c2", {"name": "g", "arguments": "{}"}),
    ]


@pytest.mark.parametrize(
    ("chunks", "text", "finish_reason"),
    [
        ([delta(refusal="I will"), delta(refusal=" not"), delta("stop")], "I will not", "refused"),
        ([delta("content_filter", content="Pa")], "Pa", "filtered"),
        ([delta("stop", content=[{"type": "text", "text": "Par"}]), delta(content="is")], "Paris", "stop"),
        ([delta("stop", content=None)], "", "empty"),
        ([delta("stop", reasoning_content="hm")], "", "empty"),
        ([{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}], "Paris", "stop"),
        ([{"choices": [{"index": 1, "delta": {"content": "B"}}]}, delta("stop", content="A")], "A", "stop"),
        ([delta(function_call={"name": "f", "arguments": "{"}), delta("stop", function_call={"arguments": "}"})], "", "tool_calls"),
    ],
)  # fmt: skip
def test_chunks_are_merged_to_a_completion(chunks: list[Any], text: str, finish_reason: str) -> None:
    result = said(*chunks)
    assert isinstance(result, Completion), result
    assert (result.text, result.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"error": {"message": "slow down", "code": 429}}, "rate_limit"),
        ({"error": {"message": "boom"}}, "server"),
        ({"error": "boom"}, "server"),
        ([{"error": {"message": "boom", "code": 503}}], "server"),
        ({"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "x", "code": 502}}]}, "server"),
        ("text", "malformed"),
        (delta("stop", content=7), "malformed"),
    ],
)
def test_an_error_in_a_stream_is_a_failure(chunk: Any, kind: str) -> None:
    result = said(delta(content="Par"), chunk)
    assert isinstance(result, Failure)
    assert result.kind == kind


def test_an_error_event_is_a_failure() -> None:
    result = heard(event(delta(content="Par")), b'event: error\ndata: {"message": "overloaded"}\n\n')
    assert isinstance(result, Failure)
    assert (result.kind, "overloaded" in result.message) == ("server", True)


def test_an_event_that_is_not_json_is_malformed() -> None:
    result = heard(event(delta(content="Par")), b'data: {"choices": [{\n\n', event(delta("stop")), DONE)
    assert isinstance(result, Failure)
    assert result.kind == "malformed"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(b"", "malformed"), (b"<html>", "malformed"), (b": ping\n\n", "connection"), (DONE, "malformed")],
)
def test_an_empty_stream_is_a_failure(raw: bytes, kind: str) -> None:
    result = heard(raw)
    assert isinstance(result, Failure)
    assert result.kind == kind


@pytest.mark.parametrize("indent", [None, 2])
def test_plain_json_of_a_server_that_does_not_stream_is_the_reply(indent: int | None) -> None:
    reply = {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}], "usage": USAGE}
    raw = json.dumps(reply, indent=indent).encode()
    assert heard(raw[:9], raw[9:]) == Completion("Paris", "stop", input_tokens=3, output_tokens=4)


FINISHED = (delta(content="Par"), delta(content="is"), delta("stop"))
PLAIN = b"".join(map(event, FINISHED)) + DONE
FORMS = {
    "lines that end in CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "lines that end in CR": PLAIN.replace(b"\n", b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "no blank after the name": PLAIN.replace(b"data: ", b"data:"),
    "no blank lines": PLAIN.replace(b"\n\n", b"\n"),
    "comments and pings": b": OPENROUTER PROCESSING\n\nevent: ping\ndata: {}\n\n" + PLAIN,
    "ids and retries": b"retry: 3000\n\nid: 1\n" + PLAIN,
    "events that are null": b"data: null\n\n" + PLAIN,
    "pretty JSON": b"\n".join(b"data: " + line for line in json.dumps(
        {"choices": [{"index": 0, "delta": {"content": "Paris"}, "finish_reason": "stop"}]}, indent=1).encode().splitlines()) + b"\n\n",
    "an index that is text": event({"choices": [{"index": "0", "delta": {"content": "Paris"}, "finish_reason": "stop"}]}),
    "the older API's text": event({"choices": [{"index": 0, "text": "Paris", "finish_reason": "stop"}]}) + DONE,
    "the whole message at the end": event(delta(content="Paris")) + event(
        {"choices": [{"index": 0, "message": {"content": "Paris"}, "finish_reason": "stop"}]}) + DONE,
    "JSON after comments": b': ping\n\n{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}',
    "junk after the finish reason": PLAIN.replace(DONE, b'data: {"choices": [], "usage": {\n\n' + DONE),
    "other spellings of the end": PLAIN.replace(DONE, b'data: "[DONE]"\n\n'),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_streams_in_other_forms_are_read(form: str, size: int) -> None:
    raw = FORMS[form]
    result = heard(*(raw[place : place + size] for place in range(0, len(raw), size)))
    assert isinstance(result, Completion), result
    assert (result.text, result.finish_reason, result.unknown_finish_reason) == ("Paris", "stop", None)


HALF = event(delta(content="Par"))
ENDS = {
    "an event named error without data": (b"event: error\n\n" + DONE, "an error event without words"),
    "JSON of a proxy": (b'\n{"error": {"message": "Upstream crashed", "code": 502}}\n\n', "Upstream crashed"),
    "a page of a proxy": (b"<html><head><title>502 Bad Gateway</title></head></html>\n", "502 Bad Gateway"),
    "text": (b"data: upstream request timeout\n\n", "upstream request timeout"),
    "a chunk that is cut and a finish": (b'data: {"choices": [{\n\n' + event(delta("stop")) + DONE, "not JSON"),
    "null as text for a reason": (event(delta("null", content="is")), "ended before"),
}


@pytest.mark.parametrize("end", ENDS)
def test_half_a_stream_is_an_error_with_what_comes_after_it(end: str) -> None:
    raw, words = ENDS[end]
    result = heard(HALF, raw)
    assert isinstance(result, Failure), result
    assert words in result.message
    assert not result.fatal
