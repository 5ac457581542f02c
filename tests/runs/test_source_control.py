"""The commit behind a run, as git and CI tell it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from evalrunner.runs.provenance import source_of


def git(*args: str, folder: Path) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *name, *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()  # fmt: skip


def test_a_checkout_tells_commit_and_branch_in_each_of_its_shapes(tmp_path: Path) -> None:
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


def test_ci_tells_what_a_folder_without_git_does_not(tmp_path: Path) -> None:
    assert source_of(tmp_path, {}) == {}
    environ = {"GITHUB_SHA": "f" * 40, "GITHUB_RUN_ID": "7", "GITHUB_REPOSITORY": "me/mine"}
    assert source_of(tmp_path, environ) == {
        "commit": "f" * 40,
        "ci_url": "https://github.com/me/mine/actions/runs/7",
    }
    assert source_of(tmp_path, {"BUILD_URL": "https://me:secret@ci/1"}) == {"ci_url": "https://ci/1"}


def test_a_broken_repository_is_none(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert source_of(tmp_path, {}) == {}
