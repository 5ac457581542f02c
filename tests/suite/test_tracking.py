"""The `tracking:` section of a suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner import SuiteError
from evalrunner.mlflow.destination import MlflowSpec
from evalrunner.suite.loader import load_suite
from tests.fakes.command import evalrun

SUITE = "dataset: {rows: [{input: a, expected: a, out: a}]}\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"


def load(section: str) -> MlflowSpec | None:
    Path("s.yaml").write_text(SUITE + section)
    return load_suite("s.yaml").tracking.options.get("mlflow")


def test_tracking_fields_interpolate_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "http://mlflow:5000")
    result = load(
        "tracking: {mlflow: {uri: '${HOST}', experiment: '${NAME:-qa}', tags: {n: 3, ok: true, host: '${HOST}'}}}"
    )
    assert result == MlflowSpec(
        "http://mlflow:5000", "qa", None, {"n": "3", "ok": "true", "host": "http://mlflow:5000"},
        ("metrics", "table", "report", "dataset"),
    )  # fmt: skip
    assert load("tracking: {mlflow: }") == MlflowSpec()
    assert load("") is None


def test_tracking_problems_are_reported_with_line_and_column() -> None:
    with pytest.raises(SuiteError) as wrong:
        load(
            "tracking:\n  mlflow:\n    url: x\n    log: [metric]\n    tags: {a: [1]}\n    run_name: ${MISSING}\n  wandb: {}\n"
        )
    message = [str(problem) for problem in wrong.value.problems]
    assert message == [
        "s.yaml:6:5: tracking.mlflow.url: unknown key; did you mean 'uri'?",
        (
            "s.yaml:7:11: tracking.mlflow.log[0]: is 'metric'; it should be one of metrics, table, report, dataset, "
            "traces; did you mean 'metrics'?"
        ),
        "s.yaml:8:15: tracking.mlflow.tags.a: is a list; it should be a plain value",
        (
            "s.yaml:9:15: tracking.mlflow.run_name: the variable MISSING is not set in the environment, "
            "and there is no file .env; export MISSING=…, or write "
            "${MISSING:-default}"
        ),
        "s.yaml:10:3: tracking.wandb: unknown key; valid keys: mlflow",
    ]


def test_mlflow_option_takes_an_address_but_not_a_suite() -> None:
    from evalrunner.cli.main import with_address

    for args, given in (
        (["--mlflow", "s.yaml"], ["--mlflow=", "s.yaml"]),
        (["--mlflow", "http://h:1", "s.yaml"], ["--mlflow", "http://h:1", "s.yaml"]),
        (["s.yaml", "--mlflow"], ["s.yaml", "--mlflow="]),
        (["--mlflow", "databricks"], ["--mlflow", "databricks"]),
        (["--mlflow", "-q"], ["--mlflow=", "-q"]),
    ):
        assert [with_address(args, place) for place in range(len(args))] == given


def test_track_rejects_an_invalid_mlflow_address() -> None:
    Path("s.yaml").write_text(SUITE)
    assert evalrun("s.yaml", "-q").returncode == 0
    done = evalrun("track", "--mlflow", "ftp://host")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("evalrun: --mlflow: 'ftp://host' should be http(s)://…, sqlite:///…")
