"""A stored run judged again, as lines of a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.domain import GateResult
from evalrunner.formatting import one_line, styled
from evalrunner.reports.terminal import DONE, STYLES, gates_table, run_word
from evalrunner.reports.view import RunView, stored_view
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import to_json
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class GateReport:
    """What judging a stored run again came to. `gates_of` says whose gates they were."""

    folder: RunFolder
    suite: str
    gates_of: str
    gates: tuple[GateResult, ...]
    verdict: Verdict
    exit_code: int
    stopped: str | None = None


def render_gate_report(judged: GateReport) -> Iterator[RenderableType]:
    """Verdict first, then whose gates they were and the table of them."""
    word = run_word(judged.verdict, judged.exit_code, gated=bool(judged.gates))
    line = styled(f"{word} ", STYLES[judged.verdict] if word != DONE else "bold")
    line.append(f"{one_line(judged.suite, 60)} {judged.folder.id}", style="bold")
    line.append(f", gates of {one_line(judged.gates_of, 200)}")
    if judged.stopped is not None:
        line.append(f"\nnot finished: {one_line(judged.stopped, 600)}", style="bold magenta")
    yield line
    if judged.gates:
        yield gates_table(judged.gates)
    else:
        yield styled("there are no gates")


def gate_report_view(judged: GateReport, suite_file: Path | None) -> RunView:
    """The run as it was stored with the verdicts that it has now; `suite_file` is whose gates they were, if another's."""
    view = stored_view(judged.folder)
    return replace(
        view,
        gates=judged.gates,
        verdict=judged.verdict,
        exit_code=judged.exit_code,
        suite_file=suite_file or view.suite_file,
        stopped=judged.stopped,
    )


def gate_report_data(judged: GateReport) -> dict[str, Any]:
    """The verdicts as JSON has them, under the names of `metrics.json`."""
    return {
        "schema_version": 1,
        "run_id": judged.folder.id,
        "suite": judged.suite,
        "gates_of": judged.gates_of,
        "verdict": judged.verdict,
        "exit_code": judged.exit_code,
        "stopped": judged.stopped,
        "gates": [to_json(gate) for gate in judged.gates],
    }
