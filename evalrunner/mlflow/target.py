"""A model logged with MLflow as the system under test: loaded once, called row by row."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.clock import CLOCK
from evalrunner.domain import EMPTY, Completion, Failure, FinishReason, Sample, Target
from evalrunner.errors import nearest
from evalrunner.mlflow.client import (
    check_mlflow,
    explain_mlflow_error,
    find_missing_database,
    mlflow_address,
    mlflow_at,
)
from evalrunner.plugins import PluginContext
from evalrunner.redact import redact_message
from evalrunner.storage import expand_home

REGISTERED_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>[\w.-]+))")
LOGGED_MODEL = re.compile(r"models:/(?P<model>m-[0-9a-f]+)|runs:/(?P<run>[0-9a-f]+)/.+")
MODEL_URI_FORMS = "it should be models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/NAME, or a folder with a saved model"
CONVERSATION_COLUMN = "messages"  # the column of chat models and agents

TEXT_KEYS = (
    "content",
    "text",
    "output",
    "answer",
    "response",
)  # keys for the text of an output that is a mapping
TOKEN_KEYS = (
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
)  # of the chat and the responses API
FINISH_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "content_filter": "filtered",
    "max_output_tokens": "length",
}


def mlflow(
    context: PluginContext,
    *,
    model_uri: str,
    input_column: str | None = None,
    params: Mapping[str, Any] = EMPTY,
    uri: str | None = None,
) -> Target:
    """A model logged with MLflow (pyfunc, so any flavor that supports it), such as models:/qa@champion.

    An alias and `latest` are resolved to a version once, before the run, and the version is recorded.

    Args:
        model_uri: models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/model, or a folder, relative to the suite.
        input_column: Column of the model for the input; the default is its only column, or the one named like a column of
            the dataset. A chat model or agent gets the conversation.
        params: Parameters of the model, such as temperature.
        uri: Address of MLflow, if it differs from tracking.mlflow.uri and MLFLOW_TRACKING_URI.
    """
    check_mlflow("a target of type mlflow")
    location = _ModelLocation(mlflow_address(uri or context.addresses.get("mlflow")), from_target=uri is not None)
    return MlflowTarget(resolve_model(model_uri, location, context.folder), location, input_column, params)


@dataclass(frozen=True, slots=True)
class _ModelLocation:
    """The MLflow that has a model. An address `from_target` is used for the registry too, regardless of the environment."""

    address: str
    from_target: bool

    @property
    def environ(self) -> dict[str, str]:
        return {"MLFLOW_REGISTRY_URI": self.address} if self.from_target else {}


def resolve_model(model_uri: str, location: _ModelLocation, folder: Path) -> str:
    """The address of an existing model, an alias or `latest` replaced by its current version. Raises ValueError."""
    registered, logged = REGISTERED_MODEL.fullmatch(model_uri), LOGGED_MODEL.fullmatch(model_uri)
    if model_uri.startswith(("models:", "runs:")) and registered is None and logged is None:
        raise ValueError(f"{model_uri!r} is not a model of MLflow; {MODEL_URI_FORMS}")
    if registered is None and logged is None:
        return _unregistered(model_uri, folder)
    if (missing := find_missing_database(location.address)) is not None:
        raise ValueError(
            f"{model_uri!r} cannot be found: there is no MLflow database {str(missing)!r}; set the address of MLflow: uri, "
            "tracking.mlflow.uri or MLFLOW_TRACKING_URI"
        )
    try:
        with mlflow_at(location.address, **location.environ):
            from mlflow import MlflowClient

            client = MlflowClient(
                tracking_uri=location.address, registry_uri=location.address if location.from_target else None
            )
            if registered is not None:
                return f"models:/{registered['name']}/{_version(client, **registered.groupdict())}"
            assert logged is not None
            client.get_logged_model(logged["model"]) if logged["model"] else client.get_run(logged["run"])
            return model_uri
    except Exception as refused:  # MLflow, requests and databases each raise their own
        raise ValueError(f"{model_uri!r} cannot be found: {explain_mlflow_error(refused, location.address)}") from None


def _version(client: Any, name: str, alias: str | None, version: str | None) -> str:
    """The version of a registered model; an alias and `latest` mean the current one."""
    if alias is not None:
        return str(client.get_model_version_by_alias(name, alias).version)
    if version is not None and version.isdigit():
        return str(client.get_model_version(name, version).version)
    if version != "latest":  # a stage, which MLflow resolves
        return str(version)
    versions = [int(one.version) for one in client.search_model_versions(f"name='{name}'")]
    if not versions:
        raise ValueError(f"MLflow has no version of a model {name!r}")
    return str(max(versions))


def _unregistered(model_uri: str, folder: Path) -> str:
    """The address of a model outside MLflow's registry and runs: that of a bucket, or a folder relative to the suite."""
    scheme, colon, _ = model_uri.partition(":/")
    if scheme in ("http", "https") or (colon and not scheme):
        raise ValueError(f"{model_uri!r} is not a model of MLflow; {MODEL_URI_FORMS}")
    if colon:
        return model_uri
    path = folder / expand_home(model_uri)
    if not (path / "MLmodel").is_file():
        raise ValueError(
            f"there is no folder {model_uri!r} with a model (a file MLmodel) in {str(folder)!r}; {MODEL_URI_FORMS}"
        )
    return str(path)


