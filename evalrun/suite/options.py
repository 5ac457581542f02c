"""What the command line or Python code asks for on top of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalrun.domain import EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run differs from what its suite says. Every field left at its default changes nothing.

    `targets` are names of the suite's targets, or model strings. `where` maps a column to a value. `settings`
    are `key.path=value`, typed as YAML. `outputs` are paths whose extension says the format.
    `refresh` asks again for what is in the cache. `resume` names a run to go on with, and `retry_errors` runs again
    what ended in error there. `wait_scale` is real seconds for each second that is waited between calls: tests of
    people's own suites pass less than 1.
    """

    targets: tuple[str, ...] = ()
    base_url: str | None = None
    judge: str | None = None
    limit: int | None = None
    where: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    epochs: int | None = None
    concurrency: int | Literal["auto"] | None = None
    retries: int | None = None
    timeout: float | None = None
    max_cost: float | None = None
    fail_on_error: str | int | None = None
    cache: Literal["judges", "all", "off"] | None = None
    refresh: bool = False
    resume: str | None = None
    retry_errors: bool = False
    wait_scale: float = 1.0
    seed: int | None = None
    settings: tuple[str, ...] = ()
    output_dir: Path = Path("runs")
    outputs: tuple[str, ...] = ()
    gates: bool = True
    debug: bool = False
