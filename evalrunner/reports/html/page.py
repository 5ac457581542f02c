"""The page itself: a skeleton, its style and script, and the data they show, written as a stream from a run folder.

Nothing of the data is ever HTML. It stands in script elements that are data (JSON, or JSON deflated in base64); a script
of ours makes every element of it and sets nothing but text. The policy in the head allows that script and that style by
their hashes, and pictures that stand in the page, and nothing else: no request, no frame, no form, no other code, and no
string that becomes HTML.
"""

from __future__ import annotations

import heapq
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from evalrunner.domain import Metric, Row
from evalrunner.formatting import UNSAFE, counted
from evalrunner.redact import redact
from evalrunner.reports.html.data import (
    ANSWER,
    CELL,
    CHECK,
    GROUP,
    STATES,
    Packer,
    RowIndex,
    comparison_part,
    csp_hash,
    headline,
    inline_json,
    json_text,
    overview_data,
    packed_json,
    scorer_names,
    scorer_part,
    target_names,
    target_part,
    to_utf8,
)
from evalrunner.reports.html.thumbnails import Thumbnails, suite_folders
from evalrunner.reports.view import RunView
from evalrunner.reports.worst_rows import BaselineLookup

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison
    from evalrunner.reports.comparison import ComparedRun
from evalrunner.runs.record import to_json
from evalrunner.storage import replacing

ASSETS = Path(__file__).parent / "assets"
STYLES = ("base.css", "components.css", "plots.css", "rows.css", "detail.css", "print.css")
SCRIPTS = (
    "dom.js", "data.js", "address.js", "overview.js", "notable.js", "statistics.js", "about.js", "charts.js",
    "tradeoff.js", "slices.js", "filters.js", "matching.js", "rows.js", "checks.js", "detail.js", "export.js", "main.js",
)  # fmt: skip

PLAIN_BELOW = 400_000  # bytes of a row log: below, rows are in the page as readable JSON
TEXT_BUDGET = 40_000_000  # characters: a browser inflates and parses them in a second
TEXT_LIMITS = (400, 20_000)  # characters of one text: minimum and maximum
MAX_GROUPS = 50_000  # samples × epochs of one page; of more, the first ones and a note

POLICY = (
    "default-src 'none'; connect-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; style-src {style}; script-src {script}"
)

HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="evalrun">
<title>{title} · evalrun</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#rows">Skip to the rows</a>
<header id="top"></header>
<div class="tabs"><div id="tabs" role="tablist" aria-label="Views"></div></div>
<main id="main" tabindex="-1">
<noscript><h1>{title}</h1><p>This page draws itself with a script of its own and reaches no network. \
Without scripts, read metrics.json and table.csv beside it.</p></noscript>
</main>
<footer id="foot"></footer>
<div id="live" class="unseen" role="status" aria-live="polite"></div>
"""


class HtmlReporter:
    """Writes `.html`: the report of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        write_report(run, self.path, baseline=run.find_baseline())


