"""Open the `dataset:` of a suite: find its files, find its reader by name or extension, check the options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, get_args

from evalrunner.datasets.column_options import column_problems
from evalrunner.datasets.files import FileNotResolved, find_files, refuse_address
from evalrunner.datasets.hub import HubFile
from evalrunner.datasets.packing import EXTENSIONS as PACKING
from evalrunner.datasets.packing import UnreadableFileError, member_name
from evalrunner.datasets.records import InvalidRecord, NotJsonError, Reader, Record, json_record
from evalrunner.datasets.remote import RemoteFile, Terms, source_of
from evalrunner.datasets.selection import EVERYTHING, Subset
from evalrunner.datasets.source import SampleSource, Source
from evalrunner.datasets.stdin import spool_stdin
from evalrunner.domain import EMPTY
from evalrunner.egress import current_policy
from evalrunner.errors import EvalrunError, Problem, SuiteError, nearest
from evalrunner.limits import STANDARD, Limits
from evalrunner.plugin_table import BUILTIN
from evalrunner.plugins import (
    Factory,
    ReferenceProblem,
    describe_crash,
    factory_options,
    known_names,
    load,
    resolve,
)
from evalrunner.suite.data_address import address_of, is_address, is_hub
from evalrunner.suite.schema import DatasetSpec
from evalrunner.suite.untrusted import Restrictions
from evalrunner.suite.validate import check_value, describe_type, keys_of

PACKED = frozenset({"parquet", "xlsx"})  # formats that are compressed themselves
STDIN = "-"
EXTENSION_ALIASES = {"ndjson": "jsonl", "yml": "yaml"}
FILE_EXTENSIONS = tuple(sorted(f".{name}" for name in (*BUILTIN["datasets"], *EXTENSION_ALIASES)))
UNREAD_EXTENSIONS: Mapping[str, tuple[str, ...]] = {  # what is known not to be text, and what to do about it
    "save the sheet as CSV": (".xlsm", ".xls", ".xlsb", ".ods", ".numbers"),
    "unpack it": (".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"),
    "unpack it, or pack it with gzip": (".lz4", ".lzma", ".br", ".z"),
    "save the rows as YAML or JSON Lines": (".toml",),
    "save the table as Parquet, CSV or JSON Lines": (
        ".arrow", ".feather", ".ipc", ".avro", ".orc", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".hdf5", ".db",
        ".sqlite", ".sqlite3", ".duckdb", ".dta", ".sav", ".rds",
    ),
    "save the data as CSV or JSON Lines": (".html", ".htm", ".xml", ".pdf", ".doc", ".docx", ".rtf", ".md"),
}  # fmt: skip


def _unchanged(reader: Reader, spec: DatasetSpec) -> Reader:
    return reader


@dataclass(frozen=True, slots=True)
class ExternalDataset:
    """What a `DatasetSource` returns: `records`, or a downloaded `file` that has them.

    `display_name` is its name in messages. `origin` says exactly what was read: the permanent reference, and its name
    and digest if it has them. `adapt` wraps the reader, for example to rename columns as the suite expects them.
    """

    display_name: str
    origin: Mapping[str, str]
    records: tuple[Record, ...] = ()
    file: Path | None = None
    adapt: Callable[[Reader, DatasetSpec], Reader] = _unchanged


class DatasetSource(Protocol):
    """Finds what `dataset: {NAME: REFERENCE}` means. Registered as NAME in the plug-in group `dataset_sources`.

    `address` is that of the tracker NAME in the suite, None if it has none. `downloads` is a folder for files. Its
    keyword-only parameters are further keys of `dataset:`. Raises ValueError if the reference leads nowhere.
    """

    def __call__(self, reference: str, address: str | None, downloads: Path, /, **options: Any) -> ExternalDataset: ...


@dataclass(slots=True)
class InlineRows:
    """Rows in the suite file, or of another system. `locate` returns the position of a row in its file, counted from 0."""

    rows: Sequence[Mapping[str, Any]]
    text_only: bool = False
    locate: Callable[[int], str] = "rows[{}]".format

    def __call__(self) -> Iterator[tuple[Record, str]]:
        for number, row in enumerate(self.rows):
            yield _checked_record(row), self.locate(number)


@dataclass(slots=True)
class CustomReader:
    """A user-defined reader. Whatever it raises or yields wrongly becomes an invalid record with its name.

    `product` is what its factory returned: a function to call for every pass, or an iterable. If that can be read only
    once, `make` calls the factory again. Records may come with their location or without.
    """

    product: Any
    make: functools.partial[Any]
    name: str
    text_only: bool = False

    def __call__(self) -> Iterator[tuple[Record, str]]:
        number = 0
        try:
            for item in self._items():
                number += 1
                if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], str):
                    yield _checked_record(item[0]), item[1]
                else:
                    yield _checked_record(item), f"{self.name}, row {number}"
        except EvalrunError:
            raise
        except Exception as crash:  # user-defined code may raise anything
            message = describe_crash(self.make.func, crash)
            yield InvalidRecord(f"{message}, after row {number}" if number else message), self.name

    def _items(self) -> Iterable[Any]:
        items: Iterable[Any]
        if callable(self.product):
            items = self.product()
            return items
        items = self.product
        if iter(items) is items:  # a generator: exhausted after one pass
            self.product = self.make()
        return items


def _checked_record(row: Any) -> Record:
    if isinstance(row, InvalidRecord):
        return row
    if not isinstance(row, Mapping):
        return InvalidRecord(f"is of type {type(row).__name__}; a row must be a mapping of column to value")
    try:
        return json_record(row)
    except NotJsonError as wrong:
        return InvalidRecord(str(wrong))


def open_dataset(
    spec: DatasetSpec,
    *,
    folder: Path,
    spool_folder: Path,
    stdin: BinaryIO | None = None,
    stored_stdin: Path | None = None,
    addresses: Mapping[str, str | None] = EMPTY,
    locate_row: Callable[[int], str] | None = None,
    restrictions: Restrictions | None = None,
    limits: Limits = STANDARD,
    subset: Subset = EVERYTHING,
    pinned: Mapping[str, str] | None = None,
) -> SampleSource:
    """The dataset of a suite. Raises SuiteError for a missing file, an unknown reader or wrong options.

    Paths are relative to `folder`. `spool_folder` holds standard input, downloads and shuffled samples while the source
    lives. `stored_stdin` is a file read in place of standard input when a run is resumed. `addresses` are those of the
    suite's trackers. `locate_row` returns the position of an inline row in the suite file. `restrictions` are those of an
    untrusted suite. Only the samples of `subset` are used. `pinned` is the origin of
    the dataset of a resumed run.
    """
    resolver = DatasetResolver(
        spec, folder, spool_folder, stdin, stored_stdin, addresses, locate_row, restrictions, limits, pinned or EMPTY
    )
    source = SampleSource(spec, resolver.sources(), spool_folder, spooled=resolver.spooled, subset=subset)
    source.origin = resolver.origin
    return source


@dataclass(slots=True)
class DatasetResolver:
    """Resolves one dataset. `problems` collects what is wrong; `spooled` is the copy of standard input.

    `stored_stdin` is the copy that an earlier process of the same run made; it is read instead. `addresses` are those
    of the suite's trackers, `origin` is what exactly was read from another system.
    """

    spec: DatasetSpec
    folder: Path
    spool_folder: Path
    stdin: BinaryIO | None
    stored_stdin: Path | None = None
    addresses: Mapping[str, str | None] = EMPTY
    locate_row: Callable[[int], str] | None = None
    restrictions: Restrictions | None = None
    limits: Limits = STANDARD
    pinned: Mapping[str, str] = EMPTY
    problems: list[Problem] = field(default_factory=list)
    spooled: Path | None = None
    origin: Mapping[str, str] | None = None
    prepared: dict[str, tuple[Factory, dict[str, Any]]] = field(default_factory=dict)

    def sources(self) -> tuple[Source, ...]:
        """The sources to read. Raises SuiteError with all problems."""
        self._check_columns()
        if self.spec.source is not None:
            sources = self._external(self.spec.source)
        elif self.spec.rows is not None:
            sources = self._inline(self.spec.rows)
        elif self.spec.type is not None and self.spec.type not in BUILTIN["datasets"]:
            sources = self._custom(self.spec.type)
        else:
            sources = self._files()
        if self.problems:
            raise SuiteError(list(dict.fromkeys(self.problems)))  # every file of a glob may report the same option
        return tuple(sources)

    def report(self, key: str, message: str) -> None:
        self.problems.append(Problem("", f"dataset.{key}" if key else "dataset", message))

    def _check_columns(self) -> None:
        for key, message in column_problems(self.spec.columns):
            self.report(f"columns.{key}", message)

    def _inline(self, rows: tuple[Mapping[str, Any], ...]) -> list[Source]:
        if self.spec.path is not None:
            self.report("rows", "cannot be combined with 'path'; keep one of them")
        if self.spec.type is not None:
            self.report("type", "is only for files; remove it")
        self._check_options({}, "rows")
        reader = InlineRows(rows) if self.locate_row is None else InlineRows(rows, locate=self.locate_row)
        return [Source(reader, "rows")]

    def _external(self, name: str) -> list[Source]:
        """The source of a dataset in another system, fetched first, so that the options of its reader can be checked."""
        if self.spec.type is not None:
            self.report("type", f"is only for files; remove it for a dataset from {name!r}")
        source: DatasetSource = load("dataset_sources", name)
        own = factory_options(source)
        options = {
            key: check_value(value, own[key].annotation, (key,), lambda at, what: self.report(str(at[0]), what))
            for key, value in self.spec.source_options.items()
        }
        try:
            dataset = source(self.spec.reference, self.addresses.get(name), self.spool_folder, **options)
        except ValueError as refused:
            self.report(name, str(refused))
            return []
        self.origin = dataset.origin
        if dataset.file is None:
            self._check_options({}, name)
            return [Source(dataset.adapt(InlineRows(dataset.records), self.spec), dataset.display_name)]
        sources = self._builtin(dataset.file, type_of(dataset.file.name) or "", dataset.display_name)
        return [replace(part, reader=dataset.adapt(part.reader, self.spec)) for part in sources]

    def _files(self) -> list[Source]:
        """The sources of files that built-in readers read."""
        path = self.spec.path
        if not path:
            self.report("path", "is missing; set a file, a glob, or - for standard input")
            return []
        try:
            if path == STDIN:
                kind = self.spec.type or "jsonl"
                self.spooled = self._spool(kind)
                return self._builtin(self.spooled, kind, "stdin")
            if (address := address_of(self.spec)) is not None:
                return self._remote(address)
            for each in self.spec.paths:
                if is_address(each):
                    raise FileNotResolved(f"{each!r} is an address, which is a dataset of its own; name it alone")
                refuse_address(each)
            files = self._find_files(path)
        except FileNotResolved as missing:
            self.report("path", str(missing))
            return []
        except OSError as refused:
            self.report("path", f"{path!r} cannot be read: {refused.strerror or refused}")
            return []
        sources: list[Source] = []
        for file in files:
            if reader := self._type(file):
                sources.extend(self._builtin(file, reader, str(file)))
        return sources

    def _type(self, file: Path) -> str | None:
        """The reader of a file, None with the problem reported."""
        kind = self.spec.type or type_of(file.name)
        member = self.spec.options.get("member")
        try:
            kind = kind or type_in_archive(file, member if isinstance(member, str) else None)
        except FileNotResolved as unclear:
            self.report("path", str(unclear))
            return None
        except OSError as refused:
            self.report("path", f"{str(file)!r} cannot be read: {refused.strerror or refused}")
            return None
        if kind is None:
            self.report("type", unknown_type(file))
        return kind

    def _remote(self, address: str) -> list[Source]:
        """The sources of an address. Files of the hub are fetched when they are read, others now."""
        source = source_of(address)
        own = factory_options(source)
        options = {
            key: check_value(value, own[key].annotation, (key,), lambda at, what: self.report(str(at[0]), what))
            for key, value in self.spec.options.items()
            if key in own
        }
        rest = {key: value for key, value in self.spec.options.items() if key not in own}
        self.spec = replace(self.spec, options=rest)
        kinds = BUILTIN["datasets"] if self.spec.type is None else (self.spec.type,)
        readers = {name for kind in kinds for name in parameters_of(resolve("datasets", kind, folder=self.folder))}
        for name in rest.keys() - readers:
            choices = sorted({*own, *readers, *keys_of(DatasetSpec)} - {"path"})
            self.report(
                name, f"{name!r} is neither a key of a dataset nor an option of {address!r}{nearest(name, choices)}"
            )
        trusted = self.restrictions is None or (is_hub(address) and "HF_TOKEN" in self.restrictions.variables)
        if self.problems:
            return []
        try:
            dataset = source(
                address, Terms(self.spool_folder, current_policy(), self.pinned, trusted=trusted), **options
            )
            self.origin = dataset.origin
            sources = [part for file in dataset.files for part in self._remote_file(file)]
            if sources and isinstance(first := sources[0].reader, HubFile):
                first.file = first.fetch()  # what the hub refuses is told at the address
        except ValueError as refused:
            self.report("path", str(refused))
            return []
        return sources

    def _remote_file(self, file: RemoteFile) -> list[Source]:
        kind = self.spec.type or type_of(file.name) or (None if is_hub(file.display_name) else self._type(file.fetch()))
        if not kind:
            return []
        if not is_hub(file.display_name) or kind in ("csv", "tsv"):  # whose lists in cells are found before
            return self._builtin(file.fetch(), kind, file.display_name)
        if (make := self._maker(kind)) is None:
            return []
        try:
            make(path=file.name)  # checks its options and packages
        except ValueError as refused:
            self.report("", str(refused))
            return []
        except EvalrunError as lacking:
            self.report("type", str(lacking))
            return []
        return [Source(HubFile(file.fetch, lambda path: make(path=str(path)), file.display_name), file.display_name)]

    def _find_files(self, path: str) -> list[Path]:
        """The files of a path or glob. Raises FileNotResolved, also for one that an untrusted suite may not read."""
        listed = self.spec.files or (path,)
        found = (file for each in listed for file in find_files(each, self.folder, limits=self.limits))
        files = list(dict.fromkeys(found))  # a file that is listed twice is read once
        for file in files:
            if self.restrictions is not None and (refusal := self.restrictions.file_refusal(file)) is not None:
                raise FileNotResolved(f"{str(file)!r} {refusal}, which --untrusted refuses")
        return files

    def _spool(self, extension: str) -> Path:
        return self.stored_stdin or spool_stdin(
            self.stdin, self.spool_folder, extension, max_bytes=self.limits.stdin_bytes
        )

    def _maker(self, kind: str) -> functools.partial[Any] | None:
        """What makes the built-in reader of a path, with its options; None if they are wrong."""
        prepared = self._prepare(kind)
        if prepared is None:
            return None
        factory, options = prepared
        size = options.get("max_record_mb", self.limits.record_mb)
        if self.limits.fixed:
            size = min(size, self.limits.record_mb)
        return functools.partial(factory, **{**options, "max_record_mb": size})

    def _builtin(self, file: Path, kind: str, display_name: str) -> list[Source]:
        if (maker := self._maker(kind)) is None:
            return []
        make = functools.partial(maker, path=str(file))
        reader = self._call_factory(kind, make)
        return [] if reader is None else [Source(reader, display_name, file)]

    def _custom(self, kind: str) -> list[Source]:
        """The source of a custom reader, or one for each file if its path names files."""
        prepared = self._prepare(kind)
        if prepared is None:
            return []
        factory, options = prepared
        parameters = parameters_of(factory)
        path_option = parameters.get("path") or next((item for item in parameters.values() if _takes_all(item)), None)
        if self.spec.path is None:
            if path_option is not None and path_option.name == "path" and path_option.default is path_option.empty:
                self.report("path", f"is missing; {kind!r} needs it")
                return []
            return self._custom_source(kind, functools.partial(factory, **options), kind, None)
        if path_option is None:
            self.report("path", f"is not an option of {kind!r}; remove it")
            return []
        annotations = get_args(path_option.annotation) or (path_option.annotation,)
        path_type = Path if Path in annotations and str not in annotations else str
        sources: list[Source] = []
        for file in self._custom_files(self.spec.path):
            make = functools.partial(factory, path=path_type(file), **options)
            sources.extend(self._custom_source(kind, make, str(file), Path(file)))
        return sources

    def _custom_files(self, path: str) -> list[str]:
        """The files that a path names, or the path itself: only the reader knows what it means."""
        try:
            if path == STDIN:
                self.spooled = self._spool("data")
                return [str(self.spooled)]
            return [str(file) for file in self._find_files(path)]
        except FileNotResolved as missing:
            if path == STDIN or self.spec.files:
                self.report("path", str(missing))
                return []
            return [path]

    def _custom_source(
        self, kind: str, make: functools.partial[Any], display_name: str, file: Path | None
    ) -> list[Source]:
        product = self._call_factory(kind, make)
        if product is None:
            return []
        if not callable(product) and not hasattr(product, "__iter__"):
            returned = type(product).__name__
            self.report("type", f"{kind!r} returned a {returned}; it must return a function that yields rows")
            return []
        reader = CustomReader(product, make, kind, text_only=bool(getattr(product, "text_only", False)))
        return [Source(reader, display_name, file)]

    def _call_factory(self, kind: str, make: functools.partial[Any]) -> Any:
        """What a factory returns, or None with its error reported."""
        try:
            product = make()
        except SuiteError as wrong:
            for problem in wrong.problems:
                self.report("type", problem.message)
            return None
        except Exception as crash:  # a custom factory may raise anything; built-in ones reject their options
            if kind in BUILTIN["datasets"] and isinstance(crash, ValueError):
                self.report("", str(crash))
            else:
                self.report("type", describe_crash(make.func, crash))
            return None
        if product is None:
            self.report("type", f"{kind!r} returned nothing; it must return a function that yields rows")
        return product

    def _prepare(self, kind: str) -> tuple[Factory, dict[str, Any]] | None:
        """The factory of a type with its options, or None with the problem reported once."""
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
        """The options of the suite, checked against the parameters of the factory."""
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
                choices = [*known, *keys_of(DatasetSpec), *known_names("dataset_sources")]
                hint = nearest(name, choices) or f"; valid keys: {', '.join(choices)}"
                self.report(name, f"{name!r} is neither a key of a dataset nor an option of {kind!r}{hint}")
        for name in known:
            if parameters[name].default is inspect.Parameter.empty and name not in given:
                self.report("", f"needs {name!r} ({describe_type(parameters[name].annotation)}), an option of {kind!r}")
        return checked


def parameters_of(factory: Factory) -> dict[str, inspect.Parameter]:
    """The parameters of a factory that can be passed by name."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(factory, eval_str=True).parameters
    return {name: item for name, item in parameters.items() if item.kind in named}


