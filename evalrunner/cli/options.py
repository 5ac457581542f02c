"""The options that commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

MaybeSuites = Annotated[list[str] | None, typer.Argument(metavar="SUITE…", help="Suite files (YAML).")]
Suites = Annotated[list[str], typer.Argument(metavar="SUITE…", help="Suite files (YAML).")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", "-t", metavar="NAME|MODEL", help="Only this target of the suite, or this model instead. Repeatable."
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="OpenAI-compatible address of the targets.")
]
JudgeModel = Annotated[str | None, typer.Option("--judge", metavar="MODEL", help="The judge's model.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many samples.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Keep such samples. Repeatable; [a, b] is any of both."),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="How often each sample is asked.")]
Concurrency = Annotated[
    str | None,
    typer.Option(
        "--concurrency", "-j", metavar="N|auto", help="Rows under way and calls in flight to one endpoint, or auto."
    ),
]
Retries = Annotated[
    int | None, typer.Option("--retries", min=0, help="How often a call that failed in passing is made again.")
]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Seconds that one call may take.")]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", metavar="USD", help="US dollars that the run may spend, judges included.")
]
FailOnError = Annotated[
    str | None,
    typer.Option("--fail-on-error", metavar="N|P%", help="Stop once so many rows, or such a share, ended in error."),
]
Cache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        show_default=False,
        help="Reuse and keep all answers, or none. Without it those of judges.",
    ),
]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="Ask again for what is in the cache, and keep the new answer.")
]
Resume = Annotated[
    str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run: its id, a prefix, its path, or last.")
]
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="With --resume: run again what ended in error, too.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of all that is drawn at random.")]
OutputDir = Annotated[Path, typer.Option("--output-dir", help="Where run folders are made.")]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Also write .csv .parquet .xlsx .jsonl .json .html .md .xml .svg or .png. Repeatable.",
    ),
]
Diff = Annotated[
    int, typer.Option("--diff", min=0, metavar="N", help="Of several targets, show the N samples that differ most.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set any key of the suite, typed as YAML. Repeatable."),
]

Mlflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="[URI]",
        help="Send the run to MLflow: to this address, or where the suite or MLFLOW_TRACKING_URI says.",
    ),
]
MlflowRequired = Annotated[
    bool, typer.Option("--mlflow-required", help="Send the run to MLflow, and end with 3 where that cannot be done.")
]


def conditions(where: list[str] | None) -> dict[str, Any]:
    """The conditions of `--where`, column to value."""
    from evalrunner.suite.loader import parse_condition

    return dict(parse_condition(text) for text in where or ())


def cache_mode(cache: bool | None) -> Any:
    """The mode of `--cache` and `--no-cache`, None where neither is given."""
    return None if cache is None else "all" if cache else "off"


def concurrency_of(text: str | None) -> Any:
    """The number, `auto`, or None of `--concurrency`."""
    if text is None or text == "auto":
        return text
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither a number from 1 nor auto", param_hint="'--concurrency' / '-j'")
    return int(text)