@dataclass(slots=True)
class MlflowTarget:
    """Calls the model in a thread. An exception is the failure of its row. `model` is its address with the version."""

    model: str
    location: _ModelLocation
    input_column: str | None = None
    params: Mapping[str, Any] = EMPTY
    _loaded: Any = None
    _problem: str | None = None
    _loading: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        loaded = await asyncio.to_thread(self._load)
        if loaded is None:
            return Failure("function", f"{self.model} cannot be loaded: {self._problem}")
        started = CLOCK.timer()
        try:
            answer = await asyncio.to_thread(self._ask, loaded, sample)
        except Exception as crash:  # an exception of the model is the failure of its row
            return Failure("function", f"{self.model}: {_describe_error(crash)}")
        return read_answer(answer, latency_s=CLOCK.timer() - started, model=self.model)

    def _load(self) -> Any:
        """The model, or None and `_problem`; loaded once."""
        with self._loading:
            if self._loaded is None and self._problem is None:
                try:
                    self._loaded = _load_pyfunc(self.model, self.location)
                except Exception as crash:  # a model is code and may raise anything
                    self._problem = _describe_error(crash)
        return self._loaded

    def _ask(self, loaded: Any, sample: Sample) -> Any:
        import pandas

        columns, params = self._split_params(loaded.metadata)
        row = {**columns_for(sample, _inputs_of(loaded.metadata), self.input_column), **columns}
        return loaded.predict(pandas.DataFrame([row]), **({"params": params} if params else {}))

    def _split_params(self, metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters that are columns of the model, as in chat models, and those of its signature.

        Raises ValueError for one that is neither: MLflow would ignore it.
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


def _load_pyfunc(model: str, location: _ModelLocation) -> Any:
    with mlflow_at(location.address, **location.environ):
        from mlflow.pyfunc import load_model

        return load_model(model, suppress_warnings=True)


def _inputs_of(metadata: Any) -> list[tuple[str, bool]]:
    """The required columns of a model, each with whether it is a list, as a conversation is."""
    schema = metadata.get_input_schema()
    if schema is None or schema.is_tensor_spec():
        return []
    lists = {column.name for column in schema.inputs if type(column.type).__name__ == "Array"}
    return [(name, name in lists) for name in schema.required_input_names()]


def columns_for(sample: Sample, inputs: Sequence[tuple[str, bool]], input_column: str | None) -> dict[str, Any]:
    """The values of the model's columns. Raises ValueError if one has no value."""
    if input_column is not None:
        inputs = inputs or [(input_column, False)]
    if len(inputs) == 1 or not inputs:
        name, listed = inputs[0] if inputs else ("inputs", False)
        return {name: _input_value(sample, name, listed)}
    values: dict[str, Any] = {}
    for name, listed in inputs:
        if name == input_column or (input_column is None and name in ("input", "inputs", CONVERSATION_COLUMN)):
            values[name] = _input_value(sample, name, listed)
        elif name in sample.metadata:
            values[name] = sample.metadata[name]
        else:
            raise ValueError(f"the model needs the column {name!r}, which the sample does not have")
    return values


def _input_value(sample: Sample, name: str, listed: bool) -> Any:
    """The input of a sample, as a conversation if the model's column is one."""
    if name != CONVERSATION_COLUMN and not (name == "input" and listed):  # the name that agents use
        return sample.input
    if sample.messages is not None:
        return [dict(message) for message in sample.messages]
    return sample.input if isinstance(sample.input, list) else [{"role": "user", "content": str(sample.input)}]


def _describe_error(crash: Exception) -> str:
    text = " ".join(redact_message(str(crash)).split())
    return f"{type(crash).__name__}: {text}"[:400]


def read_answer(answer: Any, *, latency_s: float, model: str) -> Completion:
    """The completion of an output, with its tokens and finish reason if the model reports them."""
    answer = _unwrap(answer)
    text = text_of(answer)
    fields = answer if isinstance(answer, dict) else {}
    tokens_in, tokens_out = _tokens(fields.get("usage"))
    finish_reason: FinishReason = FINISH_REASONS.get(_reason(fields), "stop" if text.strip() else "empty")
    return Completion(
        text if text.strip() else "",
        finish_reason,
        latency_s,
        served_model=model,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
    )


def text_of(answer: Any) -> str:
    """The text of a model's output for one row: a text, or a list, array, frame or mapping that has one."""
    answer = _unwrap(answer)
    if isinstance(answer, str):
        return answer
    if answer is None:
        return ""
    if isinstance(answer, dict):
        if (text := _chat_text(answer)) is not None:
            return text
        for name in TEXT_KEYS:
            if isinstance(answer.get(name), str):
                return str(answer[name])
        if len(answer) == 1:
            return text_of(next(iter(answer.values())))
    return json.dumps(answer, ensure_ascii=False, default=str)


def _unwrap(answer: Any) -> Any:
    """The output of the one row, unwrapped from lists, arrays and frames."""
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        answer = answer.to_dict("records")
    elif hasattr(answer, "tolist"):
        answer = answer.tolist()
    return _unwrap(answer[0]) if isinstance(answer, list) and len(answer) == 1 else answer


def _chat_text(answer: Mapping[str, Any]) -> str | None:
    """The text of a chat completion, of an agent's messages, or of a response; None for anything else."""
    if choices := _mappings(answer.get("choices")):
        message = choices[0].get("message")
        return _content(message.get("content")) if isinstance(message, Mapping) else None
    if messages := _mappings(answer.get("messages")):
        return _content(messages[-1].get("content"))
    if (output := _mappings(answer.get("output"))) and all("type" in item for item in output):
        return "".join(_content(item.get("content")) for item in output if item["type"] == "message")
    return None


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """A list of mappings unchanged; an empty list for anything else."""
    return value if isinstance(value, list) and all(isinstance(item, Mapping) for item in value) else []


def _content(content: Any) -> str:
    """The text of a message, which may have parts without text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and part.get("text"))


def _reason(answer: Mapping[str, Any]) -> str:
    """The finish reason of a chat model or an agent."""
    choices, details = _mappings(answer.get("choices")), answer.get("incomplete_details")
    if choices:
        return str(choices[0].get("finish_reason"))
    return str(details.get("reason")) if isinstance(details, Mapping) else ""


def _tokens(usage: Any) -> tuple[int | None, int | None]:
    """Input and output tokens, under either of OpenAI's pairs of names."""
    if not isinstance(usage, Mapping):
        return None, None
    counts = [usage.get(name, usage.get(other)) for name, other in TOKEN_KEYS]
    known = [count if isinstance(count, int) else None for count in counts]
    return known[0], known[1]
