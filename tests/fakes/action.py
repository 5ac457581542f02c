"""Runs the steps of action.yml in order, as GitHub's runner does: what is tested is what ships.

Shell steps run as they are, with `python` from a shim that installs nothing. Actions of GitHub are played: a cache and
artifacts that last from one job to the next.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.attacks.spellings import find_canaries, search_folder
from tests.fakes.command import ROOT
from tests.fakes.github import REPOSITORY, TOKEN, FakeGitHub

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
EXPRESSION = re.compile(r"\$\{\{ *(.+?) *\}\}")
WORD = re.compile(r"'[^']*'|[\w.()-]+|==|!=|&&|\|\|")
SHIM = """#!/bin/sh
case "$*" in *"-m pip install"*) echo "$@" >> "$INSTALLED"; exit 0;; esac
exec {python} "$@"
"""


@dataclass
class Job:
    """How a job with the action ended."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str
    ran: list[str]


@dataclass
class Runner:
    """A runner for jobs in one checkout. `cache` and the artifacts of `github` last from one job to the next."""

    checkout: Path
    temp: Path
    github: FakeGitHub
    event: dict[str, Any] = field(default_factory=dict)
    event_name: str = "pull_request"
    env: dict[str, str] = field(default_factory=dict)
    cache: dict[str, bytes] = field(default_factory=dict)
    run_id: int = 100

    def run(self, **inputs: str) -> Job:
        """Run the action in a job of its own. Names of inputs have underscores for dashes."""
        self.run_id += 1
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert set(given) <= set(ACTION["inputs"])
        values = {name: str(declared.get("default", "")) for name, declared in ACTION["inputs"].items()} | given
        job = _RunningJob(self, values)
        for number, step in enumerate(ACTION["runs"]["steps"]):
            job.step(number, step)
        outputs = {name: job.fill(declared["value"]) for name, declared in ACTION["outputs"].items()}
        summary = job.folder / "summary.md"
        text = summary.read_text(encoding="utf-8") if summary.exists() else ""
        assert not find_canaries(f"{job.log}\n{outputs}\n{text}", {"token of the job": TOKEN})
        assert search_folder(self.checkout, {"token of the job": TOKEN}) == set()
        return Job(job.code, job.log, outputs, text, job.ran)


class _RunningJob:
    def __init__(self, runner: Runner, inputs: dict[str, str]) -> None:
        self.runner, self.inputs, self.code, self.log = runner, inputs, 0, ""
        self.steps: dict[str, dict[str, str]] = {}
        self.ran: list[str] = []
        self.folder = runner.temp / f"job-{runner.run_id}"
        (self.folder / "bin").mkdir(parents=True)
        shim = self.folder / "bin" / "python"
        shim.write_text(SHIM.format(python=sys.executable))
        shim.chmod(0o755)
        (self.folder / "event.json").write_text(json.dumps({"repository": {"default_branch": "main"}, **runner.event}))

    def step(self, number: int, step: dict[str, Any]) -> None:
        condition = str(step.get("if", "")) or "success()"
        if "always()" not in condition and self.code:
            return
        if not self.holds(condition):
            return
        name = step.get("name") or step["uses"]
        self.ran.append(name)
        with_ = {key: self.fill(value) for key, value in step.get("with", {}).items()}
        if "uses" in step:
            outputs = self.play(step["uses"].partition("@")[0], with_)
        else:
            outputs = self.shell(number, step)
        self.steps[step.get("id", f"step-{number}")] = outputs

    def shell(self, number: int, step: dict[str, Any]) -> dict[str, str]:
        output = self.folder / f"output-{number}"
        output.touch()
        runner = self.runner
        github = {
            "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_API_URL": runner.github.url, "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_SERVER_URL": "https://github.example", "GITHUB_WORKSPACE": str(runner.checkout), "GITHUB_WORKFLOW": "evals",
            "GITHUB_JOB": "evals", "GITHUB_RUN_ID": str(runner.run_id), "GITHUB_EVENT_NAME": runner.event_name,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"), "GITHUB_OUTPUT": str(output), "GITHUB_ACTOR": "someone",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"), "RUNNER_TEMP": str(self.folder), "RUNNER_ARCH": "X64",
            "INSTALLED": str(self.folder / "installed"), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        own = {key: self.fill(value) for key, value in step.get("env", {}).items()}
        env = {**os.environ, **github, **runner.env, **own}
        env["PATH"] = os.pathsep.join(
            [str(self.folder / "bin"), env["PATH"]]
        )  # the shim is the first python of any PATH
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=runner.checkout,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        self.log += done.stdout
        self.code = self.code or done.returncode
        return read_outputs(output.read_text(encoding="utf-8"))

    def play(self, action: str, with_: dict[str, str]) -> dict[str, str]:
        """What an action of GitHub does, as far as ours can see it."""
        cache = self.runner.cache
        if action == "actions/cache/restore":
            keys = [key for key in reversed(cache) if key.startswith(with_.get("restore-keys") or with_["key"])]
            key = with_["key"] if with_["key"] in cache else next(iter(keys), None)
            if key is not None and with_["path"].endswith(".sqlite"):
                Path(with_["path"]).parent.mkdir(parents=True, exist_ok=True)
                Path(with_["path"]).write_bytes(cache[key])
            return {"cache-hit": "true" if key == with_["key"] else "false" if key else ""}
        if action == "actions/cache/save":
            path = Path(with_["path"])
            cache[with_["key"]] = path.read_bytes() if path.is_file() else b""
            return {}
        if action == "actions/upload-artifact":
            number = self.runner.github.upload(
                with_["name"], self.runner.checkout / with_["path"], id=self.runner.run_id,
                event=self.runner.event_name, head_branch=self.runner.env.get("BRANCH", "main"),
            )  # fmt: skip
            return {"artifact-url": f"https://github.example/{REPOSITORY}/actions/runs/1/artifacts/{number}"}
        assert action == "actions/setup-python", action
        return {}

    def value(self, name: str) -> str:
        parts = name.split(".")
        if parts[0] == "inputs":
            return self.inputs[parts[1]]
        if parts[0] == "steps":
            return self.steps.get(parts[1], {}).get(parts[3], "")
        return {
            "github.action_path": str(ROOT), "github.token": TOKEN, "github.run_id": str(self.runner.run_id),
            "github.run_attempt": "1", "github.job": "evals", "runner.os": "Linux",
        }[name]  # fmt: skip

    def fill(self, text: str) -> str:
        return EXPRESSION.sub(lambda match: self.value(match[1]), str(text))

    def holds(self, condition: str) -> bool:
        words = []
        for word in WORD.findall(condition):
            if word in ("always()", "success()"):
                words.append("True")
            elif word in ("==", "!="):
                words.append(word)
            elif word in ("&&", "||"):
                words.append({"&&": "and", "||": "or"}[word])
            else:
                words.append(repr(word.strip("'") if word.startswith("'") else self.value(word)))
        return bool(eval(" ".join(words)))


def read_outputs(text: str) -> dict[str, str]:
    """The outputs that a step wrote to its file."""
    pieces = re.findall(r"^([\w-]+)<<(.+)\n((?:.*\n)*?)\2\n", text, re.MULTILINE)
    return {name: value.removesuffix("\n") for name, _, value in pieces}


def remove_runs(checkout: Path) -> None:
    """A new checkout of the same commit: what jobs left in it is gone."""
    shutil.rmtree(checkout / "runs", ignore_errors=True)
    for folder in checkout.rglob("baselines"):
        shutil.rmtree(folder)
