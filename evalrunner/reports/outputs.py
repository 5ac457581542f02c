"""`-o PATH`: copies of a run's results, the format by the extension."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalrunner.engine.result import RunResult
from evalrunner.errors import MissingExtraError, RunNotFoundError, SuiteError, nearest
from evalrunner.redact import redact
from evalrunner.reports.ci import JUNIT_FILE, SUMMARY_FILE, stored_markdown
from evalrunner.reports.csv import guard_formula, shape_of, table_frame
from evalrunner.reports.html.write import KINDS, check_png_support, rewrite_report
from evalrunner.runs.folder import METRICS_FILE, REPORT_FILE, TABLE_FILE, RunFolder
from evalrunner.runs.row_log import NAME as ROWS_FILE
from evalrunner.runs.row_log import read_rows
from evalrunner.storage import write_bytes

EXTRAS = ((".parquet", "pyarrow", "parquet"), (".xlsx", "openpyxl", "xlsx"), (".png", "resvg_py", "png"))
STORED = {".csv": TABLE_FILE, ".json": METRICS_FILE, ".jsonl": ROWS_FILE}
XLSX_CELL = 32_767  # characters that a cell of Excel holds
XLSX_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # XML 1.0 §2.2 forbids them


def check_outputs(outputs: Sequence[str], *, suites: int) -> None:
    """Refuse what cannot be written, before anything is called. Raises SuiteError."""
    for output in outputs:
        extension = Path(output).suffix.lower()
        if extension not in WRITERS:
            raise SuiteError(
                f"-o {output!r}: the extension should be one of {', '.join(WRITERS)}{nearest(extension, WRITERS)}"
            )
        if suites > 1 and "{suite}" not in output:
            raise SuiteError(f"-o {output!r}: with several suites the path should hold {{suite}}")
        for needed, package, extra in EXTRAS:
            if extension == needed and importlib.util.find_spec(package) is None:
                raise MissingExtraError(f"-o {output!r}", extra)


def check_apart(outputs: Sequence[str], names: Sequence[str]) -> None:
    """Refuse outputs that suites of one name would write over each other. Raises SuiteError."""
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if outputs and twice is not None:
        raise SuiteError(f"-o {outputs[0]!r}: two suites are called {twice!r}, and one would be written over the other")


def write_outputs(result: RunResult, outputs: Sequence[str]) -> list[Path]:
    """Write each output; returns where. The run folder has its files already."""
    written: list[Path] = []
    for output in outputs:
        path = Path(output.replace("{suite}", result.suite))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            WRITERS[path.suffix.lower()](result, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        written.append(path)
    return written


def write_stored(folder: RunFolder, output: Path, *, runs: Path, max_bytes: int) -> None:
    """Write an output of a stored run; a summary takes at most `max_bytes`; `runs` is where baselines may be. Raises SuiteError for what it cannot be."""
    from evalrunner.reports.baseline_rows import baseline_lookup_of_stored
    from evalrunner.reports.junit import write_junit
    from evalrunner.reports.view import stored_view

    suffix = output.suffix.lower()
    if suffix == ".md":
        view = stored_view(folder)
        text = stored_markdown(folder, view, max_bytes=max_bytes, earlier=baseline_lookup_of_stored(view, runs))
        write_bytes(output, redact(text).encode())
    elif suffix == ".xml":
        write_junit(folder, stored_view(folder), output)
    elif suffix in KINDS:
        check_png_support(output)
        rewrite_report(folder, output, runs=runs)
    elif suffix in STORED:
        if not (folder.path / STORED[suffix]).is_file():
            raise RunNotFoundError(f"run {folder.id} has no {STORED[suffix]}: it did not come to its end")
        write_bytes(output, (folder.path / STORED[suffix]).read_bytes())
    else:
        known = (".md", ".xml", *KINDS, *STORED)
        raise SuiteError(
            f"-o {str(output)!r}: the extension should be one of {', '.join(known)}{nearest(suffix, known)}"
        )


def _copy(name: str) -> Callable[[RunResult, Path], None]:
    def copy(result: RunResult, path: Path) -> None:
        shutil.copyfile(result.folder / name, path)

    return copy


def _frame(result: RunResult) -> Any:
    return table_frame(read_rows(result.folder), shape_of(result.plan), list(result.targets))


def _write_parquet(result: RunResult, path: Path) -> None:
    frame = _frame(result)
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufb":  # a column of mixed types has no type in Parquet
            frame[name] = [None if value is None else _utf8(str(value)) for value in frame[name]]
    frame.to_parquet(path, index=False)


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="backslashreplace").decode()


def _write_xlsx(result: RunResult, path: Path) -> None:
    _frame(result).map(_cell).to_excel(path, sheet_name="rows", index=False, engine="openpyxl")


def _cell(value: Any) -> Any:
    return XLSX_ILLEGAL.sub("", guard_formula(value))[:XLSX_CELL] if isinstance(value, str) else value


def _write_plot(result: RunResult, path: Path) -> None:
    rewrite_report(RunFolder(result.folder), path, runs=result.folder.parent.parent)


WRITERS: dict[str, Callable[[RunResult, Path], None]] = {
    ".csv": _copy(TABLE_FILE),
    ".html": _copy(REPORT_FILE),
    ".json": _copy(METRICS_FILE),
    ".jsonl": _copy(ROWS_FILE),
    ".md": _copy(SUMMARY_FILE),
    ".xml": _copy(JUNIT_FILE),
    ".parquet": _write_parquet,
    ".png": _write_plot,
    ".svg": _write_plot,
    ".xlsx": _write_xlsx,
}
