"""Recorded outputs as the target: a column of the dataset, or the rows of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Completion, Failure, Row, Sample, Target
from evalrunner.errors import RunNotFoundError, nearest
from evalrunner.formatting import plain_text
from evalrunner.plugins import PluginContext
from evalrunner.prompts import ABSENT, find_value
from evalrunner.runs.folder import RunFolder, find_run
from evalrunner.runs.row_log import read_rows
from evalrunner.tool_calls import ToolCall, read_tool_calls


def recorded(
    context: PluginContext, *, column: str | None = None, tool_calls: str | None = None, run: str | None = None,
    target: str | None = None,
) -> Target:  # fmt: skip
    """Recorded outputs: nothing is called, so there is no latency and no cost.

    Args:
        column: Column of the dataset with the output, or a dotted path into JSON.
        tool_calls: Column of the dataset with the tool calls of the output, or a dotted path into JSON.
        run: An earlier run: its id, a unique prefix, a path, or `last`.
        target: Target of that run, if it has several.
    """
    if (column is None and tool_calls is None) == (run is None):
        raise ValueError("needs either 'column' or 'tool_calls' (columns of the dataset) or 'run' (an earlier run)")
    if run is not None:
        folder = find_run(run, context.runs)
        return RecordedRun(_answers(folder, target), folder.id)
    if target is not None:
        raise ValueError("'target' needs 'run'")
    return RecordedColumn(column, tool_calls)


@dataclass(frozen=True, slots=True)
class RecordedColumn(SampleValidator):
    """The output is in a column of the sample, its tool calls in another; they are the same for every epoch."""

    column: str | None
    tool_calls: str | None = None

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        for column in filter(None, (self.column, self.tool_calls)):
            if find_value(sample.metadata, column) is ABSENT:
                known = ", ".join(map(str, sample.metadata))
                hint = nearest(column, map(str, sample.metadata)) or f"; it has {known}"
                return Failure("missing", f"the sample has no column {column!r}{hint}")
        output = None if self.column is None else find_value(sample.metadata, self.column)
        text = "" if output is None or (isinstance(output, str) and not output.strip()) else plain_text(output)
        try:
            calls = tuple(call.as_reply() for call in self._calls(sample))
        except ValueError as wrong:
            return Failure("malformed", f"the recorded tool calls cannot be read: {wrong}")
        return Completion(text, "tool_calls" if calls else "stop" if text else "empty", tool_calls=calls)

    def _calls(self, sample: Sample) -> tuple[ToolCall, ...]:
        value = None if self.tool_calls is None else find_value(sample.metadata, self.tool_calls)
        return () if value is None or value is ABSENT else read_tool_calls(value, strict=False)

    def check(self, sample: Sample) -> str | None:
        """The problem with a sample, or None: a missing column is reported before the run."""
        for column in filter(None, (self.column, self.tool_calls)):
            if find_value(sample.metadata, column) is ABSENT:
                names = [str(name) for name in sample.metadata]
                return f"has no column {column!r} for the recorded target{nearest(column, names)}"
        try:
            self._calls(sample)
        except ValueError as wrong:
            return f"has tool calls for the recorded target that cannot be read: {wrong}"
        return None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The answers of an earlier run, by sample id and epoch; a failure of then stays one. `run` is that run's id."""

    answers: Mapping[tuple[str, int], Completion | Failure]
    run: str

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        answer = self.answers.get((sample.id, epoch))
        if answer is None:
            return Failure("missing", f"the recorded run has no answer for sample {sample.id!r} in epoch {epoch}")
        return answer


def _answers(folder: RunFolder, target: str | None) -> dict[tuple[str, int], Completion | Failure]:
    names: set[str] = set()
    answers: dict[tuple[str, int], Completion | Failure] = {}
    for row in read_rows(folder.path):
        names.add(row.target)
        if target in (None, row.target):
            answers[row.sample.id, row.epoch] = without_call_cost(row)
    if target is not None and target not in names:
        raise RunNotFoundError(f"run {folder.id} has no target {target!r}{nearest(target, names)}")
    if target is None and len(names) > 1:
        raise RunNotFoundError(f"run {folder.id} has several targets; name one: target: {' | '.join(sorted(names))}")
    if not answers:
        raise RunNotFoundError(f"run {folder.id} has no rows")
    return answers


def without_call_cost(row: Row) -> Completion | Failure:
    """The answer without latency and cost: it was paid for then, not now."""
    if isinstance(row.answer, Failure):
        return row.answer
    return replace(row.answer, latency_s=None, ttft_s=None, cost_usd=None, cached=False)
