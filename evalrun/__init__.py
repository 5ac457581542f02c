"""Evaluation suites for language models, from YAML, with verdicts that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrun.api import SuiteResult, run_suite
    from evalrun.checking import CheckFailed, check
    from evalrun.domain import Completion, Declaration, Failure, Row, Sample, Score, Scorer, Skipped, Unscored
    from evalrun.errors import EvalrunError, MissingExtraError, RunError, RunNotFoundError, SuiteError
    from evalrun.suite.options import RunOptions

__version__ = "0.1.0"

_HOMES = {
    "CheckFailed": "evalrun.checking",
    "Completion": "evalrun.domain",
    "Declaration": "evalrun.domain",
    "EvalrunError": "evalrun.errors",
    "Failure": "evalrun.domain",
    "MissingExtraError": "evalrun.errors",
    "Row": "evalrun.domain",
    "RunError": "evalrun.errors",
    "RunNotFoundError": "evalrun.errors",
    "RunOptions": "evalrun.suite.options",
    "Sample": "evalrun.domain",
    "Score": "evalrun.domain",
    "Scorer": "evalrun.domain",
    "Skipped": "evalrun.domain",
    "SuiteError": "evalrun.errors",
    "SuiteResult": "evalrun.api",
    "Unscored": "evalrun.domain",
    "check": "evalrun.checking",
    "run_suite": "evalrun.api",
}

__all__ = [
    "CheckFailed",
    "Completion",
    "Declaration",
    "EvalrunError",
    "Failure",
    "MissingExtraError",
    "Row",
    "RunError",
    "RunNotFoundError",
    "RunOptions",
    "Sample",
    "Score",
    "Scorer",
    "Skipped",
    "SuiteError",
    "SuiteResult",
    "Unscored",
    "__version__",
    "check",
    "run_suite",
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for: `import evalrun` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'evalrun' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
