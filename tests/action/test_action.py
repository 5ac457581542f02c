"""The action in jobs of a scratch repository: verdicts, outputs, the comment, the baseline of the default branch, forks."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.action import ACTION, Job, Runner, remove_runs
from tests.fakes.github import REPOSITORY, FakeGitHub
from tests.fakes.server import Answer, ScriptedServer

pytestmark = pytest.mark.slow
SUITE = """\
name: qa
dataset: answers.jsonl
target: {type: recorded, name: bot, column: output}
scorers: [exact_match]
gates:
  - exact_match >= 0.8
  - {metric: exact_match, baseline: main, max_drop: 0.05}
"""
MODEL = """\
target: {{name: bot, model: m, base_url: "http://127.0.0.1:{port}/v1", api_key: "${{BOT_API_KEY}}"}}
prompt: "{{{{ input }}}}"
run: {{retries: 0}}"""
PULL = {"pull_request": {"number": 7, "head": {"sha": "abcdef0123456789", "repo": {"full_name": REPOSITORY}}}}
FORK = {"pull_request": {"number": 7, "head": {"sha": "abcdef0123456789", "repo": {"full_name": "stranger/repo"}}}}


def write_suite(folder: Path, *, wrong: Iterable[int], target: str | None = None) -> None:
    """A suite of two hundred questions, some answered wrong."""
    wrong = set(wrong)
    rows = [{"id": f"q{n}", "input": f"{n}+1?", "expected": str(n + 1), "output": str(n + (n not in wrong))} for n in range(200)]  # fmt: skip
    (folder / "suites").mkdir(exist_ok=True)
    (folder / "suites" / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = SUITE if target is None else SUITE.replace("target: {type: recorded, name: bot, column: output}", target)
    (folder / "suites" / "qa.yaml").write_text(text)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake
    assert fake.problems == []


@pytest.fixture
def runner(tmp_path: Path, github: FakeGitHub) -> Runner:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=checkout, check=True)
    write_suite(checkout, wrong=[19])
    env = {"EVALRUN_CACHE_DIR": str(tmp_path / "cache"), "BOT_API_KEY": "sk-test-0123456789"}
    return Runner(checkout, tmp_path, github, event=PULL, env=env)


def on_main(runner: Runner, **inputs: str) -> Job:
    """A job of a push to the default branch, which uploads its runs; then a fresh checkout for a pull request."""
    runner.event, runner.event_name = {}, "push"
    job = runner.run(suites="suites/*.yaml", artifact="runs", **inputs)
    runner.event, runner.event_name = PULL, "pull_request"
    remove_runs(runner.checkout)
    return job


def on_pull_request(runner: Runner, **inputs: str) -> Job:
    given = {"suites": "suites/*.yaml", "artifact": "runs-pr", "comment": "true", "baseline": "main", **inputs}
    runner.env["BRANCH"] = "feature"
    job = runner.run(**given)
    remove_runs(runner.checkout)
    return job


def test_red_on_a_worse_model_green_on_an_equal_one_neutral_on_a_dead_provider(
    runner: Runner, github: FakeGitHub
) -> None:
    """One artifact name for all jobs, one comment, edited at each push."""
    assert on_main(runner).code == 0
    same = {"artifact": "runs", "fail_on": "fail"}

    equal = on_pull_request(runner, **same)
    assert (equal.code, equal.outputs["verdict"], equal.outputs["exit-code"]) == (0, "pass", "0"), equal.log
    assert (
        "baseline main of suites/qa.yaml: run " in equal.log
        and " of commit c0ffee000 (2026-11-27T10:00:00Z)" in equal.log
    )
    (comment,) = github.comments
    assert comment["body"].splitlines()[1] == "### ✅ evalrun: qa passed"
    assert "| <code>exact_match at most 0.05 worse than main</code> | 0.995 → 0.995 | ✅ pass |" in comment["body"]

    write_suite(runner.checkout, wrong=range(60))
    worse = on_pull_request(runner, **same)
    assert (worse.code, worse.outputs["verdict"], worse.outputs["exit-code"]) == (1, "fail", "1"), worse.log
    assert "::error file=suites/qa.yaml,line=7,title=qa%3A fail::exact_match at most 0.05 worse than main" in worse.log
    (comment,) = github.comments
    body = comment["body"]
    assert body.splitlines()[1] == "### ❌ evalrun: qa failed"
    assert "<details><summary>59 rows got worse, 0 got better than the baseline; 10 shown</summary>" in body
    assert "| <code>q0</code> | 0+1? | 1<br>exact_match 1.000 | 0<br>exact_match 0.000 |" in body
    assert "[reports and answers](https://github.example/owner/repo/actions/runs/1/artifacts/3)" in body
    assert body.endswith(
        f"\ncommit abcdef012 · [job](https://github.example/owner/repo/actions/runs/{runner.run_id})\n"
    )

    write_suite(runner.checkout, wrong=[], target=MODEL.format(port=closed_port()))
    dead = on_pull_request(runner, **same)
    assert (dead.code, dead.outputs["verdict"], dead.outputs["exit-code"]) == (0, "untrusted", "3"), dead.log
    assert (
        "::warning title=evalrun::the result is untrusted (exit code 3); the job passes because fail-on is fail"
        in dead.log
    )
    (comment,) = github.comments
    assert comment["body"].splitlines()[1] == "### ⚠️ evalrun: qa is untrusted"
    assert [request for request in github.requests if "comments" in request and not request.startswith("GET")] == [
        "POST /repos/owner/repo/issues/7/comments", *["PATCH /repos/owner/repo/issues/comments/500"] * 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fail_on", "dead", "close"), [("fail", 0, 0), ("untrusted", 3, 0), ("inconclusive", 3, 4)]
)  # fmt: skip
def test_fail_on_names_the_mildest_verdict_that_fails(runner: Runner, fail_on: str, dead: int, close: int) -> None:
    write_suite(runner.checkout, wrong=[], target=MODEL.format(port=closed_port()))
    assert runner.run(suites="suites/qa.yaml", fail_on=fail_on, cache="false").code == dead
    write_suite(runner.checkout, wrong=range(60))
    gate = "--set 'gates=[{metric: exact_match, min: 0.69, confidence: 0.95, inconclusive: block}]'"
    job = runner.run(suites="suites/qa.yaml", fail_on=fail_on, args=gate, cache="false")
    assert (job.code, job.outputs["verdict"], job.outputs["exit-code"]) == (close, "inconclusive", "4"), job.log
    assert runner.run(suites="suites/qa.yaml", fail_on=fail_on, cache="false").code == 1
    assert runner.run(suites="suites/none.yaml", fail_on=fail_on, cache="false").code == 2


def test_outputs_name_the_files_of_every_suite(runner: Runner) -> None:
    other = (runner.checkout / "suites" / "qa.yaml").read_text().replace("name: qa", "name: other")
    (runner.checkout / "suites" / "b c.yaml").write_text(other)
    job = runner.run(suites="suites/qa.yaml\n'suites/b c.yaml'", args="--output-dir 'all runs'")
    folders = job.outputs["run-folder"].splitlines()
    assert [Path(folder).parent.as_posix() for folder in folders] == ["all runs/qa", "all runs/other"]
    assert job.outputs["report"].splitlines() == [f"{folder}/report.html" for folder in folders]
    assert all((runner.checkout / report).is_file() for report in job.outputs["report"].splitlines())
    assert "## ⚠️ NO BASELINE: qa" in job.summary and "NO BASELINE: other" in job.summary


def test_a_baseline_in_git_is_not_replaced(runner: Runner, github: FakeGitHub) -> None:
    on_main(runner)
    file = runner.checkout / "suites" / "baselines" / "qa" / "main.jsonl"
    job = on_pull_request(runner)
    assert job.code == 0
    write_suite(runner.checkout, wrong=[19])
    file.parent.mkdir(parents=True)
    file.write_text("this is not a baseline\n")
    broken = runner.run(suites="suites/qa.yaml", artifact="runs-pr", baseline="main")
    assert (broken.code, file.read_text()) == (2, "this is not a baseline\n")


@pytest.mark.parametrize(
    "artifact",
    [
        {"head_repository_id": 2},
        {"head_branch": "feature"},
        {"event": "pull_request_target"},
        {"event": "pull_request"},
        {"expired": True},
    ],
)
def test_artifacts_of_strangers_and_other_branches_are_no_baseline(
    runner: Runner, github: FakeGitHub, artifact: Any
) -> None:
    on_main(runner)
    github.artifacts.clear()
    github.add_archive("runs-pr", github.archives[1], **artifact)
    job = on_pull_request(runner)
    assert "no artifact 'runs-pr' of branch main has a run of these suites that passed" in job.log
    assert (
        "\nno artifact 'runs-pr' of branch main has a run of these suites that passed; the"
        in github.comments[0]["body"]
    )
    assert "no baseline" in job.log and not any(request.endswith("/zip") for request in github.requests)


def test_many_artifacts_of_pull_requests_do_not_hide_that_of_the_default_branch(
    runner: Runner, github: FakeGitHub
) -> None:
    on_main(runner)
    for _ in range(250):
        github.add_archive("runs", b"", event="pull_request", head_branch="feature")
    assert "baseline main of suites/qa.yaml: run " in on_pull_request(runner, artifact="runs").log


def test_a_run_that_failed_is_passed_over_for_an_older_one_that_passed(runner: Runner, github: FakeGitHub) -> None:
    on_main(runner)
    write_suite(runner.checkout, wrong=range(60))
    assert on_main(runner).code == 1
    write_suite(runner.checkout, wrong=[19])
    job = on_pull_request(runner, artifact="runs")
    assert "it did not pass (fail)" in job.log
    assert "| 0.995 → 0.995 | ✅ pass |" in github.comments[0]["body"], job.log


def test_hostile_artifacts_leave_the_checkout_alone(runner: Runner, github: FakeGitHub) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("../../../evil/run.json", json.dumps({"run_id": "../../../evil", "suite_file": "suites/qa.yaml"}))
        file.writestr("x/run.json", json.dumps({"run_id": "20261127T100000Z-0000", "suite_file": "/etc/passwd"}))
        file.writestr("suites/qa.yaml", "owned")
    before = sorted(path for path in runner.temp.rglob("*") if "job-" not in str(path))
    listed = io.BytesIO()
    with zipfile.ZipFile(listed, "w") as file:
        file.writestr("run.json", "[]")
    for data in (packed.getvalue(), listed.getvalue(), b"no zip file", b""):
        github.artifacts.clear()
        github.add_archive("runs-pr", data)
        job = on_pull_request(runner, comment="false")
        assert job.outputs["verdict"] == "pass", job.log
    assert sorted(path for path in runner.temp.rglob("*") if "job-" not in str(path) and "cache" not in str(path)) == [
        path for path in before if "cache" not in str(path)
    ]


def test_downloads_do_not_follow_addresses_without_https(runner: Runner, github: FakeGitHub) -> None:
    on_main(runner)
    github.location = "http://storage.example/artifact?sig=secret"
    job = on_pull_request(runner, artifact="runs")
    assert (
        "::warning title=evalrun::baseline main could not be fetched: the address of the artifact is not https"
        in job.log
    )
    assert "secret" not in job.log


def test_the_token_is_not_sent_to_an_api_without_https(runner: Runner, github: FakeGitHub) -> None:
    runner.env["GITHUB_API_URL"] = "http://api.example"
    job = on_pull_request(runner)
    assert (
        job.code == 0
        and job.log.count("GITHUB_API_URL is 'http://api.example'; the token is sent with https only") == 2
    )


def test_without_permissions_warnings_name_them_and_the_job_passes(runner: Runner, github: FakeGitHub) -> None:
    github.refuse = {
        "GET /repos/owner/repo/actions/artifacts": 403,
        "POST /repos/owner/repo/issues/7/comments": 403,
    }
    job = on_pull_request(runner)
    assert job.code == 0
    assert (
        "could not be fetched: GET /repos/owner/repo/actions/artifacts: 403 Resource not accessible by integration; the job needs permissions: actions: read"
        in job.log
    )
    assert (
        "::warning title=evalrun::the comment could not be written: POST /repos/owner/repo/issues/7/comments: 403"
        in job.log
    )
    assert "the job needs permissions: pull-requests: write" in job.log


def test_the_comment_of_a_person_with_the_marker_is_not_edited(runner: Runner, github: FakeGitHub) -> None:
    on_pull_request(runner)
    copied = {"id": 400, "user": {"type": "User"}, "body": github.comments[0]["body"]}
    others = [{"id": n, "user": {"type": "User"}, "body": "hello"} for n in range(150)]
    github.comments[:] = [copied, *others, *github.comments]
    on_pull_request(runner)
    assert len(github.comments) == 152 and github.comments[0] is copied
    github.comments[:] = [copied, *others]
    on_pull_request(runner)
    assert len(github.comments) == 152 and github.comments[-1]["user"] == {"type": "Bot"}


def test_a_suite_that_cannot_run_edits_the_comment_too(runner: Runner, github: FakeGitHub) -> None:
    on_pull_request(runner)
    (runner.checkout / "suites" / "qa.yaml").write_text("name: [")
    job = on_pull_request(runner)
    assert (job.code, job.outputs["verdict"], job.outputs["run-folder"]) == (2, "error", "")
    (comment,) = github.comments
    assert comment["body"].splitlines()[1] == "### ⚠️ evalrun: nothing was run"


def test_other_events_have_no_comment(runner: Runner, github: FakeGitHub) -> None:
    runner.event, runner.event_name = {}, "schedule"
    job = runner.run(suites="suites/qa.yaml", comment="true")
    assert "no comment: this workflow was not started by a pull request" in job.log and github.requests == []


@pytest.mark.parametrize(("event", "actor"), [(FORK, "stranger"), (PULL, "dependabot[bot]")])
def test_a_pull_request_without_secrets_is_skipped_with_a_sentence(
    runner: Runner, github: FakeGitHub, event: Any, actor: str
) -> None:
    write_suite(runner.checkout, wrong=[], target=MODEL.format(port=closed_port()))
    runner.event = event
    runner.env |= {"BOT_API_KEY": "", "GITHUB_ACTOR": actor}
    job = runner.run(suites="suites/qa.yaml", comment="true")
    assert (job.code, job.outputs["verdict"], job.outputs["exit-code"]) == (0, "skipped", "0"), job.log
    assert (
        "::notice title=evalrun::the evaluations were skipped: BOT_API_KEY is empty, because GitHub gives pull"
        in job.log
    )
    assert "::error" not in job.log and github.requests == []


def test_a_fork_with_a_wrong_suite_or_without_need_of_secrets_is_not_skipped(runner: Runner) -> None:
    runner.event = FORK
    runner.env["BOT_API_KEY"] = ""
    assert runner.run(suites="suites/qa.yaml").outputs["verdict"] == "pass"
    write_suite(runner.checkout, wrong=[], target=MODEL.format(port=1) + "\nscorer: [x]")
    job = runner.run(suites="suites/qa.yaml")
    assert (job.code, job.outputs["verdict"]) == (2, "error") and "::error" in job.log


def test_an_empty_secret_of_the_repository_itself_fails(runner: Runner) -> None:
    write_suite(runner.checkout, wrong=[], target=MODEL.format(port=1))
    runner.env["BOT_API_KEY"] = ""
    job = runner.run(suites="suites/qa.yaml")
    assert (job.code, job.outputs["verdict"]) == (2, "error") and "BOT_API_KEY is empty" in job.log


def test_answers_of_judges_are_cached_from_job_to_job_but_not_for_untrusted_suites(runner: Runner) -> None:
    with ScriptedServer(lambda request, nth: Answer("(C) The answers agree. [[C]]")) as judge:
        suite = (
            SUITE.partition("gates:")[0].replace("[exact_match]", "[factuality]")
            + f"judge: {{model: j, base_url: '{judge.base_url}', self_check: false}}\n"
        )
        suite = suite.replace("self_check: false", "api_key: none")
        (runner.checkout / "suites" / "qa.yaml").write_text(
            suite.replace("dataset: answers.jsonl", "dataset: {path: answers.jsonl, limit: 3}")
        )
        assert runner.run(suites="suites/qa.yaml").outputs["verdict"] in ("pass", "untrusted")
        first = judge.calls
        assert [key for key in runner.cache if key.startswith("evalrun-judges-Linux-")]
        cache = Path(runner.env["EVALRUN_CACHE_DIR"]) / "answers.sqlite"
        cache.unlink()
        runner.run(suites="suites/qa.yaml")
        assert first > 0 and judge.calls < 2 * first
        saved = len(runner.cache)
        runner.run(suites="suites/qa.yaml", untrusted="true", args="--allow-host 127.0.0.1")
        runner.run(suites="suites/qa.yaml", cache="false")
        assert len(runner.cache) == saved


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"suites": " "}, "suites is empty; name suite files, such as suites/*.yaml"),
        ({"suites": "a.yaml", "args": "--set 'x"}, "cannot parse args: No closing quotation"),
        ({"suites": "a.yaml", "fail_on": "never"}, "fail-on should be fail, untrusted or inconclusive, not 'never'"),
        ({"suites": "a.yaml", "comment": "yes"}, "comment should be true or false, not 'yes'"),
        ({"suites": "a.yaml", "untrusted": "1"}, "untrusted should be true or false, not '1'"),
        ({"suites": "a.yaml", "baseline": "../x"}, "baseline should be a name such as main, not '../x'"),
    ],
)
def test_wrong_inputs_end_the_job_before_anything_is_installed(
    runner: Runner, inputs: dict[str, str], message: str
) -> None:
    job = runner.run(**inputs)
    assert (job.code, job.log) == (2, f"::error title=evalrun::{message}\n")
    assert job.ran[:2] == ["actions/setup-python@v6", "Check the inputs"] and "Install evalrun" not in job.ran


def test_inputs_reach_no_shell_and_modules_of_the_checkout_are_not_imported(runner: Runner) -> None:
    for name in ("pip", "json", "evalrunner", "workflow", "hashlib"):
        (runner.checkout / f"{name}.py").write_text("import pathlib; pathlib.Path('owned').touch()\n")
    for text in ("$(touch owned)", "`touch owned`", "; touch owned", "'; touch owned #", "\ntouch owned\n", "${IFS}x"):
        inputs = {
            "suites": f"suites/qa.yaml {text}",
            "baseline": "main",
            "artifact": f"a{text}",
            "extras": f"local{text}",
        }
        runner.run(**inputs, args=f"--target {text}", comment="true")
    assert not (runner.checkout / "owned").exists()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        if "JOB_TOKEN" in step.get("env", {}):
            assert step["name"] in ("Find the baseline", "Comment on the pull request")


def test_every_input_is_used() -> None:
    steps = json.dumps(ACTION["runs"]["steps"])
    assert [name for name in ACTION["inputs"] if f"inputs.{name} " not in steps] == []


def test_action_yml_is_valid_by_the_schema_of_github() -> None:
    from tests.fakes.command import ROOT

    check = [str(Path(__import__("sys").executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.github-actions", str(ROOT / "action.yml")]  # fmt: skip
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
