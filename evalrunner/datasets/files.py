"""The files that `dataset.path` names: one, or all that a glob matches. Data files only: no pipes, devices or /proc."""

from __future__ import annotations

import difflib
import fnmatch
import glob
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote

from evalrunner.limits import STANDARD, Limits
from evalrunner.storage import KERNEL_FOLDERS, expand_braces, expand_home, in_kernel_folder, kernel_devices

MAX_NAMES: Final = 10_000  # of a folder, compared with a name that is not in it
CLOSED_FOLDERS: Final = frozenset({*KERNEL_FOLDERS, "/dev"})  # that no glob enters

Identity: TypeAlias = tuple[int, int]
"""Device and number of a folder."""


class FileNotResolved(ValueError):
    """A path that names no file to read. The message is a whole sentence."""


def refuse_address(path: str) -> None:
    """Raises FileNotResolved for an address in place of a path."""
    scheme, mark, rest = path.partition("://")
    if not mark or not scheme.isalnum():
        return
    if scheme.lower() == "file":
        local = unquote("/" + rest.partition("/")[2])
        raise FileNotResolved(f"{path!r} is an address; write the path alone: {local}")
    raise FileNotResolved(
        f"{path!r} is an address of a kind that is not read; those of https:// and hf:// are. Download it, and name the file"
    )


def find_files(path: str, folder: Path, *, limits: Limits = STANDARD) -> list[Path]:
    """The file a path names, or all that a glob matches, sorted. Raises FileNotResolved.

    A glob that would look at more files and folders than `limits` allow, or matches more files, is refused.
    """
    try:
        return _find_files(path, folder, limits, _Matches(limits.entries))
    except RuntimeError as unknown:  # of ~user
        raise FileNotResolved(f"{path!r}: {unknown}") from None
    except OSError as refused:  # too long, or in a folder that may not be searched
        raise FileNotResolved(f"file {path!r} cannot be read: {refused.strerror}") from None


def _find_files(path: str, folder: Path, limits: Limits, matcher: _Matches) -> list[Path]:
    exact = folder / expand_home(path)
    if "{" in path and not os.path.lexists(exact):
        try:
            paths = expand_braces(path)
        except ValueError as wrong:
            raise FileNotResolved(f"{path!r}: {wrong}") from None
        if len(paths) > 1:
            return sorted(
                _bounded({file for each in paths for file in _find_files(each, folder, limits, matcher)}, path, limits)
            )
    if in_kernel_folder(exact):
        raise FileNotResolved(f"{str(exact)!r} leads to /proc or /sys, which have no data files")
    if exact.is_dir():
        raise FileNotResolved(
            f"{str(exact)!r} is a folder; name a file in it, or several with a glob: {path.rstrip('/')}/*.jsonl"
        )
    if exact.is_file():
        return [exact]
    if exact.exists():
        raise FileNotResolved(
            f"{str(exact)!r} is a pipe or a device, but a dataset is read twice; pipe the data to '-' instead"
        )
    if exact.is_symlink():
        to = str(exact.readlink())
        advice = f"git annex get {path}" if "annex/objects" in to else f"it points to {to!r}, which does not exist"
        raise FileNotResolved(f"{str(exact)!r} is a link without a file; {advice}")
    if not glob.has_magic(path):
        raise FileNotResolved(f"file {str(exact)!r} not found{nearest_file(exact, folder)}")
    pattern = expand_home(path)
    matches = matcher.of(pattern, Path(pattern.anchor) if pattern.anchor else folder)
    files = sorted(match for match in matches if match.is_file() and not in_kernel_folder(match))
    if not files:
        raise FileNotResolved(f"no file matches {str(exact)!r}{' (only folders do)' if matches else ''}")
    return list(_bounded(files, path, limits))


def _bounded(files: Collection[Path], path: str, limits: Limits) -> Collection[Path]:
    """The files as they are. Raises FileNotResolved if there are too many."""
    if len(files) > limits.files:
        raise FileNotResolved(
            f"{path!r} matches {len(files):,} files; at most {limits.files:,} are read: match fewer, or join them in one file"
        )
    return files


@dataclass(slots=True)
class _Matches:
    """Finds what a glob matches, as the module glob does, but looks at `max_entries` files and folders at most.

    `**` does not follow a link to a folder that it is in, and nothing enters /proc, /sys and /dev.
    """

    max_entries: int
    count: int = 0

    def of(self, pattern: Path, root: Path) -> set[Path]:
        """The paths that match, below `root` if the pattern is relative."""
        steps = pattern.parts[1:] if pattern.anchor else pattern.parts
        tests = [re.compile(fnmatch.translate(step)).match for step in steps]
        found: set[Path] = set()
        waiting: list[tuple[Path, int, tuple[Identity | None, ...]]] = [(root, 0, ())]
        while waiting:
            here, place, above = waiting.pop()
            step, last = steps[place], place + 1 == len(steps)
            if step == "**":
                above = above or (_identity(here),)
                if not last:
                    waiting.append((here, place + 1, ()))
            elif not glob.has_magic(step):
                if last and os.path.lexists(here / step):
                    found.add(here / step)
                elif not last and _identity(here / step):
                    waiting.append((here / step, place + 1, ()))
                continue
            for entry in self._entries(here):
                if entry.name.startswith(".") and not step.startswith("."):
                    continue
                if step != "**" and not tests[place](entry.name):
                    continue
                if last:
                    found.add(here / entry.name)
                if step == "**":
                    if (identity := _identity(entry)) and identity not in above:
                        waiting.append((here / entry.name, place, (*above, identity)))
                elif not last and _identity(entry):
                    waiting.append((here / entry.name, place + 1, ()))
        return found

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """What is in a folder; nothing if it cannot be read. Raises FileNotResolved beyond the limit."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.count += 1
                    if self.count > self.max_entries:
                        raise FileNotResolved(
                            f"its glob would look at more than {self.max_entries:,} files and folders; name their folder more exactly"
                        )
                    yield entry
        except OSError:
            return


def _identity(place: Path | os.DirEntry[str]) -> Identity | None:
    """Device and number of a folder, None if there is none to enter."""
    try:
        if not place.is_dir():
            return None
        stat = place.stat()
    except OSError:  # a ring of links
        return None
    closed = stat.st_dev in kernel_devices() or os.fspath(place) in CLOSED_FOLDERS
    return None if closed else (stat.st_dev, stat.st_ino)


def nearest_file(missing: Path, folder: Path) -> str:
    """`; did you mean 'data/qa.csv'?` with the nearest existing file, as the suite would write it."""
    relative = _relative(missing, folder)
    if relative != missing and relative.exists():
        return f"; paths are relative to the suite's folder, and {str(relative)!r} is in the working folder"
    here = Path(missing.anchor)
    for name in missing.parts[1:] if missing.anchor else missing.parts:
        if (here / name).exists():
            here = here / name
            continue
        near = difflib.get_close_matches(name, _names(here), n=1)
        if not near:
            return ""
        here = here / near[0]
    return f"; did you mean {str(_relative(here, folder))!r}?"


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in islice(folder.iterdir(), MAX_NAMES)] if folder.is_dir() else []


def _relative(path: Path, folder: Path) -> Path:
    """The path as the suite would write it."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path
