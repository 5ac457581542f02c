"""The table of a run in MLflow as a dataset."""

from __future__ import annotations

from typing import Any

import pytest

from evalrun import SuiteError
from tests.tracking.conftest import Arrived
from tests.tracking.runs import run, tracking

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]

AGAIN = """\
name: NAME
dataset: {mlflow: "ID"}
target: {type: recorded, column: outputs}
scorers: [exact_match, contains]
"""


def test_the_answers_of_an_earlier_run_are_scored_again(
    server: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    first = run("asked", tracking(server, "log: [table]"))
    arrived = Arrived(client, "asked")
    again = run("asked-again", "", AGAIN.replace("ID", arrived.targets["good"].info.run_id))
    for column in ("id", "input", "expected", "output", "exact_match/v1/score", "contains/v1/score"):
        was = first.table[first.table["target"] == "good"][column]
        assert again.table[column].astype(str).tolist() == was.astype(str).tolist(), column
    with pytest.raises(SuiteError, match=r"dataset.mlflow: .* has several tables; name the run of one target: "):
        run("which", "", AGAIN.replace("ID", arrived.parent.info.run_id))


def test_what_is_no_run_is_told_before_anything_is_called(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with pytest.raises(SuiteError, match="'nobody' names nothing in MLflow; it should be a run's id"):
        run("odd", "", AGAIN.replace("ID", "nobody"))
    with pytest.raises(SuiteError, match="cannot be read from MLflow at .*: RESOURCE_DOES_NOT_EXIST"):
        run("none", "", AGAIN.replace("ID", "0" * 32))
