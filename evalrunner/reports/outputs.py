"""The files of a run: one reporter for each format, found by its extension among the plug-ins.

A reporter of a file is constructed with its path and receives the run as every `Reporter` does. `on_row` is optional.
`requires` names the package it needs and the extra that installs it; `notices` is what it says about the written file.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from evalrunner.domain import Row
from evalrunner.errors import MissingExtraError, RunError, RunNotFoundError, SuiteError, listed, nearest
from evalrunner.plugins import factory_options, known_names, load
from evalrunner.reports.view import RunView, stored_view
from evalrunner.reports.worst_rows import failed
from evalrunner.runs.folder import METRICS_FILE, REPORT_FILE, ROWS_FILE, TABLE_FILE, RunFolder
from evalrunner.runs.row_log import encode_row, read_rows
from evalrunner.storage import replacing, write_json

RUN_FILES: Final = {
    ".csv": TABLE_FILE, ".json": METRICS_FILE, ".html": REPORT_FILE, ".md": "summary.md", ".xml": "junit.xml",
}  # fmt: skip
"""The formats with a place in the run folder. An output of the same format is a copy."""
DEFAULT_FORMATS: Final = (".csv", ".json", ".html")
CI_FORMATS: Final = (".md", ".xml")
STEP_SUMMARY: Final = "step-summary"


def extensions() -> list[str]:
    """The extensions that `-o` takes: those built in, then those of installed packages."""
    return [name for name in known_names("reporters") if name.startswith(".")]


def check_outputs(outputs: Sequence[str], *, suites: int = 1) -> None:
    """Refuse outputs that cannot be written, before the first call. Raises SuiteError."""
    known = extensions() if outputs else []
    for output in outputs:
        extension = Path(output).suffix.lower()
        if extension not in known:
            raise SuiteError(
                f"-o {output!r}: the extension should be one of {', '.join(known)}{nearest(extension, known)}"
            )
        if suites > 1 and "{suite}" not in output:
            raise SuiteError(f"-o {output!r}: with several suites the path needs {{suite}}")
        package, extra = getattr(load("reporters", extension), "requires", None) or (None, "")
        if package is not None and importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"-o {output!r}", extra)


def check_junit_rows(outputs: Sequence[str | Path], *, ci: bool = False) -> None:
    """Refuse rows for a JUnit report that is not written. Raises SuiteError."""
    if not ci and not any(Path(path).suffix.lower() == ".xml" for path in outputs):
        raise SuiteError("--junit-rows adds the rows to a JUnit report, and none is written; add -o PATH.xml")


def check_distinct(outputs: Sequence[str], suites: Sequence[str]) -> None:
    """Refuse outputs that suites of one name would overwrite. Raises SuiteError."""
    twice = next((name for place, name in enumerate(suites) if name in suites[:place]), None)
    if outputs and twice is not None:
        raise SuiteError(f"-o {outputs[0]!r}: two suites are called {twice!r}, so one would overwrite the other")


@dataclass(slots=True)
class Output:
    """One file of a run, its reporter, and where it is copied to. `problem` is why it could not be written."""

    path: Path
    reporter: Any
    copies: list[Path] = field(default_factory=list)
    optional: bool = False
    problem: str | None = None

    def attempt(self, step: Callable[[], object]) -> None:
        """Run a step of the reporter unless an earlier one failed. A failure is recorded and does not stop other outputs."""
        if self.problem is None:
            try:
                step()
            except (OSError, RunError) as refused:
                self.problem = str(refused)
            except Exception as crash:  # a reporter of another package may raise anything
                self.problem = f"{str(self.path)!r}: {type(crash).__name__}: {crash}"


class Outputs:
    """The reporters of all files of one run. A failure of one does not affect the others."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.outputs = tuple(outputs)
        self.row_takers = [(output, output.reporter.on_row) for output in outputs if hasattr(output.reporter, "on_row")]

    def on_start(self, run: RunView, /) -> None:
        for output in self.outputs:
            output.attempt(partial(output.reporter.on_start, run))

    def on_row(self, row: Row, /) -> None:
        for output, on_row in self.row_takers:
            if output.problem is None:
                try:
                    on_row(row)
                except Exception as crash:  # as in Output.attempt, without a call more for each row
                    output.problem = f"{str(output.path)!r}: {type(crash).__name__}: {crash}"

    def write_optional(self, run: RunView) -> tuple[str, ...]:
        """Write the optional files; returns a notice for each that could not be written."""
        chosen = [output for output in self.outputs if output.optional]
        for output in chosen:
            output.attempt(partial(output.reporter.on_end, run))
        return tuple(f"a report could not be written: {output.problem}" for output in chosen if output.problem)

    def notices(self) -> tuple[str, ...]:
        """What the reporters say about the files they wrote, such as cells that were cut."""
        return tuple(notice for output in self.outputs for notice in getattr(output.reporter, "notices", ()))

    def on_end(self, run: RunView, /) -> None:
        """Write the other files, then all copies. Raises RunError that names those that could not be written."""
        for output in self.outputs:
            if not output.optional:
                output.attempt(partial(output.reporter.on_end, run))
            for copy in output.copies:
                output.attempt(partial(_copy, output.path, copy))
        problems = [
            output.problem for output in self.outputs if output.problem and (not output.optional or output.copies)
        ]
        if problems:
            raise RunError("; ".join(problems))


