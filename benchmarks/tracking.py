"""Runs sent to MLflow compared with runs that are not: time to the verdict and to the end of the process.

    python benchmarks/tracking.py [--rows 1000 --latency 0.02 --concurrency 16 --repeats 3 --traces]

A real `mlflow server` with SQLite on the loopback, directly and behind a proxy that delays every request by a second. The
variants alternate. *Verdict* is the time from the start of the process until `metrics.json` is written, *process* until
its end. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "fakes")]

from mlflow_server import Fault, faulty_proxy, mlflow_server  # noqa: E402  from the tests
from throughput import measure, start_mock, write_suite  # noqa: E402

PORT = 5797
TRACES = "tracking: {mlflow: {log: [metrics, table, report, dataset, traces]}}\n"


def timed(folder: Path, suite: str, uri: str | None) -> tuple[float, float]:
    """Seconds until the verdict and until the end of a whole process."""
    command = [sys.executable, "-m", "evalrunner", suite, "-q", "--output-dir", "runs"]
    started = time.time()
    wall, _ = measure(command + (["--mlflow", uri, "--mlflow-required"] if uri else []), folder)
    newest = max((folder / "runs" / "bench").iterdir(), key=lambda path: path.stat().st_mtime)
    return (newest / "metrics.json").stat().st_mtime - started, wall


def variants_of(server: str, slow: str, *, traces: bool) -> Mapping[str, tuple[str, str | None]]:
    """Variants by name: the suite and the tracking URI."""
    variants: dict[str, tuple[str, str | None]] = {
        "not sent": ("bench.yaml", None),
        "sent": ("bench.yaml", server),
        "sent, delayed": ("bench.yaml", slow),
    }
    if traces:
        variants |= {"with traces": ("traces.yaml", server), "with traces, delayed": ("traces.yaml", slow)}
    return variants


def measure_all(options: argparse.Namespace, folder: Path, server: str) -> None:
    fault = Fault(delay_s=options.delay)
    measured: dict[str, list[tuple[float, float]]] = {}
    requests: dict[str, int] = {}
    with faulty_proxy(server, fault) as slow:
        timed(folder, "bench.yaml", server)  # compiles bytecode
        for _ in range(options.repeats):
            for name, (suite, uri) in variants_of(server, slow, traces=options.traces).items():
                fault.seen.clear()
                measured.setdefault(name, []).append(timed(folder, suite, uri))
                requests[name] = len(fault.seen)
    plain = measured["not sent"]
    print(
        "| | verdict s (median, minimum) | ÷ not sent | process s (median) | delayed requests |\n|---|---|---|---|---|"
    )
    for name, times in measured.items():
        median, minimum = median_and_minimum(times)
        ratios = [here / there for here, there in zip((median, minimum), median_and_minimum(plain), strict=True)]
        process = statistics.median(time for _, time in times)
        print(
            f"| {name} | {median:.2f}, {minimum:.2f} | {ratios[0]:.2f}, {ratios[1]:.2f} | {process:.2f} "
            f"| {requests[name] or '–'} |"
        )


def median_and_minimum(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    verdicts = [verdict for verdict, _ in times]
    return statistics.median(verdicts), min(verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument(
        "--delay", type=float, default=1.0, help="delay of every request to the slow server, in seconds"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--traces", action="store_true", help="also send a trace for every row; takes minutes")
    options = parser.parse_args()
    mock, address = start_mock(options.latency, 3600)
    try:
        with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name), PORT) as server:
            folder = Path(name)
            write_suite(folder, address, options.rows, options.concurrency)
            (folder / "traces.yaml").write_text((folder / "bench.yaml").read_text() + TRACES)
            print(f"{options.rows:,} rows, {options.latency * 1000:.0f} ms, concurrency {options.concurrency}\n")
            measure_all(options, folder, server)
    finally:
        mock.terminate()
        mock.wait()


if __name__ == "__main__":
    main()
