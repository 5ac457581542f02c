"""Resumed runs: finished rows are not run again, and retried rows reuse paid answers."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Completion, Declaration, Failure, Row, Sample, Scorer
from evalrunner.engine.jobs import count_remaining_jobs, remaining_jobs
from evalrunner.engine.plan import Job, PlannedScorer, PlannedTarget
from evalrunner.engine.runner import RowScorer
from evalrunner.errors import RunError
from evalrunner.middleware.deadline import RowDeadline, StopSignal, Timing
from evalrunner.runs.row_log import RowLog, finished_rows, read_rows, scan_keys
from evalrunner.scorers.call import BoundScorer
from evalrunner.suite.schema import ScorerSpec

FINE = {"exact": Cell("scored", 1.0), "tone": Cell("scored", 0.5)}
HALF = {"exact": Cell("scored", 1.0), "tone": Cell("error", None, "sanity check did not finish: down", cause="server")}
UNREAD = {"exact": Cell("scored", 1.0), "tone": Cell("unscored", None, "2 of 12 known answers", cause="judge_check")}
DOWN = {name: Cell("error", None, "down", cause="server") for name in FINE}


async def never(sample: Sample, epoch: int, /) -> Completion:
    raise AssertionError("nothing is to be called here")


TARGETS = (PlannedTarget("a", never, "python"), PlannedTarget("b", never, "python"))
SAMPLES = tuple(Sample(f"s{number}", f"question {number}", ("right",), index=number) for number in range(3))


def all_jobs() -> Iterator[Job]:
    return (Job(sample, target, epoch) for sample in SAMPLES for epoch in (1, 2) for target in TARGETS)


def made(job: Job, cells: dict[str, Cell] = FINE, answer: Completion | Failure | None = None, attempt: int = 1) -> Row:
    return Row(job.sample, job.target.name, job.epoch, answer or Completion("right"), cells, attempt)


def write(rows: list[Row]) -> None:
    with RowLog(Path()) as log:
        for row in rows:
            log.write(row)


def left(*, retry_errors: bool = False) -> list[Job]:
    finished = scan_keys(Path())
    result = list(remaining_jobs(all_jobs(), finished, Path(), retry_errors=retry_errors))
    assert count_remaining_jobs(12, finished, retry_errors=retry_errors) == len(result)
    return result


def test_remaining_jobs_are_the_missing_rows_in_plan_order() -> None:
    jobs = list(all_jobs())
    assert left() == jobs
    write([made(jobs[7]), made(jobs[0]), made(jobs[11]), made(jobs[3])])
    assert left() == [job for place, job in enumerate(jobs) if place not in (0, 3, 7, 11)]
    write([made(job) for job in jobs])
    assert left() == []


def test_failed_rows_are_retried_only_on_request() -> None:
    jobs = list(all_jobs())
    down = Failure("server", "down", 503)
    rows = [made(job) for job in jobs]
    rows[1] = made(jobs[1], DOWN, down, attempt=2)
    rows[4] = made(jobs[4], HALF, attempt=3)
    rows[6] = made(jobs[6], UNREAD)
    write(rows)
    assert left() == []
    again, scored_again = left(retry_errors=True)
    assert again == Job(jobs[1].sample, jobs[1].target, jobs[1].epoch, attempt=3)
    assert (scored_again.attempt, scored_again.stored, scored_again.scorers) == (3, rows[4], frozenset({"tone"}))
    assert (again.stored_cells, scored_again.stored_cells) == ({}, {"exact": HALF["exact"]})


def test_repaired_rows_are_not_retried_again() -> None:
    jobs = list(all_jobs())
    write([made(jobs[0], HALF), made(jobs[1], DOWN, Failure("server", "down")), made(jobs[0])])
    write([made(jobs[1], attempt=2)])
    assert left(retry_errors=True) == jobs[2:]


def test_retry_calls_only_the_failed_scorers() -> None:
    called: list[str] = []

    def exact(output: str) -> float:
        called.append("exact")
        return 0.0

    def tone(output: str) -> float:
        called.append("tone")
        return 0.25

    job = next(all_jobs())
    write([made(job, HALF)])
    (again,) = remaining_jobs([job], scan_keys(Path()), Path(), retry_errors=True)
    assert again.stored is not None
    scorers = [
        PlannedScorer(BoundScorer.bind(name, Scorer(function, Declaration())), ScorerSpec(name, "python"))
        for name, function in (("exact", exact), ("tone", tone))
    ]
    answer = again.stored.answer

    async def score() -> dict[str, Cell]:
        with ThreadPoolExecutor(1) as executor:
            return await RowScorer(scorers, executor, StopSignal()).score(again, answer, RowDeadline(60.0, Timing()))

    cells = asyncio.run(score())
    assert cells == {"exact": HALF["exact"], "tone": Cell("scored", 0.25)}
    assert (list(cells), called) == (["exact", "tone"], ["tone"])


def test_resumed_run_has_every_row_once() -> None:
    jobs = list(all_jobs())
    before = [made(job, HALF) for job in jobs[:4]]
    write(before)
    finished = scan_keys(Path())
    now: list[Row] = []
    for job in remaining_jobs(all_jobs(), finished, Path(), retry_errors=True):
        if job.target.name == "a":  # as in a run that is ended again before it is through
            now.append(made(job, attempt=job.attempt))
            write(now[-1:])
            finished.drop(job.sample.id, job.target.name, job.epoch)
    assert list(finished_rows(Path(), finished)) == [before[1], before[3]]
    assert [*finished_rows(Path(), finished), *now] == list(read_rows(Path()))


def test_row_edited_during_a_resume_is_a_plain_error() -> None:
    job = next(all_jobs())
    write([made(job, HALF)])
    jobs = remaining_jobs([job], scan_keys(Path()), Path(), retry_errors=True)
    Path("rows.jsonl").write_bytes(Path("rows.jsonl").read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(RunError, match="line at byte 0: wrong checksum; the row log was edited"):
        list(jobs)


@pytest.mark.slow
def test_finished_rows_are_not_decoded() -> None:
    """The lines have no JSON after their heads, so that decoding a row would fail."""
    rows = 200_000
    with Path("rows.jsonl").open("wb") as file:
        for number in range(rows):
            body = b'{"v":2,"id":"%d","target":"a","epoch":1,"attempt":1,"index":no JSON' % number
            file.write(b'%b,"sum":"%08x"}\n' % (body, zlib.crc32(body)))
    finished = scan_keys(Path())
    requested = 0

    def jobs() -> Iterator[Job]:
        nonlocal requested
        for number in range(rows + 100):
            requested += 1
            yield Job(Sample(str(number), "?"), TARGETS[0], 1)

    result = remaining_jobs(jobs(), finished, Path(), retry_errors=True)
    assert (len(finished), requested) == (rows, 0)
    assert (next(result).sample.id, requested) == (str(rows), rows + 1)
    assert sum(1 for _ in result) == 99
    with pytest.raises(RunError, match="line at byte 0"):
        next(finished_rows(Path(), finished))
