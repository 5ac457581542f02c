"""Scorers of what is known besides the text: a column of the data, latency, cost and tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Cell, Completion, Sample, Scorer
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.call import BoundScorer, call_sync, cell_without_call, offer
from evalrunner.scorers.measured import column, column_name, cost_under, latency_under, number_in, tokens_under
from tests.cases.suites import command
from tests.fakes.server import Answer, ScriptedServer, always
from tests.scorers.scorer_calls import HOSTILE


def cell(scorer: Scorer, answer: Completion, **metadata: Any) -> Cell:
    bound, sample = BoundScorer.bind("s", scorer), Sample("1", "?", (), metadata)
    return cell_without_call(bound, sample, answer) or call_sync(bound, offer(sample, answer))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (4, 4.0), (4.5, 4.5), (True, 1.0), (False, 0.0), ("4", 4.0), (" 0.25 ", 0.25), ("-1e2", -100.0), ("True", 1.0),
        ("false", 0.0), (10**400, None), ("1_000", None), ("nan", None), ("inf", None), (math.nan, None), (math.inf, None),
        ("good", None), ("4 of 5", None), ("1,5", None), ("\u0664", None), ([1], None), ({"a": 1}, None), (1e300, None),
    ],
)  # fmt: skip
def test_score_of_a_column_is_a_number_or_bool_also_as_text(value: Any, number: float | None) -> None:
    assert number_in(value) == number
    found = cell(column(column="rating"), Completion("x"), rating=value)
    problem = column(column="rating").function.check(Sample("1", "?", (), {"rating": value}))  # type: ignore[attr-defined]
    if number is None:
        assert (found.state, found.cause) == ("error", "function") and "not a number" in str(found.reason)
        assert "not a number" in problem
    else:
        assert (found.state, found.value, problem) == ("scored", number, None)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_blank_score_of_a_column_is_skipped(value: Any) -> None:
    assert cell(column(column="rating"), Completion("x"), rating=value).state == "skipped"
    assert cell(column(column="a.b"), Completion("", "refused"), a={"b": 3}).value == 3.0  # needs no answer


def test_hostile_text_in_a_column_is_an_error_of_its_cell() -> None:
    for text in HOSTILE:
        found = cell(column(column="rating"), Completion("x"), rating=text)
        assert found.state in ("error", "skipped") and len(str(found.reason)) < 300


def test_name_of_a_column_scorer_is_its_column_unless_that_is_no_name() -> None:
    assert [column_name({"column": name}) for name in ("rating", "a.b", "a b", "a/b", "", 5)] == [
        "rating",
        "a.b",
        None,
        None,
        None,
        None,
    ]


BOUNDS = [
    (latency_under(seconds=2.0), "latency_s", 2.0, 2.0001),
    (cost_under(usd=0.001), "cost_usd", 0.001, 0.0011),
    (cost_under(usd=0), "cost_usd", 0.0, 1e-9),
    (tokens_under(tokens=50), "output_tokens", 50, 51),
]


@pytest.mark.parametrize(("scorer", "field", "least", "more"), BOUNDS)
def test_bound_itself_passes_and_more_does_not(scorer: Scorer, field: str, least: float, more: float) -> None:
    assert cell(scorer, Completion("x", **{"latency_s": 1.0, field: least})).value == 1.0  # type: ignore[arg-type]
    found = cell(scorer, Completion("x", **{"latency_s": 1.0, field: more}))  # type: ignore[arg-type]
    assert found.value == 0.0 and "at most" in str((found.detail or {})["explanation"])
    assert cell(scorer, Completion("", "refused", **{"latency_s": 1.0, field: least})).value == 1.0  # type: ignore[arg-type]
    assert cell(scorer, Completion("x")).reason == "nothing was called: the answer is recorded"
    if field != "latency_s":
        assert cell(scorer, Completion("x", latency_s=1.0)).reason == "not reported by the provider"


def test_cached_answers_have_tokens_but_neither_latency_nor_cost() -> None:
    cached = Completion("x", cached=True, cost_usd=0.0, output_tokens=5)
    assert (
        cell(latency_under(seconds=1), cached).reason
        == cell(cost_under(usd=1), cached).reason
        == "the answer is from the cache"
    )
    assert cell(tokens_under(tokens=5), cached).value == 1.0


def test_wrong_bounds_are_refused() -> None:
    for make, options in (
        (latency_under, {"seconds": 0}), (latency_under, {"seconds": -1}), (cost_under, {"usd": -0.1}), (tokens_under, {"tokens": 0}),
        (column, {"column": "a", "low": 1, "high": 1}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="should be"):
            make(**options)  # type: ignore[operator]


def suite(rows: Sequence[Mapping[str, Any]], scorers: Sequence[Any], target: Any = None, **keys: Any) -> str:
    target = target or {"type": "recorded", "column": "answer"}
    Path("m.yaml").write_text(
        json.dumps({"name": "m", "target": target, "dataset": {"rows": rows}, "scorers": scorers, **keys})
    )
    return "m.yaml"


def test_column_is_a_metric_with_range_direction_slices_and_gates() -> None:
    rows = [
        {"input": f"{i}?", "answer": "x", "rating": i % 5 + 1, "bad": i % 2 == 0, "topic": "ab"[i % 2]}
        for i in range(40)
    ]
    rows[0]["rating"] = rows[1]["bad"] = ""
    scorers = [
        {"type": "column", "column": "rating", "low": 1, "high": 5},
        {"type": "column", "column": "bad", "higher_is_better": False},
    ]
    done = command("run", suite(rows, scorers, gates=["rating >= 2", "bad <= 0.9"], slices=["topic"]), "--json")
    assert done.code == 0, done.out + done.err
    folder = max(Path("runs").rglob("run.json"), key=lambda path: path.stat().st_mtime_ns).parent
    summary = json.loads((folder / "metrics.json").read_text())["targets"]["recorded"]
    metrics = {item["name"]: item for item in summary["metrics"] if not item.get("slice")}
    by_hand = [i % 5 + 1 for i in range(1, 40)]
    assert metrics["rating/v1/mean"]["value"] == pytest.approx(sum(by_hand) / 39)
    bad = next(item for name, item in metrics.items() if name.startswith("bad/v1"))
    assert (bad["value"], bad["skipped"], bad["higher_is_better"]) == (pytest.approx(20 / 39), 1, False)
    assert bad["method"] == "wilson" or "wilson" in bad["method"].lower()  # all are 0 or 1


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        ({"type": "column", "column": "ratin"}, "has no column 'ratin'; did you mean 'rating'?"),
        ({"type": "column", "column": "answer"}, "which is not a number"),
        ({"type": "column", "column": "rating", "high": 3}, "which is outside of -∞ to 3"),
        ({"type": "column"}, "column"),
        ({"type": "latency_under"}, "seconds"),
        ({"type": "cost_under", "usd": "cheap"}, "usd"),
    ],
)
def test_column_without_scores_is_an_error_before_the_first_call(scorer: Any, words: str) -> None:
    done = command("run", suite([{"input": "?", "answer": "x", "rating": 4}], [scorer]))
    assert done.code == 2 and words in done.err, done.err
    assert not Path("runs").exists()


def test_bounds_of_a_run_by_what_the_provider_reports() -> None:
    with ScriptedServer(always(Answer("yes", input_tokens=1000, output_tokens=10))) as server:
        target = {"name": "m", "model": "m", "base_url": server.base_url, "prices": {"input": 1, "output": 100}}
        scorers = [
            {"type": "latency_under", "seconds": 60}, {"type": "cost_under", "usd": 0.002}, {"type": "tokens_under", "tokens": 9},
            {"type": "cost_under", "name": "cheap", "usd": 0.001},
        ]  # fmt: skip
        done = command("run", suite([{"input": "?"}], scorers, target))
    assert done.code == 0, done.err
    (row,) = read_rows(max(Path("runs").rglob("run.json"), key=lambda path: path.stat().st_mtime_ns).parent)
    # 1,000 tokens at 1 dollar and 10 at 100 dollars a million: 0.001 + 0.001
    values = {name: cell.value for name, cell in row.cells.items()}
    assert {name: values[name] for name in ("latency_under", "cost_under", "tokens_under", "cheap")} == {
        "latency_under": 1.0, "cost_under": 1.0, "tokens_under": 0.0, "cheap": 0.0
    }  # fmt: skip
