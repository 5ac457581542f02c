"""`evalrun calibrate` on stored runs: figures, biased judges by name, labelers, JSON."""

import json
import subprocess
from pathlib import Path

from tests.fakes.command import evalrun

SUITE = """
name: judged
dataset: data.jsonl
target: {type: recorded, column: output}
slices: [topic]
scorers: [{type: contains, name: judge, value: good}]
"""


def _run(folder: Path, outputs: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    rows = [
        {"id": f"q{place}", "input": "?", "output": text, "topic": "ab"[place % 2]}
        for place, text in enumerate(outputs)
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "suite.yaml").write_text(SUITE)
    assert evalrun(str(folder / "suite.yaml"), "-q", "--output-dir", str(folder / "runs")).returncode == 0
    return evalrun(
        "calibrate", "last", "--labels", str(folder / "labels.csv"), "--output-dir", str(folder / "runs"), *more
    )


def _labels(folder: Path, labels: list[int], labeler: str = "ada") -> None:
    lines = [f"q{place},{label},{labeler}" for place, label in enumerate(labels)]
    (folder / "labels.csv").write_text("\n".join(["id,label,labeler", *lines]))


def test_figures_confusion_and_slices(tmp_path: Path) -> None:
    _labels(tmp_path, [1, 0] * 30)
    result = _run(tmp_path, ["good", "poor", "good", "good"] * 15, "--json")
    data = json.loads(result.stdout)
    (judge,) = data["judges"]
    values = {metric["aggregate"]: metric["value"] for metric in judge["metrics"]}
    assert (values["agreement"], values["sensitivity"], values["specificity"]) == (0.75, 1.0, 0.5)
    assert judge["slices"][0]["counts"] == {"true_good": 30, "false_good": 15, "false_bad": 0, "true_bad": 15}
    assert [part["slice"] for part in judge["slices"]] == [None, {"topic": "a"}, {"topic": "b"}]
    assert judge["warnings"] == []


def test_a_judge_that_always_says_yes_is_named(tmp_path: Path) -> None:
    _labels(tmp_path, [1, 0] * 30)
    result = _run(tmp_path, ["good"] * 60)
    assert result.returncode == 0 and "the judge always says yes (60 of 60)" in result.stdout


def test_a_coin_is_named(tmp_path: Path) -> None:
    _labels(tmp_path, [1, 1, 0, 0] * 20)
    result = _run(tmp_path, ["good", "poor"] * 40)
    assert "no better than a coin: κ 0.00" in " ".join(result.stdout.split())


def test_a_judge_that_prefers_long_answers_is_named(tmp_path: Path) -> None:
    labels = [1, 1, 0, 0] * 20
    outputs = [("good" + " and so on" * 20) if place % 2 else "poor" for place in range(80)]
    _labels(tmp_path, labels)
    result = _run(tmp_path, outputs)
    assert "the judge prefers long answers: +" in " ".join(result.stdout.split())


def test_two_labelers_are_held_against_each_other(tmp_path: Path) -> None:
    lines = [f"q{place},{int(place % 2 == 0)},ada" for place in range(40)]
    lines += [f"q{place},{int(place % 2 == 0 or place < 4)},bob" for place in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label,labeler", *lines]))
    text = " ".join(_run(tmp_path, ["good", "poor"] * 20).stdout.split())
    assert "judge: ada and bob agree on 0.950" in text and "judge: 2 rows not used: the labelers disagree" in text


def test_a_run_without_labels_says_what_to_do(tmp_path: Path) -> None:
    _labels(tmp_path, [1])
    _run(tmp_path, ["good"])
    result = evalrun("calibrate", "last", "--output-dir", str(tmp_path / "runs"))
    assert result.returncode == 2 and "evalrun calibrate RUN --labels labels.csv" in " ".join(result.stderr.split())
