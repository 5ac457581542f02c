"""`evalrun track`: a stored run sent to MLflow, exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options


def track(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, its path, or last.")
    ] = "last",
    mlflow: options.Mlflow = None,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Send a stored run to MLflow. What is there already is found again, not doubled.

    Exit codes: 0 it is there, 2 nobody says where to or the extra is missing, 3 it could not be sent.
    """
    from evalrunner.errors import RunError
    from evalrunner.redact import register_environment
    from evalrunner.runs.folder import find_run
    from evalrunner.tracking.runs import track_run

    register_environment()
    folder = find_run(run, output_dir)
    tracked = track_run(folder.path, mlflow)
    if tracked.problem is not None:
        raise RunError(f"mlflow: not sent to {tracked.uri}: {tracked.problem}; what arrived is noted, so try again")
    typer.echo(f"mlflow: {tracked}")
