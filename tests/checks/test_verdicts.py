"""What the scorer `checks` gives: by all, by shares, by groups, and where a check could not be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checks.running import cells, metrics, refused, run, stored_rows

JUDGED = """
from evalrunner import Unscored, Failure, Skipped


def maybe(output):
    return {"yes": True, "no": False}.get(output.split()[0], Unscored("judge", "no verdict in its reply"))


def crash(output):
    raise ValueError("broken")


def nothing(output):
    return None


async def late(output):
    return output.startswith("yes")


def share(output):
    return len(output.split()) / 10
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(JUDGED)


def own(name: str, **keys: Any) -> dict[str, Any]:
    """A check by a function of this file."""
    return {"type": "python", "function": f"own.py:{name}", **keys}


YES = {"contains": "yes"}
NO = {"contains": "nowhere"}
OPEN = own("maybe")
CRASH = own("crash")
SKIP = "exact_match"  # no expected answer


@pytest.mark.parametrize(
    ("checks", "state", "value", "share"),
    [
        ([YES], "scored", 1, 1),
        ([YES, NO], "scored", 0, 1 / 2),
        ([{**YES, "weight": 3}, NO], "scored", 0, 3 / 4),
        ({"threshold": 0.75, "all": [{**YES, "weight": 3}, NO]}, "scored", 1, 3 / 4),
        ({"threshold": 0.76, "all": [{**YES, "weight": 3}, NO]}, "scored", 0, 3 / 4),
        ({"threshold": 0, "all": [NO]}, "scored", 1, 0),
        ({"threshold": 0.7, "all": [YES] * 7 + [NO] * 3}, "scored", 1, 0.7),
        ([{"not_contains": "nowhere"}, {"not_contains": "yes"}], "scored", 0, 1 / 2),
        ([YES, {**NO, "weight": 0}], "scored", 1, 1),
        ([{**YES, "weight": 0}], "skipped", None, None),
        ([YES, SKIP], "scored", 1, 1),
        ([SKIP], "skipped", None, None),
        ([{"any": [NO, YES]}], "scored", 1, 1),
        ([{"any": [NO, NO]}, YES], "scored", 0, 1 / 2),
        ([{"all": [YES, YES, NO], "threshold": 0.6}, YES], "scored", 1, 1),
        ([{"all": [YES, NO]}, {**YES, "weight": 3}], "scored", 0, 3 / 4),
        ([OPEN], "unscored", None, None),
        ([OPEN, NO], "scored", 0, None),
        ([OPEN, YES], "unscored", None, None),
        ([{**OPEN, "weight": 0}, YES], "scored", 1, 1),
        ([CRASH, OPEN], "error", None, None),
        ([OPEN, CRASH], "error", None, None),
        ([OPEN, CRASH, NO], "scored", 0, None),
        ({"threshold": 0.5, "all": [OPEN, YES]}, "scored", 1, None),
        ({"threshold": 0.6, "all": [OPEN, YES]}, "unscored", None, None),
        ({"threshold": 0.6, "all": [OPEN, NO]}, "scored", 0, None),
        ([{"any": [OPEN, YES]}], "scored", 1, 1),
        ([{"any": [OPEN, NO]}], "unscored", None, None),
        ([own("nothing")], "skipped", None, None),
        ([own("late"), own("late")], "scored", 1, 1),
        ([{"type": "not_python", "function": "own.py:maybe"}, NO], "scored", 0, None),
        ([own("share", threshold=0.2, low=0, high=1)], "scored", 1, 1),
        ([own("share", threshold=0.3, low=0, high=1)], "scored", 0, 0),
        ([own("share", threshold=0.3, low=0, high=1, higher_is_better=False)], "scored", 1, 1),
    ],
)  # fmt: skip
def test_a_row_passes_by_its_checks(checks: Any, state: str, value: float | None, share: float | None) -> None:
    answer = "maybe yes" if "maybe" in str(checks) and "late" not in str(checks) else "yes indeed"
    run([{"input": "q", "reply": answer, "checks": checks}])
    assert cells() == [(state, value)]
    assert (
        cells("checks/share")[0][1] == pytest.approx(share)
        if share is not None
        else cells("checks/share")[0][1] is None
    )


def test_what_prevents_a_verdict_is_named_with_its_cause() -> None:
    run(
        [
            {"input": "q", "reply": "maybe", "checks": [YES | {"name": "yes"}, OPEN]},
            {"input": "r", "reply": "yes", "checks": [CRASH]},
        ]
    )
    first, second = (row["cells"]["checks"] for row in stored_rows())
    assert (first["state"], first["value"]) == ("scored", 0) and first["detail"]["checks"][1]["passed"] is None
    assert second["state"] == "error" and second["cause"] == "function" and "broken" in second["reason"]


def test_the_detail_of_a_row_lists_every_check() -> None:
    checks = [{"contains": "{{ n }} days", "name": "days"}, {"any": [NO, YES], "weight": 2.5}, SKIP, OPEN]
    run([{"input": "q", "n": 30, "reply": "maybe yes, 30 days", "checks": {"threshold": 0.9, "all": checks}}])
    detail = stored_rows()[0]["cells"]["checks"]["detail"]
    assert detail["threshold"] == 0.9
    shown = [(one["text"], one["passed"], one["weight"], one["state"]) for one in detail["checks"]]
    assert shown[:2] == [("contains: 30 days", True, 1, "scored"), ("any of 2", True, 2.5, "scored")]
    assert shown[2:4] == [("contains: nowhere", False, 1, "scored"), ("contains: yes", True, 1, "scored")]
    assert [one.get("group") for one in detail["checks"]] == [None, None, 1, 1, None, None]
    assert detail["checks"][0]["name"] == "days" and "name" not in detail["checks"][1]
    assert (detail["checks"][4]["state"], detail["checks"][4]["reason"]) == ("skipped", "no expected answer")
    assert (detail["checks"][5]["state"], detail["checks"][5]["passed"]) == ("unscored", None)
    assert all(len(one["text"]) <= 120 and "\n" not in one["text"] for one in detail["checks"])


