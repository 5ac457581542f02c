"""Numbers that are finite, and whose sums and squares are not: a sentence with a place, never a crash at the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import command
from tests.fakes.server import Malformed, ScriptedServer

OWN = "def score(output):\n    return float(output)\n"
LARGE = ("1e61", "-1e61", "1e155", "1e200", "1e308", "-1e308", "inf", "-inf", "nan")


def write(outputs: list[str], **options: Any) -> None:
    Path("own.py").write_text(OWN)
    rows = [{"id": str(place), "input": "x", "output": output} for place, output in enumerate(outputs)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scorer = {
        "type": "python",
        "name": "s",
        "function": "own.py:score",
        "aggregates": ["mean", "variance", "p90", "total"],
    }
    suite = {
        "name": "s",
        "dataset": "data.jsonl",
        "target": {"type": "recorded", "column": "output"},
        "scorers": [{**scorer, **options}],
    }
    Path("s.yaml").write_text(json.dumps(suite))


@pytest.mark.parametrize("number", LARGE)
def test_a_score_that_is_too_large_is_an_error_of_its_row(number: str) -> None:
    write([number, "0.5", number, "0.25"] * 10)
    done = command("s.yaml", "-q")
    assert (done.code, "20 rows with errors" in done.out) == (0, True), done
    (log,) = Path("runs").rglob("rows.jsonl")
    cells = [json.loads(line)["cells"]["s"] for line in log.read_text().splitlines()]
    reasons = {cell.get("reason") for cell in cells if cell["state"] == "error"}
    assert len(reasons) == 1
    assert "largest score is 1e+60" in str(reasons) or "not a finite number" in str(reasons)


@pytest.mark.parametrize("sign", ["", "-"])
def test_the_largest_scores_have_metrics_and_intervals(sign: str) -> None:
    write([f"{sign}1e60", "-1e60", "1e59", "0.5"] * 10)
    assert command("s.yaml", "-q").code == 0


@pytest.mark.parametrize(
    "options", [{"low": 0, "high": 1e308}, {"low": -1e308, "high": 1e308}, {"low": -1e61}, {"high": 1e61}]
)
def test_a_range_that_is_too_large_is_refused_before_the_run(options: dict[str, float]) -> None:
    write(["0.5"] * 40, **options)
    done = command("s.yaml")
    assert (done.code, "the largest score is 1e+60" in done.err) == (2, True), done


@pytest.mark.parametrize("number", ["1e16", "1e100", "1e308", "1e400", "9" * 400, "-1", "NaN"])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens", "cost"])
def test_a_server_that_counts_or_charges_absurdly_is_not_believed(field: str, number: str) -> None:
    usage = f'{{"prompt_tokens": 3, "completion_tokens": 2, "{field}": {number}}}'
    message = '{"role": "assistant", "content": "Paris"}'
    body = f'{{"choices": [{{"index": 0, "message": {message}, "finish_reason": "stop"}}], "usage": {usage}}}'
    rows = [{"id": str(place), "input": f"x {place}", "expected": "Paris"} for place in range(3)]
    with ScriptedServer(lambda _request, _nth: Malformed(body.encode())) as server:
        suite = {
            "name": "s",
            "dataset": {"rows": rows},
            "target": {"model": "m", "base_url": server.base_url},
            "scorers": ["contains"],
        }
        Path("s.yaml").write_text(json.dumps(suite))
        done = command("s.yaml", "-q")
    (log,) = Path("runs").rglob("rows.jsonl")
    found = [json.loads(line).get("completion", {}) for line in log.read_text().splitlines()]
    assert done.code == 0, done
    name = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "cost": "cost_usd"}[field]
    assert [(row.get("text"), row.get(name)) for row in found] == [("Paris", None)] * 3
