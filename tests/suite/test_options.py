"""`RunOptions` are stored for a resume without secrets; options of the resume override them."""

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


def test_run_options_round_trip_through_json() -> None:
    assert options_data(RunOptions()) == {}
    assert options_from(json.loads(json.dumps(options_data(ALL)))) == ALL


def test_transient_options_are_not_stored() -> None:
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
def test_settings_with_secrets_are_redacted_and_named(setting: str, flag: str) -> None:
    register_secret("sk-known-to-all")
    data = options_data(RunOptions(settings=("run.seed=1", setting)))
    assert data == {"settings": ["run.seed=1"], "redacted": [flag]}
    assert options_from(data) == RunOptions(settings=("run.seed=1",))
    with pytest.raises(SuiteError) as caught:
        require_redacted_options(data, RunOptions(settings=("run.seed=1",)))
    assert str(caught.value) == f"the run was started with {flag}, whose value is not stored; pass it again"
    require_redacted_options(data, RunOptions(settings=(flag.removeprefix("--set ") + "=another",)))


def test_variable_reference_is_not_a_secret() -> None:
    options = RunOptions(settings=("target.api_key=${MY_API_KEY}",))
    assert options_from(options_data(options)) == options


def test_url_with_a_password_is_redacted_and_required_again_on_resume() -> None:
    data = options_data(RunOptions(base_url="http://me:geheim@host/v1", settings=("target.api_key=x",)))
    assert data == {"settings": [], "redacted": ["--base-url", "--set target.api_key"]}
    with pytest.raises(
        SuiteError, match="with --base-url and --set target.api_key, whose values are not stored; pass them"
    ):
        require_redacted_options(data, RunOptions())
    require_redacted_options(data, RunOptions(base_url="http://me:geheim@host/v1", settings=("target.api_key=x",)))
    require_redacted_options({}, RunOptions())


def test_resume_options_override_stored_options() -> None:
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


def test_unknown_stored_option_is_an_error() -> None:
    with pytest.raises(SuiteError, match=r"options\.fancy is not an option of this version"):
        options_from({"fancy": 1})
