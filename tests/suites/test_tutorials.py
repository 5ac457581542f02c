"""The tutorial suites, through a real LiteLLM proxy in front of the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, run_suite
from tests.endpoints.conftest import Proxy, embedded, proxy  # noqa: F401  fixtures
from tests.mlflow.conftest import Arrived, client, server  # noqa: F401  fixtures

SUITES = Path(__file__).parents[2] / "suites"
pytestmark = [pytest.mark.slow, pytest.mark.litellm, pytest.mark.model, pytest.mark.timeout(900)]


@pytest.fixture
def gateway(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("LITELLM_BASE_URL", proxy.base_url)
    monkeypatch.setenv("LITELLM_API_KEY", proxy.key)


@pytest.mark.mlflow
@pytest.mark.local
@pytest.mark.usefixtures("gateway")
def test_the_mlflow_tutorial_logs_metrics_table_and_traces(server: str, client: Any) -> None:  # noqa: F811
    options = RunOptions(settings=("target.model=small",), mlflow=server)
    result = run_suite(SUITES / "tutorial_mlflow.yaml", options=options)
    assert result.exit_code == 0, result.details.notices
    names = ["exact_match/v1", *(f"toxicity/v1/{name}" for name in ("mean", "variance", "p90", "ratio"))]
    assert all(result.metrics[name] is not None for name in names)
    arrived = Arrived(client, "tutorial-mlflow")
    logged = arrived.targets["gateway"].data.metrics
    assert {name: logged[name] for name in names} == {name: result.metrics[name] for name in names}
    frame = arrived.table("gateway")
    columns = ["inputs", "ground_truth", "outputs", "token_count", "toxicity/v1/score", "exact_match/v1/score"]
    assert set(columns) <= set(frame.columns)
    assert not [name for name in frame.columns if name.startswith("sample.")]
    assert list(frame["inputs"])[1] == "What is MLflow?"
    assert frame["outputs"].str.len().min() > 0
    assert frame["token_count"].min() > 0
    assert list(result.tables["eval_results_table"].columns) == list(frame.columns)
    traces = arrived.traces("gateway")
    assert {assessment.name for trace in traces for assessment in trace.info.assessments} == {
        "expected_response", "exact_match", "token_f1", "toxicity",
    }  # fmt: skip


@pytest.mark.usefixtures("gateway")
def test_the_factuality_tutorial_reports_that_its_judge_failed_its_sanity_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVALRUN_JUDGE", "small")
    result = run_suite(SUITES / "tutorial_factuality.yaml", options=RunOptions(settings=("target.model=small",)))
    frame = result.tables["eval_results_table"]
    assert list(frame["factuality/v1/state"]) == ["unscored"] * 3  # the small model cannot judge
    assert all("sanity check" in why for why in frame["factuality/v1/justification"])
    assert frame["outputs"].str.len().min() > 0
