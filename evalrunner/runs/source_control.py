"""Of which commit a run is, and which CI job made it: read from files and variables, so that it costs next to nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from evalrunner.redact import LOGIN

COMMIT = re.compile(r"[0-9a-f]{40,64}")
COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT", "BUILD_SOURCEVERSION", "CIRCLE_SHA1", "BITBUCKET_COMMIT")
BRANCHES = (
    "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "GIT_BRANCH", "BUILD_SOURCEBRANCHNAME", "CIRCLE_BRANCH",
    "BITBUCKET_BRANCH",
)  # fmt: skip
JOBS = ("CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL")
DEEPEST = 40  # folders above the suite's that are looked into
LARGEST = 1 << 20  # bytes of a file of git's that is read


def source_of(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`commit`, `branch` and `ci_url` as far as they are known: of the repository around `folder`, else as CI says."""
    commit, branch = _checked_out(folder)
    found = {
        "commit": commit or _first(environ, COMMITS),
        "branch": branch or _first(environ, BRANCHES),  # CI checks out a commit without a branch
        "ci_url": _job(environ),
    }
    return {name: value for name, value in found.items() if value}


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _job(environ: Mapping[str, str]) -> str | None:
    if environ.get("GITHUB_RUN_ID"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{environ['GITHUB_RUN_ID']}"
    url = _first(environ, JOBS)
    return None if url is None else LOGIN.sub("://", url)


def _checked_out(folder: Path) -> tuple[str | None, str | None]:
    """Commit and branch of the checkout that a folder is in."""
    try:
        git = _git_folder(folder.resolve())
        if git is None:
            return None, None
        head = _read(git / "HEAD")
        if not head.startswith("ref:"):
            return (head if COMMIT.fullmatch(head) else None), None
        name = head.removeprefix("ref:").strip()
        return _commit_of(git, name), name.removeprefix("refs/heads/")
    except (OSError, ValueError):  # somebody else's file: what is not there or not readable is not known
        return None, None


def _git_folder(folder: Path) -> Path | None:
    for place in (folder, *folder.parents[:DEEPEST]):
        git = place / ".git"
        if git.is_dir():
            return git
        if git.is_file():  # a worktree or a submodule names its folder
            return place / _read(git).removeprefix("gitdir:").strip()
    return None


def _commit_of(git: Path, name: str) -> str | None:
    """The commit of a branch, from its own file or from the packed ones; worktrees share those of their main folder."""
    shared = git / _read(git / "commondir") if (git / "commondir").is_file() else git
    for place in (git / name, shared / name):
        if place.is_file() and COMMIT.fullmatch(_read(place)):
            return _read(place)
    packed = shared / "packed-refs"
    for line in _read(packed).splitlines() if packed.is_file() else ():
        commit, _, ref = line.partition(" ")
        if ref == name and COMMIT.fullmatch(commit):
            return commit
    return None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LARGEST).decode().strip()
