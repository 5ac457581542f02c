"""A model that was logged with MLflow as the system under test: loaded once, asked row by row."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from evalrun.domain import Completion, Failure, Sample, Target
from evalrun.mlflow_package import check_mlflow, quiet_mlflow
from evalrun.redact import redact_message

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[\w-]+)|/(?P<version>[\w.-]+))")
TEXTS = ("content", "text", "output", "answer", "response")  # where a model that answers with a mapping has its text


def mlflow(*, model_uri: str, input_column: str | None = None, uri: str | None = None) -> Target:
    """A model logged with MLflow (pyfunc, and so every flavour that has one), such as models:/qa@champion.

    An alias and `latest` are resolved to a version once, before the run, and the version is what is written down.

    Args:
        model_uri: models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/model, or a path.
        input_column: The model's column that gets the input; without it the only one, or the one called as a column of
            the dataset.
        uri: Address of the registry, where it is not that of MLFLOW_TRACKING_URI.
    """
    check_mlflow("a target of type mlflow")
    return MlflowTarget(resolve_version(model_uri, uri), uri, input_column)


def resolve_version(model_uri: str, uri: str | None) -> str:
    """The address with the version that an alias or `latest` means now. Raises ValueError where there is none."""
    found = REGISTERED.fullmatch(model_uri)
    if found is None or (found["version"] or "").isdigit():
        return model_uri
    try:
        with quiet_mlflow():
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=uri)
            if found["alias"]:
                version = client.get_model_version_by_alias(found["name"], found["alias"]).version
            elif found["version"] == "latest":
                versions = client.search_model_versions(f"name='{found['name']}'")
                version = max((one.version for one in versions), key=int)
            else:
                return model_uri
    except Exception as refused:  # MLflow, requests and databases each raise their own
        said = " ".join(redact_message(str(refused)).split())[:300]
        raise ValueError(f"{model_uri!r} cannot be resolved to a version: {said or type(refused).__name__}") from None
    return f"models:/{found['name']}/{version}"


@dataclass(slots=True)
class MlflowTarget:
    """Asks the model in a thread. What it raises is its row's failure. `model` names its version."""

    model: str
    uri: str | None = None
    input_column: str | None = None
    _loaded: Any = None
    _problem: str | None = None
    _loading: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        loaded = await asyncio.to_thread(self._load)
        if loaded is None:
            return Failure("function", f"{self.model} cannot be loaded: {self._problem}")
        started = time.perf_counter()
        try:
            answer = await asyncio.to_thread(self._ask, loaded, sample)
        except Exception as crash:  # whatever a model raises belongs to its row, not to the run
            return Failure("function", f"{self.model}: {_said(crash)}")
        latency_s = time.perf_counter() - started
        if not answer.strip():
            return Completion("", "empty", latency_s, served_model=self.model)
        return Completion(answer, "stop", latency_s, served_model=self.model)

    def _load(self) -> Any:
        """The model, or None and the reason; tried once."""
        with self._loading:
            if self._loaded is None and self._problem is None:
                try:
                    self._loaded = _load_pyfunc(self.model, self.uri)
                except Exception as crash:  # a model is code: what it raises while it is loaded is its own
                    self._problem = _said(crash)
        return self._loaded

    def _ask(self, loaded: Any, sample: Sample) -> str:
        import pandas

        names = loaded.metadata.get_input_schema().input_names() if loaded.metadata.get_input_schema() else []
        return text_of(loaded.predict(pandas.DataFrame([columns_for(sample, names, self.input_column)])))


def _load_pyfunc(model: str, uri: str | None) -> Any:
    with quiet_mlflow(**({} if uri is None else {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri})):
        from mlflow.pyfunc import load_model

        return load_model(model, suppress_warnings=True)


def columns_for(sample: Sample, names: list[str], input_column: str | None) -> dict[str, Any]:
    """What the model's columns get. Raises ValueError where one of them gets nothing."""
    if input_column is not None:
        names = names or [input_column]
    if len(names) == 1 or not names:
        return {names[0] if names else "inputs": sample.input}
    found: dict[str, Any] = {}
    for name in names:
        if name == input_column or (input_column is None and name in ("input", "inputs")):
            found[name] = sample.input
        elif name in sample.metadata:
            found[name] = sample.metadata[name]
        else:
            raise ValueError(f"the model wants the column {name!r}, which the sample does not have")
    return found


def text_of(answer: Any) -> str:
    """The text in what a model answered for one row: a text, or a list, array, frame or mapping with one in it."""
    if isinstance(answer, str):
        return answer
    if answer is None:
        return ""
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        answer = answer.to_dict("records")
    elif hasattr(answer, "tolist"):
        answer = answer.tolist()
    if isinstance(answer, list) and len(answer) == 1:
        return text_of(answer[0])
    if isinstance(answer, dict):
        for name in TEXTS:
            if isinstance(answer.get(name), str):
                return str(answer[name])
        if len(answer) == 1:
            return text_of(next(iter(answer.values())))
    return json.dumps(answer, ensure_ascii=False, default=str)


def _said(crash: Exception) -> str:
    text = " ".join(redact_message(str(crash)).split())
    return f"{type(crash).__name__}: {text}"[:400]
