"""Plug-ins: names to factories, and functions called with the parameters they name.

A name leads to a factory by the built-in table, an entry point, `package.module:name` or `path/file.py:name`.
A factory takes keyword-only options and returns a callable. The table holds strings, so nothing is imported
before a suite names it. User-defined functions take any subset of the parameters on offer, so a contract can
grow without breaking them, and a wrong parameter is found before the first call.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from evalrunner.domain import EMPTY
from evalrunner.errors import nearest
from evalrunner.limits import STANDARD, Limits
from evalrunner.plugin_table import BUILTIN, Group
from evalrunner.redact import redact_message, redact_start
from evalrunner.storage import is_file
from evalrunner.user_code import find_home, folders_text, import_user_module, module_of_file, public_names

Factory: TypeAlias = Callable[..., Any]
MarkedFactory = TypeVar("MarkedFactory", bound=Callable[..., Any])

VARIADIC = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
RESERVED_OPTIONS = frozenset({"type", "name", "version", "judge", "model", "on_no_answer", "extract", "labels", "args"})
OWN_MODEL = frozenset({"toxicity"})  # scorers whose option `model` is none that is asked over the network
"""Keys of the suite itself besides `type`; options of a factory cannot have these names."""

NEGATION = "not_"
NEGATE = "evalrunner.scorers.checks:negate"
MAX_MESSAGE_LENGTH = 300  # characters of an error message of user code


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What a factory can use besides its options, if its first parameter is named `context`.

    `folder` is the suite's, `runs` the runs folder, `args` what the suite passes to user-defined functions.
    `addresses` has the address of each tracker in the suite's `tracking:`, None where the suite gives no address.
    `limits` are those of its patterns and templates. `confined`: options come from data, so they may name neither code nor
    models, and only files of the suite's folder.
    """

    folder: Path
    runs: Path
    args: Mapping[str, Any]
    addresses: Mapping[str, str | None] = EMPTY
    limits: Limits = STANDARD
    confined: bool = False


@dataclass(frozen=True, slots=True)
class TrackingResult:
    """The outcome of sending a run to a tracker.

    `destination` is the tracker's address without logins, `location` says where the run is there. `problem` says why
    it is not there, or not completely. `already_sent` says that nothing had to be sent.
    """

    destination: str
    location: str = ""
    run_id: str | None = None
    problem: str | None = None
    already_sent: bool = False

    def __str__(self) -> str:
        return f"{'already sent' if self.already_sent else 'sent'}: {self.location}"


class Exporter(Protocol):
    """Sends stored runs to a tracker. Registered in the group `exporters` as its key in `tracking:`.

    `options` is a dataclass of the section's keys, fields created by `key()`; one of them is `uri`, the address. Addresses
    that are arguments come from the command line: None uses the suite's, "" the configured one even without a section.
    The first line of the docstring describes the section in the JSON Schema.
    """

    options: type[Any]

    def check(self, options: Any, address: str | None, *, suite: str) -> str:
        """The destination as messages show it. Raises SuiteError if nothing can be sent there."""

    def send(
        self, folder: Path, address: str | None = None, *, patience_s: float = 60.0, stop: threading.Event | None = None
    ) -> TrackingResult:
        """Send the run in `folder`, at most once. A tracker that does not answer is the `problem` of the result.

        `patience_s` is how long to go without any answer. `stop` is set when the user wants the command to end.
        """

    def note_unsent(self, folder: Path, address: str | None, problem: str) -> TrackingResult:
        """Record in the run's folder that it was not sent."""

    def tables(self, folder: Path, targets: Sequence[str]) -> dict[str, Any]:
        """Data frames of a stored run with the tracker's names of columns, by name."""


class ReferenceProblem(ValueError):
    """A name that cannot be resolved. The message says why, with the nearest known name."""


def known_names(group: Group) -> dict[str, str]:
    """Every name of a group and its `module:attribute`: the built-in ones and those of installed packages."""
    names = dict(BUILTIN[group])
    for name, value in entry_points(group).items():
        if name in names:
            raise ReferenceProblem(f"two {group} are called {name!r}: {names[name]} and {value}; uninstall one")
        names[name] = value
    return names


