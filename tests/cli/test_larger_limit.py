"""`evalrun SUITE --resume RUN --limit N`: a larger limit adds samples to a run; anything else is another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.command import evalrun

SUITE = """\
name: growing
dataset: {{path: data.jsonl{options}}}
target: {{type: recorded, column: out}}
scorers: [exact_match]
"""


def write(options: str = "", *, rows: int = 40, first: str = "q0") -> None:
    data = [{"id": f"q{i}" if i else first, "input": f"question {i}", "expected": "a", "out": "a"} for i in range(rows)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    Path("growing.yaml").write_text(SUITE.format(options=options))


def indexes() -> list[int]:
    (folder,) = Path("runs/growing").iterdir()
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [line["index"] for line in lines]


@pytest.mark.parametrize("options", ["", ", shuffle: 7", ", limit: 10"])
def test_a_larger_limit_adds_samples_to_the_run(options: str) -> None:
    write(options)
    assert evalrun("growing.yaml", "--limit", "10").returncode == 0
    more = evalrun("growing.yaml", "--resume", "last", "--limit", "25")
    assert more.returncode == 0, more.stderr
    assert "10 of 25 rows were finished, 15 remaining" in more.stdout
    assert indexes() == list(range(25))
    whole = evalrun("--resume", "last", "--set", "dataset.limit=null")
    assert whole.returncode == 0, whole.stderr
    assert indexes() == list(range(40))


def test_a_smaller_limit_is_refused() -> None:
    write()
    evalrun("growing.yaml", "--limit", "10")
    done = evalrun("--resume", "last", "--limit", "5")
    assert done.returncode == 2
    assert "dataset.limit: 10 → 5 (a larger limit is allowed, a smaller one is not)" in done.stderr
    assert len(indexes()) == 10


def test_a_larger_limit_is_refused_if_the_first_samples_changed() -> None:
    write()
    evalrun("growing.yaml", "--limit", "10")
    write(first="renamed")
    done = evalrun("--resume", "last", "--limit", "20")
    assert done.returncode == 2
    assert "dataset: its first 10 samples are not those of the run" in done.stderr
    assert len(indexes()) == 10


def test_a_larger_limit_excuses_no_other_change() -> None:
    write()
    evalrun("growing.yaml", "--limit", "10")
    done = evalrun("--resume", "last", "--limit", "20", "--set", "run.seed=4")
    assert (done.returncode, "seed: 0 → 4" in done.stderr) == (2, True)
