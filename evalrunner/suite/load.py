"""A suite file to a `Suite`, with every problem of the file at once.

`read_suite` notes problems in the document and goes on, so that what is found later, when the parts are
assembled, is reported together with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalrunner.domain import EMPTY, NoAnswer
from evalrunner.suite.document import Document, load_document
from evalrunner.suite.gates import read_gates
from evalrunner.suite.models import read_model, read_scorers, read_targets
from evalrunner.suite.options import RunOptions
from evalrunner.suite.overrides import apply_options
from evalrunner.suite.reading import SectionReader
from evalrunner.suite.running import read_prices, read_run
from evalrunner.suite.schema import JudgeCheck, Suite, TargetSpec
from evalrunner.suite.sections import read_dataset, read_prompt
from evalrunner.suite.tracking import read_tracking, shown_address, shown_tracking

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
TOP_KEYS = (
    "name", "description", "dataset", "prompt", "target", "targets", "params", "judge", "judge_check",
    "scorers", "on_no_answer", "gates", "gate_defaults", "min_coverage", "inconclusive", "baseline_required", "run",
    "slices", "reducer", "cache", "prices", "tracking",
)  # fmt: skip


def open_suite(path: str | Path, options: RunOptions | None = None) -> Document:
    """The document of a suite file with the options applied. Raises SuiteError where it is no YAML."""
    document = load_document(Path(path), shown=str(path))
    apply_options(document, options or RunOptions())
    return document


def load_suite(path: str | Path, options: RunOptions | None = None) -> Suite:
    """The suite in a file, checked by itself (not yet against its data or its factories). Raises SuiteError."""
    document = open_suite(path, options)
    suite = read_suite(document)
    document.raise_problems()
    assert suite is not None  # what has no problems is a suite
    return suite


def read_suite(document: Document) -> Suite | None:
    """The suite of a document, or None where it is too broken to go on; problems stand in the document."""
    path = Path(document.file)
    reader = SectionReader(document, path.parent)
    data = document.data
    if not isinstance(data, Mapping):
        what = "is empty" if data is None else "is not a mapping"
        document.problem((), f"{what}; a suite needs at least dataset, target and scorers ('evalrun init' writes one)")
        return None
    reader.check_keys(data, (), TOP_KEYS)
    on_no_answer = _plain(reader, data, "on_no_answer", NoAnswer, "unscored")
    dataset = read_dataset(reader, data["dataset"]) if "dataset" in data else None
    if "dataset" not in data:
        reader.report((), "needs 'dataset' (the inputs), such as dataset: data/qa.csv")
    if "scorers" not in data:
        reader.report((), "needs 'scorers', such as scorers: [exact_match]")
    targets = read_targets(reader, data)
    scorers = read_scorers(reader, data["scorers"], on_no_answer=on_no_answer) if "scorers" in data else ()
    judge = read_model(reader, data["judge"], ("judge",)) if data.get("judge") is not None else None
    suite = Suite(
        name=_name(reader, data, path),
        path=path,
        description=_plain(reader, data, "description", str | None, None),
        dataset=dataset if dataset is not None else _NO_DATASET,
        prompt=read_prompt(reader, data["prompt"], ("prompt",)) if data.get("prompt") is not None else None,
        targets=targets,
        params=(reader.mapping(data["params"], ("params",)) or EMPTY) if data.get("params") is not None else EMPTY,
        judge=judge,
        judge_check=_plain(reader, data, "judge_check", JudgeCheck, "on"),
        scorers=scorers,
        gates=read_gates(reader, data),
        run=read_run(reader, data),
        prices=read_prices(reader, data["prices"]) if data.get("prices") is not None else EMPTY,
        slices=_slices(reader, data),
        tracking=read_tracking(reader, data["tracking"]) if data.get("tracking") is not None else None,
        resolved=_resolved(data, targets, judge),
    )
    return suite if dataset is not None and targets and scorers else None


_NO_DATASET: Any = None  # stands in a Suite that is thrown away, so that the other sections are still read


def _plain(reader: SectionReader, data: Mapping[str, Any], name: str, annotation: Any, default: Any) -> Any:
    if data.get(name) is None:
        return default
    found = reader.value(data[name], annotation, (name,))
    return default if found is None else found


def _name(reader: SectionReader, data: Mapping[str, Any], path: Path) -> str:
    if data.get("name") is None:
        name = path.stem.lower()
        if not NAME.fullmatch(name):
            reader.report((), f"needs a 'name' of a-z, 0-9, '.', '_' and '-'; the file's own, {name!r}, is not one")
        return name
    found = reader.text(data["name"], ("name",))
    if found is not None and not NAME.fullmatch(found):
        reader.report(("name",), f"{found!r} should be of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit")
    return found or ""


def _slices(reader: SectionReader, data: Mapping[str, Any]) -> tuple[str, ...]:
    found: tuple[str, ...] = _plain(reader, data, "slices", tuple[str, ...], ())
    for place, column in enumerate(found):
        if column in found[:place]:
            reader.report(("slices", place), f"names {column!r} a second time")
    return found


def _resolved(data: Mapping[str, Any], targets: tuple[TargetSpec, ...], judge: Any) -> Mapping[str, Any]:
    """The suite's data as it may be written down: addresses filled in, keys as the name of their variable."""
    shown = {name: item for name, item in data.items() if name not in ("target", "targets", "judge")}
    shown["targets"] = [
        {**spec.model.shown, "name": spec.name}
        if spec.model is not None
        else {
            "type": spec.type,
            "name": spec.name,
            **spec.options,
            **spec.shown,
            **({"args": spec.args} if spec.args else {}),
        }
        for spec in targets
    ]
    if judge is not None:
        shown["judge"] = {**judge.shown, "name": judge.name}
    if "tracking" in shown:
        shown["tracking"] = shown_tracking(shown["tracking"])
    if isinstance(shown.get("dataset"), Mapping):
        shown["dataset"] = shown_address(shown["dataset"])
    shown["scorers"] = [_without_keys(item) for item in data.get("scorers") or []]
    return shown


def _without_keys(item: Any) -> Any:
    """A scorer's data with the secrets of a judge of its own taken out."""
    if isinstance(item, Mapping) and isinstance(item.get("judge"), Mapping):
        judge = {name: value for name, value in item["judge"].items() if name not in ("api_key", "headers")}
        return {**item, "judge": judge}
    return item