@functools.cache
def entry_points(group: Group) -> dict[str, str]:
    """The entry points `evalrunner.<group>` of installed packages, name to `module:attribute`."""
    points: dict[str, str] = {}
    for point in _installed().select(group=f"evalrunner.{group}"):
        if points.get(point.name, point.value) != point.value:
            raise ReferenceProblem(
                f"two packages name one of their {group} {point.name!r}: {points[point.name]} and {point.value}"
            )
        points[point.name] = point.value
    return points


@functools.cache
def _installed() -> Any:
    """All entry points of all packages, read once: reading them costs the same for one group as for all."""
    from importlib.metadata import entry_points as installed

    return installed()


def load(group: Group, name: str) -> Any:
    """The object that a name of a group leads to, imported now. Raises ReferenceProblem, with the nearest name."""
    names = known_names(group)
    if name not in names:
        raise ReferenceProblem(f"unknown {group.replace('_', ' ').removesuffix('s')} {name!r}{nearest(name, names)}")
    return load_attribute(names[name], folder=None)


def resolve(group: Group, reference: str, *, folder: Path) -> Factory:
    """The factory that a suite's `type:` names; files are relative to `folder`. Raises ReferenceProblem."""
    if ":" in reference:
        factory = load_attribute(reference, folder=folder)
    elif group == "scorers" and is_negation(reference):
        factory = load_attribute(NEGATE, folder=None)(load(group, reference.removeprefix(NEGATION)))
    else:
        factory = load(group, reference)
    return check_factory(reference, factory)


def is_negation(name: str) -> bool:
    """Whether a name is that of a scorer with `not_` in front: 1 where the scorer does not pass, else 0."""
    names = known_names("scorers")
    return name.startswith(NEGATION) and name not in names and name.removeprefix(NEGATION) in names


def home_of(kind: str) -> str:
    """Where the factory of a type of scorer is: `module:attribute`; of a negation that of the scorer."""
    return (
        kind
        if ":" in kind
        else known_names("scorers").get(kind.removeprefix(NEGATION) if is_negation(kind) else kind, kind)
    )


def load_attribute(reference: str, *, folder: Path | None) -> Any:
    """The object behind `package.module:name` or `path/file.py:name`. Raises ReferenceProblem.

    Files are relative to `folder`, that of the suite; modules are also looked for there. Without it only installed ones are.
    """
    location, _, attribute = reference.rpartition(":")
    if not location or not attribute:
        raise ReferenceProblem(f"{reference!r} is neither 'package.module:name' nor 'path/file.py:name'")
    if location.endswith(".py"):
        module = load_file(location, folder=folder or Path())
    else:
        module = load_module(location, folder=folder, attribute=attribute)
    value = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise ReferenceProblem(f"{location!r} has no {attribute!r}{nearest(attribute, public)}")
        value = getattr(value, part)
    return value


def load_module(name: str, *, folder: Path | None = None, attribute: str = "") -> Any:
    """The module of a name: one in the suite's folder or the working folder, or an installed one.

    One of the standard library has precedence if it has the attribute.
    """
    if folder is None:
        return _import(name, name)
    suite = folder.resolve()
    home = find_home(name.partition(".")[0], suite, [suite])
    module = _import(name if home is None else f"{home}.{name}", name, suite)
    if home is None and not hasattr(module, attribute.partition(".")[0]):
        home = find_home(name.partition(".")[0], suite, [suite], standard_first=False)
        return module if home is None else _import(f"{home}.{name}", name, suite)
    return module


def load_file(location: str, *, folder: Path) -> Any:
    """The module in a file, loaded once for each folder of suites. Its imports find the modules beside it.

    The file of a package, a folder with `__init__.py`, is loaded as a module of that package.
    """
    try:
        path = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, with a character that no path has, or a circle of links
        raise ReferenceProblem(f"there is no file {location!r} in {str(folder)!r}") from None
    if not is_file(path):
        raise ReferenceProblem(f"there is no file {location!r} in {str(folder)!r}")
    return _import(module_of_file(path, folder.resolve()), location, folder.resolve(), path)


