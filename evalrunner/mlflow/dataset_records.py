"""Rows as MLflow keeps them, as records of a dataset: of evaluation tables, logged datasets and evaluation datasets. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evalrunner.datasets.records import InvalidRecord, Reader, Record
from evalrunner.suite.schema import DatasetSpec

NAMES = {"inputs": "input", "ground_truth": "expected", "targets": "expected"}
RESULTS = re.compile(r".+/(score|justification|state)")  # of scorers: they will be made anew
MEASURED = {"epoch", "target", "latency", "token_count", "cost_usd", "finish_reason", "ttft", "output_rate"}
EXPECTED = ("expected_response", "expected")  # expectations that are an answer, the likeliest first
FACTS = "expected_facts"
OWN_TAGS = "mlflow."


def records_of_table(table: Mapping[str, Any]) -> Iterator[Record]:
    """The rows of an evaluation table, of several epochs the first, without what scorers found."""
    columns = [str(name) for name in table["columns"]]
    for values in table["data"]:
        row = dict(zip(columns, values, strict=True))
        if row.get("epoch", 1) != 1:
            continue
        kept = {name: item for name, item in row.items() if name not in MEASURED and not RESULTS.fullmatch(name)}
        for name in ("ground_truth", "targets", "expected"):
            if isinstance(text := kept.get(name), str) and text.startswith("["):
                kept[name] = _several(text)
        yield kept


def _several(text: str) -> Any:
    """The accepted answers that we write as a JSON list; any other text as it is."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else text


def record_of_evaluation(data: Mapping[str, Any]) -> Record:
    """A record of an evaluation dataset: each of its inputs a column, and so each of its expectations.

    The only input is `input` as well, unless it is a conversation. `expected` is the expected answer, or all expected
    facts as one text, for an answer is to have every one of them.
    """
    inputs, expectations = _mapping(data.get("inputs")), _mapping(data.get("expectations"))
    found: dict[str, Any] = dict(inputs)
    if len(inputs) == 1 and "messages" not in inputs:
        found.setdefault("input", next(iter(inputs.values())))
    for name, item in expectations.items():
        found.setdefault(name if name not in found or name == "expected" else f"expectations.{name}", item)
    answer = next((expectations[name] for name in EXPECTED if expectations.get(name) is not None), None)
    facts = expectations.get(FACTS)
    if answer is None and isinstance(facts, list) and facts:
        answer = "\n".join(str(fact) for fact in facts)
    if answer is not None:
        found["expected"] = answer
    for name in ("outputs", "tags"):
        if own := _without_own(data.get(name)):
            found.setdefault(name, own)
    if data.get("dataset_record_id"):
        found.setdefault("id", data["dataset_record_id"])
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_own(value: Any) -> Any:
    """Tags or outputs without the tags that MLflow sets itself."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if not str(name).startswith(OWN_TAGS)}


@dataclass(slots=True)
class Renamed:
    """A reader whose records have our names in place of MLflow's: `inputs` is input, `ground_truth` is expected.

    `kept` are columns that the suite calls by MLflow's own name. Rows whose inputs are a mapping are taken apart.
    """

    reader: Reader
    kept: Collection[str]
    text_only: bool

    @classmethod
    def of(cls, reader: Reader, spec: DatasetSpec) -> Renamed:
        """The reader of a suite's dataset."""
        columns = [getattr(spec.columns, role) for role in ("id", "input", "expected", "messages")]
        named = [column.column for column in columns if column is not None]
        kept = {name for item in named for name in ((item,) if isinstance(item, str) else item)}
        return cls(reader, frozenset({*kept, *spec.where}), bool(getattr(reader, "text_only", False)))

    def __call__(self) -> Iterator[tuple[Record, str]]:
        for record, place in self.reader():
            yield record if isinstance(record, InvalidRecord) else self._renamed(record), place

    def _renamed(self, record: Record) -> Record:
        if isinstance(record.get("inputs"), Mapping) and "inputs" not in self.kept:
            others = {name: item for name, item in record.items() if name not in ("inputs", "expectations")}
            return {**record_of_evaluation(record), **others}
        found: dict[str, Any] = {}
        for name, item in record.items():
            ours = NAMES.get(name, name)
            found[name if name in self.kept or (ours != name and (ours in record or ours in found)) else ours] = item
        return found
