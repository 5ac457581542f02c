"""MLflow's own metrics and scorers, one answer at a time. MLflow is imported when a suite names this, not before."""

from __future__ import annotations

from typing import Any

from evalrunner.domain import Scorer
from evalrunner.mlflow.client import check_mlflow


def mlflow(
    *,
    metric: str,
    params: dict[str, Any] | None = None,
    columns: dict[str, str] | None = None,
) -> Scorer:
    """A metric of `mlflow.metrics`, or a scorer of `mlflow.genai.scorers`; those with a judge ask the suite's.

    Args:
        metric: Its name, such as rouge1, answer_similarity or Correctness.
        params: What the metric itself takes, such as {k: 3} or {guidelines: Be polite.}.
        columns: Which column of the dataset holds what the metric asks for by another name, such as {context: passage}.
    """
    check_mlflow("type: mlflow")
    from evalrunner.mlflow.catalogue import check_params, find

    found = find(metric)
    given = dict(params or {})
    check_params(found, given)
    wanted = dict(columns or {})
    if found.kind == "metric":
        from evalrunner.mlflow.row_metrics import row_metric

        return row_metric(found, given, wanted)
    if found.kind == "judged metric":
        from evalrunner.mlflow.judge_scorers import judged_metric

        return judged_metric(found, given, wanted)
    from evalrunner.mlflow.feedback import feedback_scorer

    return feedback_scorer(found, given, wanted)
