"""User-defined Python of suites: files and modules in their folders, and the modules that these import.

Each folder of suites has a world of its own: the module `util` of a folder is imported as
`evalrunner.user_code.SUITE.FOLDER.util`, both folders in hexadecimal. So two suites may have different modules of one
name, no helper hides a module that evalrun or a library imports, and a process that unpickles such a function finds it.
Import statements of these modules find helpers through an `__import__` of their own, also those inside functions that
run later, in any thread. `sys.path` stays as it is.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from evalrunner.errors import listed, nearest

PREFIX = f"{__name__}."
PRIVATE_NAME = re.compile(rf"{re.escape(PREFIX)}(?:s[0-9a-f]+\.)?(?:f[0-9a-f]+\.?)?")
__path__: list[str] = []  # a package for the modules of suites, without files of its own

_imports: dict[str, set[str]] = {}
"""The modules of suites that each of them has imported."""


def package_of(folder: Path, suite: Path) -> str:
    """The package in which the modules of a folder are loaded for the suites of another."""
    return f"{PREFIX}s{str(suite).encode().hex()}.f{str(folder).encode().hex()}"


def folders_of(name: str) -> tuple[Path, Path]:
    """The folder of a module of a suite, and that of the suite: the inverse of `package_of`."""
    suite, folder = (bytes.fromhex(part[1:]).decode() for part in name.removeprefix(PREFIX).split(".")[:2])
    return Path(folder), Path(suite)


def public_names(text: str) -> str:
    """`text` with the modules of suites under the names that users know."""
    return PRIVATE_NAME.sub("", text)


def folders_text(folders: Sequence[Path]) -> str:
    """`'evals', '/home/me/lib' and '.'`: folders, relative to the working folder where they are below it."""
    here = Path.cwd()
    names = [
        repr(str(path.relative_to(here)) if path.is_relative_to(here) else str(path)) for path in dict.fromkeys(folders)
    ]
    return listed(names, "and")


def module_of_file(path: Path, suite: Path) -> str:
    """The full name under which a file is loaded; one in a package by its place there."""
    root, parts = path.parent, [] if path.stem == "__init__" else [path.stem.replace(".", "_")]
    while (root / "__init__.py").is_file() and root.parent != root:
        root, parts = root.parent, [root.name, *parts]
    return ".".join([package_of(root, suite), *parts])


def loaded_name(location: str, folder: Path) -> str:
    """The full name of the module that `path/file.py` or `package.module` of a suite has led to."""
    suite = folder.resolve()
    if location.endswith(".py"):
        return module_of_file((folder / location).resolve(), suite)
    names = (f"{package_of(each, suite)}.{location}" for each in (suite, Path.cwd()))
    return next((name for name in names if name in sys.modules), location)


def import_user_module(name: str, path: Path | None = None) -> ModuleType:
    """The module of a full name; `path` is its file, whose name may not be that of a module."""
    if name.startswith(PREFIX):
        forget_listing(folders_of(name)[0])
    if path is None or name in sys.modules or "." not in path.stem:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path, loader=UserCodeLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    importlib.import_module(name.rpartition(".")[0])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def forget_listing(folder: Path) -> None:
    """Let the next import see files that were written since the last one."""
    finder = sys.path_importer_cache.get(str(folder))
    if finder is not None and hasattr(finder, "invalidate_caches"):
        finder.invalidate_caches()


def find_home(
    top: str, suite: Path, folders: Sequence[Path], *, importer: str | None = None, standard_first: bool = True
) -> str | None:
    """The package of the folder that has a module, or None for a module of Python or an installed one.

    `folders` are searched, then that of the suite and the working folder. A module of the standard library wins over
    one in a folder, which wins over an installed one; a mere folder without `__init__.py` does not. A file, the
    `importer`, does not find itself; a package does. A module that is importable anyway is not loaded a second time.
    """
    if top == "evalrunner" or (standard_first and top in sys.stdlib_module_names):
        return None
    mere_folder = None
    for folder in dict.fromkeys([*folders, suite, Path.cwd()]):
        home = package_of(folder, suite)
        if f"{home}.{top}" == importer and not hasattr(sys.modules.get(importer), "__path__"):
            continue
        if f"{home}.{top}" in sys.modules:
            return home
        spec = importlib.machinery.PathFinder.find_spec(top, [str(folder)])
        if spec is None:
            continue
        if spec.origin is None:
            mere_folder = mere_folder or home
            continue
        outside = _find_outside(top)
        return None if outside is not None and _same_file(outside.origin, spec.origin) else home
    return mere_folder if mere_folder is not None and _find_outside(top) is None else None


def _find_outside(top: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return None


def _same_file(one: str | None, other: str) -> bool:
    return one is not None and Path(one).resolve() == Path(other).resolve()


class UserCodeFinder:
    """Finds the modules of suites by their full names. On `sys.meta_path` before all other finders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(PREFIX):
            return None
        depth = name.count(".") - PREFIX.count(".")
        if depth < 2:
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(folders_of(name)[0])] if depth else []
            return spec
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is not None and type(found.loader) is importlib.machinery.SourceFileLoader:
            found.loader = UserCodeLoader(name, found.loader.path)
        return found


