"""From the `dataset:` of a suite to its parts: readers found by name or extension, their options checked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, get_args

from evalrunner.datasets.file_lookup import EXTENSIONS, STDIN, FileNotResolved, find_files, spool_stdin, type_of
from evalrunner.datasets.sources import CustomReader, DatasetSource, InlineRows, Source
from evalrunner.domain import EMPTY
from evalrunner.errors import Problem, SuiteError, nearest
from evalrunner.plugins import (
    BUILTIN,
    Factory,
    ReferenceProblem,
    describe_crash,
    factory_options,
    known_names,
    load,
    resolve,
)
from evalrunner.suite.schema import DatasetSpec, keys_of
from evalrunner.suite.validate import check_value, describe_type

DATASET_KEYS = tuple(keys_of(DatasetSpec))
SPLIT_ROLES = ("id", "input", "messages")


@dataclass(slots=True)
class DatasetResolver:
    """One dataset being opened. What is wrong is noted in `problems`; `spooled` is the copy of standard input.

    `kept` is the copy that an earlier process of the same run has made: it is read instead. `addresses` are those of
    the suite's trackers, `origin` is what exactly was read from another system.
    """

    spec: DatasetSpec
    folder: Path
    spool_folder: Path
    stdin: BinaryIO | None
    kept: Path | None = None
    addresses: Mapping[str, str | None] = EMPTY
    problems: list[Problem] = field(default_factory=list)
    spooled: Path | None = None
    origin: Mapping[str, str] | None = None
    prepared: dict[str, tuple[Factory, dict[str, Any]]] = field(default_factory=dict)

    def parts(self) -> tuple[Source, ...]:
        """What there is to read. Raises SuiteError with everything that is wrong."""
        self._check_columns()
        if self.spec.source is not None:
            found = self._external(self.spec.source)
        elif self.spec.rows is not None:
            found = self._inline(self.spec.rows)
        elif self.spec.type is not None and self.spec.type not in BUILTIN["datasets"]:
            found = self._own(self.spec.type)
        else:
            found = self._files()
        if self.problems:
            raise SuiteError(list(dict.fromkeys(self.problems)))  # every file of a glob may complain of one option
        return tuple(found)

    def report(self, key: str, message: str) -> None:
        self.problems.append(Problem("", f"dataset.{key}" if key else "dataset", message))

    def _check_columns(self) -> None:
        for role in SPLIT_ROLES:
            spec = getattr(self.spec.columns, role)
            if spec is not None and spec.split is not None:
                self.report(f"columns.{role}.split", f"splits {role!r}; only 'expected' can be several")
        expected = self.spec.columns.expected
        if expected is not None and expected.split == "":
            self.report("columns.expected.split", "is empty; it should be what stands between the answers, such as '|'")

    def _inline(self, rows: tuple[Mapping[str, Any], ...]) -> list[Source]:
        if self.spec.path is not None:
            self.report("rows", "stands beside 'path'; keep one of them")
        if self.spec.type is not None:
            self.report("type", "is for files; rows need none")
        self._check_options({}, "rows")
        return [Source(InlineRows(rows), "rows")]

    def _external(self, name: str) -> list[Source]:
        """The parts of a dataset of another system, found first, so that the options of its reader can be checked."""
        if self.spec.type is not None:
            self.report("type", f"is for files; what {name!r} finds needs none")
        source: DatasetSource = load("dataset_sources", name)
        own = factory_options(source)
        options = {
            key: check_value(value, own[key].annotation, (key,), lambda at, what: self.report(str(at[0]), what))
            for key, value in self.spec.source_options.items()
        }
        try:
            found = source(self.spec.reference, self.addresses.get(name), self.spool_folder, **options)
        except ValueError as refused:
            self.report(name, str(refused))
            return []
        self.origin = found.origin
        if found.file is None:
            self._check_options({}, name)
            return [Source(found.adapt(InlineRows(found.records), self.spec), found.display_name)]
        parts = self._builtin(found.file, type_of(found.file.name) or "", found.display_name)
        return [replace(part, reader=found.adapt(part.reader, self.spec)) for part in parts]

    def _files(self) -> list[Source]:
        """The parts of files that built-in readers read."""
        path = self.spec.path
        if not path:
            self.report("path", "is missing; name a file, a glob, or - for standard input")
            return []
        try:
            if path == STDIN:
                kind = self.spec.type or "jsonl"
                self.spooled = self._spool(kind)
                return self._builtin(self.spooled, kind, "stdin")
            files = find_files(path, self.folder)
        except FileNotResolved as missing:
            self.report("path", str(missing))
            return []
        found: list[Source] = []
        for file in files:
            known = self.spec.type or type_of(file.name)
            if known is None:
                types = ", ".join(dict.fromkeys(EXTENSIONS.values()))
                self.report("type", f"the name of {str(file)!r} does not say what it is; say type: one of {types}")
            else:
                found.extend(self._builtin(file, known, str(file)))
        return found

    def _spool(self, extension: str) -> Path:
        return self.kept or spool_stdin(self.stdin, self.spool_folder, extension)

    def _builtin(self, file: Path, kind: str, shown: str) -> list[Source]:
        prepared = self._prepare(kind)
        if prepared is None:
            return []
        factory, options = prepared
        made = self._attempt(kind, functools.partial(factory, path=str(file), **options))
        return [] if made is None else [Source(made, shown, file)]

    def _own(self, kind: str) -> list[Source]:
        """The part of a reader of one's own, or one for each file where its path names files."""
        prepared = self._prepare(kind)
        if prepared is None:
            return []
        factory, options = prepared
        parameters = parameters_of(factory)
        wanted = parameters.get("path") or next((item for item in parameters.values() if _takes_all(item)), None)
        if self.spec.path is None:
            if wanted is not None and wanted.name == "path" and wanted.default is wanted.empty:
                self.report("path", f"is missing; {kind!r} needs it")
                return []
            return self._own_part(kind, functools.partial(factory, **options), kind, None)
        if wanted is None:
            self.report("path", f"is not for {kind!r}, which has no such option")
            return []
        kinds = get_args(wanted.annotation) or (wanted.annotation,)
        as_wanted = Path if Path in kinds and str not in kinds else str
        found: list[Source] = []
        for file in self._own_files(self.spec.path, kind):
            make = functools.partial(factory, path=as_wanted(file), **options)
            found.extend(self._own_part(kind, make, str(file), Path(file)))
        return found

    def _own_files(self, path: str, kind: str) -> list[str]:
        """The files a path names; the path itself where there are none, since only the reader knows what it means."""
        try:
            if path == STDIN:
                self.spooled = self._spool("data")
                return [str(self.spooled)]
            return [str(file) for file in find_files(path, self.folder)]
        except FileNotResolved as missing:
            if path == STDIN:
                self.report("path", str(missing))
                return []
            return [path]

    def _own_part(self, kind: str, make: functools.partial[Any], shown: str, file: Path | None) -> list[Source]:
        made = self._attempt(kind, make)
        if made is None:
            return []
        if not callable(made) and not hasattr(made, "__iter__"):
            self.report(
                "type", f"{kind!r} returned a {type(made).__name__}; it should return a function that yields rows"
            )
            return []
        reader = CustomReader(made, make, kind, text_only=bool(getattr(made, "text_only", False)))
        return [Source(reader, shown, file)]

    def _attempt(self, kind: str, make: functools.partial[Any]) -> Any:
        """What a factory returns, or None with its complaint noted."""
        try:
            made = make()
        except SuiteError as wrong:
            for problem in wrong.problems:
                self.report("type", problem.message)
            return None
        except Exception as crash:  # whatever people's factories raise; the built-in ones complain of their options
            if kind in BUILTIN["datasets"] and isinstance(crash, ValueError):
                self.report("", str(crash))
            else:
                self.report("type", describe_crash(make.func, crash))
            return None
        if made is None:
            self.report("type", f"{kind!r} returned nothing; it should return a function that yields rows")
        return made

    def _prepare(self, kind: str) -> tuple[Factory, dict[str, Any]] | None:
        """The factory of a type with its options, or None with what is wrong noted once."""
        if kind in self.prepared:
            return self.prepared[kind]
        before = len(self.problems)
        try:
            factory = resolve("datasets", kind, folder=self.folder)
            options = self._check_options(parameters_of(factory), kind)
        except (ReferenceProblem, NameError, TypeError, ValueError) as wrong:
            self.report("type", str(wrong))
            return None
        if len(self.problems) > before:
            return None
        self.prepared[kind] = factory, options
        return factory, options

    def _check_options(self, parameters: Mapping[str, inspect.Parameter], kind: str) -> dict[str, Any]:
        """The options that the suite gives, checked against the parameters of the factory."""
        given = self.spec.options
        takes_all = any(_takes_all(item) for item in parameters.values())
        known = [name for name, item in parameters.items() if name != "path" and not _takes_all(item)]
        checked: dict[str, Any] = {}
        for name, value in given.items():
            if name in known:
                checked[name] = check_value(
                    value,
                    parameters[name].annotation,
                    (name,),
                    lambda at, what: self.report(str(at[0]), f"{at[0]!r} {what}"),
                )
            elif takes_all:
                checked[name] = value
            else:
                choices = [*known, *DATASET_KEYS, *known_names("dataset_sources")]
                hint = nearest(name, choices) or f"; known here: {', '.join(choices)}"
                self.report(name, f"{name!r} is neither a key of a dataset nor an option of {kind!r}{hint}")
        for name in known:
            if parameters[name].default is inspect.Parameter.empty and name not in given:
                self.report("", f"needs {name!r} ({describe_type(parameters[name].annotation)}), an option of {kind!r}")
        return checked


def parameters_of(factory: Factory) -> dict[str, inspect.Parameter]:
    """What a factory can be given by name; people's own need not have keyword-only ones."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(factory, eval_str=True).parameters
    return {name: item for name, item in parameters.items() if item.kind in named}


def _takes_all(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.VAR_KEYWORD
