"""The `shots` of a prompt: worked examples from a data file, from data to their typed form."""

from __future__ import annotations

from typing import Any, Final

from evalrunner.suite.data_address import is_address
from evalrunner.suite.schema import DatasetSpec, KeyPath, PromptPart, ShotsSpec
from evalrunner.suite.sections import read_dataset
from evalrunner.suite.validate import SectionReader, keys_of

SHOTS: Final = "shots"
DATA_KEYS: Final = ("path", "type", "columns", "where")  # of a dataset; others choose and order samples, as shots do


def read_shots(reader: SectionReader, data: Any, path: KeyPath) -> PromptPart | None:
    """`shots: {path: train.jsonl, n: 5}` as an entry of a prompt; None and its problems where it is wrong."""
    mapping = reader.mapping({"path": data} if isinstance(data, str) else data, path)
    if mapping is None:
        return None
    before = len(reader.document.problems)
    own = keys_of(ShotsSpec)
    for name in mapping:
        if (name in keys_of(DatasetSpec) and name not in DATA_KEYS) or name in ("mlflow", "uri"):
            reader.report((*path, name), f"is not for shots; they have {', '.join((*DATA_KEYS, *own))}", at_key=True)
    if not isinstance(mapping.get("path"), str):
        reader.report(path, "needs 'path', a data file with examples")
    if isinstance(mapping.get("type"), str) and ":" in mapping["type"]:
        reader.report((*path, "type"), "is user-defined; shots are read by the built-in readers")
    fields = reader.fields(own, mapping, path)
    if len(reader.document.problems) > before:
        return None
    dataset = read_dataset(reader, {name: item for name, item in mapping.items() if name not in own}, path)
    if dataset is None or dataset.path is None or len(reader.document.problems) > before:
        return None
    if dataset.path == "-":
        reader.report((*path, "path"), "is standard input; name a file")
        return None
    if is_address(dataset.path):
        message = f"{dataset.path!r} is an address, and shots are read from files; download it, and name the file"
        reader.report((*path, "path"), message)
        return None
    restrictions = None if reader.document.is_owners(path) else reader.document.restrictions
    if restrictions is not None and (refusal := restrictions.path_refusal(dataset.path, reader.folder)) is not None:
        reader.report(
            (*path, "path"), f"{dataset.path!r} {refusal}, which --untrusted refuses; copy it into the folder"
        )
        return None
    reader.document.files.append(reader.folder / dataset.path)
    return PromptPart(SHOTS, "", key_path=path, shots=ShotsSpec(**fields, dataset=dataset, folder=reader.folder))
