"""Baselines from a run to a verdict: accepted, compared with, refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.two_models import BASELINE, accepted, data, gates, suite
from tests.fakes.command import evalrun


def test_baseline_file_is_small_sorted_and_deterministic() -> None:
    data(3, worse=0)
    evalrun(suite(), "-q")
    message = accepted()
    assert message.startswith("baselines/qa/main.jsonl: 3 rows of run ") and message.endswith("; commit it\n")
    first = BASELINE.read_bytes()
    head, *rows = [json.loads(line) for line in first.splitlines()]
    assert list(head) == [
        "evalrun_baseline", "suite", "name", "run_id", "finished_at", "epochs", "outputs", "origin", "dataset",
        "targets", "scorers", "judges", "seed",
    ]  # fmt: skip
    assert [row["id"] for row in rows] == ["q0", "q1", "q2"]
    assert rows[0] == {
        "id": "q0", "target": "m", "input_hash": rows[0]["input_hash"], "expected_hash": rows[0]["expected_hash"],
        "scores": {"exact_match": [1]},
    }  # fmt: skip
    assert b"0?" not in first and b"yes" not in first  # no input, no answer
    accepted()
    assert BASELINE.read_bytes() == first


def test_name_of_a_baseline_in_place_of_its_file_is_explained() -> None:
    done = evalrun("baseline", "show", "main")
    assert done.returncode == 2
    assert "'main': file not found; name the file of a baseline, such as baselines/SUITE/main.jsonl" in done.stderr


def test_gate_output_ends_without_an_empty_line() -> None:
    data(worse=0)
    evalrun(suite(), "-q")
    done = evalrun("gate", "last", "--set", "gates=[exact_match >= 0.1]")
    assert done.returncode == 0, done.stderr
    assert "\n\nPASS  exact_match >= 0.1" in done.stdout
    assert done.stdout.endswith("\n") and not done.stdout.endswith("\n\n")


def test_baseline_lines_change_only_with_their_score() -> None:
    data(worse=1)
    evalrun(suite(), "-q")
    accepted()
    before = BASELINE.read_text().splitlines()
    evalrun(suite("bad"), "-q")
    accepted("--force")
    after = BASELINE.read_text().splitlines()
    assert sum(one != other for one, other in zip(before[1:], after[1:], strict=True)) == 1


def test_worse_model_fails_and_equal_model_passes() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    assert [evalrun(suite(), "-q").returncode, evalrun(suite("bad"), "-q").returncode] == [0, 1]
    _, (gate,) = gates("gate")
    assert gate["reason"] == "10.0 points worse (90% CI 7.0–14.0); allowed 5; 20 samples got worse, 0 got better"
    assert gate["details"] == ["differs from the baseline in options.column: 'good' → 'bad'"]
    assert gate["baseline"]["differs"] == ["options.column: 'good' → 'bad'"]


def test_accepting_a_failed_run_requires_force() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    assert evalrun(suite("bad"), "-q").returncode == 1
    refused = evalrun("baseline", "accept")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "it did not pass (fail). Use --force to accept it anyway" in refused.stderr
    assert "in place of" in accepted("--force")


def test_baseline_remembers_its_origin_across_accepts() -> None:
    data(worse=6)
    evalrun(suite(), "-q")
    accepted()
    first = json.loads(BASELINE.read_text().splitlines()[0])["run_id"]
    evalrun(suite("bad", drop=0.08), "-q")
    accepted()
    code, (gate,) = gates(suite("bad", drop=0.08))
    assert (code, gate["verdict"], gate["baseline"]["drop"], gate["baseline"]["origin"]) == (0, "pass", 0.0, first)
    assert gate["baseline"]["origin_drop"] == pytest.approx(0.03)
    assert f"3.0 points below the first baseline, run {first}" in gate["details"]


def test_changed_scorer_is_refused_before_the_run() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    done = evalrun(suite(scorers="[{type: exact_match, ignore_case: true}]"))
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "cannot compare 'exact_match' with 'main': it has changed (options.ignore_case: not set → true)" in done.stderr
    )
    assert "evalrun qa.yaml --no-gates, then evalrun baseline accept" in done.stderr
    assert len(list(Path("runs/qa").iterdir())) == 1


def test_changed_scorer_code_is_refused() -> None:
    data()
    Path("own.py").write_text("def exact_match(output, expected):\n    return output == expected\n")
    scorers = "[{type: python, function: own.py:exact_match}]"
    evalrun(suite(scorers=scorers), "-q")
    accepted()
    Path("own.py").write_text("def exact_match(output, expected):\n    return output != expected\n")
    done = evalrun(suite(scorers=scorers))
    assert (done.returncode, "the code in 'own.py' changed" in done.stderr) == (2, True)


def test_changed_new_and_removed_samples_are_not_paired() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    lines = Path("data.csv").read_text().splitlines()
    lines[1] = lines[1].replace("0?", "zero?")
    lines[2:4] = ["new,new?,yes,yes,no,law"]
    Path("data.csv").write_text("\n".join(lines) + "\n")
    code, (gate,) = gates(suite())
    assert (code, gate["baseline"]["n"], gate["baseline"]["excluded"]) == (0, 197, 4)
    assert "samples not compared: 1 new" in gate["details"]
    assert (gate["baseline"]["coverage"], gate["verdict"]) == (0.985, "pass")
    assert any(
        detail.startswith("compared 197 of 200 samples of 'main': 1 changed; 2 removed") for detail in gate["details"]
    )


def test_refusing_hard_samples_is_not_an_improvement() -> None:
    data(worse=8)
    evalrun(suite("bad", drop=0.01), "-q")
    accepted()
    Path("data.csv").write_text(Path("data.csv").read_text().replace("yes,no,", "yes,,"))
    code, (gate,) = gates(suite("bad", drop=0.02))
    assert (code, gate["verdict"]) == (0, "pass")  # those were wrong before as well
    Path("data.csv").write_text(Path("data.csv").read_text().replace("yes,yes,art", "yes,,art", 8))
    code, (gate,) = gates(suite("bad", drop=0.02))
    assert (code, gate["verdict"]) == (3, "untrusted")
    assert gate["reason"].startswith("compared 184 of 200 samples of 'main': the model did not answer 16 (empty)")


def test_api_key_in_an_output_is_redacted_in_the_baseline() -> None:
    data(1, worse=0)
    Path("data.csv").write_text(
        "id,input,expected,good,bad,topic\nq0,0?,sk-secret-0123456789,sk-secret-0123456789,no,a\n"
    )
    env = {"SOME_API_KEY": "sk-secret-0123456789"}
    evalrun(suite(), "-q", env=env)
    assert evalrun("baseline", "accept", "--with-outputs", env=env).returncode == 0
    assert "sk-secret" not in BASELINE.read_text()


def test_broken_baseline_is_reported_with_its_line_number() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    BASELINE.write_text(BASELINE.read_text().replace('"id":"q1"', '"id":q1'))
    done = evalrun(suite())
    assert done.returncode == 2
    assert "baselines/qa/main.jsonl:3: is not a baseline row" in done.stderr
    BASELINE.write_text("{}\n")
    assert "baselines/qa/main.jsonl:1: is not a baseline file" in evalrun(suite()).stderr


HEADS = {"scorers": "[]", "targets": '{"m":1}', "origin": "[]"}


@pytest.mark.parametrize("key", HEADS)
def test_invalid_baseline_header_is_reported(key: str) -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    head, _, rows = BASELINE.read_text().partition("\n")
    BASELINE.write_text(head.replace(f'"{key}":', f'"{key}":{HEADS[key]},"was":', 1) + "\n" + rows)
    done = evalrun(suite())
    assert (done.returncode, done.stderr) == (
        2,
        "evalrun: baselines/qa/main.jsonl:1: is not a baseline file; create one with 'evalrun baseline accept'\n",
    )
    BASELINE.write_text("[" * 100_000)
    assert evalrun(suite()).returncode == 2


def test_merge_conflict_markers_in_a_baseline_are_reported() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    head, first, *rest = BASELINE.read_text().splitlines()
    torn = ["<<<<<<< ours", first, "=======", first.replace("[1]", "[0]"), ">>>>>>> theirs"]
    BASELINE.write_text("\n".join([head, *torn, *rest]))
    assert "main.jsonl:2: is a merge conflict marker; restore the whole file from one side" in evalrun(suite()).stderr
    BASELINE.write_text("\n".join([*torn[:1], head, *torn[2:3], head, *torn[4:], first, *rest]))
    assert "main.jsonl:1: is a merge conflict marker" in evalrun(suite()).stderr
    BASELINE.write_text("\n".join([head, first, first.replace("[1]", "[0]"), *rest]))
    assert "main.jsonl:3: repeats sample 'q0', perhaps after a merge" in evalrun(suite()).stderr
    BASELINE.write_text("\n".join([head, first.replace("[1]", "[1,1]"), *rest]))
    assert "main.jsonl:2: is not a baseline row" in evalrun(suite()).stderr


def test_holm_correction_applies_across_gates() -> None:
    data(200, worse=11)
    gate = "  - {metric: exact_match, baseline: main, max_drop: 0.03}\n"
    evalrun(suite(drop=0.03), "-q")
    accepted()
    alone, _ = gates(suite("bad", drop=0.03))
    several, result = gates(suite("bad", drop=0.03, more=gate * 4))
    assert (alone, several) == (1, 4)
    assert {gate["verdict"] for gate in result} == {"inconclusive"}
    assert result[0]["reason"].startswith("5.5 points worse (90% CI 3.4–8.8); allowed 3")


def test_improved_gate_requires_significance() -> None:
    data(200, worse=20)
    gate = "  - {metric: exact_match, baseline: main, improved: true, inconclusive: block}\n"
    evalrun(suite("bad"), "-q")
    accepted()
    code, result = gates(suite("good", more=gate))
    assert (code, result[1]["verdict"], result[1]["reason"]) == (
        0,
        "pass",
        "10.0 points better (90% CI 7.0–14.0); 0 samples got worse, 20 got better",
    )
    assert result[1]["details"] == ["differs from the baseline in options.column: 'bad' → 'good'"]
    code, result = gates(suite("bad", more=gate))
    assert (code, result[1]["verdict"]) == (4, "inconclusive")


def test_baseline_list_and_show() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    accepted("--name", "v2")
    listed = evalrun("baseline", "list").stdout.splitlines()
    assert [line.split(":")[0] for line in listed] == ["baselines/qa/main.jsonl", "baselines/qa/v2.jsonl"]
    output = evalrun("baseline", "show", str(BASELINE)).stdout
    assert "baseline 'main' of suite 'qa'" in output and "target m: exact_match 1.000 (n=200)" in output


def test_baseline_file_suits_git() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "baselines"], check=True)
    numbers = subprocess.run(["git", "diff", "--cached", "--numstat"], check=True, capture_output=True, text=True)
    assert numbers.stdout.split() == ["201", "0", "baselines/qa/main.jsonl"]  # text, and a line a row


def test_missing_baseline_names_the_command_that_creates_it() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    text = Path(suite()).read_text()
    two = "targets: [{name: m, type: recorded, column: good}, {name: n, type: recorded, column: good}]\n"
    Path("qa.yaml").write_text(text.replace("target: {name: m, type: recorded, column: good}\n", two))
    code, result = gates("qa.yaml")
    assert (code, [gate["verdict"] for gate in result]) == (0, ["pass", "no_baseline"])
    assert result[1]["reason"] == (
        "baseline 'main' has no target 'n' yet (it has m); create it from a good run: evalrun baseline accept"
    )
    Path("qa.yaml").write_text(text.replace("baseline: main", "baseline: other/main.jsonl"))
    _, result = gates("qa.yaml")
    assert result[0]["reason"] == (
        "no file 'other/main.jsonl' beside the suite yet; 'evalrun baseline accept' creates the baseline with the name main"
    )
    assert evalrun("baseline", "accept", "--name", "main.jsonl").returncode == 2


def test_fewer_epochs_than_the_reducer_needs_are_refused_before_the_run() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    done = evalrun(suite(more="run: {epochs: 2, reducer: pass_at_2}\n"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot compare 'exact_match' with 'main': it has changed (epochs 1, but 'pass_at_2' needs 2)" in done.stderr
