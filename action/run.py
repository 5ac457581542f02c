"""Run the suites, set the outputs, and end with evalrun's exit code if `fail-on` says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from workflow import annotate, read_event, read_flag, read_input, read_words, run_evalrun, suite_files, write_output

VERDICTS = {0: "pass", 1: "fail", 2: "error", 3: "untrusted", 4: "inconclusive", 130: "interrupted"}
TOLERATED = {"fail": (3, 4), "untrusted": (4,), "inconclusive": ()}  # exit codes that do not fail the job, by fail-on
SKIPPED = "skipped"
TOTAL = re.compile(r"evalrun: \d+ problems; nothing was called")


def main() -> int:
    """The exit code of the step."""
    args, suites = read_words("args"), suite_files()
    args += ["--untrusted"] * read_flag("untrusted")
    runs = Path(output_dir(args) or "runs")
    before = run_files(runs)
    code, verdict = run_suites(args, suites)
    folders = [file.parent for file, stamp in sorted(run_files(runs).items()) if before.get(file) != stamp]
    folders.sort(key=lambda folder: json.loads((folder / "run.json").read_text(encoding="utf-8")).get("started_at", ""))
    write_output("verdict", verdict)
    write_output("exit-code", str(code))
    write_output("run-folder", "\n".join(map(str, folders)))
    write_output(
        "report", "\n".join(str(folder / "report.html") for folder in folders if (folder / "report.html").is_file())
    )
    write_output("runs", str(runs))
    write_output("has-cache", str(Path(os.environ.get("JUDGE_CACHE") or "-").is_file()).lower())
    fail_on = read_input("fail-on")
    if code in TOLERATED[fail_on]:
        annotate("warning", f"the result is {verdict} (exit code {code}); the job passes because fail-on is {fail_on}")
        return 0
    return code


def run_suites(args: list[str], suites: list[str]) -> tuple[int, str]:
    """The exit code of evalrun and the verdict of the step. Without secrets there is nothing to run, and nothing to fail."""
    missing = missing_secrets()
    done = run_evalrun("run", *args, "--", *suites, stderr=subprocess.PIPE if missing else None)
    if done.returncode == 2 and missing and lacks_secrets(missing, done.stderr):
        return 0, SKIPPED
    print(done.stderr or "", end="", file=sys.stderr, flush=True)
    return done.returncode, VERDICTS.get(done.returncode, "error")


def output_dir(args: list[str]) -> str | None:
    """The folder that `--output-dir` among the arguments names."""
    for place, word in enumerate(args):
        if word == "--output-dir" and place + 1 < len(args):
            return args[place + 1]
        if word.startswith("--output-dir="):
            return word.partition("=")[2]
    return None


def run_files(runs: Path) -> dict[Path, int]:
    """The `run.json` of every run with the time of its last change, so that new and resumed runs can be told."""
    return {file: file.stat().st_mtime_ns for file in runs.glob("*/*/run.json")}


def missing_secrets() -> list[str]:
    """The variables that the job sets, but that are empty because GitHub gives this pull request no secrets."""
    event = read_event()
    pull: dict[str, Any] = event.get("pull_request") or {}
    head = ((pull.get("head") or {}).get("repo") or {}).get("full_name")  # None if the fork was deleted
    from_fork = bool(pull) and head != os.environ.get("GITHUB_REPOSITORY")
    if os.environ.get("GITHUB_EVENT_NAME") != "pull_request":
        return []
    if not from_fork and os.environ.get("GITHUB_ACTOR") != "dependabot[bot]":
        return []
    return [name for name, value in os.environ.items() if value == "" and not name.startswith(("INPUT_", "GITHUB_"))]


def lacks_secrets(missing: list[str], message: str) -> bool:
    """Whether every problem in a message of evalrun is about a missing secret; then a notice says so."""
    lines = [line for line in message.splitlines() if line.strip() and not line.startswith("::")]
    problems = [line for line in lines if not TOTAL.fullmatch(line)]
    named = {name for name in missing if any(re.search(rf"\b{re.escape(name)}\b", line) for line in problems)}
    if not problems or not all(any(name in line for name in named) for line in problems):
        return False
    annotate(
        "notice",
        f"the evaluations were skipped: {', '.join(sorted(named))} {'are' if len(named) > 1 else 'is'} empty, because GitHub "
        "gives pull requests from forks and of Dependabot no secrets. docs/ci.md of evalrun says how a maintainer can run them",
    )
    return True


if __name__ == "__main__":
    sys.exit(main())