def _takes_all(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.VAR_KEYWORD


def unknown_type(file: Path) -> str:
    """What to do about a file whose name does not have the extension of a reader."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes[-1:] and suffixes[-1] in PACKING and suffixes[-2:-1] and suffixes[-2].removeprefix(".") in PACKED:
        return f"{str(file)!r} cannot be read: {suffixes[-2].removeprefix('.')} is packed itself and not read from {suffixes[-1]}; unpack it"
    for advice, extensions in UNREAD_EXTENSIONS.items():
        if any(suffix in extensions for suffix in _format_suffixes(suffixes)):
            return f"{str(file)!r} cannot be read: {advice}"
    types = ", ".join(BUILTIN["datasets"])
    return f"cannot tell the format of {str(file)!r} from its name; set type: one of {types}"


def _format_suffixes(suffixes: Sequence[str]) -> Sequence[str]:
    """The extension that says the format, before that of its packing."""
    return suffixes[-2:] if suffixes and suffixes[-1] in PACKING else suffixes[-1:]


def type_of(name: str) -> str | None:
    """The built-in reader for a file's extension, None if there is none. Text formats may be packed, as `.csv.gz`."""
    lowered = name.lower()
    packing = next((suffix for suffix in PACKING if lowered.endswith(suffix)), "")
    extension = Path(lowered.removesuffix(packing)).suffix.removeprefix(".")
    kind = EXTENSION_ALIASES.get(extension, extension)
    if kind not in BUILTIN["datasets"] or (kind in PACKED and packing):
        return None
    return kind


def type_in_archive(file: Path, member: str | None) -> str | None:
    """The reader for the file in a ZIP archive, by its name. Raises FileNotResolved if it is not clear which is read."""
    if not file.name.lower().endswith(".zip"):
        return None
    try:
        return type_of(member_name(file, member))
    except UnreadableFileError as unreadable:
        raise FileNotResolved(f"{str(file)!r} {unreadable}") from None
