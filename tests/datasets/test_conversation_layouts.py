"""Conversations in the layouts of ShareGPT, OpenAI and others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.suite.columns import ColumnSpec
from tests.datasets.reading import columns, problems, samples, write

SHAREGPT = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Hi"},
    {"from": "gpt", "value": "Hello"},
    {"from": "human", "value": "Bye?"},
    {"from": "gpt", "value": "Bye!"},
]
MESSAGES = tuple(
    {"role": role, "content": text}
    for role, text in [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye?"),
        ("assistant", "Bye!"),
    ]
)


def row(**values: Any) -> str:
    return write("d.jsonl", json.dumps(values) + "\n")


@pytest.mark.parametrize("value", [SHAREGPT, json.dumps(SHAREGPT)])
def test_a_sharegpt_conversation_is_read_by_its_column(value: Any) -> None:
    (sample,) = samples(row(conversations=value), columns=columns(messages="conversations"))
    assert (sample.input, sample.messages, sample.expected) == ("Bye?", MESSAGES, ())


def test_the_last_message_of_the_assistant_is_the_accepted_answer() -> None:
    mapped = columns(messages=ColumnSpec("conversations", answer=True))
    (sample,) = samples(row(conversations=SHAREGPT), columns=mapped)
    assert (sample.input, sample.messages, sample.expected) == ("Bye?", MESSAGES[:-1], ("Bye!",))
    (open_end,) = samples(row(conversations=SHAREGPT[:4]), columns=mapped)
    assert (open_end.messages, open_end.expected) == (MESSAGES[:4], ())
    (parts,) = samples(
        row(
            messages=[
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
            ]
        ),
        columns=columns(messages=ColumnSpec("messages", answer=True)),
    )
    assert parts.expected == ("a",)


def test_other_keys_of_messages_are_named() -> None:
    mapped = columns(messages=ColumnSpec("chat", role="speaker", content="utterance"))
    chat = [{"speaker": "Customer", "utterance": "q", "time": 1}, {"speaker": "Agent", "utterance": "a"}]
    (sample,) = samples(row(chat=chat), columns=mapped)
    assert sample.messages == ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})


def test_messages_in_the_column_input_are_the_conversation() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    (sample,) = samples(row(input=messages, ideal=["a", "b"]), columns=columns(messages="input", expected="ideal"))
    assert (sample.input, sample.messages, sample.expected) == ("q", tuple(messages), ("a", "b"))


@pytest.mark.parametrize(
    ("spec", "message", "problem"),
    [
        (ColumnSpec("c"), {"from": "narrator", "value": "x"}, "has a message 1 of 'narrator', which is no known role"),
        (ColumnSpec("c"), {"from": 5, "value": "x"}, "has a message 1 of '5', which is no known role"),
        (
            ColumnSpec("c"),
            {"from": "human", "value": 5},
            "has a message 1 whose content is neither text nor a list of parts",
        ),
        (ColumnSpec("c"), {"from": "human"}, "has a message 1 without a role"),
        (ColumnSpec("c"), "x", "has a message 1 that is not a mapping of role and content"),
        (
            ColumnSpec("c", role="who"),
            {"from": "human", "content": "x"},
            "has a message 1 without 'who'; it has: from, content",
        ),
    ],
)
def test_messages_of_no_layout_are_errors(spec: ColumnSpec, message: Any, problem: str) -> None:
    assert f"the column 'c' {problem}" in problems(row(c=[message]), columns=columns(messages=spec))[0]


def test_keys_of_messages_are_not_for_other_columns() -> None:
    row(a="x", b="y", m=SHAREGPT)
    mapped = columns(input=ColumnSpec("a", role="x"), expected="b", messages=ColumnSpec("m", answer=True))
    assert problems("d.jsonl", columns=mapped) == [
        "dataset.columns.input.role: is only for 'messages'",
        "dataset.columns.expected: cannot be combined with 'answer' of messages; keep one of them",
    ]
