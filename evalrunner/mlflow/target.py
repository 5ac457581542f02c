"""A model that was logged with MLflow as the system under test: loaded once, asked row by row."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.domain import EMPTY, Completion, Failure, Sample, Target
from evalrunner.errors import nearest
from evalrunner.mlflow.client import check_mlflow, missing_database, mlflow_address, mlflow_at, why_mlflow_refuses
from evalrunner.mlflow.target_answers import read_answer
from evalrunner.plugins import PluginContext
from evalrunner.redact import redact_message

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>[\w.-]+))")
LOGGED = re.compile(r"models:/(?P<model>m-[0-9a-f]+)|runs:/(?P<run>[0-9a-f]+)/.+")
FORMS = (
    "it should be models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/NAME, or a folder that MLflow has saved a model in"
)
CONVERSATION = "messages"  # the column of chat models and agents


def mlflow(
    context: PluginContext,
    *,
    model_uri: str,
    input_column: str | None = None,
    params: Mapping[str, Any] = EMPTY,
    uri: str | None = None,
) -> Target:
    """A model logged with MLflow (pyfunc, and so every flavour that has one), such as models:/qa@champion.

    An alias and `latest` are resolved to a version once, before the run, and the version is what is written down.

    Args:
        model_uri: models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/model, or a folder, relative to the suite.
        input_column: The model's column that gets the input; without it the only one, or the one called as a column of
            the dataset. A chat model or agent gets the conversation.
        params: Parameters of the model, such as temperature, where it takes any.
        uri: Address of MLflow, where it is not that of tracking.mlflow.uri or MLFLOW_TRACKING_URI.
    """
    check_mlflow("a target of type mlflow")
    home = _Home(mlflow_address(uri or context.addresses.get("mlflow")), own=uri is not None)
    return MlflowTarget(resolve_model(model_uri, home, context.folder), home, input_column, params)


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a model lies. An address of the target's `own` is that of the registry too, whatever the environment says."""

    address: str
    own: bool

    @property
    def environ(self) -> dict[str, str]:
        return {"MLFLOW_REGISTRY_URI": self.address} if self.own else {}


def resolve_model(model_uri: str, home: _Home, folder: Path) -> str:
    """The address of a model that is there, an alias or `latest` as the version that it means now. Raises ValueError."""
    registered, logged = REGISTERED.fullmatch(model_uri), LOGGED.fullmatch(model_uri)
    if model_uri.startswith(("models:", "runs:")) and registered is None and logged is None:
        raise ValueError(f"{model_uri!r} names no model of MLflow; {FORMS}")
    if registered is None and logged is None:
        return _elsewhere(model_uri, folder)
    if (missing := missing_database(home.address)) is not None:
        raise ValueError(
            f"{model_uri!r} cannot be found: there is no MLflow database {str(missing)!r}; say where MLflow is: uri, "
            "tracking.mlflow.uri or MLFLOW_TRACKING_URI"
        )
    try:
        with mlflow_at(home.address, **home.environ):
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=home.address, registry_uri=home.address if home.own else None)
            if registered is not None:
                return f"models:/{registered['name']}/{_version(client, **registered.groupdict())}"
            assert logged is not None
            client.get_logged_model(logged["model"]) if logged["model"] else client.get_run(logged["run"])
            return model_uri
    except Exception as refused:  # MLflow, requests and databases each raise their own
        raise ValueError(f"{model_uri!r} cannot be found: {why_mlflow_refuses(refused, home.address)}") from None


def _version(client: Any, name: str, alias: str | None, version: str | None) -> str:
    """The version of a registered model: the one said, or the one that an alias or `latest` means now."""
    if alias is not None:
        return str(client.get_model_version_by_alias(name, alias).version)
    if version is not None and version.isdigit():
        return str(client.get_model_version(name, version).version)
    if version != "latest":  # a stage, which MLflow itself looks for
        return str(version)
    versions = [int(one.version) for one in client.search_model_versions(f"name='{name}'")]
    if not versions:
        raise ValueError(f"MLflow has no version of a model {name!r}")
    return str(max(versions))


