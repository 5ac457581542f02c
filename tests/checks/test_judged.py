"""Checks that ask a judge: concurrently, with their calls counted, and on resume only where they failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import command
from tests.checks.running import cells, refused, run, stored_rows

OWN = """
import asyncio
from pathlib import Path

RUNNING, MOST = [], []


async def careful(output):
    RUNNING.append(output)
    MOST.append(len(RUNNING))
    await asyncio.sleep(0.01)
    Path("most").write_text(str(max(MOST)))
    RUNNING.pop()
    return "yes" in output


def flaky(output):
    if not Path("repaired").exists():
        raise RuntimeError("the service is down")
    return True
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)


def own(function: str, **keys: Any) -> dict[str, Any]:
    return {"type": "python", "function": f"own.py:{function}", **keys}


def test_awaited_checks_of_a_row_run_at_the_same_time() -> None:
    run([{"input": "q", "reply": "yes", "checks": [own("careful"), own("careful"), own("careful")]}])
    assert cells() == [("scored", 1)]
    assert Path("most").read_text() == "3"


def test_a_resume_repeats_rows_whose_checks_ended_in_error() -> None:
    rows = [
        {"input": "a", "reply": "yes", "checks": [own("flaky", name="flaky")]},
        {"input": "b", "reply": "yes", "checks": [{"contains": "yes"}]},
    ]
    run(rows)
    assert cells() == [("error", None), ("scored", 1)]
    Path("repaired").touch()
    done = command("--resume", "last", "--retry-errors", "--json")
    assert done.code != 2, done.err
    lines = max(Path("runs/case").glob("2*/rows.jsonl")).read_text().splitlines()
    last = {row["id"]: row["cells"]["checks"]["state"] for row in map(json.loads, lines) if "id" in row}
    assert set(last.values()) == {"scored"}


def test_a_check_looks_at_what_it_extracts() -> None:
    rows = [
        {
            "input": "q",
            "reply": "Thought: no.\nAnswer: yes",
            "checks": [
                {"exact_match": "yes", "extract": {"after": "Answer:"}},
                {"contains": "no", "extract": {"after": "Nowhere:"}},
            ],
        }
    ]
    run(rows)
    detail = stored_rows()[0]["cells"]["checks"]["detail"]["checks"]
    assert [(one["state"], one["passed"]) for one in detail] == [("scored", True), ("unscored", None)]
    assert detail[0]["extracted"] == "yes"


def test_a_wrong_extraction_is_refused() -> None:
    rows = [{"input": "q", "reply": "x", "checks": [{"contains": "x", "extract": {"aftr": "x"}}]}]
    assert "checks[0]: extract" in refused(rows)
