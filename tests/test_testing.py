"""A suite as a pytest test: it fails with the output of the command line, and imports nothing until it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import evalrunner
from tests.fakes.command import ROOT, command_env
from tests.fakes.command import evalrun as command_line

SUITE = """\
name: sums
dataset:
  rows:
    - {input: "2+2?", expected: "4", out: "4"}
    - {input: "3+3?", expected: "6", out: "5"}
    - {input: "4+4?", expected: "8", out: EMPTY}
target: {type: recorded, column: out}
scorers: [exact_match]
gates: [exact_match >= 0.3]
"""
TESTS = """\
import evalrunner


def test_it_adds():
    evalrunner.check("sums.yaml")
"""


def write(gate: str = "exact_match >= 0.3", third: str = "'8'", tests: str = TESTS) -> None:
    Path("sums.yaml").write_text(SUITE.replace("exact_match >= 0.3", gate).replace("EMPTY", third))
    Path("test_sums.py").write_text(tests)


def run_pytest(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "evalrunner.testing", "-q", *args]
    env = command_env({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""})
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def stable_lines(text: str) -> list[str]:
    """The lines of a text without those that differ between two runs of a suite."""
    lines = [line.removeprefix("E").strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("report ") and " samples in " not in line]


def test_a_passing_suite_is_a_passing_test() -> None:
    write()
    done = run_pytest()
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_failing_suite_fails_with_the_output_of_the_command_line() -> None:
    write(gate="exact_match >= 0.9")
    done = run_pytest()
    assert done.returncode == 1
    assert "CheckFailed: FAIL: exact_match is 0.667 (95% CI 0.208–0.939); the ga" in done.stdout
    expected = stable_lines(command_line("sums.yaml").stdout)
    assert [line for line in expected if line not in stable_lines(done.stdout)] == []
    assert "test_sums.py:5: CheckFailed" in done.stdout
    assert str(ROOT) not in done.stdout


def test_an_untrusted_suite_fails_with_its_reason() -> None:
    write(third="''")
    done = run_pytest()
    assert done.returncode == 1
    assert "CheckFailed: UNTRUSTED: exact_match: 0.5 on 2 of 3 answers" in done.stdout
    assert "UNTRUSTED" in done.stdout


def test_an_invalid_suite_fails_with_all_its_problems() -> None:
    write(gate="exact_mach >= 0.3, contains < 1")
    done = run_pytest()
    assert done.returncode == 1
    assert "CheckFailed: the suite is invalid; nothing was called:" in done.stdout
    assert "sums.yaml:9:" in done.stdout and "gates[0]" in done.stdout and "gates[1]" in done.stdout


def test_check_accepts_run_options_and_returns_the_result() -> None:
    write(gate="exact_match >= 0.9")
    result = evalrunner.check("sums.yaml", limit=1, output_dir=Path("elsewhere"))
    assert (result.metrics["exact_match/v1"], result.folder.parts[0]) == (1.0, "elsewhere")
    with pytest.raises(TypeError, match="no_such_option"):
        evalrunner.check("sums.yaml", no_such_option=1)


def test_the_pytest_option_sets_the_output_folder() -> None:
    write()
    done = run_pytest("--evalrun-output-dir", "out/evals")
    assert done.returncode == 0, done.stdout
    assert len(list(Path("out/evals/sums").iterdir())) == 1
    assert not Path("runs").exists()


def test_the_plugin_imports_nothing_until_a_test_needs_it() -> None:
    Path("test_plain.py").write_text(
        "import sys\n\ndef test_plain():\n"
        "    loaded = [name for name in sys.modules if name.startswith('evalrunner')]\n"
        "    assert sorted(loaded) == ['evalrunner', 'evalrunner.testing']\n"
    )
    done = run_pytest("test_plain.py")
    assert done.returncode == 0, done.stdout


def test_the_pytest_plugin_is_an_entry_point() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nevalrunner = "evalrunner.testing"\n' in text
    assert os.path.isfile(ROOT / "evalrunner" / "testing.py")
