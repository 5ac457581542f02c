"""Write one comment on the pull request, and edit it at the next push. Never fails the job."""

from __future__ import annotations

import hashlib
import os
import re

from github_api import GitHub, GitHubError
from workflow import annotate, read_event, read_input, run_evalrun

MAX_KIB = 60  # GitHub refuses comments over 65,536 characters
NOT_STARTED = """\
### ⚠️ evalrun: nothing was run

The suite or the inputs of the job are wrong, or the job was cancelled. The log of the job says what to change.
"""


def main() -> None:
    """Create or edit the comment; a problem is a warning."""
    number = pull_request_number()
    if number is None:
        print("no comment: this workflow was not started by a pull request")
        return
    verdict = os.environ.get("VERDICT", "")
    if verdict == "skipped":
        print("no comment: the evaluations were skipped")
        return
    try:
        print(post(GitHub(), number, text()))
    except GitHubError as problem:
        hint = ""
        if problem.status in (401, 403, 404):
            hint = "; the job needs permissions: pull-requests: write. The token of a fork's pull request may only read"
        annotate("warning", f"the comment could not be written: {problem}{hint}")


def pull_request_number() -> int | None:
    """The pull request of the event; also of a comment on one."""
    event = read_event()
    issue = event.get("issue") or {}
    number = (event.get("pull_request") or {}).get("number") or (
        issue.get("number") if issue.get("pull_request") else None
    )
    return None if number is None else int(number)


def marker() -> str:
    """The invisible first line of the comment of this job. Jobs of a matrix differ by their artifact."""
    parts = (os.environ.get("GITHUB_WORKFLOW", ""), os.environ.get("GITHUB_JOB", ""), read_input("artifact"))
    return f"<!-- evalrun {hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]} -->"


def text() -> str:
    """The comment: what evalrun says about the runs, then the commit and the job."""
    folders = [folder for folder in os.environ.get("RUN_FOLDERS", "").splitlines() if folder]
    body = NOT_STARTED
    if folders:
        link = os.environ.get("ARTIFACT_URL") or job_address()
        done = run_evalrun(
            "comment", *folders, "--max-kib", str(MAX_KIB), "--link", link, capture_output=True, encoding="utf-8"
        )
        if done.returncode == 0:
            body = done.stdout
        else:
            annotate("warning", f"the text of the comment could not be made: {done.stderr.strip()[:500]}")
    if note := os.environ.get("BASELINE_NOTE"):
        body += f"\n{plain(note)}\n"
    head = (read_event().get("pull_request") or {}).get("head") or {}
    commit = str(head.get("sha") or os.environ.get("GITHUB_SHA", ""))[:9]
    return f"{marker()}\n{body}\ncommit {commit} · [job]({job_address()})\n"


def plain(note: str) -> str:
    """A sentence of the action, with the names in it, as text of Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#<>|!~@&$])", r"\\\1", note)


def job_address() -> str:
    """The page of the workflow run."""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{os.environ.get('GITHUB_REPOSITORY')}/actions/runs/{os.environ.get('GITHUB_RUN_ID')}"


def post(api: GitHub, number: int, body: str) -> str:
    """Edit the comment of this job, or create it; returns what was done."""
    for comment in api.items(f"/issues/{number}/comments"):
        # a person who copies the marker must not get the verdict into a comment that they can edit
        if str(comment.get("body", "")).startswith(marker()) and (comment.get("user") or {}).get("type") == "Bot":
            try:
                api.send("PATCH", f"/issues/comments/{int(comment['id'])}", {"body": body})
            except GitHubError as problem:
                if problem.status != 404:  # it was deleted meanwhile
                    raise
                break
            return f"comment {comment['id']} edited"
    created = api.send("POST", f"/issues/{number}/comments", {"body": body})
    return f"comment {created['id']} created"


if __name__ == "__main__":
    main()
