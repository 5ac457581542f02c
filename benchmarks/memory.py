"""Peak memory of many rows: does it stay flat from 100,000 to 1,000,000 rows, whatever the format of the dataset?

    python benchmarks/memory.py [--rows 100000 1000000 --formats csv jsonl --steps peek validate run]

Writes the files, then runs each step as a process of its own: `evalrun datasets peek`, `evalrun validate` and a whole run
of recorded outputs with two scorers; `--python` also a target that is a Python function, with 16 calls at once. Prints
Markdown: peak resident memory, seconds, and what each further row takes. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import gzip
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
BLOCK = 10_000  # rows of a Parquet group
COLUMNS = ("id", "input", "expected", "output")


def records(rows: int) -> Iterator[dict[str, str]]:
    """Samples of about 100 bytes with their outputs, nine of ten right."""
    for place in range(rows):
        answer = str(place + 1)
        output = answer if place % 10 else "none"
        yield {"id": f"q{place}", "input": f"What is {place} plus one?", "expected": answer, "output": output}


def delimited(delimiter: str) -> Callable[[IO[str], int], None]:
    def write(file: IO[str], rows: int) -> None:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(record.values() for record in records(rows))

    return write


def lines(file: IO[str], rows: int) -> None:
    file.writelines(json.dumps(record) + "\n" for record in records(rows))


def items(file: IO[str], rows: int, start: str = "[", end: str = "]", *, keyed: bool = False) -> None:
    file.write(start)
    for place, record in enumerate(records(rows)):
        head = f"{json.dumps(record.pop('id'))}: " if keyed else ""
        file.write(f"{',' if place else ''}\n{head}{json.dumps(record)}")
    file.write(f"\n{end}\n")


def yaml_items(file: IO[str], rows: int) -> None:
    for record in records(rows):
        head, *rest = (f"{name}: {json.dumps(value)}" for name, value in record.items())
        file.write("- " + "\n  ".join([head, *rest]) + "\n")


def write_parquet(path: Path, rows: int) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
    block: list[dict[str, str]] = []
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for place, record in enumerate(records(rows), 1):
            block.append(record)
            if len(block) == BLOCK or place == rows:
                writer.write_table(pyarrow.Table.from_pylist(block, schema))
                block = []


def open_zst(path: Path) -> Any:
    import zstandard

    return io.TextIOWrapper(zstandard.open(path, "wb"), "utf-8", newline="")


def open_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)  # closed with the benchmark's own process
    text = io.TextIOWrapper(archive.open("rows.jsonl", "w"), "utf-8", newline="")
    close = text.close
    text.close = lambda: (close(), archive.close())[0]  # type: ignore[method-assign,func-returns-value]
    return text


def open_plain(path: Path) -> Any:
    return path.open("w", encoding="utf-8", newline="")


Format = tuple[str, Callable[[Path], Any], Callable[[IO[str], int], None] | None, dict[str, Any]]
FORMATS: dict[str, Format] = {
    "csv": ("csv", open_plain, delimited(","), {}),
    "tsv": ("tsv", open_plain, delimited("\t"), {}),
    "jsonl": ("jsonl", open_plain, lines, {}),
    "json": ("json", open_plain, items, {}),
    "json-key": ("json", open_plain, lambda file, rows: items(file, rows, '{"data": {"items": [', "]}}"), {"records": "data.items"}),
    "json-ids": ("json", open_plain, lambda file, rows: items(file, rows, "{", "}", keyed=True), {"records": "$"}),
    "yaml": ("yaml", open_plain, yaml_items, {}),
    "parquet": ("parquet", open_plain, None, {}),
    "gz": ("jsonl.gz", lambda path: gzip.open(path, "wt", compresslevel=1), lines, {}),  # noqa: SIM115  closed by its user
    "bz2": ("jsonl.bz2", lambda path: bz2.open(path, "wt", compresslevel=1), lines, {}),  # noqa: SIM115  closed by its user
    "zst": ("jsonl.zst", open_zst, lines, {}),
    "zip": ("zip", open_zip, lines, {}),
}  # fmt: skip
"""The end of the file's name, how it is opened, what writes the rows, and options of the dataset."""


def write_suite(folder: Path, name: str, rows: int, *, python: bool = False) -> Path:
    """A suite with its dataset of that format."""
    ending, opened, write, options = FORMATS[name]
    data = folder / f"{name}-{rows}.{ending}"
    if not data.exists():
        if write is None:
            write_parquet(data, rows)
        else:
            with opened(data) as file:
                write(file, rows)
    function = {"type": "python", "function": "answers.py:answer"}
    suite = {
        "name": name,
        "dataset": {"path": data.name, **options},
        "target": function if python else {"type": "recorded", "column": "output"},
        "scorers": ["exact_match", "contains"],
        "gates": ["exact_match >= 0.5"],
        **({"run": {"concurrency": 16}} if python else {}),
    }
    path = folder / f"suite-{name}-{rows}{'-python' if python else ''}.yaml"
    path.write_text(json.dumps(suite))
    return path


def peak(command: list[str], folder: Path) -> tuple[float, float]:
    """Peak resident memory in MB, and seconds, of one process. Exits if it fails."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    log = folder / "output.txt"
    with log.open("wb") as output:
        process = os.posix_spawn(
            sys.executable, [sys.executable, "-m", "evalrunner", *command], environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)],
        )  # fmt: skip
        _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(
            f"evalrun {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}: {log.read_text()}"
        )
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 2**20, time.monotonic() - started


def commands(folder: Path, name: str, rows: int, steps: list[str], *, python: bool) -> Iterator[tuple[str, list[str]]]:
    """Each step with its command."""
    suite = write_suite(folder, name, rows)
    known = {
        "peek": ["datasets", "peek", str(folder / f"{name}-{rows}.{FORMATS[name][0]}")],
        "validate": ["validate", str(suite)],
        "run": [str(suite), "-q", "--output-dir", str(folder / "runs")],
    }
    yield from ((step, known[step]) for step in steps)
    if python:
        yield "run, python", [str(write_suite(folder, name, rows, python=True)), *known["run"][1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--steps", nargs="+", choices=("peek", "validate", "run"), default=["peek", "validate", "run"])
    parser.add_argument("--python", action="store_true", help="also a run with a Python function as its target")
    options = parser.parse_args()
    few, many = options.rows
    print(f"| format | step | {few:,} rows | {many:,} rows | bytes a further row |\n|---|---|---|---|---|")
    for name in options.formats:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "answers.py").write_text("def answer(sample):\n    return sample.metadata['output']\n")
            first = {
                step: peak(command, folder)
                for step, command in commands(folder, name, few, options.steps, python=options.python)
            }
            for step, command in commands(folder, name, many, options.steps, python=options.python):
                (less, less_s), (more, more_s) = first[step], peak(command, folder)
                row = (more - less) * 2**20 / (many - few)
                print(
                    f"| {name} | {step} | {less:.0f} MB, {less_s:.1f} s | {more:.0f} MB, {more_s:.1f} s | {row:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
