"""Commands on stored outputs: gate, score, and plan with earlier runs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from evalrunner.stats.power import smallest_drop
from tests.cli.two_models import BASELINE, accepted, data, gates, oldest_first, suite
from tests.fakes.command import evalrun


def test_gate_uses_the_current_suite_file() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    evalrun(suite("bad"), "-q")
    suite("bad", drop=0.2)
    before = sorted(path.name for path in Path("runs/qa").rglob("*"))
    done = evalrun("gate", "last")
    assert (done.returncode, done.stdout.splitlines()[0].endswith(" · gates of qa.yaml")) == (0, True)
    assert sorted(path.name for path in Path("runs/qa").rglob("*")) == before
    assert gates("gate", "-o", "verdicts.json")[0] == 0
    assert json.loads(Path("verdicts.json").read_text())["verdict"] == "pass"
    Path("qa.yaml").unlink()
    done = evalrun("gate", "last")
    assert (done.returncode, "gates of the run, because 'qa.yaml' was not found" in " ".join(done.stdout.split())) == (
        1,
        True,
    )


def test_gate_compares_with_another_run() -> None:
    data()
    evalrun(suite("bad"), "-q")
    evalrun(suite(), "-q")
    (bad, _) = oldest_first()
    assert evalrun("gate", "last").stdout.startswith("NO BASELINE  qa · ")
    code, (gate,) = gates("gate", "last", "--baseline", bad.name)
    assert (code, gate["verdict"], gate["baseline"]["name"]) == (0, "pass", bad.name)
    assert gate["gate"] == f"exact_match at most 0.05 worse than {bad.name}"
    assert gates("gate", "last", "--baseline", str(bad))[1][0]["baseline"]["drop"] == pytest.approx(-0.1)
    assert evalrun("gate", "last", "--baseline", "nope").returncode == 2


def test_new_gate_can_be_tried_on_a_stored_run() -> None:
    data()
    evalrun(suite("bad"), "-q")
    Path("new.yaml").write_text(
        Path("qa.yaml").read_text() + "  - 'exact_match[topic=law] >= 0.95'\n  - latency < 1\nslices: [topic]\n"
    )
    code, result = gates("gate", "--suite", "new.yaml")
    assert (code, [gate["verdict"] for gate in result]) == (1, ["no_baseline", "fail", "fail"])
    assert (result[1]["value"], result[2]["reason"]) == (0.9, "no sample applies: all 200 were skipped")
    assert evalrun("gate", "--suite", "new.yaml", "--set", "gates=[exact_mach >= 0.5]").returncode == 2


def test_score_applies_new_scorers_to_stored_outputs() -> None:
    data()
    evalrun(suite("bad"), "-q")
    (folder,) = Path("runs/qa").iterdir()
    Path("new.yaml").write_text(
        "name: qa\ndataset: not/here.csv\ntarget: openai/gpt-5-mini\nscorers: [contains]\ngates: [contains >= 0.85]\n"
    )
    done = evalrun("score", folder.name, "--suite", "new.yaml", "--json")
    metrics = json.loads(done.stdout)
    assert (done.returncode, metrics["targets"]["m"]["metrics"][0]["value"]) == (0, 0.9)
    run = json.loads((Path("runs/qa") / metrics["run_id"] / "run.json").read_text())
    assert (run["scored_from"]["run_id"], run["dataset"]["digest"]) == (
        folder.name,
        json.loads((folder / "run.json").read_text())["dataset"]["digest"],
    )


def test_score_updates_a_baseline_with_outputs() -> None:
    data(worse=0)
    evalrun(suite(), "-q")
    accepted("--with-outputs")
    name = suite(scorers="[{type: exact_match, ignore_case: true}]")
    assert "evalrun score baselines/qa/main.jsonl --suite qa.yaml" in evalrun(name).stderr
    assert evalrun("score", str(BASELINE), "--suite", name, "-q").returncode == 0
    accepted("--with-outputs")
    assert evalrun(name, "-q").returncode == 0
    assert b"'targets'" not in BASELINE.read_bytes()
    head = json.loads(BASELINE.read_text().splitlines()[0])
    assert head["targets"]["m"]["options"] == {"column": "good"}  # still the target that produced the outputs


def test_score_refuses_a_baseline_without_outputs() -> None:
    data()
    evalrun(suite(), "-q")
    accepted()
    done = evalrun("score", str(BASELINE), "--suite", "qa.yaml")
    assert (done.returncode, "has no outputs to score" in done.stderr) == (2, True)


def test_unknown_slice_of_a_stored_run_is_a_suite_error() -> None:
    data(20)
    evalrun(suite(), "-q")
    more = "  - 'exact_match[{0}=law] >= 0.5'\nslices: [{0}]\n"
    suite(more=more.format("topik"))
    done = evalrun("gate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "qa.yaml:8:10: slices[0]: no sample has a value of 'topik'; did you mean 'topic'?" in done.stderr
    suite(more=more.format("topic"))
    assert evalrun("gate").returncode == 0


def test_plan_reports_the_power_of_gates() -> None:
    data(200, worse=20)
    plan = evalrun("plan", suite(drop=0.01, more="  - exact_match >= 0.9\n")).stdout
    assert "80% power, if 5–30% of the 200 samples change:" in plan
    assert "passes from 3.1–8.8 points better · called worse from 4.1–10.0 · fails from 4.6–10.7" in plan
    assert "an equal model passes with 80% power from about 3,300–19,000 samples" in plan
    assert "passes from 0.929 · fails up to 0.858 (in 95% of runs, 200 samples)" in plan
    evalrun(suite(drop=0.01, more="  - exact_match >= 0.9\n"), "-q")
    accepted()
    evalrun(suite("bad", drop=0.01, more="  - exact_match >= 0.9\n"), "-q")
    (_, last) = oldest_first()
    plan = evalrun("plan", suite("bad", drop=0.01, more="  - exact_match >= 0.9\n")).stdout
    assert "80% power, if 10% of the 200 samples change (as from main to the last run):" in plan
    assert f"fails by chance in 44% of runs, if the true value is 0.900 (run {last.name})" in plan


def test_plan_counts_pairs_for_graded_scores() -> None:
    lines = [f"q{i},{i}?,{0.5 + i % 7 / 20},{0.5 + i % 5 / 20}" for i in range(50)]
    Path("data.csv").write_text("id,input,good,bad\n" + "\n".join(lines) + "\n")
    Path("own.py").write_text("def grade(output):\n    return float(output)\n")
    grade = "[{type: python, name: exact_match, function: own.py:grade, low: 0, high: 1}]"
    evalrun(suite(scorers=grade), "-q")
    accepted()
    evalrun(suite("bad", scorers=grade), "-q")
    drops = [i % 7 / 20 - i % 5 / 20 for i in range(50)]
    distance = 100 * smallest_drop(n=50, variance=statistics.variance(drops), span=1.0)
    plan = evalrun("plan", "qa.yaml").stdout
    assert "80% power (as from main to the last run):" in plan
    assert f"called worse from {distance:.1f} · fails from {5 + distance:.1f}" in plan


def test_plan_accounts_for_clusters() -> None:
    lines = [f"q{i},{i}?,yes,{'yes' if i // 10 % 10 < 9 else 'no'},{i // 10}" for i in range(400)]  # whole passages
    Path("data.csv").write_text("id,input,expected,good,passage\n" + "\n".join(lines) + "\n")
    text = Path(suite()).read_text().partition("gates:")[0] + "gates: [exact_match >= 0.85]\n"
    Path("qa.yaml").write_text(text)
    evalrun("qa.yaml", "-q")
    assert "fails by chance in under 0.1% of runs" in evalrun("plan", "qa.yaml").stdout
    Path("qa.yaml").write_text(text.replace("dataset: data.csv", "dataset: {path: data.csv, cluster: passage}"))
    evalrun("qa.yaml", "-q")
    assert "fails by chance in 18% of runs" in evalrun("plan", "qa.yaml").stdout  # .05 is one error of 40 passages


def test_plan_uses_the_bound_of_each_gate() -> None:
    data(50, worse=20)
    gate = "  - {{per_sample: {{metric: exact_match, min: {}, passes: 2, share: 0.5}}}}\nrun: {{epochs: 2, reducer: at_least_2}}\n"
    evalrun(suite("bad", more=gate.format(1)), "-q")
    assert "fails by chance" in evalrun("plan", "qa.yaml").stdout
    suite("bad", more=gate.format(0.5))
    assert "fails by chance" not in evalrun("plan", "qa.yaml").stdout


def test_gate_of_a_stored_run_treats_scores_of_0_and_1_as_the_run_did() -> None:
    rows = [{"input": f"q{place}", "out": "yes" if place % 5 else "no"} for place in range(40)]
    Path("d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("s.py").write_text("def polite(output):\n    return 1.0 if output == 'yes' else 0.0\n")
    Path("own.yaml").write_text(
        "name: own\ndataset: d.jsonl\ntarget: {type: recorded, column: out}\n"
        "scorers: [{type: python, function: 's.py:polite'}]\ngates: [{metric: polite, min: 0.7, confidence: 0.95}]\n"
    )
    evalrun("own.yaml", "-q")
    (folder,) = Path("runs/own").iterdir()
    (then,) = json.loads((folder / "metrics.json").read_text())["gates"]
    _, (now,) = gates("gate", "last")
    assert {name: now[name] for name in ("verdict", "low", "high", "gate_low")} == {
        name: then[name] for name in ("verdict", "low", "high", "gate_low")
    }


@pytest.mark.parametrize("command", [("show",), ("gate",)])
def test_details_of_gates_are_shown_with_v(command: tuple[str, ...]) -> None:
    rows = [{"input": f"q{place}", "expected": "yes", "out": "yes" if place % 5 else "no"} for place in range(40)]
    Path("d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("own.yaml").write_text(
        "name: own\ndataset: d.jsonl\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
        "gates: [{metric: exact_match, min: 0.75, confidence: 0.95}]\n"
    )
    evalrun("own.yaml", "-q")
    short, long = (evalrun(*command, *more).stdout for more in ((), ("-v",)))
    assert "-v shows the details" in short and "80%" not in short
    assert "-v shows the details" not in long and "with 80%" in long and "one-sided 95% bounds" in long
