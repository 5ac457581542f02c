"""Labels in whole runs: corrected metrics, gates on them, stale labels."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.fakes.command import evalrun

SUITE = """
name: judged
dataset: data.jsonl
target: {type: recorded, column: output}
slices: [topic]
scorers:
  - {type: contains, name: judge, value: good, labels: LABELS}
gates: GATES
"""


def _write(folder: Path, *, gates: str = "[]", labels: int = 60, source: str = "labels.csv") -> None:
    """200 rows; the judge accepts all right answers and every fourth wrong one; people accept the first of two rows."""
    rows, lines = [], ["id,label"]
    for place in range(200):
        right = place % 2 == 0
        output = "good" if right or place % 4 == 1 else "poor"
        rows.append(
            {
                "id": f"q{place}",
                "input": "?",
                "output": output,
                "topic": "ab"[place % 3 == 0],
                "human": int(right) if place < labels else None,
            }
        )
        if place < labels:
            lines.append(f"q{place},{int(right)}")
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "suite.yaml").write_text(SUITE.replace("LABELS", source).replace("GATES", gates))


def _text(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join((result.stdout + result.stderr).split())


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    return evalrun(str(folder / "suite.yaml"), "--output-dir", str(folder / "runs"))


def _metrics(folder: Path) -> dict[str, dict]:
    (path,) = folder.glob("runs/*/*/metrics.json")
    metrics = json.loads(path.read_text())["targets"]["recorded"]["metrics"]
    return {metric["name"] + "".join((metric["slice"] or {}).values()): metric for metric in metrics}


def test_the_corrected_rate_stands_beside_the_raw_one(tmp_path: Path) -> None:
    _write(tmp_path)
    result = _run(tmp_path)
    assert result.returncode == 0, _text(result)
    metrics = _metrics(tmp_path)
    assert metrics["judge/v1"]["value"] == 0.75
    corrected = metrics["judge.corrected"]
    assert corrected["value"] == pytest.approx(0.5, abs=0.01) and corrected["high"] < 0.75
    assert (corrected["method"], corrected["detail"]["labels"]) == ("ppi++", 60)
    assert (metrics["judge.sensitivity"]["value"], metrics["judge.specificity"]["value"]) == (1.0, 0.5)
    assert metrics["judge.kappa"]["value"] == pytest.approx(0.5)
    assert metrics["judge.correctedb"]["value"] is not None and "judge.corrected" in _text(result)


def test_labels_may_be_a_column_of_the_dataset(tmp_path: Path) -> None:
    _write(tmp_path, source="{column: human}")
    assert _run(tmp_path).returncode == 0
    assert _metrics(tmp_path)["judge.corrected"]["detail"]["labels"] == 60


def test_gates_on_labels_decide_by_the_wider_interval(tmp_path: Path) -> None:
    _write(
        tmp_path,
        gates="[judge >= 0.7, judge.corrected >= 0.7, judge.corrected >= 0.46, judge.kappa >= 0.2, judge.specificity >= 0.9]",
    )
    result = _run(tmp_path)
    assert result.returncode == 1
    text = _text(result)
    assert "PASS judge >= 0.7" in text and "FAIL judge.corrected >= 0.7 at 0.95 confidence" in text
    assert "INCONCLUSIVE judge.corrected >= 0.46" in text and "labels are needed to decide" in text
    assert "PASS judge.kappa >= 0.2" in text and "FAIL judge.specificity >= 0.9" in text


def test_a_gate_without_enough_labels_is_untrusted(tmp_path: Path) -> None:
    _write(tmp_path, gates="[judge.corrected >= 0.2]", labels=12)
    result = _run(tmp_path)
    assert result.returncode == 3 and "12 labels, at least 20 are needed" in _text(result)


def test_a_label_of_another_answer_is_named_and_not_used(tmp_path: Path) -> None:
    _write(tmp_path)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    stale = [
        "id,label,answer,version",
        *(f"{line},0000,v1" if place < 3 else f"{line},," for place, line in enumerate(lines[1:])),
        "q100,1,,v0",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(stale))
    text = _text(_run(tmp_path))
    assert "3 stale labels in labels.csv not used: the answer changed (q0, q1, q2)" in text
    assert "1 stale label in labels.csv not used: scorer version v0 → v1" in text
    assert _metrics(tmp_path)["judge.corrected"]["detail"]["labels"] == 57


@pytest.mark.parametrize(
    ("gates", "source", "message"),
    [
        ("[judge.kapa >= 0.4]", "labels.csv", "no metric 'judge.kapa' in this suite; did you mean 'kappa'?"),
        ("[judge.kappa >= 40]", "labels.csv", "compares with 40, but 'judge.kappa' is always -1..1"),
        ("[{metric: judge.kappa, baseline: main, max_drop: 0.1}]", "labels.csv", "has no gate on a baseline"),
        ("[judge.kappa >= 0.4]", "null", "needs labels; add `labels: labels.csv` to the scorer 'judge'"),
        ("[]", "none.csv", "none.csv' cannot be read"),
        ("[]", "{file: x}", "should be a CSV file, or a column of the dataset: {column: NAME}"),
    ],
)
def test_mistakes_are_reported_before_the_first_call(tmp_path: Path, gates: str, source: str, message: str) -> None:
    _write(tmp_path, gates=gates, source=source)
    result = _run(tmp_path)
    assert result.returncode == 2 and message in _text(result)


def test_gates_on_labels_are_checked_again_on_a_stored_run(tmp_path: Path) -> None:
    _write(tmp_path, gates="[judge.corrected >= 0.2, judge.kappa >= 0.2]")
    assert _run(tmp_path).returncode == 0
    again = evalrun("gate", "last", "--output-dir", str(tmp_path / "runs"))
    assert again.returncode == 0 and _text(again).count("(60 labels): meets the threshold") == 2


def test_a_plan_says_how_many_labels_decide(tmp_path: Path) -> None:
    _write(tmp_path, gates="[judge.corrected >= 0.46]")
    _run(tmp_path)
    plan = evalrun("plan", str(tmp_path / "suite.yaml"), "--output-dir", str(tmp_path / "runs"))
    assert "labels decide with 80% power" in _text(plan)
