"""Standard input as a dataset: copied to a file, because a dataset is read twice, and kept in the run folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, Final

from evalrunner.datasets.files import FileNotResolved
from evalrunner.storage import replacing

COPY_BYTES: Final = 1 << 20  # at a time
STDIN_COPY: Final = "stdin"  # with the extension of its format


def spool_stdin(stdin: BinaryIO | None, folder: Path, extension: str, *, max_bytes: int) -> Path:
    """The file that standard input was copied to, because it is read twice. Raises FileNotResolved."""
    if stdin is None:
        raise FileNotResolved("the path is '-', but there is no standard input")
    if stdin.isatty():
        raise FileNotResolved("the path is '-', but nothing is piped in: evalrun suite.yaml < data.jsonl")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{STDIN_COPY}.{extension}"
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("wb") as file:
            while piece := stdin.read(COPY_BYTES):
                file.write(piece)
                if file.tell() > max_bytes:
                    raise FileNotResolved(
                        f"standard input has more than {max_bytes / 2**30:.3g} GiB; save it to a file and name that in dataset.path"
                    )
    except OSError as refused:  # not open for reading, or a full disk
        raise FileNotResolved(f"standard input cannot be copied: {refused.strerror or refused}") from None
    return partial.replace(target)


def store_stdin(spooled: Path, folder: Path) -> Path:
    """The copy of standard input in the run folder, written atomically. Raises RunError."""
    target = folder / spooled.name
    if target.exists() and target.samefile(spooled):
        return target  # a resumed run reads it from there
    with replacing(target) as part:
        shutil.copyfile(spooled, part)
    return target


def stored_stdin(folder: Path) -> Path | None:
    """The copy that `store_stdin` left in a run folder, None if the dataset did not come from standard input."""
    return next(iter(sorted(folder.glob(f"{STDIN_COPY}.*"))), None)
