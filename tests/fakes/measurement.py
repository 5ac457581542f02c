"""The module that `evaluate` loads for MLflow's toxicity, with the test's classifier, in the first place it looks."""

from __future__ import annotations

from pathlib import Path

MEASUREMENT = '''\
"""Toxicity as MLflow requests it from `evaluate`: the classifier's probability of the label `hate`."""

import datasets
import evaluate
from transformers import pipeline


class Toxicity(evaluate.Measurement):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MeasurementInfo(
            module_type="measurement", description="", citation="", inputs_description="", features=features
        )

    def _download_and_prepare(self, dl_manager):
        self.classifier = pipeline("text-classification", model=MODEL, top_k=None, truncation=True)

    def _compute(self, predictions, aggregation="all", threshold=0.5):
        shares = [{found["label"]: found["score"] for found in row}["hate"] for row in self.classifier(list(predictions))]
        if aggregation == "ratio":
            return {"toxicity_ratio": sum(share >= threshold for share in shares) / len(shares)}
        return {"toxicity": shares}
'''


def write_measurement(folder: Path, model: Path) -> None:
    """Write the module that `evaluate.load("toxicity")` uses in the working folder `folder` instead of the hub's."""
    place = folder / "toxicity" / "toxicity.py"
    place.parent.mkdir()
    place.write_text(MEASUREMENT.replace("MODEL", repr(str(model))))
