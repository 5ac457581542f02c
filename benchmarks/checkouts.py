"""Time this checkout against another one, in turn and in one run.

    python benchmarks/checkouts.py --other ../old [--repeats 7]

Each case is a whole process: 1,000 rows of 100 ms with 64 requests in flight, 10,000 rows of 50 ms with 256, a recorded
suite of four rows, and `--help`. The two checkouts take turns, so the load of the machine meets both; what counts is the
ratio of the medians. The other checkout may have an older package name. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from throughput import start_mock, write_suite

ROOT = Path(__file__).parents[1]
PACKAGES = ("evalrunner", "evalrun")  # the name of the package, today's first
RECORDED = """\
name: recorded
dataset: {rows: [{input: a, expected: b, out: b}, {input: c, expected: d, out: d}, {input: e, expected: f, out: x}, {input: g, expected: h, out: h}]}
target: {type: recorded, column: out}
scorers: [exact_match, contains]
gates: [exact_match >= 0.5]
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A command to time. `latency_s` of the mock server it needs, or None."""

    name: str
    command: tuple[str, ...]
    rows: int = 0
    latency_s: float | None = None
    concurrency: int = 1
    repeats: int = 1  # of the command for each repeat that was asked for: short ones are noisy


CASES = (
    Case("1,000 rows × 100 ms, 64 in flight", ("bench.yaml",), 1000, 0.1, 64),
    Case("10,000 rows × 50 ms, 256 in flight", ("bench.yaml",), 10_000, 0.05, 256),
    Case("recorded suite of four rows", ("recorded.yaml",), repeats=3),
    Case("--help", ("--help",), repeats=3),
)


def package_of(root: Path) -> str:
    """The name of the package of a checkout."""
    for name in PACKAGES:
        if (root / name / "__init__.py").is_file():
            return name
    raise SystemExit(f"{root} is not a checkout of this project")


def measure(root: Path, case: Case, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one process, its start included."""
    env = {**os.environ, "PYTHONPATH": str(root), "EVALRUN_CACHE_DIR": str(folder / "cache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", package_of(root), *case.command]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def time_case(case: Case, roots: dict[str, Path], repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of a case for each checkout."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recorded.yaml").write_text(RECORDED)
        mock = None
        if case.latency_s is not None:
            mock, address = start_mock(case.latency_s, 1200)
            write_suite(folder, address, case.rows, case.concurrency)
        try:
            for root in roots.values():
                measure(root, case, folder)  # compiles what is not compiled yet
            for turn in range(repeats * case.repeats):
                order = list(roots.items())
                for which, root in order if turn % 2 == 0 else order[::-1]:
                    times[which].append(measure(root, case, folder))
        finally:
            if mock is not None:
                mock.terminate()
                mock.wait()
    return {
        which: (statistics.median(wall for wall, _ in taken), statistics.median(cpu for _, cpu in taken))
        for which, taken in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    roots = {"other": options.other.resolve(), "this": ROOT}
    print("| whole process | other: wall s | this: wall s | ratio | other: CPU s | this: CPU s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        found = time_case(case, roots, options.repeats)
        (wall_before, cpu_before), (wall, cpu) = found["other"], found["this"]
        print(
            f"| {case.name} | {wall_before:.3f} | {wall:.3f} | {wall / wall_before:.3f}"
            f" | {cpu_before:.3f} | {cpu:.3f} | {cpu / cpu_before:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
