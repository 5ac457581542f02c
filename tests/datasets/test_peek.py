"""`evalrun datasets peek`: its proposal for real layouts runs as it is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun

SUITE = "target: {type: python, function: app.py:answer}\nscorers: [SCORER]\n"
TALK = [{"from": "human", "value": "Say yes."}, {"from": "gpt", "value": "yes"}]


def json_lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def squad() -> str:
    def question(name: str, answers: list[str]) -> dict[str, Any]:
        listed = [{"text": text, "answer_start": 0} for text in answers]
        return {"question": f"What {name}?", "id": name, "answers": listed, "is_impossible": not answers}

    paragraphs = [
        {"qas": [question("a1", ["yes", "aye"]), question("a2", [])], "context": "c"},
        {"qas": [question("a3", ["yes"])], "context": "d"},
    ]
    return json.dumps({"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]})


LAYOUTS: dict[str, tuple[str, str | bytes, list[str]]] = {
    "squad": ("train-v2.0.json", squad(), ["records: data.paragraphs.qas", "input: question", 'expected: "answers[].text"']),
    "bbh": ("boolean.json", json.dumps({"canary": "x", "examples": [{"input": "not True is", "target": "yes"}] * 2}), ["records: examples", "expected: target"]),
    "mmlu": ("abstract_algebra_test.csv", '"Which, of these?",1,2,3,4,B\n"Find ""it""",0,1,2,3,A\n', ["header: [question, A, B, C, D, answer]", "expected: answer"]),
    "hotpotqa": (
        "hotpot_dev.json",
        json.dumps([{"_id": f"5a{n}", "answer": "yes", "question": f"Q{n}?", "supporting_facts": [["T", 0]], "context": [["T", ["s"]]], "type": "bridge", "level": "hard"} for n in range(3)]),
        ["id: _id", "input: question", "expected: answer"],
    ),
    "sharegpt": ("sharegpt.json", json.dumps([{"id": f"c{n}", "conversations": TALK} for n in range(3)]), ["messages: {column: conversations, answer: true}"]),
    "openai text": ("evals.jsonl", json_lines({"input": "Say yes", "ideal": "yes"}, {"input": "Say it", "ideal": ["yes", "no"]}), ["expected: ideal"]),
    "openai messages": (
        "chat.jsonl",
        json_lines(*[{"input": [{"role": "system", "content": "s"}, {"role": "user", "content": f"q{n}"}], "ideal": "yes"} for n in range(2)]),
        ["messages: input", "expected: ideal"],
    ),
    "openai fine-tuning": (
        "tune.jsonl",
        json_lines(*[{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "yes"}]} for n in range(2)]),
        ["messages: {column: messages, answer: true}"],
    ),
    "humaneval": (
        "HumanEval.jsonl.gz",
        gzip.compress(json_lines(*[{"task_id": f"HumanEval/{n}", "prompt": f"def f{n}():", "entry_point": f"f{n}", "canonical_solution": "yes", "test": "assert"} for n in range(2)]).encode()),
        ["id: task_id", "input: prompt", "expected: canonical_solution"],
    ),
    "triviaqa": (
        "wikipedia-dev.json",
        json.dumps({"Data": [{"Answer": {"Aliases": ["yes", "aye"], "Value": "yes"}, "Question": f"Q{n}?", "QuestionId": f"tc_{n}"} for n in range(2)], "Version": 1.0}),
        ["records: Data", "id: QuestionId", "input: Question", "expected: Answer.Aliases"],
    ),
    "german excel csv": ("export.csv", "Frage;Antwort\nWie heißt das?;yes\nUnd das, bitte?;yes\n".encode("cp1252"), ["encoding: cp1252", 'delimiter: ";"', "input: Frage"]),
    "jsonl named json": ("rows.json", json_lines({"question": "a", "answer": "yes"}, {"question": "b", "answer": "yes"}), ["type: jsonl", "input: question"]),
    "rows under ids": ("by_id.json", json.dumps({"q1": {"question": "a", "answer": "yes"}, "q2": {"question": "b", "answer": "yes"}}), ['records: "$"']),
    "no extension": ("data", "question,answer\na,yes\nb,yes\n", ["type: csv"]),
    "yaml": ("qa.yml", "rows:\n- {question: a, answer: yes}\n- {question: b, answer: yes}\n", ["records: rows"]),
    "utf-16": ("unicode.csv", "question,answer\na,yes\nb,yes\n".encode("utf-16"), ["encoding: utf-16"]),
    "odd names": ("odd $x.csv", "question,answer\na,yes\nb,yes\n", []),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_proposal_for_a_layout_runs_as_it_is(layout: str) -> None:
    name, content, lines = LAYOUTS[layout]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    seen = evalrun("datasets", "peek", name)
    assert seen.returncode == 0, seen.stderr
    block = seen.stdout.partition("to paste into a suite:\n\n")[2].partition("\n\n")[0]
    for line in lines:
        assert f"  {line}\n" in block + "\n", block
    Path("app.py").write_text("def answer(input):\n    return 'yes'\n")
    scorer = "{contains_any: [yes]}" if layout == "mmlu" else "exact_match"
    Path("s.yaml").write_text(f"{block}\n{SUITE.replace('SCORER', scorer)}")
    ended = evalrun("run", "s.yaml")
    assert ended.returncode == 0, block + ended.stderr + ended.stdout
    assert "1.000" in ended.stdout, block + ended.stdout


def test_the_columns_and_three_rows_are_shown() -> None:
    Path("d.jsonl").write_text(
        json_lines(
            *[{"question": f"Q{n}?", "n": n, "tags": ["x"], **({"rare": 1} if n == 1 else {})} for n in range(5)]
        )
    )
    out = evalrun("datasets", "peek", "d.jsonl").stdout
    assert "  question  text\n  n         number\n  tags      list\n  rare      number, missing in 4\n" in out
    assert "row 3:\n  question  Q2?\n" in out and "row 4" not in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "has no rows"),
        (b"%PDF-1.4", "is a PDF"),
    ],
)
def test_a_file_without_rows_is_an_error(content: bytes, message: str) -> None:
    Path("d.csv").write_bytes(content)
    ended = evalrun("datasets", "peek", "d.csv")
    assert (ended.returncode, message in ended.stderr, ended.stdout) == (2, True, ""), ended.stderr
    assert evalrun("datasets", "peek", "missing.csv").returncode == 2
