"""The pytest plugin: an option for the run folders of `evalrunner.check`. It imports nothing until a test needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("evalrun").addoption(
        "--evalrun-output-dir", metavar="PATH", help="where evalrunner.check makes run folders (default: runs)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the option where it is given."""
    path = config.getoption("--evalrun-output-dir", default=None)
    if path:
        from evalrunner.testing import use_output_dir

        use_output_dir(Path(path).absolute())
