"""Annotations on the lines of a suite, the summary of a step, and a log in which nobody else gives commands."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import GateResult
from evalrunner.formatting import COMMAND, without_commands
from evalrunner.reports.github import STEP_BYTES, command, gate_annotations, room_for_summary
from tests.fakes.command import evalrun
from tests.reports.test_markdown import GATE, view

SUITE = """\
name: sums
dataset: rows.jsonl
target: {type: recorded, column: out}
scorers: [exact_match]
gates:
  - exact_match >= 0.5
"""
ACTIONS = {"GITHUB_ACTIONS": "true", "CI": "true"}


def write(*answers: str, gate: str = "exact_match >= 0.5", name: str = "sums.yaml") -> str:
    rows = [{"input": f"{place}+0?", "expected": str(place), "out": answer} for place, answer in enumerate(answers)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path(name).write_text(SUITE.replace("exact_match >= 0.5", gate).replace("sums", Path(name).stem))
    return name


def env(**more: str) -> dict[str, str]:
    return {**ACTIONS, "GITHUB_WORKSPACE": str(Path.cwd()), **more}


def test_command_is_escaped_for_the_runner() -> None:
    assert command("error", "a, b: 5 %", "50 % of\nx: y, z", file="a,b.yaml", line=3) == (
        "::error file=a%2Cb.yaml,line=3,title=a%2C b%3A 5 %25::50 %25 of x: y, z"
    )
    assert command("warning", "t", "m", line=3) == "::warning title=t::m"


def gate(verdict: Any, *, blocks: bool = True, place: int = 0) -> GateResult:
    return replace(GATE, gate=f"g{place}", verdict=verdict, blocks=blocks, reason="why", line=place or None)


@pytest.mark.parametrize(
    ("verdict", "blocks", "kind"),
    [
        ("fail", True, "error"),
        ("untrusted", True, "error"),
        ("inconclusive", True, "error"),
        ("inconclusive", False, "warning"),
        ("no_baseline", True, "error"),
        ("no_baseline", False, "notice"),
        ("pass", True, None),
    ],
)
def test_gate_that_fails_the_run_is_an_error_annotation(verdict: str, blocks: bool, kind: str | None) -> None:
    message = list(gate_annotations([view(gates=(gate(verdict, blocks=blocks),))], Path()))
    word = verdict.replace("_", " ")
    assert message == ([] if kind is None else [f"::{kind} file=suites/qa.yaml,title=qa%3A {word}::g0 is 0.500: why"])


def test_tenth_annotation_counts_the_rest() -> None:
    gates = (*[gate("untrusted", place=place) for place in range(1, 13)], gate("fail", place=99))
    message = list(gate_annotations([view(gates=gates), view(gates=(gate("inconclusive", blocks=False),))], Path()))
    assert len(message) == 11
    assert message[0] == "::error file=suites/qa.yaml,line=99,title=qa%3A fail::g99 is 0.500: why"
    assert message[9] == "::error title=evalrun::and 4 more; the log and the summary list all"
    assert message[10].startswith("::warning ")


def test_suite_outside_the_checkout_is_annotated_without_a_line() -> None:
    (message,) = gate_annotations([view(suite_file=Path("/elsewhere/qa.yaml"))], Path("/checkout"))
    assert message == "::error title=qa%3A fail::exact_match >= 0.8 is 0.500: misses the threshold"


def test_failed_gate_is_annotated_at_its_line() -> None:
    done = evalrun(write("0", "no", "no"), env=env())
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "::error file=sums.yaml,line=6,title=sums%3A fail::exact_match >= 0.5 is 0.333: misses the threshold; "
        "threshold is inside the 95%25 CI: not conclusive"
    )
    (folder,) = Path("runs/sums").iterdir()
    assert {"summary.md", "junit.xml"} <= {path.name for path in folder.iterdir()}


def test_no_annotations_and_no_ci_files_outside_ci() -> None:
    done = evalrun(write("no"), env={"CI": "false"})
    assert "::" not in done.stdout + done.stderr
    (folder,) = Path("runs/sums").iterdir()
    assert not (folder / "summary.md").exists()


def test_json_on_stdout_stays_json() -> None:
    done = evalrun(write("##[error]x"), "--json", env=env())
    assert json.loads(done.stdout)["verdict"] == "fail"
    assert done.stderr.startswith("::error file=sums.yaml,line=6")


def test_suite_error_is_annotated_at_its_line() -> None:
    done = evalrun(write("0", gate="exact_mach >= 0.5"), env=env())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("::error file=sums.yaml,line=6,title=suite::gates[0]")


def test_suites_share_the_step_summary_within_its_limit() -> None:
    step = Path("step.md")
    step.write_text("before\n")
    names = [write(*["no " + "word " * 2_000] * 200, name=f"s{place}.yaml") for place in range(4)]
    done = evalrun(*names, "-q", env=env(GITHUB_STEP_SUMMARY=str(step)))
    assert done.returncode == 1, done.stderr
    text = step.read_text(encoding="utf-8")
    assert text.startswith("before\n## ❌ FAIL: s0\n")
    assert text.count("## ❌ FAIL: s") == 4
    assert len(text.encode()) < STEP_BYTES
    assert room_for_summary(step) > 0


def test_full_step_summary_is_a_note() -> None:
    step = Path("step.md")
    step.write_bytes(b"x" * (STEP_BYTES - 1_000))
    done = evalrun(write("0"), env=env(GITHUB_STEP_SUMMARY=str(step)))
    assert done.returncode == 0
    assert "note: a report could not be written: the step summary is full" in done.stdout
    assert step.stat().st_size == STEP_BYTES - 1_000


def test_unwritable_step_summary_is_a_note() -> None:
    done = evalrun(write("0"), env=env(GITHUB_STEP_SUMMARY="no/such/folder/step.md"))
    assert done.returncode == 0
    assert "note: a report could not be written" in done.stdout
    (folder,) = Path("runs/sums").iterdir()
    assert (folder / "summary.md").exists() and (folder / "metrics.json").exists()


def test_reevaluated_gates_are_annotated_and_summarized() -> None:
    write("0", "1", "no")
    assert evalrun("sums.yaml", "-q").returncode == 0
    write("0", "1", "no", gate="exact_match >= 0.9")
    done = evalrun("gate", "last", env=env(GITHUB_STEP_SUMMARY="step.md"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(
        "::error file=sums.yaml,line=6,title=sums%3A fail::exact_match >= 0.9"
    )
    assert Path("step.md").read_text(encoding="utf-8").startswith("## ❌ FAIL: sums\n")
    refused = evalrun("gate", "last", "--json", env=env(GITHUB_STEP_SUMMARY="no/step.md"))
    assert json.loads(refused.stdout)["verdict"] == "fail"
    assert "note: a report could not be written" in refused.stderr


COMMANDS = (
    "::error::owned",
    "\n::add-mask::x\n",
    "##[error]owned",
    " ##[group]x",
    "##vso[task.complete result=Failed;]",
    "##teamcity[x]",
    "x" * 29 + "::error::owned",
    "\r\n::stop-commands::t",
)


def test_model_output_cannot_issue_workflow_commands() -> None:
    name = write(*COMMANDS)
    for args in (
        (name,),
        (name, "--debug"),
        ("show", "last"),
        ("show", "last", "--failed"),
        ("plan", name, "--show", "9"),
    ):
        done = evalrun(*args, env=env())
        for line in (done.stdout + done.stderr).splitlines():
            if not line.startswith("::error file=sums.yaml,line=6"):
                assert not re.match(r"\s*::", line), (args, line)
                assert not re.search(r"##\w*\[", line), (args, line)


def test_exceptions_cannot_issue_workflow_commands() -> None:
    write("0")
    Path("bad.py").write_text("def answer(input):\n    raise ValueError('a\\n::error::owned ##[error]owned')\n")
    Path("sums.yaml").write_text(
        SUITE.replace("{type: recorded, column: out}", "{type: python, function: 'bad.py:answer'}")
    )
    done = evalrun("sums.yaml", "--debug", env=env())
    assert done.returncode == 3
    result = [line for line in (done.stdout + done.stderr).splitlines() if re.match(r"\s*::", line) or "##[" in line]
    assert [line.split(",")[0] for line in result] == ["::error file=sums.yaml"] * 2 + ["::notice file=sums.yaml"]
    assert "0 of 1 answer scored, 1 error (exception in code); untrusted" in result[2]


def test_workflow_commands_are_broken_anywhere_in_a_text() -> None:
    for text in COMMANDS:
        assert COMMAND.search(without_commands(text)) is None
    assert without_commands("a:b ## c [d]") == "a:b ## c [d]"
