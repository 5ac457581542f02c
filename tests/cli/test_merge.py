"""`evalrun merge`: shards or other parts of a suite become the run that one over all samples is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun

SUITE = """\
name: s
dataset: rows.jsonl
targets:
  - {name: a, type: recorded, column: a}
  - {name: b, type: recorded, column: b}
scorers: [exact_match, token_f1]
slices: [topic]
gates: [exact_match >= 0.3, "token_f1/v1 >= 0.1"]
run: {epochs: 2}
"""


def write(count: int = 60, suite: str = SUITE, *, checked: int = 41) -> None:
    rows = [
        {"id": f"q{n}", "input": f"{n}?", "expected": str(n % 3), "a": str(n % 2), "b": "" if n % 9 == 0 else str(n % 3),
         "topic": "xyz"[n % 7 % 3], **({"checks": [{"contains": "1", "name": "one"}]} if n == checked else {})}
        for n in range(count)
    ]  # fmt: skip
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("s.yaml").write_text(suite)


def newest() -> Path:
    return max(Path("runs/s").iterdir(), key=lambda path: (path / "run.json").stat().st_mtime_ns)


def run(*arguments: str) -> Path:
    done = evalrun("s.yaml", "-q", *arguments)
    assert done.returncode in (0, 1, 3), done.stderr
    return newest()


def merge(*runs: Path, flags: tuple[str, ...] = ()) -> tuple[int, str]:
    done = evalrun("merge", *map(str, runs), "-q", *flags)
    return done.returncode, done.stderr


def results(folder: Path) -> tuple[Any, ...]:
    """What has to be equal: the table byte for byte, the metrics but for the id, and the verdict of every gate."""
    metrics = json.loads((folder / "metrics.json").read_text())
    record = json.loads((folder / "run.json").read_text())
    assert metrics.pop("run_id") == folder.name
    kept = {name: record[name] for name in ("verdict", "exit_code", "status", "rows", "rows_planned", "dataset", "targets", "scorers")}  # fmt: skip
    return (folder / "table.csv").read_bytes(), json.dumps(metrics), kept


@pytest.mark.parametrize("more", [(), ("--limit", "33", "--set", "dataset.shuffle=4"), ("--sample", "40")], ids=str)
def test_eight_shards_in_any_order_are_the_run_over_everything(more: tuple[str, ...]) -> None:
    write()
    whole = run(*more)
    shards = [run("--shard", f"{number}/8", *more) for number in (5, 1, 8, 3, 2, 7, 6, 4)]
    code, _ = merge(*shards)
    assert results(newest()) == results(whole)
    assert code == json.loads((whole / "run.json").read_text())["exit_code"]


def test_shards_have_no_verdict_and_are_no_baselines() -> None:
    write()
    shard = run("--shard", "2/3")
    record = json.loads((shard / "run.json").read_text())
    assert (record["verdict"], record["dataset"]["shard"], record["dataset"]["whole_rows"]) == ("pass", "2/3", 60)
    assert record["exit_code"] == 0
    for command in (("gate", str(shard)), ("baseline", "accept", str(shard))):
        refused = evalrun(*command)
        assert refused.returncode == 2 and "shard 2/3" in refused.stderr, refused.stderr


def test_a_shard_says_when_its_gates_are_checked() -> None:
    write()
    shown = " ".join(evalrun("s.yaml", "-q", "--shard", "2/3").stdout.split())
    assert "Gates are checked when the shards are merged" in shown
    write(suite=SUITE.replace('gates: [exact_match >= 0.3, "token_f1/v1 >= 0.1"]\n', ""))
    assert "The suite has no gates" in " ".join(evalrun("s.yaml", "-q", "--shard", "2/3").stdout.split())


def test_a_missing_shard_is_named_and_nothing_is_left() -> None:
    write()
    shards = [run("--shard", f"{number}/4") for number in (1, 2, 4)]
    before = sorted(Path("runs/s").iterdir())
    code, message = merge(*shards)
    assert code == 2 and "shard 3/4 is missing" in message and "--shard 3/4" in message
    assert sorted(Path("runs/s").iterdir()) == before


def test_a_killed_shard_is_named_and_resumes() -> None:
    write()
    whole = run()
    shards = [run("--shard", f"{number}/3") for number in (1, 2, 3)]
    killed = shards[1]
    lines = (killed / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (killed / "rows.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:20])
    record = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps({**record, "status": "running", "verdict": None, "exit_code": None}))
    code, message = merge(*shards)
    assert code == 2 and f"{killed.name} (shard 2/3) did not finish" in message and "--resume" in message
    assert evalrun("--resume", str(killed), "-q").returncode == 0
    merge(*shards)
    assert results(newest()) == results(whole)


def test_runs_that_overlap_are_named_with_their_samples() -> None:
    write()
    first, second = run("--limit", "30"), run("--offset", "29")
    code, message = merge(first, second)
    assert code == 2 and f"runs {first.name} and {second.name} both have sample 'q29'" in message
    code, message = merge(first, first)
    assert code == 2 and "named twice" in message


def test_parts_by_offset_are_merged_and_gaps_named() -> None:
    write()
    whole = run()
    parts = [run("--offset", "20", "--limit", "20"), run("--limit", "20"), run("--offset", "40")]
    merge(*parts)
    assert results(newest()) == results(whole)
    code, message = merge(parts[0], parts[1])
    assert code == 2 and "no run has samples 'q40', 'q41' and 'q42' and 17 more" in message


def test_parts_by_condition_and_by_ids_are_merged() -> None:
    write(checked=-1)
    whole = run()
    parts = [run("--where", "topic!=x"), run("--where", "topic=x", "--offset", "1"), run("--rows", "q0")]
    code, message = merge(*parts)
    assert code == 3, message
    assert results(newest()) == results(whole)


def test_runs_of_other_suites_settings_and_data_are_refused() -> None:
    write()
    first, second = run("--shard", "1/2"), run("--shard", "2/2", "--epochs", "3")
    code, message = merge(first, second)
    assert code == 2 and "are of different suites" in message and "epochs: 3 → 2" in message
    code, message = merge(first, run("--shard", "2/3"))
    assert code == 2 and "one of 2 shards" in message and "one of 3" in message
    second = run("--shard", "2/2")
    write(count=61)
    code, message = merge(first, second)
    assert code == 2 and "the suite has changed since" in message and "60 samples" in message
    Path("s.yaml").write_text(SUITE.replace("name: s", "name: t"))
    evalrun("s.yaml", "-q")
    [other] = Path("runs/t").iterdir()
    code, message = merge(first, other)
    assert code == 2 and "only runs of one suite" in message


def test_shards_of_other_machines_are_merged_where_the_suite_is() -> None:
    write()
    whole = run()
    shards = [run("--shard", f"{number}/2") for number in (1, 2)]
    moved = [Path(shutil.copytree(shard, f"artifacts/{place}/s/{shard.name}")) for place, shard in enumerate(shards)]
    shutil.rmtree(shards[0])
    shutil.rmtree(shards[1])
    merge(*moved)
    assert results(newest()) == results(whole)
