"""`evalrunner.check`: a suite as one test, which fails with the output of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrunner.api import SuiteResult
    from evalrunner.domain import Row
    from evalrunner.engine.plan import Plan
    from evalrunner.engine.result import RunResult

_output_dir: Path | None = None  # of the whole process, set by the pytest plugin


class CheckFailed(AssertionError):
    """A suite did not pass or could not be run. The message is the output of the command line."""


def use_output_dir(path: Path) -> None:
    """Create run folders below `path`, unless a check sets `output_dir`."""
    global _output_dir
    _output_dir = path


def check(suite: str | Path, **options: Any) -> SuiteResult:
    """Run a suite and return its result. Raises CheckFailed unless its exit code is 0.

    `options` are fields of `RunOptions`, such as `limit=20` or `targets=("gateway",)`.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    from evalrunner.api import run_suite
    from evalrunner.errors import EvalrunError, SuiteError
    from evalrunner.redact import redact_message
    from evalrunner.suite.options import RunOptions

    if _output_dir is not None:
        options.setdefault("output_dir", _output_dir)
    collector = _RowCollector()
    message = None
    try:
        result = run_suite(suite, options=RunOptions(**options), reporters=[collector])
    except SuiteError as error:
        problems = "\n".join(str(problem) for problem in error.problems)
        message = f"the suite is invalid; nothing was called:\n{redact_message(problems)}"
    except EvalrunError as error:
        message = f"the run cannot continue: {redact_message(str(error))}"
    if message is not None:
        raise CheckFailed(message)
    if result.exit_code:
        raise CheckFailed(collector.text(result.details))
    return result


class _RowCollector:
    """Collects the worst rows for the message."""

    def on_start(self, plan: Plan, folder: Any, /) -> None:
        from evalrunner.reports.worst_rows import WorstRows

        self.worst = WorstRows(plan.measures)

    def on_row(self, row: Row, /) -> None:
        self.worst.add(row)

    def on_end(self, result: RunResult, /) -> None:
        return

    def text(self, result: RunResult) -> str:
        """The reason in one sentence, then the summary as on the terminal."""
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