def _import(name: str, location: str, suite: Path | None = None, path: Path | None = None) -> Any:
    """The module of that full name. Raises ReferenceProblem, which calls it by its `location` in the suite."""
    try:
        return import_user_module(name, path)
    except ModuleNotFoundError as missing:
        if path is None and missing.name and (name == missing.name or name.startswith(missing.name + ".")):
            searched = (
                "" if suite is None else f" in {folders_text([suite, Path.cwd()])} or among the installed packages"
            )
            raise ReferenceProblem(f"there is no module {location!r} to import{searched}") from None
        raise ReferenceProblem(f"importing {location!r} failed: {_crash_text(missing)}") from missing
    except (Exception, SystemExit) as crash:  # a user's module may raise anything
        raise ReferenceProblem(f"importing {location!r} failed: {_crash_text(crash)}") from crash


def _crash_text(crash: BaseException) -> str:
    return f"{type(crash).__name__}: {public_names(str(crash))}"


def check_factory(reference: str, factory: Any) -> Factory:
    """The factory. Raises ReferenceProblem if it is not callable or has an option with a reserved name."""
    if not callable(factory):
        raise ReferenceProblem(f"{reference!r} is a {type(factory).__name__}, not a function")
    for option in factory_options(factory).values():
        if option.name in RESERVED_OPTIONS and not (option.name == "model" and reference in OWN_MODEL):
            raise ReferenceProblem(f"{reference!r} has an option {option.name!r}, which is a reserved name in suites")
    checked: Factory = factory
    return checked


def factory_options(factory: Factory) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a factory, with evaluated annotations: the keys that a suite may set."""
    signature = inspect.signature(factory, eval_str=True)
    return {name: item for name, item in signature.parameters.items() if item.kind is item.KEYWORD_ONLY}


def main_option(name: str, *, accepts: Callable[[Any], bool] | None = None) -> Callable[[MarkedFactory], MarkedFactory]:
    """A decorator: the short form `{TYPE: VALUE}` of a check or scorer sets this option of the factory.

    With every value that `accepts` takes, the factory succeeds and gives a scorer with the same declaration, whose
    function is of the same class: thousands of checks that differ in it are then validated once. Raises TypeError if
    the factory has no option of that name.
    """

    def mark(factory: MarkedFactory) -> MarkedFactory:
        if name not in factory_options(factory):
            raise TypeError(f"{name_of(factory)} has no keyword-only option {name!r}")
        factory.main_option = name  # type: ignore[attr-defined]
        factory.accepts = accepts  # type: ignore[attr-defined]
        return factory

    return mark


def main_option_of(factory: Factory) -> str | None:
    """The option that the short form of a check sets, None if the factory declares none."""
    name = getattr(factory, "main_option", None)
    return name if isinstance(name, str) else None


def accepts_of(factory: Factory) -> Callable[[Any], bool] | None:
    """Which values of its main option a factory takes without looking at them, None if it declares none."""
    accepts = getattr(factory, "accepts", None)
    return accepts if main_option_of(factory) is not None and callable(accepts) else None


def own_templates(*names: str) -> Callable[[MarkedFactory], MarkedFactory]:
    """A decorator: these options of the factory are templates in a language of its own, so their text is passed as it is.

    The text of all other options is a template over the row's columns. Raises TypeError for an unknown option.
    """

    def mark(factory: MarkedFactory) -> MarkedFactory:
        for name in names:
            if name not in factory_options(factory):
                raise TypeError(f"{name_of(factory)} has no keyword-only option {name!r}")
        factory.own_templates = frozenset(names)  # type: ignore[attr-defined]
        return factory

    return mark


def own_templates_of(factory: Factory) -> frozenset[str]:
    """The options of a factory whose text is not a template over the row's columns."""
    names = getattr(factory, "own_templates", None)
    return names if isinstance(names, frozenset) else frozenset()


def call_factory(factory: Factory, options: Mapping[str, Any], context: PluginContext) -> Any:
    """The result of the factory for the options; it gets the context if its first parameter is named `context`.

    Raises ReferenceProblem if it has another required parameter, as a function to be called for each row has.
    """
    return factory(context, **options) if takes_context(factory) else factory(**options)


