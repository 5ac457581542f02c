"""Evaluation suites for language models, from YAML, with verdicts that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrunner.api import SuiteResult, run_suite
    from evalrunner.checking import CheckFailed, check
    from evalrunner.domain import Completion, Declaration, Failure, Row, Sample, Score, Scorer, Skipped, Unscored
    from evalrunner.errors import EvalrunError, MissingExtraError, RunError, RunNotFoundError, SuiteError
    from evalrunner.suite.options import RunOptions

__version__ = "0.1.0"

_HOMES = {
    "CheckFailed": "evalrunner.checking",
    "Completion": "evalrunner.domain",
    "Declaration": "evalrunner.domain",
    "EvalrunError": "evalrunner.errors",
    "Failure": "evalrunner.domain",
    "MissingExtraError": "evalrunner.errors",
    "Row": "evalrunner.domain",
    "RunError": "evalrunner.errors",
    "RunNotFoundError": "evalrunner.errors",
    "RunOptions": "evalrunner.suite.options",
    "Sample": "evalrunner.domain",
    "Score": "evalrunner.domain",
    "Scorer": "evalrunner.domain",
    "Skipped": "evalrunner.domain",
    "SuiteError": "evalrunner.errors",
    "SuiteResult": "evalrunner.api",
    "Unscored": "evalrunner.domain",
    "check": "evalrunner.checking",
    "run_suite": "evalrunner.api",
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
    """A public name, imported when it is first asked for: `import evalrunner` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'evalrunner' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
