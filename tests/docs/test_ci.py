"""The recipes of docs/ci.md, run in a git repository as a CI job runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from junitparser import JUnitXml

from tests.docs.examples import ROOT, Workplace, open_workplace, read_examples

PAGE = ROOT / "docs" / "ci.md"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
INPUT = re.compile(r"\$\{\{ (?:inputs\.(?P<name>[\w-]+)|github\.(?P<github>\w+)) \}\}")
SUITE = """\
name: qa
dataset: answers.jsonl
target: {type: recorded, column: output}
scorers: [exact_match]
gates:
  - exact_match >= 0.8
  - {metric: exact_match, baseline: main, max_drop: 0.05}
"""
ROWS = 200


def example(path: str) -> str:
    (text,) = [example.text for example in read_examples(PAGE) if (example.verb, example.rest) == ("file", path)]
    return text


class Repository:
    """A git repository with a suite; branches change its answers and target."""

    def __init__(self, folder: Path) -> None:
        self.place: Workplace = open_workplace(folder)
        (folder / "suites").unlink()
        (folder / "suites").mkdir()
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("main", wrong=[19])
        assert (
            self.run(
                "evalrun suites/qa.yaml --quiet && evalrun baseline accept last --with-outputs && rm -r runs"
            ).returncode
            == 0
        )
        self.git("add", "suites/baselines")
        self.git("commit", "--quiet", "-m", "baseline")

    def git(self, *args: str) -> None:
        env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        identity = ("-c", "user.name=A", "-c", "user.email=a@localhost")
        subprocess.run(["git", *identity, *args], cwd=self.folder, env={**os.environ, **env}, check=True, timeout=60)

    def commit(self, branch: str, *, wrong: Iterable[int], suite: str = SUITE) -> None:
        """Commit a branch on which these recorded answers are wrong."""
        if branch != "main":
            self.git("checkout", "--quiet", "-b", branch, "main")
        rows = [
            {
                "id": f"q{place}",
                "input": f"{place}+1?",
                "expected": str(place + 1),
                "output": str(place + (place not in wrong)),
            }
            for place in range(ROWS)
        ]
        (self.folder / "suites" / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (self.folder / "suites" / "qa.yaml").write_text(suite)
        self.git("add", "suites")
        self.git("commit", "--quiet", "-m", branch)

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script with the shell options of GitHub and GitLab."""
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.place.env, "CI": "true", **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run_action(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        """Run the script of the action's last step with these inputs, without the installation."""
        given = {name: str(declared.get("default", "")) for name, declared in ACTION["inputs"].items()} | inputs
        github = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(self.folder), "GITHUB_STEP_SUMMARY": str(self.folder / "step.md")}  # fmt: skip
        (step,) = [step for step in ACTION["runs"]["steps"] if step.get("name") == "Run the suites"]
        env = {name: filled(value, given) for name, value in step["env"].items()}
        return self.run(step["run"], **env, **github)


def filled(text: str, inputs: dict[str, str]) -> str:
    return INPUT.sub(lambda match: inputs[match["name"]] if match["name"] else f"<{match['github']}>", text)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def workflow_inputs() -> dict[str, str]:
    """The inputs that the example workflow passes to the action."""
    steps = yaml.safe_load(example(".github/workflows/evals.yml"))["jobs"]["evals"]["steps"]
    (with_,) = [step["with"] for step in steps if step["uses"].startswith("OWNER/evalrun@")]
    assert set(with_) <= set(ACTION["inputs"])
    return dict(with_)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_workflow_fails_on_a_regression_passes_without_one_and_exits_3_on_a_dead_endpoint(
    repository: Repository,
) -> None:
    inputs = workflow_inputs()
    repository.commit("equal", wrong=[3])
    assert repository.run_action(**inputs).returncode == 0
    repository.commit("worse", wrong=range(60))
    red = repository.run_action(**inputs)
    assert red.returncode == 1, red.stderr
    assert [line.split(" is ")[0] for line in red.stdout.splitlines() if line.startswith("::")] == [
        "::error file=suites/qa.yaml,line=6,title=qa%3A fail::exact_match >= 0.8",
        "::error file=suites/qa.yaml,line=7,title=qa%3A fail::exact_match at most 0.05 worse than main",
    ]
    summary = (repository.folder / "step.md").read_text(encoding="utf-8")
    assert " worse than main (0.995), n=200 |" in summary
    got_worse = summary.rpartition("### Regressions\n\n")[2].splitlines()[0]
    assert got_worse == (
        "<details><summary><code>q0</code> · <code>exact_match</code> 0.000 (was 1.000)</summary><b>input</b><pre>0+1?</pre>"
        "<b>expected</b><pre>1</pre><b>baseline output</b><pre>1</pre><b>output</b><pre>0</pre></details>"
    )
    dead = f"target: {{model: m, base_url: 'http://127.0.0.1:{closed_port()}/v1'}}\nprompt: '{{{{ input }}}}'\nrun: {{retries: 0}}"
    repository.commit("dead", wrong=[19], suite=SUITE.replace("target: {type: recorded, column: output}", dead))
    down = repository.run_action(**inputs)
    assert down.returncode == 3, down.stderr
    assert "the provider failed" in down.stdout or "aborted" in down.stdout
    summary = (repository.folder / "step.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \S+ (\w+): qa$", summary, re.MULTILINE) == ["PASS", "FAIL", "UNTRUSTED"]
    assert "The result is untrusted and says nothing about the model" in summary


