"""Rows as traces of MLflow, with their scores as assessments, for its evaluation view.

The ids of traces and assessments are derived from the row, so a trace that is sent twice is there once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType
from typing import Any, Self

from evalrunner.domain import Cell, Completion, Row
from evalrunner.mlflow.client import NotSent, Retrier, inherit_context
from evalrunner.mlflow.destination import Destination, SendState
from evalrunner.mlflow.payload import RUN_TAG, TARGET_TAG, StoredRun, clean, cut, is_safe_json, rows_of, tag_value
from evalrunner.runs.row_log import read_rows

# MLflow's server has fifteen connections to its database and needs two for a trace. Fifteen concurrent requests would
# each get one and wait for the second, which blocks the server for half a minute. So these and the four targets that are
# sent concurrently stay below that. More would not be faster, since one process writes.
TRACE_CONCURRENCY = 8

MAX_ROWS_PER_BATCH = 200  # rows sent concurrently, with their spans in one request
MAX_BYTES_PER_BATCH = 1 << 20  # of their texts: a common limit of reverse proxies
DELETIONS_PER_REQUEST = 100  # the limit of MLflow
MAX_PREVIEW_LENGTH = 1000  # characters of input and output in lists


class TracePool:
    """Threads for traces, shared by all targets of a run; a context manager."""

    def __init__(self, threads: int = TRACE_CONCURRENCY) -> None:
        self._pool = ThreadPoolExecutor(threads, "evalrun-traces", initializer=inherit_context())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, actions: Sequence[Callable[[], None]]) -> None:
        """Run all actions. Raises the first exception; actions that have not started by then are skipped."""
        running: list[Future[None]] = [self._pool.submit(action) for action in actions]
        try:
            for one in running:
                one.result()
        except BaseException:
            for one in running:
                one.cancel()
            wait(running)
            raise


class TraceSender:
    """Sends the rows of one target as traces of its run."""

    def __init__(
        self, client: Any, stored: StoredRun, state: SendState, destination: Destination, target: str, retrier: Retrier
    ) -> None:
        from mlflow.tracing.client import TracingClient

        self.client, self.stored, self.state = client, stored, state
        self.destination, self.target, self.retrier = destination, target, retrier
        self.tracing = TracingClient(client.tracking_uri)

    def send(self, pool: TracePool) -> None:
        """Send every row, and delete traces of rows that were run again. Raises NotSent.

        A trace is created before its span is sent, since the other order costs the server half as much again.
        """
        wanted: set[str] = set()
        before = self.destination.traces.get(self.target, 0)  # rows that an earlier attempt sent completely
        started: list[Trace] = []
        seen = 0
        for some in _batches(rows_of(read_rows(self.stored.folder), self.target)):
            traces = [Trace(row, self.stored, self.destination, self.target) for row in some]
            wanted.update(trace.id for trace in traces)
            seen += len(traces)
            if seen > before:
                pool.run([*self._spans_of(started), *(partial(self._start, trace) for trace in traces)])
                self._note(seen - len(traces))
                started = traces
        pool.run(self._spans_of(started))
        self._note(seen)
        self._remove_others(wanted)

    def _note(self, rows: int) -> None:
        if rows > self.destination.traces.get(self.target, 0):
            self.state.record(self.destination, traces=(self.target, rows))

    def _spans_of(self, traces: Sequence[Trace]) -> list[Callable[[], None]]:
        """One request with the spans of existing traces, or none."""
        if not traces:
            return []
        return [lambda: self.retrier.call("traces", self._log_spans, [trace.span() for trace in traces])]

    def _log_spans(self, spans: Sequence[Any]) -> None:
        try:
            self.tracing.log_spans(str(self.destination.experiment_id), list(spans))
        except NotImplementedError as refused:
            if "could not identify" not in str(refused):
                raise NotSent("the server is older than MLflow 3.4 and does not accept traces of runs") from None
            forget = getattr(getattr(self.tracing.store, "_get_server_version", None), "cache_clear", None)
            if forget is not None:  # it caches that the server did not report its version
                forget()
            raise ConnectionError("the server did not report its version") from None

    def _start(self, trace: Trace) -> None:
        info = trace.info()
        self.retrier.call("traces", self.tracing.start_trace, info)

    def _remove_others(self, wanted: set[str]) -> None:
        """Delete the traces of rows that were run again since the last sending."""
        stale = [trace_id for trace_id in self._trace_ids() if trace_id not in wanted]
        for start in range(0, len(stale), DELETIONS_PER_REQUEST):
            ids = stale[start : start + DELETIONS_PER_REQUEST]
            self.retrier.call("traces", self.client.delete_traces, str(self.destination.experiment_id), trace_ids=ids)

    def _trace_ids(self) -> Iterator[str]:
        token: str | None = None
        while True:
            page = self.retrier.call(
                "traces",
                self.client.search_traces,
                locations=[str(self.destination.experiment_id)], run_id=self.destination.runs[self.target], max_results=500,
                    include_spans=False,
                page_token=token,
            )  # fmt: skip
            yield from (trace.info.trace_id for trace in page)
            token = page.token
            if not token:
                return


class Trace:
    """One row as entities of MLflow."""

    def __init__(self, row: Row, stored: StoredRun, destination: Destination, target: str) -> None:
        self.row, self.stored, self.destination = row, stored, destination
        self.run_id = destination.runs[target]
        self.number = int(_digits(f"{self.run_id} {row.sample.id} {row.epoch} {row.attempt}", 32), 16) or 1
        self.id = f"tr-{self.number:032x}"
        # the row log has no times, so they follow the order of the dataset and the latency
        self.start_ms = stored.started_ms + row.sample.index * stored.epochs + row.epoch - 1
        latency_s = row.answer.latency_s if isinstance(row.answer, Completion) else None
        self.took_ms = round((latency_s or 0.0) * 1000)

    @property
    def inputs(self) -> Any:
        messages = self.row.answer.messages
        return {"messages": list(messages)} if messages is not None else {"input": self.row.sample.input}

    @property
    def outputs(self) -> Any:
        answer = self.row.answer
        if not isinstance(answer, Completion):
            return {"error": str(answer)}
        return answer.text if is_safe_json(answer.text) else {"content": answer.text}

    @property
    def preview(self) -> str:
        """The input for lists. MLflow pairs rows of two runs by it, so it distinguishes epochs and long inputs."""
        text = clean(_plain(self.row.sample.input))
        epoch = f" (epoch {self.row.epoch})" if self.stored.epochs > 1 else ""
        ending = f" [{cut(clean(self.row.sample.id), 100)}]" if len(text) + len(epoch) > MAX_PREVIEW_LENGTH else ""
        return cut(text, MAX_PREVIEW_LENGTH - len(ending + epoch)) + ending + epoch

    def span(self) -> Any:
        """The one span of the trace."""
        from mlflow.entities.span import Span
        from mlflow.tracing.utils import build_otel_context, dump_span_attribute_value
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        answer = self.row.answer
        attributes: dict[str, Any] = {
            "mlflow.traceRequestId": self.id,
            "mlflow.spanType": "CHAT_MODEL" if answer.messages is not None else "CHAIN",
            "mlflow.spanInputs": self.inputs,
            "mlflow.spanOutputs": self.outputs,
        }
        if isinstance(answer, Completion):
            if answer.input_tokens is not None and answer.output_tokens is not None:
                attributes["mlflow.chat.tokenUsage"] = {
                    "input_tokens": answer.input_tokens,
                    "output_tokens": answer.output_tokens,
                    "total_tokens": answer.input_tokens + answer.output_tokens,
                }
            if answer.served_model:
                attributes["mlflow.llm.model"] = answer.served_model
            if answer.cost_usd is not None:
                attributes["mlflow.llm.cost"] = {"total_cost": answer.cost_usd}
        status = Status(StatusCode.OK) if isinstance(answer, Completion) else Status(StatusCode.ERROR, str(answer))
        return Span(
            ReadableSpan(
                name=cut(clean(self.row.target), 200) or "target",
                context=build_otel_context(self.number, self.number & (2**64 - 1) or 1),
                attributes={name: clean(dump_span_attribute_value(value)) for name, value in attributes.items()},
                start_time=self.start_ms * 1_000_000,
                end_time=(self.start_ms + self.took_ms) * 1_000_000,
                status=status,
                resource=Resource.get_empty(),  # otherwise OTEL_… variables of this machine become tags
            )
        )

    def info(self) -> Any:
        """The trace without its span, with the scores of the row."""
        from mlflow.entities import TraceInfo, TraceLocation, TraceState

        row = self.row
        return TraceInfo(
            trace_id=self.id,
            trace_location=TraceLocation.from_experiment_id(str(self.destination.experiment_id)),
            request_time=self.start_ms,
            execution_duration=self.took_ms,
            state=TraceState.OK if isinstance(row.answer, Completion) else TraceState.ERROR,
            request_preview=self.preview,
            response_preview=cut(clean(_plain(self.outputs)), MAX_PREVIEW_LENGTH),
            client_request_id=cut(clean(f"{row.sample.id}/{row.epoch}"), 50),
            trace_metadata={"mlflow.sourceRun": self.run_id},
            tags={
                "mlflow.traceName": cut(clean(row.target), 200) or "target",
                RUN_TAG: self.stored.id,
                TARGET_TAG: tag_value(row.target),
                "evalrun.sample": tag_value(row.sample.id),
                "evalrun.epoch": str(row.epoch),
            },
            assessments=list(self._assessments()),
        )

    def _assessments(self) -> Iterator[Any]:
        from mlflow.entities import Expectation

        expected = [clean(text) for text in self.row.sample.expected]
        if expected:
            value = expected[0] if len(expected) == 1 else expected
            yield self._marked("expected_response", Expectation(name="expected_response", value=value))
        for name, cell in self.row.cells.items():
            if cell.state != "skipped":
                yield self._marked(name, self._feedback(name, cell))

    def _feedback(self, name: str, cell: Cell) -> Any:
        from mlflow.entities import AssessmentError, AssessmentSource, Feedback

        judge = cell.calls[-1].model if cell.calls else None
        why = cell.message or (cell.detail or {}).get("explanation")
        error = None
        if cell.state != "scored":
            error = AssessmentError(cell.state.upper(), clean(str(cell.message or cell.state)))
        return Feedback(
            name=cut(clean(name), 200),
            value=cell.value,
            error=error,
            rationale=None if why is None else clean(str(why)),
            source=AssessmentSource("LLM_JUDGE" if judge else "CODE", clean(judge or f"evalrun {name}")),
            metadata={"mlflow.assessment.sourceRunId": self.run_id},
        )

    def _marked(self, name: str, assessment: Any) -> Any:
        assessment.trace_id = self.id
        assessment.assessment_id = f"a-{_digits(f'{self.id} {name} {type(assessment).__name__}', 32)}"
        assessment.create_time_ms = assessment.last_update_time_ms = self.start_ms
        return assessment


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Batches of rows, limited in rows and bytes; the same rows give the same batches."""
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row.answer.text) if isinstance(row.answer, Completion) else 0
        size += len(str(row.sample.input))
        if len(some) >= MAX_ROWS_PER_BATCH or size >= MAX_BYTES_PER_BATCH:
            yield some
            some, size = [], 0
    if some:
        yield some


def _digits(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()[:length]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(value)
