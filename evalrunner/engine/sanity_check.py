"""The sanity check of one judge model during a run. Judges of several scorers share it where they are asked the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalrunner.domain import Failure

if TYPE_CHECKING:
    from evalrunner.engine.judge import RecordingJudge
    from evalrunner.scorers.call import BoundScorer
    from evalrunner.scorers.judge_calibration import JudgeCheck

MAX_SANITY_CHECKS = 3  # that failed calls ended, before the judge is aborted


@dataclass(slots=True)
class SanityCheck:
    """The known answers of `bound`, put to a judge before its first verdict.

    `judge_key` names the judge's model and params. `check` is the latest result, None before the first; `attempts`
    counts them. `checking` is set during one.
    """

    bound: BoundScorer
    judge_key: str = ""
    check: JudgeCheck | None = None
    attempts: int = 0
    checking: RecordingJudge | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, judge: RecordingJudge, open_reason: Callable[[], Failure | None]) -> JudgeCheck:
        """The result. The first caller runs the check, with `judge`; others wait for it."""
        if self._is_needed(open_reason):
            from evalrunner.scorers.judge_calibration import check_judge

            async with self._lock:
                if self._is_needed(open_reason):
                    self.attempts += 1
                    self.checking = judge
                    try:
                        self.check = await check_judge(self.bound, judge)
                    finally:
                        self.checking = None
        assert self.check is not None  # there was a check by now
        return self.check

    @property
    def progress(self) -> tuple[int, int] | None:
        """The replies so far and the known answers, None while no check is in progress."""
        if self.checking is None:
            return None
        from evalrunner.scorers.judge_calibration import check_stages

        done, total = len(self.checking.calls), 0
        for stage in check_stages(self.bound.scorer.calibration_examples):
            total += len(stage)
            if done <= total:
                break
        return done, total

    def _is_needed(self, open_reason: Callable[[], Failure | None]) -> bool:
        if self.check is None:
            return True
        return self.check.failure is not None and self.attempts < MAX_SANITY_CHECKS and open_reason() is None