def _copy(source: Path, path: Path) -> None:
    with replacing(path) as part:
        shutil.copyfile(source, part)


def open_outputs(run: RunView, outputs: Sequence[str], environ: Mapping[str, str], **options: Any) -> Outputs:
    """The files of a live run: those of its folder, those of `-o`, and in CI the summary and JUnit.

    `options`, such as `rows` of JUnit, go to the reporters that have them.
    """
    wanted: dict[str, list[Path]] = {}
    for extension in (*DEFAULT_FORMATS, *(CI_FORMATS if in_ci(environ) else ())):
        wanted[extension] = [run.folder / RUN_FILES[extension]]
    for output in outputs:
        extension = Path(output).suffix.lower()
        own = [run.folder / RUN_FILES[extension]] if extension in RUN_FILES else []
        wanted.setdefault(extension, own).append(Path(output.replace("{suite}", run.suite)))
    selected = [
        Output(paths[0], _reporter(paths[0], options), paths[1:], optional=extension in CI_FORMATS)
        for extension, paths in wanted.items()
    ]
    if ".md" in wanted and (step := environ.get("GITHUB_STEP_SUMMARY")):
        selected.append(Output(Path(step), load("reporters", STEP_SUMMARY)(Path(step)), optional=True))
    return Outputs(selected)


def in_ci(environ: Mapping[str, str]) -> bool:
    """Whether this process runs in CI: all CI systems set `CI`."""
    return environ.get("CI", "").lower() not in ("", "0", "false") or environ.get("GITHUB_ACTIONS") == "true"


def replay(
    folder: RunFolder, outputs: Sequence[Path], *, runs: Path, failed_only: bool = False, **options: Any
) -> tuple[str, ...]:
    """Write outputs of a stored run: its rows go through the same reporters once more. Returns their notices.

    `runs` is where its baseline may be. `failed_only` writes only the rows that `failed` names, `options`, such as
    `max_bytes`, go to the reporters that have them. Raises SuiteError for an output that cannot be written, or an option
    that changes none, RunNotFoundError for a run that cannot be read.
    """
    check_outputs([str(path) for path in outputs])
    if failed_only:
        _check_row_outputs(outputs)
    run = stored_view(folder, runs)
    if failed_only:
        options["only"] = partial(failed, measures=run.measures)
    reporters = [_reporter(path, options) for path in outputs]
    send_rows(run, reporters)
    return tuple(notice for reporter in reporters for notice in getattr(reporter, "notices", ()))


def _check_row_outputs(outputs: Sequence[Path]) -> None:
    """Refuse outputs that do not list rows. Raises SuiteError."""
    for path in outputs:
        if not takes_option(path, "only"):
            formats = [name for name in extensions() if takes_option(Path(name), "only")]
            raise SuiteError(f"--failed writes rows, and -o {str(path)!r} has none; write {listed(formats)}")


def takes_option(path: Path, option: str) -> bool:
    """Whether the reporter of an output has an option."""
    extension = path.suffix.lower() or path.name
    return option in factory_options(load("reporters", extension))


def send_rows(run: RunView, reporters: Sequence[Any]) -> None:
    """Send a stored run with its rows to reporters."""
    for reporter in reporters:
        reporter.on_start(run)
    takers = [reporter.on_row for reporter in reporters if hasattr(reporter, "on_row")]
    for row in _rows(run.folder) if takers else ():
        for on_row in takers:
            on_row(row)
    for reporter in reporters:
        reporter.on_end(run)


def _rows(folder: Path) -> Iterator[Row]:
    return read_rows(folder)


def _reporter(path: Path, options: Mapping[str, Any]) -> Any:
    factory = load("reporters", path.suffix.lower())
    accepted = factory_options(factory)
    return factory(path, **{name: value for name, value in options.items() if name in accepted})


class JsonReporter:
    """Writes `.json`: every metric with its counts and interval, every gate with its verdict."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        if run.numbers is None:
            raise RunNotFoundError(f"run {run.run_id} has no {METRICS_FILE}: it did not finish")
        write_json(self.path, run.numbers.to_json())


class JsonlReporter:
    """Writes `.jsonl`: a copy of the run's row log, or its rows that pass `only`."""

    def __init__(self, path: Path, *, only: Callable[[Row], bool] | None = None) -> None:
        self.path, self.only = path, only

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        with replacing(self.path) as part:
            if self.only is None:
                shutil.copyfile(run.folder / ROWS_FILE, part)
            else:
                with part.open("wb") as file:
                    file.writelines(map(encode_row, filter(self.only, read_rows(run.folder))))
