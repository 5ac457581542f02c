"""`evalrun diff`: rows that changed between runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.fakes.command import evalrun

SUITE = """\
name: s
dataset: rows.jsonl
targets:
  - {type: recorded, column: a, name: old}
  - {type: recorded, column: b, name: new}
scorers: [{type: exact_match, normalize: squad}, token_f1]
"""
ROWS = [
    ("q1", "red", "red", "red"),  # the same
    ("q2", "red", "red", "blue"),  # worse
    ("q3", "red", "blue", "red"),  # better
    ("q4", "red", "Red", "red"),  # output only
    ("q5", "dark red", "dark red", "red"),  # worse by less
    ("q6", "red", "red", ""),  # no answer any more: the worst change
]


def write(rows: list[tuple[str, str, str, str]], suite: str = SUITE) -> None:
    lines = [{"id": id, "input": f"{id}?", "expected": wanted, "a": a, "b": b} for id, wanted, a, b in rows]
    Path("rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("s.yaml").write_text(suite)


def run(*args: str) -> str:
    done = evalrun("s.yaml", "--json", *args)
    assert done.stdout, done.stderr
    return str(json.loads(done.stdout)["run_id"])


def test_diff_of_two_targets_lists_regressions_first() -> None:
    write(ROWS)
    result = json.loads(evalrun("diff", run(), "--json").stdout)
    assert result["counts"] == {
        "same": 1, "worse": 3, "better": 1, "state_changed": 0, "output_changed": 1, "different_sample": 0, "before_only": 0, "after_only": 0,
    }  # fmt: skip
    assert [row["id"] for row in result["rows"]] == ["q2", "q6", "q5", "q4", "q3"]
    assert result["rows"][0]["before"]["scores"]["exact_match"] == {"state": "scored", "value": 1.0}
    assert result["rows"][0]["after"]["output"] == "blue"
    output = evalrun("diff", "last", "--targets", "new,old", "--limit", "2").stdout
    assert "/new → " in output and "/old: 5 rows changed (1 worse, 3 better, 1 output only); 1 unchanged" in " ".join(
        output.split()
    )
    assert re.search(r"q3 +q3\? +was red +now blue +exact_match 1 → 0", output)
    assert "and 3 more" in output


def test_diff_pairs_runs_by_target() -> None:
    write(ROWS)
    one = run()
    write(
        [
            *ROWS[:1],
            ("q2", "green", "red", "blue"),
            *[(q, w, "red", b) for q, w, _, b in ROWS[2:5]],
            ("q7", "x", "x", "x"),
        ]
    )
    two = run()
    result = json.loads(evalrun("diff", one, two, "--json").stdout)
    old = next(each for each in result if each["after"]["target"] == "old")
    assert old["counts"] == {
        "same": 1, "worse": 1, "better": 1, "state_changed": 0, "output_changed": 1, "different_sample": 1, "before_only": 1, "after_only": 1,
    }  # fmt: skip
    output = " ".join(evalrun("diff", one, two, "--targets", "old").stdout.split())
    assert "1 excluded: their samples differ; 1 only before, 1 only after" in output


def test_diff_names_changed_scorers() -> None:
    write(ROWS)
    one = run()
    write(ROWS, SUITE.replace("normalize: squad", "normalize: none"))
    done = evalrun("diff", one, run())
    assert done.returncode == 0, done.stderr
    assert "measured differently: scorers 'exact_match'.options.normalize: 'squad' → 'none'" in done.stdout


def test_diff_of_incomparable_runs_is_an_error() -> None:
    write(ROWS)
    one = run("--target", "old")
    write(ROWS, SUITE.replace("name: old", "name: other").replace("name: new", "name: more"))
    two = run()
    for args, message in (
        ((one,), "the run has one target only, 'old'; name a second run to compare it with"),
        ((one, two), "no target in common; name two: --targets A,B; known: 'old', 'other', 'more'"),
        ((one, two, "--targets", "old,mor"), "unknown target 'mor'; did you mean 'more'?"),
        ((one, two, one), "got 3"),
        ((two, "--targets", "more"), "cannot be compared with itself"),
        (("nothing",), "no run 'nothing'"),
    ):
        done = evalrun("diff", *args)
        assert done.returncode == 2, args
        assert message in done.stderr, args
    assert evalrun("diff", one, two, "--targets", "old,more").returncode == 0


def test_runs_lists_headline_metric_with_interval() -> None:
    write(ROWS)
    run()
    output = evalrun("runs").stdout
    assert re.search(r" DONE +exact_match 0\.833 \(best of 2\) +0\.436–0\.970 +12/12 ", output)


def test_diff_accepts_target_names_with_commas() -> None:
    write(ROWS, SUITE.replace("name: old", "name: 'old, tuned'"))
    one = run()
    done = evalrun("diff", one, "--targets", "new,old, tuned", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["before"]["target"], result["after"]["target"]) == ("new", "old, tuned")
    assert "takes two names" in evalrun("diff", one, "--targets", "old,new,other").stderr
