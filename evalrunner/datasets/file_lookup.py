"""From the `path` of a dataset to files: globs, standard input, the nearest name for one that is not there."""

from __future__ import annotations

import difflib
import glob
import shutil
from pathlib import Path
from typing import BinaryIO

STDIN = "-"
SPOOLED = "stdin"  # with the extension of its format
EXTENSIONS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".tsv": "tsv",
}


class FileNotResolved(ValueError):
    """Nothing there to read. The message is a whole sentence."""


def find_files(path: str, folder: Path) -> list[Path]:
    """The file a path names, or all that a glob matches, sorted. Raises FileNotResolved."""
    exact = folder / Path(path).expanduser()
    if exact.is_dir():
        raise FileNotResolved(
            f"{str(exact)!r} is a folder; name a file in it, or several with a glob: {path.rstrip('/')}/*.jsonl"
        )
    if exact.is_file():
        return [exact]
    if exact.exists():
        raise FileNotResolved(
            f"{str(exact)!r} is a pipe or a device, and a dataset is read twice; say '-' and pipe it in"
        )
    if not glob.has_magic(path):
        raise FileNotResolved(f"there is no file {str(exact)!r}{nearest_file(exact, folder)}")
    pattern = Path(path).expanduser()
    rooted = str(pattern) if pattern.is_absolute() else f"{glob.escape(str(folder))}/{pattern}"
    names = glob.iglob(rooted, recursive=True)  # noqa: PTH207  Path.glob takes no absolute pattern and finds hidden files
    matches = sorted(Path(name) for name in names)
    files = [match for match in matches if match.is_file()]
    if not files:
        raise FileNotResolved(f"no file matches {str(exact)!r}{' (only folders do)' if matches else ''}")
    return [Path(str(file).removeprefix("./")) for file in files] if str(folder) == "." else files


def nearest_file(missing: Path, folder: Path) -> str:
    """`; did you mean 'data/qa.csv'?` with the nearest name beside what is missing, as the suite would write it."""
    written = _below(missing, folder)
    if written != missing and written.exists():
        return f"; paths are relative to the suite's folder, and {str(written)!r} is in the working folder"
    here = Path(missing.anchor)
    for name in missing.parts[1:] if missing.anchor else missing.parts:
        if (here / name).exists():
            here = here / name
            continue
        near = difflib.get_close_matches(name, [found.name for found in here.iterdir()] if here.is_dir() else [], n=1)
        if not near:
            return ""
        here = here / near[0]
    return f"; did you mean {str(_below(here, folder))!r}?"


def type_of(name: str) -> str | None:
    """The reader that a file's name asks for, or None; text formats may be packed as `.gz`."""
    lowered = name.lower()
    kind = EXTENSIONS.get(Path(lowered.removesuffix(".gz")).suffix)
    return None if kind == "parquet" and lowered.endswith(".gz") else kind


def spool_stdin(stdin: BinaryIO | None, folder: Path, extension: str) -> Path:
    """The file that all of standard input was written to, since it has to be read twice. Raises FileNotResolved."""
    if stdin is None:
        raise FileNotResolved("the path is '-', but there is no standard input here")
    if stdin.isatty():
        raise FileNotResolved("the path is '-', but nothing is piped in: evalrun suite.yaml < data.jsonl")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{SPOOLED}.{extension}"
    partial = target.with_name(target.name + ".part")
    with partial.open("wb") as file:
        shutil.copyfileobj(stdin, file)
    return partial.replace(target)


def store_stdin(spooled: Path, folder: Path) -> Path:
    """The copy of standard input in the run's folder, whole or not there at all. Raises OSError."""
    target = folder / spooled.name
    if target.exists() and target.samefile(spooled):
        return target  # a run that goes on reads it from there
    partial = target.with_name(target.name + ".part")
    shutil.copyfile(spooled, partial)
    return partial.replace(target)


def stored_stdin(folder: Path) -> Path | None:
    """What `store_stdin` left in a run's folder, None where the dataset did not come from standard input."""
    found = [path for path in sorted(folder.glob(f"{SPOOLED}.*")) if path.suffix != ".part"]
    return found[0] if found else None


def _below(path: Path, folder: Path) -> Path:
    """The path as the suite would write it."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path
