"""Names to factories: the built-in tables, entry points, `package.module:name` and `path/file.py:name`.

A factory takes keyword-only options and returns a callable. The tables hold strings, so that nothing is
imported before a suite names it, and a reader finds every part here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evalrunner.errors import nearest

Group: TypeAlias = Literal["scorers", "targets", "datasets"]
Factory: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Place:
    """What a factory may want to know beside its options, if its first parameter is called `place`.

    `folder` is the suite's, `runs` holds the runs folder, `args` is what the suite passes to people's functions.
    `mlflow_uri` is where the suite says MLflow is, None where it does not.
    """

    folder: Path
    runs: Path
    args: Mapping[str, Any]
    mlflow_uri: str | None = None


BUILTIN: Mapping[Group, Mapping[str, str]] = {
    "scorers": {
        "ari_grade_level": "evalrunner.scorers.readability:ari_grade_level",
        "contains": "evalrunner.scorers.text:contains",
        "exact_match": "evalrunner.scorers.text:exact_match",
        "factuality": "evalrunner.scorers.factuality:factuality",
        "flesch_kincaid_grade_level": "evalrunner.scorers.readability:flesch_kincaid_grade_level",
        "mlflow": "evalrunner.scorers.mlflow:mlflow",
        "numeric_match": "evalrunner.scorers.numeric:numeric_match",
        "python": "evalrunner.scorers.python:python",
        "regex": "evalrunner.scorers.text:regex",
        "token_f1": "evalrunner.scorers.text:token_f1",
        "toxicity": "evalrunner.scorers.toxicity:toxicity",
    },
    "targets": {
        "http": "evalrunner.targets.http:http",
        "mlflow": "evalrunner.targets.mlflow:mlflow",
        "python": "evalrunner.targets.python:python",
        "recorded": "evalrunner.targets.recorded:recorded",
    },
    "datasets": {
        "csv": "evalrunner.datasets.csv:csv",
        "json": "evalrunner.datasets.json:json",
        "jsonl": "evalrunner.datasets.json:jsonl",
        "parquet": "evalrunner.datasets.parquet:parquet",
        "tsv": "evalrunner.datasets.csv:tsv",
    },
}

RESERVED_OPTIONS = frozenset({"type", "name", "version", "judge", "on_no_answer", "args"})
"""Keys of the suite itself beside `type`; a factory may not have an option of such a name."""


class ReferenceProblem(ValueError):
    """A name that leads nowhere. The message says what is wrong and, where it can, the nearest known name."""


def known_names(group: Group) -> dict[str, str]:
    """Every name of a group with where it leads: the built-in ones and those of installed packages."""
    names = dict(BUILTIN[group])
    for name, value in entry_points(group).items():
        if name in names:
            raise ReferenceProblem(f"two {group} are called {name!r}: {names[name]} and {value}; uninstall one")
        names[name] = value
    return names


@functools.cache
def entry_points(group: Group) -> dict[str, str]:
    """The entry points `evalrunner.<group>` of installed packages, name to `module:attribute`."""
    from importlib.metadata import entry_points as installed

    found: dict[str, str] = {}
    for point in installed(group=f"evalrunner.{group}"):
        if found.get(point.name, point.value) != point.value:
            raise ReferenceProblem(
                f"two packages name one of their {group} {point.name!r}: {found[point.name]} and {point.value}"
            )
        found[point.name] = point.value
    return found


def resolve(group: Group, reference: str, *, folder: Path) -> Factory:
    """The factory that a suite's `type:` names; files are relative to `folder`. Raises ReferenceProblem."""
    if ":" in reference:
        factory = load_attribute(reference, folder=folder)
    else:
        names = known_names(group)
        if reference not in names:
            kind = group.removesuffix("s")
            raise ReferenceProblem(f"unknown {kind} {reference!r}{nearest(reference, names)}")
        factory = load_attribute(names[reference], folder=folder)
    return check_factory(reference, factory)


def load_attribute(reference: str, *, folder: Path) -> Any:
    """The object behind `package.module:name` or `path/file.py:name`. Raises ReferenceProblem."""
    location, _, attribute = reference.rpartition(":")
    if not location or not attribute:
        raise ReferenceProblem(f"{reference!r} is neither 'package.module:name' nor 'path/file.py:name'")
    module = load_file(location, folder=folder) if location.endswith(".py") else load_module(location)
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise ReferenceProblem(f"{location!r} has no {attribute!r}{nearest(attribute, public)}")
        found = getattr(found, part)
    return found


def load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name and (name == missing.name or name.startswith(missing.name + ".")):
            raise ReferenceProblem(f"there is no module {name!r} to import") from None
        raise ReferenceProblem(f"importing {name!r} failed: {missing}") from missing
    except Exception as crash:  # whatever the user's module raises is the user's to read
        raise ReferenceProblem(f"importing {name!r} failed: {type(crash).__name__}: {crash}") from crash


def load_file(location: str, *, folder: Path) -> Any:
    """The module in a file, loaded once per path; its own folder is not put on `sys.path`."""
    path = (folder / location).resolve()
    name = f"evalrun_file_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise ReferenceProblem(f"there is no file {location!r} in {str(folder)!r}")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as crash:
        del sys.modules[name]
        if not isinstance(crash, Exception | SystemExit):
            raise
        raise ReferenceProblem(f"importing {location!r} failed: {type(crash).__name__}: {crash}") from crash
    return module


def check_factory(reference: str, factory: Any) -> Factory:
    """The factory itself, unless it is none, or has an option whose name the suite keeps for itself."""
    if not callable(factory):
        raise ReferenceProblem(f"{reference!r} is a {type(factory).__name__}, not a function")
    for option in factory_options(factory).values():
        if option.name in RESERVED_OPTIONS:
            raise ReferenceProblem(
                f"{reference!r} has an option {option.name!r}, a name that suites keep for themselves"
            )
    found: Factory = factory
    return found


def factory_options(factory: Factory) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a factory, with evaluated annotations: what a suite may set."""
    signature = inspect.signature(factory, eval_str=True)
    return {name: item for name, item in signature.parameters.items() if item.kind is item.KEYWORD_ONLY}


def call_factory(factory: Factory, options: Mapping[str, Any], place: Place) -> Any:
    """What the factory returns for the options; it gets the place first if its first parameter is called so."""
    first = next(iter(inspect.signature(factory).parameters.values()), None)
    if first is not None and first.name == "place" and first.kind is not first.KEYWORD_ONLY:
        return factory(place, **options)
    return factory(**options)