def write_report(run: RunView, path: Path, *, baseline: BaselineLookup | None = None) -> Path:
    """Write the page of a run folder to `path`, under a temporary name first; returns it.

    `baseline` looks up the scores of a row in the baseline, for the rows that got worse. Raises RunNotFoundError
    where the folder holds no run, RunError where the disk refuses or the row log is broken.
    """
    overview = overview_data(run)
    index = RowIndex(run.folder, target_names(overview))
    size = PageSize(groups=index.groups, answers=len(index.places), log_bytes=index.size)
    pictures = Thumbnails(suite_folders(run.folder, run.suite_file))
    return write_page(path, overview, index.read_groups(), size, baseline=baseline, thumbnails=pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSize:
    """The size of a page: samples × epochs, answers of all targets, bytes of the row logs."""

    groups: int
    answers: int
    log_bytes: int

    @property
    def text_limit(self) -> int:
        """Characters of one text that the page holds."""
        return min(max(TEXT_BUDGET // max(1, self.answers), TEXT_LIMITS[0]), TEXT_LIMITS[1])


def write_page(
    path: Path,
    overview: dict[str, Any],
    groups: Iterable[Mapping[int, Row]],
    size: PageSize,
    *,
    baseline: BaselineLookup | None = None,
    thumbnails: Thumbnails | None = None,
) -> Path:
    """Write a page of an overview and rows, each row at the place of its target.

    The targets may come from one run or from several, as long as the groups hold the same sample in the same epoch.
    """
    names, limit = target_names(overview), size.text_limit
    overview["rows"] = {"groups": size.groups, "shown": min(size.groups, MAX_GROUPS), "limit": limit}
    overview["has_baseline_rows"] = baseline is not None
    packer = Packer(
        scorer_names(overview), overview["columns"], names, limit=limit, baseline=baseline, thumbnails=thumbnails
    )
    packs = packer.packs(islice(groups, MAX_GROUPS))
    with replacing(path) as part, part.open("wb") as file:
        _write(file, headline(overview), json_text(overview), packs, plain=size.log_bytes < PLAIN_BELOW)
    return path


def _write(file: IO[bytes], title: str, overview: str, packs: Iterator[str], *, plain: bool) -> None:
    style, script = page_style(), page_script()
    policy = POLICY.format(style=csp_hash(style), script=csp_hash(script))
    escaped = html.escape(UNSAFE.sub(" ", redact(title))[:300])
    file.write(to_utf8(HEAD.format(policy=policy, title=escaped, style=style)))
    file.write(b'<script type="application/json" id="overview">')
    file.write(inline_json(overview))
    file.write(to_utf8(f"</script>\n<script>{script}</script>\n"))
    for pack in packs:
        if plain:
            file.write(b'<script type="application/json" class="pack">')
            file.write(inline_json(pack))
        else:
            file.write(b'<script type="text/plain" class="pack" data-coding="deflate">')
            file.write(packed_json(pack))
        file.write(b"</script>\n")
    file.write(b"</body>\n</html>\n")


@cache
def page_style() -> str:
    """The style of the page, all sheets in one."""
    return "".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)


@cache
def page_script() -> str:
    """The script of the page: all parts in one function, so that nothing of it is global."""
    parts = "".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f'(function () {{\n"use strict";\n{parts}}})();\n'


def write_comparison(
    path: Path, runs: Sequence[ComparedRun], comparison: Comparison, metrics: Mapping[str, Sequence[Metric]]
) -> Path:
    """Write the page of compared runs; `metrics` holds all of each candidate. Raises RunError where the disk refuses."""
    names = [candidate.name for candidate in comparison.candidates]
    indexes = [RowIndex(run.folder.path, list(run.names)) for run in runs]
    paired = comparison.paired
    groups = [index.groups for index in indexes]
    size = PageSize(
        groups=max(groups) if paired else sum(groups),
        answers=sum(len(index.places) for index in indexes),
        log_bytes=sum(index.size for index in indexes),
    )
    folders = (folder for run in runs for folder in suite_folders(run.folder.path, run.record.suite_file))
    pictures, overview = Thumbnails(folders), _overview(runs, comparison, metrics)
    return write_page(path, overview, _groups(runs, indexes, names), size, thumbnails=pictures)


def _groups(
    runs: Sequence[ComparedRun], indexes: Sequence[RowIndex], names: Sequence[str]
) -> Iterator[Mapping[int, Row]]:
    """The rows of one sample and epoch after the other, by the place of their candidate."""
    place_of = {name: place for place, name in enumerate(names)}
    streams = [_placed(run, index, place_of) for run, index in zip(runs, indexes, strict=True)]
    together = heapq.merge(*streams, key=lambda item: item[0])
    for _, items in groupby(together, key=lambda item: item[0]):
        yield {place: row for _, rows in items for place, row in rows.items()}


def _placed(
    run: ComparedRun, index: RowIndex, place_of: Mapping[str, int]
) -> Iterator[tuple[tuple[int, int], dict[int, Row]]]:
    for rows in index.read_groups():
        some = next(iter(rows.values()))
        key = some.sample.index + run.first, some.epoch
        yield (
            key,
            {place_of[run.names[row.target]]: replace(row, target=run.names[row.target]) for row in rows.values()},
        )


def _overview(
    runs: Sequence[ComparedRun], comparison: Comparison, metrics: Mapping[str, Sequence[Metric]]
) -> dict[str, Any]:
    first = runs[0].record
    rows = sum(run.record.rows or 0 for run in runs)
    candidates = comparison.candidates
    differs = [
        f"{item.name} differs from {candidates[0].name} in {line}" for item in candidates for line in item.differs
    ]
    return {
        "suite": ", ".join(dict.fromkeys(run.folder.suite for run in runs)),
        "run_id": ", ".join(run.folder.id for run in runs),
        "description": None,
        "word": "DONE",
        "sentence": f"{counted(len(candidates), 'target')} of {counted(len(runs), 'run')} side by side.",
        "verdict": None,
        "exit_code": 0,
        "about": {
            "status": "finished" if all(run.record.status == "finished" for run in runs) else "in part",
            "started_at": to_json(first.started_at),
            "seed": first.seed,
            "epochs": max(run.record.epochs for run in runs),
            "rows": rows,
            "rows_planned": sum(run.record.rows_planned for run in runs),
            "stopped": None,
        },
        "dataset_hash": first.dataset.digest if comparison.paired else None,
        "suite_text": None,
        "versions": dict(first.versions),
        "notices": differs,
        "columns": [name for name in first.columns if name not in ("id", "input", "expected")],
        "headline": first.headline_scorer,
        "scorers": [scorer_part(name, scorer) for name, scorer in first.scorers.items() if name in runs[0].scorers],
        "judges": {name: to_json(judge) for name, judge in first.judges.items() if name in runs[0].scorers},
        "targets": [_target(run, target, metrics) for run in runs for target in run.names],
        "gates": [],
        "comparison": comparison_part(comparison),
        "shape": {"group": GROUP, "answer": ANSWER, "cell": CELL, "check": CHECK, "states": STATES},
    }


def _target(run: ComparedRun, target: str, metrics: Mapping[str, Sequence[Metric]]) -> dict[str, Any]:
    name = run.names[target]
    numbers = run.record.load_metrics(run.folder.path)
    usage = numbers.targets[target].usage if numbers is not None and target in numbers.targets else None
    return target_part(name, run.record.targets[target], metrics[name], usage)
