"""The commit of a run, from git or CI variables."""

from __future__ import annotations

import subprocess
from pathlib import Path

from evalrunner.runs.provenance import source_of


def git(*args: str, folder: Path) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *name, *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()  # fmt: skip


def test_commit_and_branch_are_read_from_every_kind_of_checkout(tmp_path: Path) -> None:
    main = tmp_path / "main"
    (main / "suites").mkdir(parents=True)
    git("init", "-b", "topic/x", folder=main)
    assert source_of(main, {}) == {"branch": "topic/x"}  # nothing committed yet
    git("commit", "--allow-empty", "-m", "x", folder=main)
    commit = git("rev-parse", "HEAD", folder=main)
    assert source_of(main / "suites", {}) == {"commit": commit, "branch": "topic/x"}
    git("pack-refs", "--all", folder=main)
    assert source_of(main, {}) == {"commit": commit, "branch": "topic/x"}
    git("worktree", "add", "-b", "other", "../tree", folder=main)
    assert source_of(tmp_path / "tree", {}) == {"commit": commit, "branch": "other"}
    git("checkout", "--detach", folder=main)
    assert source_of(main, {"GITHUB_REF_NAME": "from-ci"}) == {"commit": commit, "branch": "from-ci"}


def test_ci_variables_replace_a_missing_git_folder(tmp_path: Path) -> None:
    assert source_of(tmp_path, {}) == {}
    environ = {"GITHUB_SHA": "f" * 40, "GITHUB_RUN_ID": "7", "GITHUB_REPOSITORY": "me/mine"}
    assert source_of(tmp_path, environ) == {
        "commit": "f" * 40,
        "ci_url": "https://github.com/me/mine/actions/runs/7",
    }
    assert source_of(tmp_path, {"BUILD_URL": "https://me:secret@ci/1"}) == {"ci_url": "https://ci/1"}


def test_broken_repository_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert source_of(tmp_path, {}) == {}
