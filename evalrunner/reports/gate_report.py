"""The gates of a stored run, evaluated again: on a terminal, as JSON, and as the view of the run with the new verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.domain import GateResult
from evalrunner.formatting import one_line, styled
from evalrunner.reports.gate_lines import GateLines
from evalrunner.reports.row_lines import Paragraph
from evalrunner.reports.terminal import word_style
from evalrunner.reports.view import RunView, run_word, stored_view
from evalrunner.reports.worst_rows import baseline_lookup_of_stored
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import to_json
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gates of a stored run, evaluated again. `gates_of` names the file that the gates are from."""

    folder: RunFolder
    suite: str
    gates_of: str
    gates: tuple[GateResult, ...]
    verdict: Verdict
    exit_code: int
    stopped: str | None = None


def render_gate_report(report: GateReport, *, verbose: bool = False) -> Iterator[RenderableType]:
    """The verdict, the source of the gates, and each gate; `verbose` adds their details."""
    word = run_word(report.verdict, report.exit_code, gated=bool(report.gates))
    line = styled(f"{word}  ", word_style(word, report.verdict))
    line.append(one_line(report.suite, 60), style="bold")
    line.append(f" · {report.folder.id} · gates of {one_line(report.gates_of, 200)}")
    yield line
    if report.stopped is not None:
        yield Paragraph(f"not finished: {report.stopped}", "bold magenta")
    if report.gates:
        file = Path(report.gates_of)
        place = one_line(file.name, 60) if file.suffix in (".yaml", ".yml") else ""  # else they are those of the run
        yield GateLines(report.gates, verbose=verbose, file=place)
    else:
        yield styled("there are no gates")


def gate_report_view(report: GateReport, suite_file: Path | None, runs: Path) -> RunView:
    """The stored run with its new verdicts. `suite_file` has the gates, if they are of another file; `runs` baselines."""
    view = stored_view(report.folder, runs)
    file = suite_file or view.suite_file
    return replace(
        view,
        gates=report.gates,
        verdict=report.verdict,
        exit_code=report.exit_code,
        suite_file=file,
        stopped=report.stopped,
        find_baseline=partial(baseline_lookup_of_stored, view.suite, file, report.gates, tuple(view.targets), runs),
    )


def gate_report_data(report: GateReport) -> dict[str, Any]:
    """The verdicts as JSON has them, under the names of `metrics.json`."""
    return {
        "schema_version": 1,
        "run_id": report.folder.id,
        "suite": report.suite,
        "gates_of": report.gates_of,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "stopped": report.stopped,
        "gates": [to_json(gate) for gate in report.gates],
    }
