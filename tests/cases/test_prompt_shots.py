"""Worked examples from a file in front of a question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, command
from tests.fakes.server import Answer, ScriptedServer, always

ROWS = [{"id": f"q{n}", "input": f"{n} + {n}?", "expected": str(2 * n)} for n in range(3)]
TRAIN = [
    {"id": f"q{n}", "input": f"{n} + {n}?", "expected": [str(2 * n), "other"], "why": f"double of {n}"}
    for n in range(20)
]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(always(Answer("0"))) as running:
        yield running


def write(server: ScriptedServer, shots: Any, *, question: Any = "Q: {{ input }}", **keys: Any) -> None:
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TRAIN))
    suite = {
        "name": "shots",
        "dataset": {"rows": ROWS},
        "target": {"model": "m", "base_url": server.base_url},
        "prompt": [{"system": "Add."}, {"shots": shots}, *([{"user": question}] if question else [])],
        "scorers": ["exact_match"],
        "run": {"concurrency": 1},
        **keys,
    }
    Path("s.yaml").write_text(json.dumps(suite))


def run(server: ScriptedServer, shots: Any, **keys: Any) -> Ended:
    write(server, shots, **keys)
    return command("run", "s.yaml")


def sent(server: ScriptedServer) -> list[list[tuple[str, str]]]:
    return [[(one["role"], one["content"]) for one in request.json["messages"]] for request in server.requests]


def example(number: int) -> list[tuple[str, str]]:
    return [("user", f"Q: {number} + {number}?"), ("assistant", str(2 * number))]


def asked(messages: list[tuple[str, str]]) -> list[int]:
    """The numbers of the examples in a request."""
    return [int(text.removeprefix("Q: ").split(" ")[0]) for role, text in messages[:-1] if role == "user"]


def test_the_first_examples_stand_before_the_question_and_never_the_sample_itself(server: ScriptedServer) -> None:
    done = run(server, {"path": "train.jsonl", "n": 2})
    assert done.code == 0, done.err
    assert sent(server) == [
        [("system", "Add."), *example(1), *example(2), ("user", "Q: 0 + 0?")],
        [("system", "Add."), *example(0), *example(2), ("user", "Q: 1 + 1?")],
        [("system", "Add."), *example(0), *example(1), ("user", "Q: 2 + 2?")],
    ]


def test_a_seed_chooses_the_same_examples_for_all_samples_and_runs(server: ScriptedServer) -> None:
    for seed in (1, 1, 2):
        assert run(server, {"path": "train.jsonl", "n": 4, "seed": seed, "never": "same id"}, cache="off").code == 0
    one, again, other = sent(server)[:3], sent(server)[3:6], sent(server)[6:]
    assert one == again != other
    for place, messages in enumerate(one):
        assert place not in asked(messages) and len(set(asked(messages))) == 4
    assert len(set(asked(one[0])) & set(asked(one[1]))) >= 3


def test_examples_can_exclude_the_same_input_and_have_templates_of_their_own(server: ScriptedServer) -> None:
    shots = {"path": "train.jsonl", "n": 1, "never": "same input", "columns": {"id": "why"}, "user": "{{ input }}",
             "assistant": "{{ why }}: {{ expected }}"}  # fmt: skip
    assert run(server, shots).code == 0
    assert sent(server)[0][1:3] == [("user", "1 + 1?"), ("assistant", "double of 1: 2")]
    assert sent(server)[1][1:3] == [("user", "0 + 0?"), ("assistant", "double of 0: 0")]


def test_examples_come_from_any_format_and_are_selected(server: ScriptedServer) -> None:
    Path("train.csv").write_text("nr;text;answer;kind\na;one?;1;x\nb;two?;2;y\nc;three?;3;y\n")
    columns = {"id": "nr", "input": "text", "expected": "answer"}
    shots = {"path": "train.csv", "delimiter": ";", "columns": columns, "where": {"kind": "y"}, "n": 2}
    done = run(server, shots, question="{{ input }}")
    assert done.code == 0, done.err
    assert sent(server)[0][1:-1] == [("user", "two?"), ("assistant", "2"), ("user", "three?"), ("assistant", "3")]


def test_changed_examples_are_another_prompt(server: ScriptedServer) -> None:
    digests = set()
    for rows in (TRAIN, [*TRAIN[:-1], {**TRAIN[-1], "expected": "changed"}]):
        write(server, {"path": "train.jsonl", "n": 1})
        Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert command("run", "s.yaml").code == 0
        record = json.loads(
            max(Path("runs/shots").glob("*/run.json"), key=lambda one: one.stat().st_mtime_ns).read_text()
        )
        digests.add(record["targets"]["m"]["prompt_digest"])
        assert json.loads(record["targets"]["m"]["prompt"][1]["shots"])["n"] == 1
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("shots", "problem"),
    [
        ({"path": "nope.jsonl"}, "nope.jsonl"),
        ({"n": 2}, "prompt[1].shots: needs 'path', a data file with examples"),
        (5, "prompt[1].shots: is 5; it should be a mapping"),
        ({"path": "train.jsonl", "n": 0}, "prompt[1].shots.n: is 0; it should be at least 1"),
        ({"path": "train.jsonl", "never": "same"}, "prompt[1].shots.never: is 'same'; it should be one of same id, same input"),
        ({"path": "train.jsonl", "limit": 3}, "prompt[1].shots.limit: is not for shots"),
        ({"path": "train.jsonl", "shufle": 3}, "prompt[1].shots.shufle: 'shufle' is neither a key of a dataset nor an option"),
        ({"path": "train.jsonl", "n": 21}, "n is 21, but train.jsonl has only 20 samples with an expected answer"),
        ({"path": "train.jsonl", "n": 20}, "needs 20 shots, but train.jsonl has only 19 without the same id"),
        ({"path": "train.jsonl", "type": "x.py:y"}, "prompt[1].shots.type: is user-defined; shots are read by the built-in readers"),
        ({"path": "-", "type": "csv"}, "prompt[1].shots.path: is standard input; name a file"),
        ({"path": "train.jsonl", "user": "{{ topic }}"}, "shot 'q1' of train.jsonl: the template uses 'topic', which this sample does not have"),
        ({"path": "train.jsonl", "assistant": "{{ x"}, "line 1 of the assistant message of a shot"),
        ({"path": "train.jsonl", "columns": {"input": "question"}}, "question"),
    ],
)  # fmt: skip
def test_examples_that_are_wrong_are_reported(server: ScriptedServer, shots: Any, problem: str) -> None:
    done = run(server, shots)
    assert done.code == 2, done.out
    assert problem in done.err and server.calls == 0


def test_examples_without_a_question_are_refused(server: ScriptedServer) -> None:
    write(server, {"path": "train.jsonl"}, prompt=[{"shots": "train.jsonl"}])
    done = command("validate", "s.yaml")
    assert done.code == 2 and "prompt: has examples only; add the question: {user: …}" in done.err


def test_examples_outside_the_folder_are_refused_for_untrusted_suites(server: ScriptedServer) -> None:
    Path("secret.jsonl").write_text(json.dumps(TRAIN[5]) + "\n")
    write(server, {"path": "../secret.jsonl", "n": 1})
    Path("evals").mkdir()
    Path("s.yaml").rename("evals/s.yaml")
    done = command("run", "evals/s.yaml", "--untrusted", "--allow-host", "127.0.0.1")
    assert done.code == 2 and "secret.jsonl' " in done.err and "which --untrusted refuses" in done.err
    assert server.calls == 0
