"""Metrics by slice on a terminal: no number is broken in any width, and untrusted values have a sign."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evalrunner.domain import Metric
from evalrunner.reports.slice_tables import MAX_SLICES, slice_tables
from evalrunner.reports.text_table import column_groups

NAMES = ("exact_match", "contains", "token_f1", "helpfulness")


def metrics(slices: int = 4, *, trusted: bool = True) -> list[Metric]:
    return [
        Metric(
            f"{name}/v1", name, "mean", 0.72, 50, 50, slice={"topic": f"topic {at}"}, low=0.583, high=0.825,
            trusted=trusted or at > 0,
        )
        for name in NAMES
        for at in range(slices)
    ]  # fmt: skip


def shown(found: list[Metric], width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
    for table in slice_tables("model", found):
        console.print(table)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_numbers_of_slices_are_never_broken(width: int) -> None:
    text = shown(metrics(), width)
    assert text.count("0.720 (0.583–0.825) n=50") == len(NAMES) * 4
    assert max(map(len, text.splitlines())) <= width
    assert text.count("model by topic") == 1
    assert "16 unadjusted 95% CIs side by side" in " ".join(text.split())


def test_an_untrusted_slice_has_a_sign() -> None:
    assert shown(metrics(trusted=False), 80).count("n=50 !") == len(NAMES)


def test_long_columns_are_cut_with_their_number() -> None:
    text = shown(metrics(MAX_SLICES + 3), 80)
    assert "… and 3 more in metrics.json" in text and f"topic {MAX_SLICES - 1} " in text


@pytest.mark.parametrize(
    ("widths", "room", "groups"),
    [([10, 10, 10], 26, [[0, 1], [2]]), ([10, 10], 100, [[0, 1]]), ([90, 5], 20, [[0], [1]]), ([], 20, [])],
)
def test_columns_that_do_not_fit_follow_below(widths, room, groups) -> None:
    assert list(column_groups(widths, room)) == groups
