"""`evalrunner.check`: a suite as one test, which fails with the words of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrunner.api import SuiteResult
    from evalrunner.domain import Row
    from evalrunner.engine.plan import Plan
    from evalrunner.engine.result import RunResult

_output_dir: Path | None = None  # of the whole process, set by the plugin of pytest


class CheckFailed(AssertionError):
    """A suite whose gates do not pass, or that could not be run; the message is what the command line prints."""


def use_output_dir(path: Path) -> None:
    """Make run folders below `path` from now on, where a check does not say otherwise."""
    global _output_dir
    _output_dir = path


def check(suite: str | Path, **options: Any) -> SuiteResult:
    """Run a suite and return its result. Raises CheckFailed unless the command line would have ended with 0.

    `options` are the fields of `RunOptions`, such as `limit=20` or `targets=("gateway",)`.
    """
    __tracebackhide__ = True  # pytest shows the line of the test, not ours
    from evalrunner.api import run_suite
    from evalrunner.errors import EvalrunError, SuiteError
    from evalrunner.redact import redact_message
    from evalrunner.suite.options import RunOptions

    if _output_dir is not None:
        options.setdefault("output_dir", _output_dir)
    gathered = _Gathered()
    said = None
    try:
        result = run_suite(suite, options=RunOptions(**options), reporters=[gathered])
    except SuiteError as wrong:
        problems = "\n".join(str(problem) for problem in wrong.problems)
        said = f"the suite cannot be run, and nothing was called:\n{redact_message(problems)}"
    except EvalrunError as wrong:
        said = f"the run could not go on: {redact_message(str(wrong))}"
    if said is not None:
        raise CheckFailed(said)
    if result.exit_code:
        raise CheckFailed(gathered.text(result.details))
    return result


class _Gathered:
    """Listens for the rows that the text shows."""

    def on_start(self, plan: Plan, folder: Any, /) -> None:
        from evalrunner.reports.worst_rows import WorstRows

        self.worst = WorstRows(plan.measures)

    def on_row(self, row: Row, /) -> None:
        self.worst.add(row)

    def on_end(self, result: RunResult, /) -> None:
        return

    def text(self, result: RunResult) -> str:
        """The sentence why, then the summary as a terminal has it."""
        import io

        from evalrunner.formatting import one_line
        from evalrunner.reports.terminal import open_console, render_result
        from evalrunner.reports.view import sentence, view_of

        out = io.StringIO()
        console = open_console(out)
        for part in render_result(result, {name: self.worst.of(name) for name in result.targets}):
            console.print(part)
        lines = [line.rstrip() for line in out.getvalue().splitlines()]
        return "\n".join([one_line(sentence(view_of(result)), 1_200), "", *lines])