class UserCodeLoader(importlib.machinery.SourceFileLoader):
    """Runs a module of a suite with an `__import__` that finds the helpers beside it."""

    def exec_module(self, module: ModuleType) -> None:
        importer = Importer(module.__name__)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": importer}
        super().exec_module(module)


class Importer:
    """The `__import__` of one module of a suite."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder, self.suite = folders_of(name)
        self._homes: dict[str, str | None] = {}

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level:
            module = _import(name, globals, locals, fromlist, level)
            base = importlib.util.resolve_name("." * level + name, str((globals or {}).get("__package__")))
            self._note(base, fromlist)
            return module
        top = name.partition(".")[0]
        home = self._home(top)
        if home is None:
            return self._import_outside(name, top, globals, locals, fromlist)
        return self._import_helper(home, name, top, fromlist)

    def _home(self, top: str) -> str | None:
        if top not in self._homes:
            self._homes[top] = find_home(top, self.suite, [self.folder], importer=self.name)
        return self._homes[top]

    def _import_helper(self, home: str, name: str, top: str, fromlist: Sequence[str] | None) -> Any:
        module = _import(f"{home}.{name}", None, None, fromlist or ("__name__",), 0)
        self._note(f"{home}.{name}", fromlist)
        return module if fromlist else sys.modules[f"{home}.{top}"]

    def _import_outside(self, name: str, top: str, globals: Any, locals: Any, fromlist: Sequence[str] | None) -> Any:
        """A module of Python or an installed one; a helper of the same name if only that has what is imported."""
        try:
            module = _import(name, globals, locals, fromlist, 0)
        except ModuleNotFoundError as missing:
            if missing.name != top:
                raise
            self._homes.pop(top, None)  # it may be written before the next try
            raise ModuleNotFoundError(self._missing_text(top), name=top) from None
        if (
            fromlist
            and top in sys.stdlib_module_names
            and not all(hasattr(module, each) for each in fromlist if each != "*")
        ):
            home = find_home(top, self.suite, [self.folder], importer=self.name, standard_first=False)
            if home is not None:
                return self._import_helper(home, name, top, fromlist)
        return module

    def _missing_text(self, top: str) -> str:
        folders = list(dict.fromkeys([self.folder, self.suite, Path.cwd()]))
        known = [path.stem for folder in folders for path in _python_files(folder)]
        return (
            f"No module named {top!r} in {folders_text(folders)} or among the installed packages{nearest(top, known)}"
        )

    def _note(self, base: str, fromlist: Sequence[str] | None) -> None:
        """Remember that this module has imported another one of the suite, for the fingerprint of its code."""
        names = [base, *(f"{base}.{each}" for each in fromlist or ())]
        imported = {name for name in names if name.startswith(PREFIX) and name in sys.modules}
        if imported:
            _imports.setdefault(self.name, set()).update(imported)


def _python_files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())
    except OSError:  # a folder that cannot be listed has no names to suggest
        return


def code_files(name: str) -> Iterator[Path]:
    """The files of a module and of all modules of suites that it has imported so far, each once."""
    pending, seen = [name], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        file = getattr(sys.modules.get(current), "__file__", None)
        if file is not None:
            yield Path(file)
        pending.extend(sorted(_imports.get(current, ())))
        parent = current.rpartition(".")[0]
        if parent.startswith(PREFIX):
            pending.append(parent)


_import: Callable[..., Any] = builtins.__import__
sys.meta_path.insert(0, UserCodeFinder())