def _elsewhere(model_uri: str, folder: Path) -> str:
    """The address of a model outside MLflow's registry and runs: a bucket's as it is, a folder's relative to the suite."""
    scheme, colon, _ = model_uri.partition(":/")
    if scheme in ("http", "https") or (colon and not scheme):
        raise ValueError(f"{model_uri!r} names no model of MLflow; {FORMS}")
    if colon:
        return model_uri
    path = folder / Path(model_uri).expanduser()
    if not (path / "MLmodel").is_file():
        raise ValueError(f"there is no folder {model_uri!r} with a model (a file MLmodel) in {str(folder)!r}; {FORMS}")
    return str(path)


@dataclass(slots=True)
class MlflowTarget:
    """Asks the model in a thread. What it raises is its row's failure. `model` names its version."""

    model: str
    home: _Home
    input_column: str | None = None
    params: Mapping[str, Any] = EMPTY
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
        return read_answer(answer, latency_s=time.perf_counter() - started, model=self.model)

    def _load(self) -> Any:
        """The model, or None and the reason; tried once."""
        with self._loading:
            if self._loaded is None and self._problem is None:
                try:
                    self._loaded = _load_pyfunc(self.model, self.home)
                except Exception as crash:  # a model is code: what it raises while it is loaded is its own
                    self._problem = _said(crash)
        return self._loaded

    def _ask(self, loaded: Any, sample: Sample) -> Any:
        import pandas

        columns, params = self._split_params(loaded.metadata)
        row = {**columns_for(sample, _inputs_of(loaded.metadata), self.input_column), **columns}
        return loaded.predict(pandas.DataFrame([row]), **({"params": params} if params else {}))

    def _split_params(self, metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters that are columns of the model, as chat models have them, and those of its signature.

        Raises ValueError for one that is neither: MLflow would leave it out.
        """
        schema, signature = metadata.get_input_schema(), metadata.get_params_schema()
        columns = schema.input_names() if schema is not None and schema.has_input_names() else []
        known = [param.name for param in signature.params] if signature is not None else []
        for name in self.params:
            if name not in columns and name not in known:
                takes = ", ".join([*known, *columns]) or "none"
                raise ValueError(f"the model has no parameter {name!r}{nearest(name, known)}; it has: {takes}")
        return (
            {name: value for name, value in self.params.items() if name in columns},
            {name: value for name, value in self.params.items() if name not in columns},
        )


def _load_pyfunc(model: str, home: _Home) -> Any:
    with mlflow_at(home.address, **home.environ):
        from mlflow.pyfunc import load_model

        return load_model(model, suppress_warnings=True)


def _inputs_of(metadata: Any) -> list[tuple[str, bool]]:
    """The columns that a model cannot do without, each with whether it is a list, as a conversation is."""
    schema = metadata.get_input_schema()
    if schema is None or schema.is_tensor_spec():
        return []
    lists = {column.name for column in schema.inputs if type(column.type).__name__ == "Array"}
    return [(name, name in lists) for name in schema.required_input_names()]


def columns_for(sample: Sample, inputs: Sequence[tuple[str, bool]], input_column: str | None) -> dict[str, Any]:
    """What the model's columns get. Raises ValueError where one of them gets nothing."""
    if input_column is not None:
        inputs = inputs or [(input_column, False)]
    if len(inputs) == 1 or not inputs:
        name, listed = inputs[0] if inputs else ("inputs", False)
        return {name: _asked(sample, name, listed)}
    found: dict[str, Any] = {}
    for name, listed in inputs:
        if name == input_column or (input_column is None and name in ("input", "inputs", CONVERSATION)):
            found[name] = _asked(sample, name, listed)
        elif name in sample.metadata:
            found[name] = sample.metadata[name]
        else:
            raise ValueError(f"the model wants the column {name!r}, which the sample does not have")
    return found


def _asked(sample: Sample, name: str, listed: bool) -> Any:
    """The input of a sample, as a conversation where the model's column is one."""
    if name != CONVERSATION and not (name == "input" and listed):  # so agents call it
        return sample.input
    if sample.messages is not None:
        return [dict(message) for message in sample.messages]
    return sample.input if isinstance(sample.input, list) else [{"role": "user", "content": str(sample.input)}]


def _said(crash: Exception) -> str:
    text = " ".join(redact_message(str(crash)).split())
    return f"{type(crash).__name__}: {text}"[:400]
