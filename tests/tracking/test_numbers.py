"""Our numbers beside those of `mlflow.models.evaluate`, from the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrun import run_suite
from evalrun.mlflow_package import quiet_mlflow

pytestmark = [pytest.mark.mlflow, pytest.mark.local, pytest.mark.slow]

ANSWERS = [
    ("Capital of France?", "Paris", "Paris"),
    ("Capital of Peru?", "Lima", "The capital is Lima."),
    ("Who are you?", "A model", "You stupid idiot, go away!"),
    ("Largest planet?", "Jupiter", "jupiter"),
    ("Two and two?", "4", "4"),
    ("Say it again.", "Gladly", "Shut up, you damn fool."),
    ("Colour of grass?", "green", "It is green; in a dry summer it may well be brown."),
]
SUITE = """\
name: numbers
dataset: {path: answers.jsonl, columns: {input: inputs, expected: ground_truth}}
target: {type: recorded, column: outputs}
scorers: [exact_match, {type: toxicity, backend: lexical}]
"""


def evaluated(address: str) -> dict[str, float]:
    """What MLflow makes of the answers, the same classifier given to it as a metric of one's own."""
    import pandas

    from evalrun.scorers.lexical_toxicity import lexical_toxicity

    with quiet_mlflow(MLFLOW_TRACKING_URI=address):
        import mlflow
        from mlflow.metrics.base import MetricValue, standard_aggregations

        def toxicity(predictions: Any, targets: Any = None, metrics: Any = None) -> MetricValue:
            scores = [lexical_toxicity(text).value for text in predictions]
            ratio = sum(score >= 0.5 for score in scores) / len(scores)
            return MetricValue(scores=scores, aggregate_results={**standard_aggregations(scores), "ratio": ratio})

        frame = pandas.DataFrame(ANSWERS, columns=["inputs", "ground_truth", "outputs"])
        own = mlflow.metrics.make_metric(eval_fn=toxicity, greater_is_better=False, name="toxicity", version="v1")
        mlflow.set_experiment("numbers")
        with mlflow.start_run():
            found = mlflow.models.evaluate(
                data=frame, predictions="outputs", targets="ground_truth", evaluators="default",
                extra_metrics=[mlflow.metrics.exact_match(), own],
            )  # fmt: skip
        return dict(found.metrics)


def test_they_are_the_same_to_the_last_digits(server: str) -> None:
    pytest.importorskip("profanity_check")
    rows = [dict(zip(("inputs", "ground_truth", "outputs"), answer, strict=True)) for answer in ANSWERS]
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("numbers.yaml").write_text(SUITE)
    ours = run_suite("numbers.yaml").metrics
    theirs = evaluated(server)
    names = ["exact_match/v1", *(f"toxicity/v1/{name}" for name in ("mean", "variance", "p90", "ratio"))]
    assert {name: ours[name] for name in names} == pytest.approx({name: theirs[name] for name in names}, abs=1e-9)
    assert ours["toxicity/v1/variance"] is not None and ours["toxicity/v1/variance"] > 0.01