def test_action_inputs_cannot_inject_shell_commands(repository: Repository) -> None:
    for text in ("$(touch owned)", "`touch owned`", "; touch owned", "'; touch owned #", "\ntouch owned\n", "${IFS}x"):
        for inputs in ({"suites": f"suites/qa.yaml {text}"}, {"suites": "suites/qa.yaml", "args": f"--target {text}"}):
            assert repository.run_action(**inputs).returncode != 0
    assert not (repository.folder / "owned").exists()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_the_action_passes_options_and_several_suites(repository: Repository) -> None:
    (repository.folder / "suites" / "b c.yaml").write_text(SUITE.replace("name: qa", "name: other"))
    done = repository.run_action(
        suites="suites/qa.yaml\n'suites/b c.yaml'",
        args="--quiet --where 'id=[q0, q1]' --set 'gates=[exact_match >= 0.5]'",
    )
    assert [line.split(" in ")[0] for line in done.stdout.splitlines()] == ["PASS qa: 2 rows", "PASS other: 2 rows"]


def test_an_unclosed_quote_in_an_action_input_exits_2(repository: Repository) -> None:
    done = repository.run_action(suites="suites/qa.yaml", args="--set 'gates=[]")
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "::error title=evalrun::cannot parse suites or args: No closing quotation\n"


def test_the_action_installs_its_own_checkout_and_uses_every_input() -> None:
    steps = ACTION["runs"]["steps"]
    (install,) = [step for step in steps if step.get("name") == "Install evalrun"]
    assert install["env"]["ACTION_PATH"] == "${{ github.action_path }}"
    words = shlex.split(install["run"].replace('"$ACTION_PATH${INPUT_EXTRAS:+[$INPUT_EXTRAS]}"', "PATH"))
    assert words == ["python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "PATH"]
    used = {result["name"] for result in INPUT.finditer(json.dumps(steps)) if result["name"]}
    assert used | {"artifact"} == set(ACTION["inputs"])


def test_the_comment_step_writes_a_comment_within_the_size_limit_of_github(repository: Repository) -> None:
    (step,) = yaml.safe_load(example("comment-step.yml"))
    repository.run_action(**workflow_inputs())
    message = repository.folder / ".bin" / "gh"
    message.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > gh.txt\ncp "$5" said.md\n')
    message.chmod(0o755)
    done = repository.run(step["run"], NUMBER="7", GH_TOKEN="none")
    assert done.returncode == 0, done.stderr
    assert (repository.folder / "gh.txt").read_text().split() == ["pr", "comment", "7", "--body-file", "comment.md"]
    assert (repository.folder / "said.md").read_text(encoding="utf-8").startswith("## ✅ PASS: qa\n")


def test_the_gitlab_job_writes_its_junit_report_to_the_declared_path(repository: Repository) -> None:
    job: dict[str, Any] = yaml.safe_load(example(".gitlab-ci.yml"))["evals"]
    repository.commit("worse", wrong=range(60))
    done = repository.run("\n".join(job["script"]))
    assert (done.returncode, 1 in job["allow_failure"]["exit_codes"]) == (1, False)
    (report,) = repository.folder.glob(job["artifacts"]["reports"]["junit"])
    assert (JUnitXml.fromfile(str(report)).tests, JUnitXml.fromfile(str(report)).failures) == (2, 2)


def test_the_jenkins_pipeline_writes_its_junit_report_to_the_declared_path(repository: Repository) -> None:
    text = example("Jenkinsfile")
    (command,) = re.findall(r"sh '(evalrun [^']*)'", text)
    (pattern,) = re.findall(r"junit '([^']*)'", text)
    done = repository.run(command)
    assert done.returncode == 0, done.stderr
    (report,) = repository.folder.glob(pattern)
    assert (JUnitXml.fromfile(str(report)).tests, JUnitXml.fromfile(str(report)).failures) == (2, 0)
