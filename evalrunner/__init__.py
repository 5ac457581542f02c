"""Evaluation suites for language models, from YAML, with verdicts that can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrunner.api import SuiteResult as SuiteResult
    from evalrunner.api import run_suite as run_suite
    from evalrunner.domain import Completion as Completion
    from evalrunner.domain import Declaration as Declaration
    from evalrunner.domain import Failure as Failure
    from evalrunner.domain import Parts as Parts
    from evalrunner.domain import Row as Row
    from evalrunner.domain import Sample as Sample
    from evalrunner.domain import Score as Score
    from evalrunner.domain import Scorer as Scorer
    from evalrunner.domain import Skipped as Skipped
    from evalrunner.domain import Unscored as Unscored
    from evalrunner.errors import EvalrunError as EvalrunError
    from evalrunner.errors import MissingExtraError as MissingExtraError
    from evalrunner.errors import RunError as RunError
    from evalrunner.errors import RunNotFoundError as RunNotFoundError
    from evalrunner.errors import SuiteError as SuiteError
    from evalrunner.plugins import main_option as main_option
    from evalrunner.suite.options import RunOptions as RunOptions
    from evalrunner.testing import CheckFailed as CheckFailed
    from evalrunner.testing import check as check

__version__ = "0.1.0"

_PUBLIC = {
    "api": ("SuiteResult", "run_suite"),
    "domain": (
        "Completion",
        "Declaration",
        "Failure",
        "Parts",
        "Row",
        "Sample",
        "Score",
        "Scorer",
        "Skipped",
        "Unscored",
    ),
    "errors": ("EvalrunError", "MissingExtraError", "RunError", "RunNotFoundError", "SuiteError"),
    "plugins": ("main_option",),
    "suite.options": ("RunOptions",),
    "testing": ("CheckFailed", "check"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _PUBLIC.items() for name in names}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605  # derived, so that a name is listed once


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import evalrunner` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'evalrunner' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
