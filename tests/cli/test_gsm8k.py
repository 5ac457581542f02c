"""Baseline gates on recorded GSM8K outputs of four models, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun

SMALL, SMALL_CHECKED, LARGE, LARGE_CHECKED = (
    "6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification",
)  # fmt: skip
RIGHT = {SMALL: 286, SMALL_CHECKED: 515, LARGE: 458, LARGE_CHECKED: 742}


def run(shared: Path, model: str, gates: str = "", *args: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the metrics of a model's recorded solutions."""
    solutions = shared / "gsm8k" / "example_model_solutions.jsonl"
    Path("gsm8k.yaml").write_text(
        f"name: gsm8k\ndataset: {{path: '{solutions}', columns: {{input: question, expected: ground_truth}}}}\n"
        f"target: {{name: model, type: recorded, column: {model}.solution}}\nscorers: [numeric_match]\ngates: [{gates}]\n"
    )
    done = evalrun("gsm8k.yaml", "--json", *args)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def drop(most: float) -> str:
    return f"{{metric: numeric_match, baseline: main, max_drop: {most}}}"


def accept() -> None:
    assert evalrun("baseline", "accept").returncode == 0


@pytest.mark.parametrize("model", RIGHT)
def test_numeric_match_agrees_with_recorded_labels(shared_data: Path, model: str) -> None:
    _, metrics = run(shared_data, model)
    first = metrics["targets"]["model"]["metrics"][0]
    assert (first["name"], first["n"], round(first["value"] * 1319)) == ("numeric_match/v1", 1319, RIGHT[model])


def test_much_smaller_model_fails(shared_data: Path) -> None:
    run(shared_data, LARGE_CHECKED)
    accept()
    code, metrics = run(shared_data, SMALL, drop(0.05))
    (gate,) = metrics["gates"]
    result = gate["baseline"]
    assert (code, gate["verdict"]) == (1, "fail")
    assert (round(100 * result["drop"], 1), round(100 * result["low"], 1), round(100 * result["high"], 1)) == (
        34.6,
        32.1,
        37.0,
    )


@pytest.mark.parametrize(("most", "code", "verdict"), [(0.01, 1, "fail"), (0.05, 4, "inconclusive"), (0.07, 0, "pass")])
def test_max_drop_decides_the_verdict(shared_data: Path, most: float, code: int, verdict: str) -> None:
    run(shared_data, SMALL_CHECKED)
    accept()
    ended, metrics = run(shared_data, LARGE, drop(most))
    (gate,) = metrics["gates"]
    result = gate["baseline"]
    assert (ended, gate["verdict"], result["n"], result["method"]) == (code, verdict, 1319, "tango")
    assert [round(100 * result[end], 2) for end in ("drop", "low", "high")] == [4.32, 1.96, 6.69]
    assert round(result["p_value"], 5) == 0.00315
    if verdict == "inconclusive":
        assert gate["reason"].startswith("4.3 points worse (90% CI 2.0–6.7); allowed 5. About ")
        assert gate["reason"].endswith(" samples are needed to decide, if 27% of them change")


def test_forty_rows_are_inconclusive_and_report_the_samples_needed(shared_data: Path) -> None:
    run(shared_data, SMALL_CHECKED)
    accept()
    code, metrics = run(shared_data, LARGE, drop(0.02), "--limit", "40")
    (gate,) = metrics["gates"]
    assert (code, gate["verdict"], gate["samples_to_decide"]) == (0, "inconclusive", [1353, 3093])
    assert (gate["baseline"]["n"], gate["baseline"]["excluded"]) == (40, 1279)


def test_run_against_itself_passes_with_149_rows_or_more(shared_data: Path) -> None:
    run(shared_data, SMALL_CHECKED)
    accept()
    verdicts = {}
    for rows in (148, 149):
        _, metrics = run(shared_data, SMALL_CHECKED, drop(0.02), "--limit", str(rows))
        verdicts[rows] = metrics["gates"][0]["verdict"]
    assert verdicts == {148: "inconclusive", 149: "pass"}
