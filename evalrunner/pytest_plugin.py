"""pytest's door to `evalrunner.check`: where run folders go. Nothing of evalrun is imported before a test asks for it."""

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
        from evalrunner.checking import use_output_dir

        use_output_dir(Path(path).absolute())
