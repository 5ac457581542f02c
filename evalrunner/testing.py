"""`evalrunner.check`: a suite as one test, which fails with the output of the command line. And the pytest plugin.

It imports nothing of evalrunner until a test calls `check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from evalrunner.api import SuiteResult
    from evalrunner.domain import Reporter
    from evalrunner.reports.view import RunView

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
    summary = _Summary()
    message = None
    try:
        result = run_suite(suite, options=RunOptions(**options), reporters=[summary])
    except SuiteError as error:
        problems = "\n".join(str(problem) for problem in error.problems)
        message = f"the suite is invalid; nothing was called:\n{redact_message(problems)}"
    except EvalrunError as error:
        message = f"the run cannot continue: {redact_message(str(error))}"
    if message is not None:
        raise CheckFailed(message)
    if result.exit_code:
        raise CheckFailed(summary.text)
    return result


class _Summary:
    """Keeps what the terminal would print of the run."""

    def __init__(self) -> None:
        import io

        from evalrunner.plugins import load

        self.out = io.StringIO()
        self.terminal: Reporter = load("reporters", "terminal")(self.out)
        self.on_start, self.on_row = self.terminal.on_start, self.terminal.on_row
        self.text = ""

    def on_end(self, run: RunView, /) -> None:
        from evalrunner.formatting import one_line
        from evalrunner.reports.verdict_sentence import sentence

        self.terminal.on_end(run)
        lines = [line.rstrip() for line in self.out.getvalue().splitlines()]
        self.text = "\n".join([one_line(f"{run.word}: {sentence(run)}", 1_200), "", *lines])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("evalrun").addoption(
        "--evalrun-output-dir", metavar="PATH", help="folder for the runs of evalrunner.check (default: runs)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the option where it is given."""
    path = config.getoption("--evalrun-output-dir", default=None)
    if path:
        use_output_dir(Path(path).absolute())
