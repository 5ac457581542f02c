"""`evalrun` alone, `evalrun .` and completion find suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner.suite.discovery import find_suites
from tests.fakes.command import evalrun

SUITE = """\
name: NAME
dataset: {rows: [{input: 1+1?, expected: "2", out: "2"}]}
target: {type: recorded, column: out}
scorers: [exact_match]
"""


def write(path: str, text: str = SUITE) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text.replace("NAME", Path(path).stem.split(".")[0]), encoding="utf-8")


def test_suites_are_found_by_ending_and_in_their_folders() -> None:
    for path in ("a.eval.yaml", "deep/er/b.eval.yml", "evals/c.yaml", "suites/sub/d.yml"):
        write(path)
    for path in ("plain.yaml", "runs/x.eval.yaml", ".hidden/y.eval.yaml", "node_modules/z.eval.yaml", "deep/e.yaml"):
        write(path)
    write("suites/proxy_config.yaml", "model_list: []\n")
    found = [str(path) for path in find_suites(Path())]
    assert found == ["a.eval.yaml", "deep/er/b.eval.yml", "evals/c.yaml", "suites/sub/d.yml"]
    assert [str(path) for path in find_suites(Path("deep"), named=True)] == ["deep/e.yaml", "deep/er/b.eval.yml"]


def test_evalrun_alone_lists_the_suites_and_does_not_pass() -> None:
    write("a.eval.yaml")
    write("evals/b.yaml")
    done = evalrun()
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines() == [
        "evalrun a.eval.yaml",
        "evalrun evals/b.yaml",
        "all 2: evalrun .",
        "all commands: evalrun --help",
    ]
    assert evalrun("list", "suites").stdout == done.stdout.removesuffix("all commands: evalrun --help\n")


def test_a_folder_runs_its_suites() -> None:
    write("a.eval.yaml")
    write("evals/b.yaml")
    done = evalrun(".", "-q")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["DONE a", "DONE b"], done.stderr
    assert evalrun("evals", "-q").stdout.startswith("DONE b: ")
    assert evalrun("validate", "evals").stdout.startswith("evals/b.yaml: ok")
    assert evalrun("plan", "evals", "--offline").stdout.startswith("b: 1 sample")


@pytest.mark.parametrize("args", [[], ["."]])
def test_without_a_suite_the_way_to_write_one_is_shown(args: list[str]) -> None:
    done = evalrun(*args)
    assert done.returncode == 2
    assert "write one: evalrun init" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["init"], ["cache", "info"], ["baseline", "accept"]])
def test_h_is_help(command: list[str]) -> None:
    short, long = evalrun(*command, "-h"), evalrun(*command, "--help")
    assert (short.returncode, short.stdout) == (0, long.stdout)


def complete(*words: str) -> list[str]:
    env = {"_EVALRUN_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = evalrun(env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_completion_knows_commands_suites_options_and_runs() -> None:
    write("a.eval.yaml")
    write("evals/b.yaml")
    assert complete("evalrun", "do") == ["doctor"]
    assert complete("evalrun", "a") == ["a.eval.yaml"]
    assert complete("evalrun", "run", "ev") == ["evals/b.yaml"]
    assert complete("evalrun", "a.eval.yaml", "--lim") == ["--limit"]
    assert complete("evalrun", "list", "sc") == ["scorers"]
    evalrun("a.eval.yaml", "-q")
    (run,) = [path.parent.name for path in Path("runs").glob("*/*/run.json")]
    assert complete("evalrun", "show", run[:4]) == [run]
    assert "evalrun" in evalrun("--show-completion", env={"SHELL": "/bin/bash"}).stdout
