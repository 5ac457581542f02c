"""Runs over packed, nested and listed data: the hash that a run keeps, resume, and what an untrusted suite may read."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

from tests.cases.suites import command

APP = "import pathlib\n\ndef answer(input):\n    if input == 'q7' and not pathlib.Path('go').exists():\n        raise ValueError\n    return 'x'\n"
ROWS = [{"input": f"q{n}", "expected": "x"} for n in range(12)]


def suite(dataset: str) -> str:
    Path("app.py").write_text(APP)
    Path("s.yaml").write_text(
        f"name: case\ndataset: {dataset}\ntarget: {{type: python, function: app.py:answer}}\nscorers: [exact_match]\nrun: {{concurrency: 1}}\n"
    )
    return "s.yaml"


def record() -> dict[str, object]:
    (path,) = Path("runs/case").glob("*/run.json")
    dataset: dict[str, object] = json.loads(path.read_text())["dataset"]
    return dataset


def test_a_run_over_packed_nested_and_listed_data_resumes_to_the_same_hash() -> None:
    Path("a.json.xz").write_bytes(lzma.compress(json.dumps({"data": ROWS[:6]}).encode()))
    Path("b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"data": ROWS[6:]}).encode()))
    file = suite("{path: [a.json.xz, b.jsonl.gz], records: data}")
    assert "1 row failed" in command("run", file).out
    Path("go").touch()
    resumed = command("run", file, "--resume", "last", "--retry-errors")
    assert resumed.code == 0, resumed.err
    kept = record()
    for run in Path("runs").iterdir():
        run.rename("first")
    whole = command("run", file)
    assert whole.code == 0 and kept == record(), whole.err


def test_a_changed_file_of_a_list_is_found_by_its_hash() -> None:
    Path("a.json").write_text(json.dumps({"data": ROWS}))
    file = suite("{path: '{a,b}.json', records: data}")
    Path("b.json").write_text(json.dumps({"data": [{"input": "more", "expected": "x"}]}))
    assert "1 row failed" in command("run", file).out
    Path("b.json").write_text(json.dumps({"data": [{"input": "other", "expected": "x"}]}))
    Path("go").touch()
    ended = command("run", file, "--resume", "last", "--retry-errors")
    assert ended.code == 2 and "dataset" in ended.err, ended.err
