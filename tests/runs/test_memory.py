"""Peak memory of a run does not grow with its rows, but for a few dozen bytes each."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEW, MANY = 50_000, 500_000
MAX_RATIO = 2.0  # of ten times the rows; a run with two scorers took 104 MB at MANY and 57 MB at FEW


def peak_memory(folder: Path, rows: int) -> int:
    """Peak resident memory of a run of recorded outputs in a process of its own."""
    with (folder / f"{rows}.jsonl").open("w") as file:
        for place in range(rows):
            answer = str(place + 1)
            record = {"id": f"q{place}", "input": f"{place} + 1?", "expected": answer, "output": answer}
            file.write(json.dumps(record) + "\n")
    suite = {
        "name": "many", "dataset": f"{rows}.jsonl", "target": {"type": "recorded", "column": "output"},
        "scorers": ["exact_match"], "gates": ["exact_match >= 0.5"],
    }  # fmt: skip
    (folder / f"{rows}.yaml").write_text(json.dumps(suite))
    arguments = [sys.executable, "-m", "evalrunner", str(folder / f"{rows}.yaml"), "-q", "--output-dir", str(folder)]
    process = os.posix_spawn(sys.executable, arguments, {**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss


@pytest.mark.slow
def test_peak_memory_of_a_run_does_not_grow_with_its_rows(tmp_path: Path) -> None:
    few, many = peak_memory(tmp_path, FEW), peak_memory(tmp_path, MANY)
    assert many < MAX_RATIO * few
