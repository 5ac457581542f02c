"""The recipes of docs/ci.md, run in a git repository as a CI job runs them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from junitparser import JUnitXml

from tests.docs.examples import ROOT, Workplace, open_workplace, read_examples
from tests.fakes.action import ACTION, Job, Runner
from tests.fakes.github import REPOSITORY, FakeGitHub

PAGE = ROOT / "docs" / "ci.md"
WORKFLOWS = (".github/workflows/evals.yml", ".github/workflows/nightly.yml", ".github/workflows/matrix.yml", ".github/workflows/forks.yml")  # fmt: skip
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
PULL = {"pull_request": {"number": 7, "head": {"sha": "abcdef0123456789", "repo": {"full_name": REPOSITORY}}}}


def example(path: str) -> str:
    (text,) = [example.text for example in read_examples(PAGE) if (example.verb, example.rest) == ("file", path)]
    return text


class Repository:
    """A git repository with a suite; branches change its answers and target."""

    def __init__(self, folder: Path) -> None:
        self.place: Workplace = open_workplace(folder)
        (folder / "suites").unlink()
        (folder / "suites").mkdir()
        self.folder, self.jobs = folder, 0
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

    def run_action(self, github: FakeGitHub, **inputs: str) -> Job:
        """Run the action in a job of the checked-out branch."""
        self.jobs += 1
        temp = self.folder.parent / f"{self.folder.name}-{self.jobs}"
        runner = Runner(self.folder, temp, github, event=PULL, env=self.place.env, run_id=100 * self.jobs)
        return runner.run(**inputs)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def workflow_inputs(path: str = WORKFLOWS[0]) -> dict[str, str]:
    """The inputs that an example workflow passes to the action."""
    steps = yaml.safe_load(example(path))["jobs"]["evals"]["steps"]
    (with_,) = [step["with"] for step in steps if step["uses"].startswith("OWNER/evalrun@")]
    assert set(with_) <= set(ACTION["inputs"])
    return {
        name.replace("-", "_"): str(value).lower() if value is True else str(value) for name, value in with_.items()
    }


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_the_workflow_fails_on_a_regression_passes_without_one_and_warns_of_a_dead_endpoint(
    repository: Repository,
) -> None:
    inputs = workflow_inputs()
    with FakeGitHub() as github:
        repository.commit("equal", wrong=[3])
        green = repository.run_action(github, **inputs)
        assert green.code == 0, green.log
        repository.commit("worse", wrong=range(60))
        red = repository.run_action(github, **inputs)
        assert red.code == 1, red.log
        assert [re.split(" is |: ", line)[0] for line in red.log.splitlines() if line.startswith("::error")] == [
            "::error file=suites/qa.yaml,line=6,title=qa%3A fail::exact_match >= 0.8",
            "::error file=suites/qa.yaml,line=7,title=qa%3A fail::exact_match at most 0.05 worse than main",
        ]
        assert " worse than main (0.995), n=200 |" in red.summary
        got_worse = red.summary.rpartition("### Regressions\n\n")[2].splitlines()[0]
        assert got_worse == (
            "<details><summary><code>q0</code> · <code>exact_match</code> 0.000 (was 1.000)</summary><b>input</b><pre>0+1?</pre>"
            "<b>expected</b><pre>1</pre><b>baseline output</b><pre>1</pre><b>output</b><pre>0</pre></details>"
        )
        dead = f"target: {{model: m, base_url: 'http://127.0.0.1:{closed_port()}/v1'}}\nprompt: '{{{{ input }}}}'\nrun: {{retries: 0}}"
        repository.commit("dead", wrong=[19], suite=SUITE.replace("target: {type: recorded, column: output}", dead))
        down = repository.run_action(github, **inputs)
        assert (down.code, down.outputs["exit-code"], down.outputs["verdict"]) == (0, "3", "untrusted"), down.log
        assert "200 of 200 answers failed" in down.summary or "aborted" in down.summary
        assert [comment["body"].splitlines()[1] for comment in github.comments] == ["### ⚠️ evalrun: qa is untrusted"]
    assert github.problems == []


@pytest.mark.parametrize("path", WORKFLOWS)
def test_workflows_are_valid_by_the_schema_of_github_and_name_inputs_of_the_action(path: str, tmp_path: Path) -> None:
    assert workflow_inputs(path)["suites"].startswith("suites/")
    (tmp_path / "workflow.yml").write_text(example(path))
    check = [
        str(Path(sys.executable).with_name("check-jsonschema")),
        "--builtin-schema",
        "vendor.github-workflows",
        "workflow.yml",
    ]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tables_of_inputs_and_outputs_are_those_of_the_action() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for title, declared in (("input", ACTION["inputs"]), ("output", ACTION["outputs"])):
        table = text[text.index(f"| {title} |") :].partition("\n\n")[0].splitlines()[2:]
        assert [line.split("`")[1] for line in table] == list(declared)
    defaults = {line.split("|")[1].strip(" `"): line.split("|")[2].strip(" `") for line in text[text.index("| input |") :].partition("\n\n")[0].splitlines()[2:]}  # fmt: skip
    assert defaults == {name: "required" if each.get("required") else str(each["default"]) for name, each in ACTION["inputs"].items()}  # fmt: skip


def test_the_gitlab_job_writes_its_junit_report_to_the_declared_path(repository: Repository) -> None:
    job: dict[str, Any] = yaml.safe_load(example(".gitlab-ci.yml"))["evals"]
    repository.commit("worse", wrong=range(60))
    done = repository.run("\n".join(job["script"]), EVALRUN_CACHE_DIR="cache")
    assert (done.returncode, 1 in job["allow_failure"]["exit_codes"]) == (1, False)
    assert repository.run("\n".join(job["after_script"])).returncode == 0
    assert (repository.folder / "comment.md").read_text(encoding="utf-8").startswith("### ❌ evalrun: qa failed\n")
    (report,) = repository.folder.glob(job["artifacts"]["reports"]["junit"])
    assert (JUnitXml.fromfile(str(report)).tests, JUnitXml.fromfile(str(report)).failures) == (2, 2)


def test_the_jenkins_pipeline_writes_its_junit_report_to_the_declared_path(repository: Repository) -> None:
    text = example("Jenkinsfile")
    (command,) = re.findall(r"script: '(evalrun [^']*)'", text)
    (pattern,) = re.findall(r"junit testResults: '([^']*)'", text)
    done = repository.run(command)
    assert done.returncode == 0, done.stderr
    (report,) = repository.folder.glob(pattern)
    assert (JUnitXml.fromfile(str(report)).tests, JUnitXml.fromfile(str(report)).failures) == (2, 0)