def takes_context(factory: Factory) -> bool:
    """Whether the first parameter of a factory is named `context`. Raises ReferenceProblem for another required one."""
    parameters = [item for item in inspect.signature(factory).parameters.values() if item.kind is not item.KEYWORD_ONLY]
    takes = bool(parameters) and parameters[0].name == "context"
    needed = [item.name for item in parameters[takes:] if item.default is item.empty and item.kind not in VARIADIC]
    if needed:
        raise ReferenceProblem(
            f"{name_of(factory)} needs {needed[0]!r}, which a factory does not get; to call it for each row, use "
            "`type: python` with `function:`"
        )
    return takes


class SignatureError(ValueError):
    """A function has a required parameter that is not available. The message names it."""


@dataclass(slots=True)  # not frozen, which would take three times as long for each check of a row
class BoundFunction:
    """A function with the names that it takes of those offered; `args` are passed with every call."""

    function: Callable[..., Any]
    parameters: tuple[str, ...]
    args: Mapping[str, Any]
    positional: str | None = None
    is_async: bool = False

    def __call__(self, offered: Mapping[str, Any]) -> Any:
        named = {}
        for name in self.parameters:  # a comprehension would be slower per call
            named[name] = offered[name]
        if self.positional is not None:
            return self.function(offered[self.positional], **named, **self.args)
        return self.function(**named, **self.args)


def bind_by_name(
    function: Callable[..., Any],
    offered: Sequence[str],
    *,
    args: Mapping[str, Any] | None = None,
    single: str | None = None,
) -> BoundFunction:
    """`function` bound to the parameters that it takes of `offered` and to its `args`. Raises SignatureError.

    If its only required parameter has another name, it gets `single`.
    """
    args = dict(args or {})
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async is async
    )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin such as str.upper without a signature: it gets the one value
        return BoundFunction(function, (), args, single, is_async)
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    takes_all = any(item.kind is item.VAR_KEYWORD for item in parameters)
    check_args(function, args, named, takes_all=takes_all)
    unbound = [item for item in parameters if item.kind is not item.VAR_KEYWORD and item.name not in args]
    required = [
        item
        for item in unbound
        if item.default is item.empty and item.kind is not item.VAR_POSITIONAL and item.name not in offered
    ]
    positional = None
    alone = len(required) == 1 and required[0] is parameters[0]
    if single is not None and alone and required[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        positional = single
        required = []
    if required:
        missing = required[0].name
        raise SignatureError(
            f"{name_of(function)} needs {missing!r}, which is not among {', '.join(offered)}"
            f"{nearest(missing, offered)}; set it under `args`, or give it a default"
        )
    taken_names = tuple(offered) if takes_all else tuple(item.name for item in named if item.name in offered)
    return BoundFunction(function, tuple(name for name in taken_names if name not in args), args, positional, is_async)


def check_args(
    function: Callable[..., Any], args: Mapping[str, Any], named: Sequence[inspect.Parameter], *, takes_all: bool
) -> None:
    known = [item.name for item in named]
    for name in args:
        if name not in known and not takes_all:
            raise SignatureError(f"{name_of(function)} has no parameter {name!r}{nearest(name, known)}")


def name_of(function: Callable[..., Any]) -> str:
    """The qualified name of the function, with parentheses."""
    return f"{getattr(function, '__qualname__', type(function).__name__)}()"


def describe_crash(function: Callable[..., Any], crash: BaseException) -> str:
    """`polite() in scorers/tone.py:12 raised ValueError: …`; the line is the last one in the function's own file."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None) or getattr(
        getattr(inner, "__call__", None),  # noqa: B004  an object of a class with __call__ has its code there
        "__code__",
        None,
    )
    line = None
    trace = crash.__traceback__
    while trace is not None and code is not None:
        if trace.tb_frame.f_code.co_filename == code.co_filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    location = f" in {display_path(code.co_filename)}:{line}" if code is not None and line is not None else ""
    try:
        message = public_names(" ".join(str(crash).split()))
    except Exception:  # an exception without a text is reported by its type
        message = ""
    if len(message) > MAX_MESSAGE_LENGTH:
        message = redact_start(message, MAX_MESSAGE_LENGTH) + "…"
    text = f"{type(crash).__name__}: {message}" if message else type(crash).__name__
    return redact_message(f"{name_of(function)}{location} raised {text}")


def display_path(filename: str) -> str:
    """A path relative to the working folder, else the file name."""
    path = Path(filename)
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):  # outside the working folder, or that was deleted
        return path.name
