"""How a run was called is kept for its resume, without what may be a key, and what is said then goes over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalrunner.errors import SuiteError
from evalrunner.redact import register_secret
from evalrunner.suite.options import RunOptions, merge_options, options_data, options_from, require_redacted_options

ALL = RunOptions(
    targets=("gpt", "openai/gpt-5"),
    base_url="http://localhost:4000/v1",
    judge="local/x",
    limit=20,
    where={"split": ["test", "dev"], "n": 3},
    epochs=2,
    concurrency="auto",
    retries=0,
    timeout=1.5,
    max_cost=2.0,
    fail_on_error="5%",
    cache="all",
    seed=0,
    settings=("params.temperature=0.5", "judge_check=off"),
    outputs=("out.csv",),
    gates=False,
)


def test_what_was_asked_for_comes_back() -> None:
    assert options_data(RunOptions()) == {}
    assert options_from(json.loads(json.dumps(options_data(ALL)))) == ALL


def test_what_is_of_the_moment_is_not_kept() -> None:
    moment = RunOptions(
        refresh=True, resume="last", retry_errors=True, wait_scale=0.1, output_dir=Path("x"), debug=True, limit=1
    )
    assert options_data(moment) == {"limit": 1}


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ("target.api_key=sk-1", "--set target.api_key"),
        ("targets[0].headers.x-team=geheim", "--set targets[0].headers.x-team"),
        ("scorers[1].args.token=abc", "--set scorers[1].args.token"),
        ("target={model: m, api_key: sk-1}", "--set target"),
        ('target={"model": "m", "api_key":"sk-1"}', "--set target"),
        ("target.base_url=http://me:geheim@host/v1", "--set target.base_url"),
        ("params.user=sk-known-to-all", "--set params.user"),
    ],
)
def test_a_setting_that_may_hold_a_key_is_named_and_not_kept(setting: str, flag: str) -> None:
    register_secret("sk-known-to-all")
    data = options_data(RunOptions(settings=("run.seed=1", setting)))
    assert data == {"settings": ["run.seed=1"], "redacted": [flag]}
    assert options_from(data) == RunOptions(settings=("run.seed=1",))
    with pytest.raises(SuiteError) as caught:
        require_redacted_options(data, RunOptions(settings=("run.seed=1",)))
    assert str(caught.value) == f"the run was started with {flag}, whose value is not stored; pass it again"
    require_redacted_options(data, RunOptions(settings=(flag.removeprefix("--set ") + "=another",)))


def test_the_name_of_a_variable_is_no_key() -> None:
    options = RunOptions(settings=("target.api_key=${MY_API_KEY}",))
    assert options_from(options_data(options)) == options


def test_an_address_with_a_login_has_to_be_given_again() -> None:
    data = options_data(RunOptions(base_url="http://me:geheim@host/v1", settings=("target.api_key=x",)))
    assert data == {"settings": [], "redacted": ["--base-url", "--set target.api_key"]}
    with pytest.raises(
        SuiteError, match="with --base-url and --set target.api_key, whose values are not stored; pass them"
    ):
        require_redacted_options(data, RunOptions())
    require_redacted_options(data, RunOptions(base_url="http://me:geheim@host/v1", settings=("target.api_key=x",)))
    require_redacted_options({}, RunOptions())


def test_what_is_given_at_a_resume_goes_over_what_was_stored() -> None:
    given = RunOptions(
        resume="last",
        retry_errors=True,
        max_cost=4.0,
        epochs=3,
        where={"n": 4},
        targets=("gpt",),
        settings=("judge_check=off", "run.timeout=9"),
        outputs=("b.json",),
        output_dir=Path("elsewhere"),
        debug=True,
    )
    assert merge_options(ALL, given) == RunOptions(
        targets=("gpt",),
        base_url="http://localhost:4000/v1",
        judge="local/x",
        limit=20,
        where={"split": ["test", "dev"], "n": 4},
        epochs=3,
        concurrency="auto",
        retries=0,
        timeout=1.5,
        max_cost=4.0,
        fail_on_error="5%",
        cache="all",
        resume="last",
        retry_errors=True,
        seed=0,
        settings=("params.temperature=0.5", "judge_check=off", "run.timeout=9"),
        output_dir=Path("elsewhere"),
        outputs=("out.csv", "b.json"),
        gates=False,
        debug=True,
    )
    assert merge_options(RunOptions(), ALL) == ALL
    assert merge_options(ALL, RunOptions()) == ALL


def test_options_of_another_version_are_refused() -> None:
    with pytest.raises(SuiteError, match=r"options\.fancy is not an option of this version"):
        options_from({"fancy": 1})
