"""A Python function as the target."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalrunner.clock import CLOCK
from evalrunner.domain import Completion, Failure, Sample, Target
from evalrunner.plugins import (
    BoundFunction,
    PluginContext,
    ReferenceProblem,
    bind_by_name,
    describe_crash,
    load_attribute,
)
from evalrunner.targets.python_reply import completion_from

OFFERED = ("input", "sample", "epoch")


def python(context: PluginContext, *, function: str) -> Target:
    """Calls a custom function, sync or async, with the input (or those of input, sample, epoch that it names).

    Args:
        function: `path/file.py:name`, relative to the suite, or `package.module:name`.
    """
    loaded = load_attribute(function, folder=context.folder)
    if not callable(loaded):
        raise ReferenceProblem(f"{function!r} is a {type(loaded).__name__}, not a function")
    return PythonTarget(bind_by_name(loaded, OFFERED, args=context.args, single="input"))


@dataclass(frozen=True, slots=True)
class PythonTarget:
    """Calls the function with the parameters it names; a sync one runs in a thread. An exception fails its row."""

    function: BoundFunction

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        offered = {"input": sample.input, "sample": sample, "epoch": epoch}
        started = CLOCK.timer()
        try:
            if self.function.is_async:
                returned = await self.function(offered)
            else:
                returned = await asyncio.to_thread(self._call, offered)
        except asyncio.CancelledError:  # the row may be canceled; the runner knows
            raise
        except BaseException as crash:  # whatever user code raises, exit() too, fails its row, not the run
            return Failure("function", describe_crash(self.function.function, crash))
        latency_s = CLOCK.timer() - started
        return completion_from(returned, latency_s, self.function.function)

    def _call(self, offered: Mapping[str, Any]) -> Any:
        """What the function returns in a thread, a Failure if it raised: not all exceptions can go from there to a task."""
        try:
            return self.function(offered)
        except BaseException as crash:
            return Failure("function", describe_crash(self.function.function, crash))
