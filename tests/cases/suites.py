"""Suites whose every answer is scripted, run through the command line in this process.

A sample is the list of its outcomes by epoch, or one outcome for all epochs:

    right wrong            an answer that exact_match scores 1 or 0
    a number               the answer is that number; the scorers `graded`, `signed` and `open` return it
    error                  the target's function raises: the call failed
    refused filtered truncated empty    the model gave no answer
    skip judge crash       the scorer `own` skips the answer, has an unreadable judge, or raises
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from evalrunner.cli.main import app
from evalrunner.errors import EvalrunError

Outcome = str | float
Plan = Outcome | Sequence[Outcome]

OWN = """
from evalrunner import Completion, Unscored


async def answer(sample, epoch, column="plan"):
    plan = sample.metadata[column]
    outcome = plan[(epoch - 1) % len(plan)]
    if outcome == "error":
        raise RuntimeError("the service is down")
    if outcome in ("refused", "filtered", "truncated", "empty"):
        return Completion("", outcome)
    return Completion("yes" if outcome == "right" else str(outcome), latency_s=1.0)


def own(output) -> bool:
    if output == "skip":
        return None
    if output == "judge":
        return Unscored("judge", "no verdict in its reply")
    if output == "crash":
        raise ValueError(output)
    return output == "yes"


def wrong(output) -> bool:
    return output != "yes"


def graded(output):
    return None if output == "skip" else Unscored("judge", "no verdict") if output == "judge" else float(output)


def zero_or_one(output):
    return 1.0 if output == "yes" else 0.0
"""
SCORERS: Mapping[str, Any] = {
    "own": {"type": "python", "function": "own.py:own"},
    "mistakes": {"type": "python", "name": "mistakes", "function": "own.py:wrong", "higher_is_better": False},
    "graded": {"type": "python", "function": "own.py:graded", "low": 0, "high": 1},
    "harm": {"type": "python", "name": "harm", "function": "own.py:graded", "low": 0, "high": 1, "higher_is_better": False,
             "aggregates": ["mean", "p90", "variance", "ratio"], "threshold": 0.5},
    "signed": {"type": "python", "name": "signed", "function": "own.py:graded", "low": -1, "high": 1},
    "open": {"type": "python", "name": "open", "function": "own.py:graded", "aggregates": ["mean", "p90", "variance", "total"]},
    "zero_or_one": {"type": "python", "function": "own.py:zero_or_one"},
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code, its output, and the gates of its JSON."""

    code: int
    out: str
    err: str
    gates: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def verdicts(self) -> tuple[str, ...]:
        return tuple(gate["verdict"] for gate in self.gates)

    @property
    def verdict(self) -> str:
        (verdict,) = set(self.verdicts)
        return verdict

    @property
    def text(self) -> str:
        """Reasons and details of all gates, in one line."""
        return " | ".join("; ".join((gate["reason"], *gate.get("details", ()))) for gate in self.gates)


def command(*args: str) -> Ended:
    """`evalrun ARGS…` in this process."""
    done = CliRunner().invoke(app, list(args), prog_name="evalrun")
    code, err = done.exit_code, done.stderr
    if isinstance(done.exception, EvalrunError):
        code, err = done.exception.exit_code, err + str(done.exception)
    elif done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    gates: tuple[Mapping[str, Any], ...] = ()
    if "--json" in args and done.stdout.strip():
        data = json.loads(done.stdout)
        gates = tuple(data.get("gates", ())) if isinstance(data, dict) else ()
    return Ended(code, done.stdout, err, gates)


def samples(*groups: tuple[int, Plan], **metadata: Sequence[Any]) -> list[dict[str, Any]]:
    """One sample per outcome: `(76, "right"), (20, "wrong"), (4, "error")`, in this order, with further columns."""
    plans: list[Plan] = [plan for count, plan in groups for _ in range(count)]
    return [
        {
            "id": f"q{index}",
            "input": f"Question {index}?",
            "expected": "yes",
            "plan": list(plan) if isinstance(plan, list | tuple) else [plan],
            **{name: values[index % len(values)] for name, values in metadata.items()},
        }
        for index, plan in enumerate(plans)
    ]


def write(
    data: Iterable[Mapping[str, Any]], gates: Sequence[Any], *, scorers: Sequence[str] = ("exact_match",), **keys: Any
) -> str:
    """A suite file with these samples and gates; further keys go to the top of the suite."""
    Path("own.py").write_text(OWN)
    Path("data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in data))
    suite = {
        "name": "case",
        "dataset": "data.jsonl",
        "target": {"name": "m", "type": "python", "function": "own.py:answer"},
        "scorers": [SCORERS.get(name, name) for name in scorers],
        "gates": list(gates),
        **keys,
    }
    if "targets" in suite:
        del suite["target"]
    Path("case.yaml").write_text(json.dumps(suite, indent=1))
    return "case.yaml"


def run(data: Iterable[Mapping[str, Any]], gates: Sequence[Any], *args: str, **keys: Any) -> Ended:
    """The suite of `write`, run."""
    return command(write(data, gates, **keys), *args, "--json")


def accept(data: Iterable[Mapping[str, Any]], *args: str, **keys: Any) -> None:
    """Run a suite without gates and accept it as a baseline."""
    assert command(write(data, [], **keys), "-q").code == 0
    done = command("baseline", "accept", *args)
    assert done.code == 0, done.err


def drop(allowed: float, metric: str = "exact_match", **keys: Any) -> dict[str, Any]:
    """A gate on the baseline `main`."""
    return {"metric": metric, "baseline": "main", "max_drop": allowed, **keys}


def at_least(bound: float, metric: str = "exact_match", **keys: Any) -> dict[str, Any]:
    """A gate with 95% confidence."""
    return {"metric": metric, "min": bound, "confidence": 0.95, **keys}