def test_named_checks_are_metrics_over_the_rows_that_have_them() -> None:
    rows = [
        {"input": "a", "reply": "yes", "checks": [YES | {"name": "größe"}, NO]},
        {"input": "b", "reply": "no", "checks": [YES | {"name": "größe"}]},
        {"input": "c", "reply": "yes", "checks": [{"any": [YES], "name": "group"}, {**NO, "name": "twice"}, {**YES, "name": "twice", "weight": 3}]},
        {"input": "d", "reply": "yes"},
    ]  # fmt: skip
    gates = ["größe >= 0.5", "group >= 1", "twice >= 0.7", "checks/share >= 0.1", "checks <= 0.4"]
    done = run(rows, gates=gates, headline="größe")
    assert done.verdicts == ("pass",) * 5
    values = {name.partition("/v1")[0]: value for name, value in metrics(done).items() if "/v1" in name}
    assert values == {
        "checks": 0,
        "checks/share": pytest.approx((1 / 2 + 0 + 4 / 5) / 3),
        "größe": 0.5,
        "group": 1,
        "twice": 0.75,
    }
    assert cells("größe") == [("scored", 1), ("scored", 0), ("skipped", None), ("skipped", None)]
    assert cells()[3] == ("skipped", None)


@pytest.mark.parametrize(
    ("name", "other"),
    [("token_f1", "the scorer 'token_f1'"), ("latency", "a built-in metric"), ("checks", "the scorer of all checks")],
)
def test_a_name_that_is_another_metric_is_refused(name: str, other: str) -> None:
    rows = [{"input": "a", "reply": "b", "expected": "b", "checks": [{**YES, "name": name}]}]
    message = refused(rows, scorers=["token_f1"])
    assert f"checks[0].name: {name!r} is also {other}; choose another name" in message


def test_an_unknown_name_in_a_gate_is_refused_with_the_nearest() -> None:
    rows = [{"input": "a", "reply": "b", "checks": [{**YES, "name": "refusal_tone"}]}]
    assert "no metric 'refusal_tune' in this suite; did you mean 'refusal_tone'?" in refused(
        rows, gates=["refusal_tune >= 1"]
    )
    assert "did you mean 'refusal_tone'?" in refused(rows, headline="refusal_tome")


def test_a_failed_target_is_an_error_of_the_names_that_the_row_has() -> None:
    Path("own.py").write_text("def answer(sample):\n    return {'b': 'yes'}[sample.input]\n")
    rows = [{"input": "a", "checks": [{**YES, "name": "yes"}]}, {"input": "b", "checks": [{**YES, "name": "other"}]}]
    run(rows, target={"type": "python", "function": "own.py:answer"})
    assert (cells(), cells("yes"), cells("other")) == (
        [("error", None), ("scored", 1)],
        [("error", None), ("skipped", None)],
        [("skipped", None), ("scored", 1)],
    )


def test_a_number_without_a_threshold_is_no_verdict() -> None:
    Path("own.py").write_text("def share(output):\n    return 0.7\n")
    run([{"input": "a", "reply": "x", "checks": [{"type": "python", "function": "own.py:share"}]}])
    assert cells() == [("error", None)]
    assert "gives 0.7, neither 0 nor 1; add the threshold" in stored_rows()[0]["cells"]["checks"]["reason"]
    assert "'token_f1' gives a number; add the threshold" in refused(
        [{"input": "a", "reply": "x", "expected": "x", "checks": ["token_f1"]}]
    )


@pytest.mark.parametrize(("rule", "value"), [("unscored", None), ("zero", 0)])
def test_a_missing_answer_counts_as_the_suite_says(rule: str, value: float | None) -> None:
    run([{"input": "a", "reply": " ", "checks": [{"not_contains": "x"}]}], on_no_answer=rule)
    assert cells() == [("unscored" if value is None else "scored", value)]


def test_checks_of_the_suite_apply_to_every_row_that_where_names() -> None:
    rows = [
        {"input": "a", "topic": "law", "reply": "yes"},
        {"input": "b", "topic": 7, "reply": "yes", "checks": [NO]},
        {"input": "c", "topic": "x", "reply": "yes"},
    ]
    checks = [
        {**NO, "where": {"topic": ["law", "tax"]}},
        {**YES, "where": {"topic": 7}},
        {"any": [YES], "where": {"topic": [7, "law"]}},
    ]
    run(rows, checks=checks)
    assert cells() == [("scored", 0), ("scored", 0), ("skipped", None)]
    assert [len(row["cells"]["checks"].get("detail", {}).get("checks", ())) for row in stored_rows()] == [3, 4, 0]
    assert "no sample has the column 'topik'; did you mean 'topic'?" in refused(
        rows, checks=[{**NO, "where": {"topik": "x"}}]
    )


def test_the_threshold_of_a_row_replaces_that_of_the_suite() -> None:
    rows = [
        {"input": "a", "reply": "yes", "checks": [NO]},
        {"input": "b", "reply": "yes", "checks": {"threshold": 0.9, "all": [NO]}},
    ]
    run(rows, checks={"threshold": 0.5, "all": [YES]})
    assert cells() == [("scored", 1), ("scored", 0)]
