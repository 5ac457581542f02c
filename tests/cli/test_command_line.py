"""The command line in a subprocess: stdout, stderr and exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.fakes.command import evalrun

SUITE = """\
name: sums
dataset:
  rows:
    - {input: "2+2?", expected: "4", out: "4"}
    - {input: "3+3?", expected: "6", out: "The answer is 6."}
    - {input: "4+4?", expected: ["8", eight], out: "nine"}
    - {input: "5+5?", out: ten}
target: {type: recorded, column: out}
scorers: [exact_match, contains]
"""


def write(text: str, name: str = "sums.yaml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_suite_path_alone_runs_the_suite() -> None:
    done = evalrun(write(SUITE + "gates: [contains >= 0.6]\n"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS  sums · recorded · 4 samples in ")
    assert re.search(r"contains +0\.667 +0\.208–0\.939 .*1 \(25%\)", done.stdout)
    assert "4+4?" in done.stdout and "lowest scores" in done.stdout
    (folder,) = Path("runs/sums").iterdir()
    assert done.stdout.splitlines()[-1] == f"report  {folder}/report.html"
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "metrics.json",
        "report.html",
        "rows.jsonl",
        "run.json",
        "table.csv",
    ]


@pytest.mark.parametrize(
    ("gate", "code", "word"),
    [("contains >= 0.6", 0, "PASS"), ("exact_match >= 0.9", 1, "FAIL"), ("latency < 1", 1, "FAIL")],
)
def test_exit_code_is_that_of_the_gates(gate: str, code: int, word: str) -> None:
    done = evalrun("run", write(SUITE + f"gates: ['{gate}']\n"), "--quiet")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (code, word, "")


def test_no_gates_option_skips_the_verdict() -> None:
    done = evalrun("--no-gates", "-q", write(SUITE + "gates: [exact_match >= 0.9]\n"))
    assert (done.returncode, done.stdout.split()[0]) == (0, "DONE")
    assert evalrun("show", "last").stdout.startswith("sums · recorded · 4 samples in ")
    listed = evalrun("runs").stdout
    assert "DONE" in listed
    assert "pass" not in listed.lower()


def test_json_option_prints_only_json() -> None:
    name = write(SUITE)
    one = evalrun(name, "--json")
    assert one.stderr == ""
    metrics = json.loads(one.stdout)
    assert metrics["targets"]["recorded"]["metrics"][0]["value"] == pytest.approx(1 / 3)
    (folder,) = Path("runs/sums").iterdir()
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    both = json.loads(evalrun("--json", name, write(SUITE.replace("sums", "more"), "more.yaml")).stdout)
    assert [result["suite"] for result in both] == ["sums", "more"]


def test_output_of_user_functions_is_not_part_of_stdout() -> None:
    Path("own.py").write_text("def answer(sample):\n    print('noise')\n    return 'nine'\n")
    name = write(SUITE.replace("{type: recorded, column: out}", "{type: python, function: 'own.py:answer'}"))
    done = evalrun(name, "--json")
    assert list(json.loads(done.stdout)["targets"]) == ["answer"]
    assert "noise" in done.stderr
    output = evalrun(name)
    assert "noise" not in output.stdout and output.stdout.startswith("sums · answer · ")


def test_mistyped_command_is_not_a_suite() -> None:
    done = evalrun("shwo", "last")
    assert done.returncode == 2
    assert "No such command 'shwo'. Did you mean 'show'?" in done.stderr


def test_missing_suite_is_one_error_line() -> None:
    write(SUITE)
    done = evalrun("sum.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "evalrun: sum.yaml: file not found; did you mean 'sums.yaml'?\n"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--limit", "'x' is not a whole number."),
        ("--max-cost", "'x' is not a number."),
        ("--max-kib", "No such option: --max-kib"),
    ],
)
def test_wrong_option_is_explained_in_words(option: str, message: str) -> None:
    done = evalrun(write(SUITE), option, "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.JSONL"])
def test_data_file_in_place_of_a_suite_is_named_as_such(name: str) -> None:
    Path(name).write_bytes(b"frage;antwort\nWie hei\xdft er?;Max\n")
    done = evalrun(name)
    assert (done.returncode, done.stdout) == (2, "")
    message = f"evalrun: {name}: is a data file, not a suite; write a suite for it: evalrun init --from {name}\n"
    assert done.stderr == message


def test_problems_of_all_suites_are_reported_before_any_call() -> None:
    good = write(SUITE)
    done = evalrun(good, write(SUITE.replace("exact_match", "exact_mach"), "bad.yaml"))
    assert done.returncode == 2
    assert "bad.yaml:9:11: scorers[0]: unknown scorer 'exact_mach'; did you mean 'exact_match'?" in done.stderr
    assert not Path("runs").exists()


def test_output_path_of_several_suites_needs_a_placeholder() -> None:
    one, two = write(SUITE), write(SUITE.replace("sums", "more"), "more.yaml")
    refused = evalrun(one, two, "-o", "out.csv")
    assert (refused.returncode, "the path needs {suite}" in refused.stderr) == (2, True)
    assert evalrun(one, two, "-q", "-o", "{suite}.csv", "-o", "m/{suite}.json").returncode == 0
    assert {path.name for path in Path().iterdir()} >= {"sums.csv", "more.csv", "m"}


def test_suites_with_the_same_name_do_not_overwrite_each_other() -> None:
    done = evalrun(write(SUITE), write(SUITE, "again.yaml"), "-o", "{suite}.csv")
    assert done.returncode == 2
    assert "-o '{suite}.csv': two suites are called 'sums', so one would overwrite the other" in done.stderr
    assert not Path("runs").exists()


def test_unknown_output_format_is_refused_before_the_run() -> None:
    done = evalrun(write(SUITE), "-o", "report.htm")
    assert done.returncode == 2
    assert "did you mean '.html'?" in done.stderr
    assert not Path("runs").exists()


def test_options_are_accepted_before_and_after_the_suite() -> None:
    name = write(SUITE)
    for args in (["-j", "2", name, "--limit", "2", "-q"], ["run", "-q", name, "--where", "out=[nine, ten]"]):
        done = evalrun(*args)
        assert re.match("DONE sums: .* · 2 samples in ", done.stdout), done.stdout + done.stderr


def test_show_prints_a_stored_run() -> None:
    evalrun(write(SUITE), "-q")
    output = evalrun("show")
    assert output.returncode == 0
    assert "4 samples in" in output.stdout and "lowest scores" in output.stdout
    failed = evalrun("show", "last", "--failed")
    assert "failed rows of recorded (" in failed.stdout
    assert "4+4?" in failed.stdout and "2+2?" not in failed.stdout
    listed = evalrun("runs")
    assert re.search(r"sums +DONE +exact_match 0\.333 .* 4/4 ", listed.stdout)
    assert evalrun("show", "nope").returncode == 2


def test_plan_and_validate_call_no_model() -> None:
    name = write(SUITE + "gates: [contains >= 0.6]\n")
    assert evalrun("validate", name).stdout == (
        "sums.yaml: ok (4 samples, 1 target, 2 scorers, 1 gate)\n"
        "  note: 1 of 4 samples has no expected answer, so exact_match and contains skip it (first: '5+5?')\n"
    )
    assert "sums: 4 samples × 1 target = 4 rows" in evalrun("plan", name).stdout
    assert not Path("runs").exists()


def test_dataset_is_read_from_standard_input() -> None:
    text = SUITE.split("dataset:", maxsplit=1)[0] + "dataset: '-'\n" + SUITE[SUITE.index("target:") :]
    done = evalrun(write(text), "-q", stdin='{"input": "1+1?", "expected": "2", "out": "2"}\n')
    assert re.match("DONE sums: .* · 1 sample in ", done.stdout), done.stderr
    (folder,) = Path("runs/sums").iterdir()
    assert (folder / "stdin.jsonl").is_file()


def test_version_names_the_distribution() -> None:
    assert re.fullmatch(r"evalrunner \d+\.\d+\.\d+\n", evalrun("--version").stdout)


def test_gates_of_unselected_targets_are_dropped() -> None:
    text = SUITE.replace(
        "target: {type: recorded, column: out}",
        "targets: [{type: recorded, column: out, name: a}, {type: recorded, column: expected, name: b}]",
    )
    name = write(text + "gates: [{metric: contains, min: 0.99, target: b}, {metric: contains, min: 0.5, target: a}]\n")
    done = evalrun(name, "--target", "a", "-q")
    assert (done.returncode, done.stdout.split()[0]) == (0, "PASS"), done.stderr


def test_misspelled_scorer_is_reported_once() -> None:
    done = evalrun(write(SUITE.replace("exact_match", "exact_mach") + "gates: [exact_match >= 0.5]\n"))
    assert done.stderr == (
        "evalrun: sums.yaml:9:11: scorers[0]: unknown scorer 'exact_mach'; did you mean 'exact_match'?\n"
        "    scorers: [exact_mach, contains]\n"
        "              ^\n"
    )
