"""Provide the baseline of the input `baseline` where git has none: from the newest artifact of the default branch.

A run of the artifact that passed is accepted as the baseline, in the checkout of this job and without a commit.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from github_api import CHUNK, GitHub
from workflow import annotate, environment, read_event, read_flag, read_input, run_evalrun, suite_files, write_output

EVENTS = ("push", "schedule", "workflow_dispatch", "repository_dispatch")  # of which no stranger decides what is run
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
FILES = ("run.json", "metrics.json", "rows.jsonl")
MAX_ARTIFACTS = 5  # the newest; a branch whose runs all fail should be repaired, not searched
MAX_UNPACKED = 4 * 2**30  # bytes
MAX_RECORD = 64 * 2**20


def main() -> None:
    """Set the output `judge-cache`, and write baselines as far as they can be found; nothing here fails the job."""
    write_output("judge-cache", judge_cache())
    name, artifact = read_input("baseline"), read_input("artifact")
    if not name:
        return
    wanted = {Path(file).resolve(): file for file in suite_files()}
    if not artifact:
        print(f"baseline {name} is taken from git only; set artifact to take it from the default branch as well")
        return
    try:
        provided = provide(GitHub(), name, artifact, wanted)
    except Exception as problem:  # of GitHub, the network or a broken archive: the gates run without a baseline
        hint = "; the job needs permissions: actions: read" if getattr(problem, "status", 0) in (401, 403, 404) else ""
        annotate("warning", f"baseline {name} could not be fetched: {problem}{hint}")
        return
    if not provided:
        note = (
            f"no artifact {artifact!r} of branch {default_branch()} has a run of these suites that passed; the baseline "
            f"{name} exists once this workflow has run and passed there"
        )
        write_output("note", note)
        annotate("notice", note)


def judge_cache() -> str:
    """The file of cached answers."""
    code = "from evalrunner.storage import cache_folder as f; from evalrunner.middleware.cache import CACHE_FILE as n; print(f() / n)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def default_branch() -> str:
    """The default branch of the repository."""
    return str(read_event().get("repository", {}).get("default_branch") or "main")


def provide(api: GitHub, name: str, artifact: str, wanted: dict[Path, str]) -> int:
    """Write the baseline of each wanted suite that has none; returns how many have one now, those of git included."""
    provided = {}
    for found in artifacts(api, artifact):
        with tempfile.TemporaryDirectory(dir=os.environ.get("RUNNER_TEMP")) as folder:
            archive = Path(folder) / "artifact.zip"
            api.download(f"/actions/artifacts/{int(found['id'])}/zip", archive)
            for run, record in unpack(archive, Path(folder)):
                file = wanted.get(Path(str(record.get("suite_file", ""))).resolve())
                if file is None or file in provided:
                    continue
                if (Path(file).parent / "baselines" / str(record.get("suite")) / f"{name}.jsonl").is_file():
                    provided[file] = "git"
                elif accept(run, name, file, found):
                    provided[file] = run.name
        if len(provided) == len(wanted):
            break
    return len(provided)


def artifacts(api: GitHub, name: str) -> Iterator[dict[str, Any]]:
    """The newest artifacts of that name that a workflow uploaded on the default branch of this repository itself."""
    branch, count = default_branch(), 0
    for found in api.items("/actions/artifacts", "artifacts", name=name):
        run = found.get("workflow_run") or {}
        own = run.get("repository_id") is not None and run.get("repository_id") == run.get("head_repository_id")
        if found.get("expired") or not own or run.get("head_branch") != branch:
            continue
        if str(run.get("id")) == os.environ.get("GITHUB_RUN_ID"):
            continue
        if api.get(f"/actions/runs/{int(run['id'])}").get("event") not in EVENTS:
            continue
        yield found
        count += 1
        if count == MAX_ARTIFACTS:
            return


def unpack(archive: Path, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders of the runs in an artifact with their records, newest first; other files are not unpacked."""
    runs, left = [], MAX_UNPACKED
    with zipfile.ZipFile(archive) as packed:
        members = {info.filename: info for info in packed.infolist()}
        for filename, info in members.items():
            if PurePosixPath(filename).name != "run.json" or info.file_size > MAX_RECORD:
                continue
            record = json.loads(packed.read(info))
            run_id = str(record.get("run_id", "")) if isinstance(record, dict) else ""
            if not RUN_ID.fullmatch(run_id):  # the name of a folder; anything else could lead out of ours
                continue
            target = folder / run_id
            target.mkdir(exist_ok=True)
            for name in FILES:
                if (member := members.get(str(PurePosixPath(filename).with_name(name)))) is not None:
                    left = _extract(packed, member, target / name, left)
            runs.append((target, record))
    yield from sorted(runs, key=lambda each: str(each[1].get("started_at")), reverse=True)


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Unpack one file; returns how many bytes are left. Raises ValueError if it has more."""
    with packed.open(member) as source, target.open("wb") as file:
        while part := source.read(CHUNK):
            left -= len(part)
            if left < 0:
                raise ValueError("the artifact unpacks to more than 4 GiB")
            file.write(part)
    return left


def accept(run: Path, name: str, file: str, found: dict[str, Any]) -> bool:
    """Accept a run as the baseline of a suite; returns whether evalrun did, which it refuses for one that did not pass."""
    env = {**environment(), **({"EVALRUN_UNTRUSTED": "1"} if read_flag("untrusted") else {})}
    args = ("baseline", "accept", str(run), "--name", name, "--suite", file, "--with-outputs")
    done = run_evalrun(*args, env=env, capture_output=True)
    commit = str((found.get("workflow_run") or {}).get("head_sha", ""))[:9]
    if done.returncode == 0:
        print(f"baseline {name} of {file}: run {run.name} of commit {commit} ({found.get('created_at')})")
    else:
        print(f"{file}: not run {run.name} of commit {commit}: {done.stderr.strip()[:500]}")
    return done.returncode == 0


if __name__ == "__main__":
    main()
