"""A suite of 30 rows with 90 checks of all kinds against a scripted server, with every cell worked out by hand.

Each row is an answer of the server and three checks, each with what it should come to: True, False, or None where the
judge's reply is unreadable. The tests work out cells, metrics, slices, baselines and verdicts from these alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Cell
from evalrunner.runs.row_log import read_rows
from tests.cases.suites import command
from tests.fakes.server import Action, Answer, ScriptedServer, Status

Check = Mapping[str, Any] | str
Expected = tuple[Check, bool | None]


@dataclass(frozen=True)
class Case:
    """A row: the server's answer and three checks with their results; `columns` are further columns of the row."""

    answer: str
    checks: tuple[Expected, Expected, Expected]
    columns: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    topic: str = "returns"
    finish_reason: str = "stop"


LENGTH_23 = "one two three four five"
INVOICE = 'Here you are: {"total": 12.5, "items": ["pen", "ink"], "paid": true}'
CASES: Mapping[str, Case] = {
    "template": Case(
        "You can return it within 30 days.",
        (
            ({"contains": "{{ period }} days", "name": "period"}, True),
            ({"not_contains": "As an AI"}, True),
            ({"starts_with": "You can"}, True),
        ),
        {"period": 30},
    ),
    "template_wrong": Case(
        "As an AI, I cannot say.",
        (
            ({"contains": "{{ period }} days", "name": "period"}, False),
            ({"not_contains": "As an AI"}, False),
            ("refusal", True),
        ),
        {"period": 14},
    ),
    "template_number": Case(
        "It is 14 days, so 336 hours.",
        (
            ({"numeric_match": "{{ period * 24 }}", "name": "period"}, True),
            ({"contains": "{{ period * 24 }} hours"}, True),
            ({"regex": "^It is {{ period }} "}, True),
        ),
        {"period": 14},
    ),
    "case": Case(
        "THE REFUND TAKES 5 DAYS",
        (
            ({"contains": "5 days", "ignore_case": True}, True),
            ({"contains": "5 days"}, False),
            ({"contains_any": ["7 DAYS", "5 DAYS"]}, True),
        ),
    ),
    "all_of": Case(
        "Keep the receipt and the box.",
        (
            ({"contains_all": ["receipt", "box"]}, True),
            ({"contains_all": ["receipt", "bag"]}, False),
            ({"not_contains_any": ["bag", "sack"]}, True),
        ),
    ),
    "equal": Case(
        "Paris",
        (
            ({"exact_match": "Paris"}, True),
            ({"not_exact_match": "Paris"}, False),
            ({"choice": "Paris", "choices": ["Lyon", "Paris"]}, True),
        ),
        topic="facts",
    ),
    "number": Case(
        "The total is 1,234.50 euros.",
        (
            ({"numeric_match": 1234.5}, True),
            ({"numeric_match": 1200}, False),
            ({"latency_under": 120}, True),
        ),
        topic="facts",
    ),
    "length": Case(
        LENGTH_23,
        (({"max_words": 4}, False), ({"min_words": 5}, True), ({"max_chars": len(LENGTH_23)}, True)),
        topic="facts",
    ),
    "length_ends": Case(
        LENGTH_23,
        (({"max_words": 5}, True), ({"min_chars": len(LENGTH_23) + 1}, False), ({"not_min_words": 6}, True)),
        topic="facts",
    ),
    "patterns": Case(
        "Order 66-A is on its way.",
        (
            ({"regex": r"\b\d+-[A-Z]\b"}, True),
            ({"exact_match": "66", "extract": {"regex": r"\d+"}}, True),
            ({"regex": r"(?P<number>\d+)", "group": "number", "value": "67"}, False),
        ),
    ),
    "graded_texts": Case(
        "kitten",
        (
            ({"levenshtein": "sitting", "threshold": 0.5}, True),  # 1 - 3/7 = 0.571
            ({"levenshtein": "sitting", "threshold": 0.6}, False),
            ({"column": "rating", "threshold": 4.6}, False),
        ),
        {"rating": 4.5},
        topic="facts",
    ),
    "overlap": Case(
        "the cat sat here",
        (
            ({"token_f1": "cat sat there", "threshold": 0.6}, True),  # 2 of 3 words shared, both ways: 0.667
            ({"token_f1": "cat sat there", "threshold": 0.7}, False),
            ({"similarity": "the cat sat here", "threshold": 1}, True),
        ),
        topic="facts",
    ),
    "expressions": Case(
        INVOICE,
        (
            ({"json": {"path": "$.total", "equals": 12.5, "lenient": True}}, True),
            ({"expr": "'pen' in output and period > 30", "name": "period"}, False),
            ({"numeric_match": 12, "extract": [{"json": "$.total"}]}, False),
        ),
        {"period": 30},
        topic="facts",
    ),
    "expressions_graded": Case(
        "0.25",
        (
            ({"expr": "output|float", "threshold": 0.25}, True),
            ({"expr": "output|float", "threshold": 0.26}, False),
            ({"expr": "input|length > 5"}, True),
        ),
        topic="facts",
    ),
    "weights": Case(
        "alpha beta",
        (
            ({"contains": "alpha", "weight": 3}, True),
            ({"contains": "gamma", "weight": 1}, False),
            ({"contains": "delta", "weight": 0}, False),
        ),
        threshold=0.75,
    ),
    "weights_short": Case(
        "alpha beta",
        (
            ({"contains": "alpha", "weight": 2}, True),
            ({"contains": "gamma"}, False),
            ({"contains": "beta", "weight": 0.5}, True),
        ),
        threshold=0.75,
    ),
    "weights_zero": Case(
        "alpha beta",
        (
            ({"not_tool_calls": [{"refund": {"order": 66}}]}, True),
            ({"contains": "gamma", "weight": 0, "name": "period"}, False),
            ({"ends_with": "beta"}, True),
        ),
    ),
    "threshold": Case(
        "one of three",
        (({"contains": "one"}, True), ({"contains": "two"}, False), ({"contains": "four"}, False)),
        threshold=0.3,
    ),
    "groups": Case(
        "We offer a refund.",
        (
            ({"any": [{"contains": "refund"}, {"contains": "exchange"}], "name": "offer"}, True),
            ({"all": [{"contains": "refund"}, {"contains": "exchange"}]}, False),
            ({"all": [{"contains": "refund"}, {"contains": "exchange"}], "threshold": 0.5}, True),
        ),
    ),
    "groups_fail": Case(
        "Nothing.",
        (
            ({"any": [{"contains": "refund"}, {"contains": "exchange"}], "name": "offer"}, False),
            ({"any": [{"contains": "Nothing"}, {"min_words": 9}]}, True),
            ({"not_contains": "refund"}, True),
        ),
    ),
    "judged": Case(
        "No, but we can exchange it.",
        (
            ({"rubric": "Says no politely.", "name": "tone"}, True),
            ({"rubric": "Names the refund period."}, False),
            ({"not_rubric": "Promises money back."}, True),
        ),
    ),
    "judged_well": Case(
        "Sadly not.",
        (({"rubric": "Says no politely.", "name": "tone"}, True), ({"max_words": 3}, True), ({"min_words": 2}, True)),
    ),
    "judged_badly": Case(
        "No!",
        (
            ({"rubric": "Is a friendly no.", "name": "tone"}, False),
            ({"max_words": 3}, True),
            ({"contains": "No"}, True),
        ),
    ),
    "unreadable": Case(
        "Perhaps.",
        (({"rubric": "Is unreadable.", "name": "tone"}, None), ({"max_words": 3}, True), ({"contains": "Per"}, True)),
    ),
    "unreadable_decided": Case(  # it fails whatever the judge meant
        "Perhaps not.",
        (({"rubric": "Is unreadable.", "name": "tone"}, None), ({"max_words": 1}, False), ({"contains": "not"}, True)),
    ),
    "unreadable_passed": Case(  # 2 of 3 are enough
        "Perhaps so.",
        (({"rubric": "Is unreadable.", "name": "tone"}, None), ({"max_words": 2}, True), ({"contains": "so"}, True)),
        threshold=0.6,
    ),
    "strings": Case(
        "plain text {{ period }} stays {% as it is %}",
        (({"contains": "stays"}, True), ({"not_contains": "30"}, True), ({"expr": "output|words|length > 5"}, True)),
        {"period": 30},
    ),
    "failed": Case("", (({"contains": "a"}, None), ({"max_words": 3}, None), ({"min_words": 1}, None))),
    "filtered": Case(
        "",
        (({"contains": "a"}, None), ({"not_contains": "b"}, None), ({"max_words": 3}, None)),
        finish_reason="content_filter",
    ),
    "cut": Case(
        "half of an ans",
        (({"contains": "half"}, None), ({"not_contains": "b"}, None), ({"max_words": 9}, None)),
        finish_reason="length",
    ),
}
VERDICTS = {
    "Says no politely.": "pass", "Names the refund period.": "fail", "Promises money back.": "fail",
    "Is a friendly no.": "fail", "Is unreadable.": "I would rather not say",
}  # fmt: skip
NAMES = ("period", "offer", "tone")
LOST = ("failed", "filtered", "cut")


def test_the_suite_has_30_rows_and_90_checks() -> None:
    assert (len(CASES), sum(len(case.checks) for case in CASES.values())) == (30, 90)


def weight_of(check: Check) -> float:
    return float(check.get("weight", 1)) if isinstance(check, Mapping) else 1.0


def row_value(case: Case) -> float | None:
    """1 if the row passes, 0 if it does not, None if that depends on a check without a result."""
    ends = []
    for missing in (False, True):
        results = [(weight_of(check), missing if passed is None else passed) for check, passed in case.checks]
        counted = [(weight, passed) for weight, passed in results if weight > 0]
        share = sum(weight for weight, passed in counted if passed) / sum(weight for weight, _ in counted)
        ends.append(share >= (1.0 if case.threshold is None else case.threshold))
    return float(ends[0]) if ends[0] == ends[1] else None


def share_value(case: Case) -> float | None:
    """The weighted share of the checks that pass, None if one of them has no result."""
    counted = [(weight_of(check), passed) for check, passed in case.checks if weight_of(check) > 0]
    if any(passed is None for _, passed in counted):
        return None
    return sum(weight for weight, passed in counted if passed) / sum(weight for weight, _ in counted)


def named_value(case: Case, name: str) -> float | str | None:
    """What a named check comes to; "skipped" in a row without it."""
    for check, passed in case.checks:
        if isinstance(check, Mapping) and check.get("name") == name:
            return None if passed is None else float(passed)
    return "skipped"


def wanted_values(case: Case) -> dict[str, float | str | None]:
    values: dict[str, float | str | None] = {"checks": row_value(case), "checks/share": share_value(case)}
    return {**values, **{name: named_value(case, name) for name in NAMES}}


def state_of(id: str, value: float | str | None) -> str:
    if id == "failed" and value != "skipped":
        return "error"
    return "skipped" if value == "skipped" else "unscored" if value is None else "scored"


def script(cases: Mapping[str, Case]) -> Any:
    """The model answers each question as its case says; the judge gives the verdict of the criteria it is shown."""

    def answer(request: Any, _nth: int) -> Action:
        text = request["messages"][-1]["content"]
        if request["model"] == "judge":
            verdict = next(verdict for criteria, verdict in VERDICTS.items() if criteria in text)
            return Answer(json.dumps({"reasons": f"it is a {verdict}", "verdict": verdict}))
        case = cases[text.removeprefix("Question ").removesuffix("?")]
        return Status(400, {"error": {"message": "no"}}) if not case.answer and case.finish_reason == "stop" else Answer(
            case.answer, case.finish_reason
        )  # fmt: skip

    return answer


def write(server: ScriptedServer, gates: Sequence[Any] = (), **keys: Any) -> str:
    rows = [
        {
            "id": id, "input": f"Question {id}?", "topic": case.topic, **case.columns,
            "checks": [check for check, _ in case.checks] if case.threshold is None
            else {"threshold": case.threshold, "all": [check for check, _ in case.checks]},
        }
        for id, case in CASES.items()
    ]  # fmt: skip
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {
        "name": "shop",
        "dataset": "data.jsonl",
        "prompt": "{{ input }}",
        "target": {"name": "bot", "model": "bot", "base_url": server.base_url},
        "judge": {"model": "judge", "base_url": server.base_url},
        "judge_check": "off",
        "slices": ["topic"],
        "gates": list(gates),
        "cache": "off",
        "run": {"retries": 0, "concurrency": 4},
        **keys,
    }
    Path("shop.yaml").write_text(json.dumps(suite, indent=1))
    return "shop.yaml"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script(CASES)) as opened:
        yield opened


def newest() -> Path:
    return max(
        Path("runs", "shop").glob("2*"), key=lambda run: json.loads((run / "run.json").read_text())["started_at"]
    )


def stored_cells() -> dict[str, Mapping[str, Cell]]:
    return {row.sample.id: row.cells for row in read_rows(newest())}


def metrics() -> dict[str, dict[str, Any]]:
    """The metrics of the newest run by name; those of a slice by name and value."""
    (target,) = json.loads((newest() / "metrics.json").read_text())["targets"].values()
    return {
        metric["name"] + "".join(f"[{value}]" for value in (metric["slice"] or {}).values()): metric
        for metric in target["metrics"]
    }


def assert_cells(wanted: Mapping[str, Mapping[str, float | str | None]]) -> None:
    cells = stored_cells()
    assert cells.keys() == wanted.keys()
    for id, values in wanted.items():
        for name, value in values.items():
            cell = cells[id][name]
            number = value if isinstance(value, float) else None
            assert (cell.state, cell.value) == (state_of(id, value), pytest.approx(number)), (id, name, cell)


def wanted_cells() -> dict[str, dict[str, float | str | None]]:
    return {id: wanted_values(case) for id, case in CASES.items()}


def mean(values: Sequence[float | str | None]) -> tuple[float, int]:
    numbers = [value for value in values if isinstance(value, float)]
    return math.fsum(numbers) / len(numbers), len(numbers)


def assert_metrics(wanted: Mapping[str, Mapping[str, float | str | None]]) -> None:
    """Every metric and every slice is the mean of the cells that have a number, with the count of each state."""
    found = metrics()
    for topic in (None, "returns", "facts"):
        chosen = [id for id in wanted if topic is None or CASES[id].topic == topic]
        for name in ("checks", "checks/share", *NAMES):
            values = [wanted[id][name] for id in chosen]
            states = [state_of(id, wanted[id][name]) for id in chosen]
            of_name = [metric for metric in found.values() if metric["scorer"] == name]
            (metric,) = [one for one in of_name if one["slice"] == (None if topic is None else {"topic": topic})]
            counts = tuple(states.count(state) for state in ("scored", "skipped", "unscored", "error"))
            assert (metric["scored"], metric["skipped"], metric["unscored"], metric["errors"]) == counts, (name, topic)
            if counts[0]:
                value, n = mean(values)
                assert (metric["value"], metric["n"]) == (pytest.approx(value), n), (name, topic)


GATES = ["checks >= 0.3", "checks/share >= 0.5", "period >= 0.5", "offer >= 0.5", "tone[topic=returns] >= 0.6", "checks[topic=facts] >= 0.2"]  # fmt: skip


def test_every_cell_metric_slice_and_gate_is_what_the_checks_say(server: ScriptedServer) -> None:
    done = command(write(server, GATES), "--json")
    assert done.err == "" or done.code in (1, 3), done.err
    wanted = wanted_cells()
    assert_cells(wanted)
    assert_metrics(wanted)
    values = [gate["value"] for gate in done.gates]
    of_returns, of_facts = ([id for id in CASES if CASES[id].topic == topic] for topic in ("returns", "facts"))
    assert values == [
        pytest.approx(mean([wanted[id][name] for id in ids])[0])
        for name, ids in (
            ("checks", CASES), ("checks/share", CASES), ("period", CASES), ("offer", CASES), ("tone", of_returns), ("checks", of_facts),
        )
    ]  # fmt: skip
    assert values[2:5] == [0.4, 0.5, pytest.approx(2 / 3)]  # 2 of 5, 1 of 2, 2 of 3
    assert done.gates[2]["verdict"] == "fail"


def test_each_check_is_in_the_detail_of_its_row_with_its_result(server: ScriptedServer) -> None:
    command(write(server), "-q")
    cells = stored_cells()
    for id, case in CASES.items():
        if id == "failed":
            continue
        records = [record for record in (cells[id]["checks"].detail or {})["checks"] if "group" not in record]
        assert [record["passed"] for record in records] == [passed for _, passed in case.checks], id
        assert [record["weight"] for record in records] == [weight_of(check) for check, _ in case.checks]
        names = [check.get("name") if isinstance(check, Mapping) else None for check, _ in case.checks]
        assert [record.get("name") for record in records] == names


def test_a_run_resumed_in_the_middle_is_the_run_that_was_not_stopped(server: ScriptedServer) -> None:
    path = write(server, GATES)
    command(path, "-q")
    whole = metrics()
    calls = server.calls
    command(path, "--limit", "13", "-q")
    resumed = command(path, "--resume", "last", "--limit", "30", "-q")
    assert resumed.code == 1, resumed.err
    assert server.calls == 2 * calls
    assert_cells(wanted_cells())
    for name, metric in metrics().items():
        if metric["scorer"] not in ("latency", "token_count", "cost_usd"):
            assert metric == whole[name]


def test_failed_rows_are_judged_when_they_are_retried() -> None:
    answers = dict(CASES)
    with ScriptedServer(lambda request, nth: script(answers)(request, nth)) as server:
        command(write(server), "-q")
        answers["failed"] = Case("a fine answer", CASES["failed"].checks)
        command("--resume", "last", "--retry-errors", "-q")
    assert stored_cells()["failed"]["checks"].value == 1.0
    wanted = {id: values for id, values in wanted_cells().items() if id != "failed"}
    cells = stored_cells()
    assert all(cells[id]["checks"].value == pytest.approx(values["checks"]) for id, values in wanted.items())


def test_scoring_a_run_again_uses_the_checks_that_the_suite_and_the_rows_have_now(
    server: ScriptedServer,
) -> None:
    command(write(server), "-q")
    asked = server.calls
    short = {"max_words": 3, "name": "short", "where": {"topic": "facts"}}
    write(server, ["short >= 0.5"], checks=[short])
    data = Path("data.jsonl")
    data.write_text(data.read_text().replace('{"starts_with": "You can"}', '{"starts_with": "You may"}'))
    done = command("score", "last", "--suite", "shop.yaml", "--json")
    judged = sum(1 for case in CASES.values() for check, _ in case.checks if "rubric" in str(check))
    assert server.calls == asked + judged, "only the judge is asked again"
    wanted: dict[str, dict[str, float | str | None]] = {}
    for id, case in CASES.items():
        passed = None if id in LOST else len(case.answer.split()) <= 3
        stored = tuple(pair for pair in case.checks if "latency_under" not in pair[0])  # stored answers have none
        if id == "template":
            stored = (*stored[:2], ({"starts_with": "You may"}, False))
        more = (*stored, (short, passed)) if case.topic == "facts" else stored
        grown = Case(case.answer, more, threshold=case.threshold, topic=case.topic)  # type: ignore[arg-type]
        wanted[id] = {**wanted_values(grown), "short": named_value(grown, "short")}
    assert_cells(wanted)
    assert done.gates[0]["value"] == pytest.approx(mean([values["short"] for values in wanted.values()])[0])


def test_a_baseline_compares_named_checks_over_the_rows_that_have_them() -> None:
    """Two answers get worse and one better; a row whose checks were changed is no pair."""
    answers = dict(CASES)
    with ScriptedServer(lambda request, nth: script(answers)(request, nth)) as server:
        command(write(server, run={"retries": 0, "concurrency": 4}), "-q", "--no-gates")
        before = wanted_cells()
        accepted = command("baseline", "accept", "--force")
        assert accepted.code == 0, accepted.err
        answers["template"] = Case("Ask the shop.", CASES["template"].checks)
        answers["groups"] = Case("We offer tea.", CASES["groups"].checks)
        answers["template_wrong"] = Case(
            "I'm sorry, but I can't help with that. 14 days.", CASES["template_wrong"].checks
        )
        rules = {"baseline": "main", "max_drop": 0.05, "min_coverage": 0.5}
        gates = [{"metric": name, **rules} for name in ("checks", "checks/share", "period", "offer")]
        done = command(write(server, gates), "--json")
    after = wanted_cells()
    after["template"] |= {"checks": 0.0, "checks/share": 1 / 3, "period": 0.0}
    after["groups"] |= {"checks": 0.0, "checks/share": 0.0, "offer": 0.0}
    after["template_wrong"] |= {"checks": 1.0, "checks/share": 1.0, "period": 1.0}
    assert_cells(after)
    for gate, name in zip(done.gates, ("checks", "checks/share", "period", "offer"), strict=True):
        drops = [
            was - now
            for id in CASES
            if isinstance(was := before[id][name], float) and isinstance(now := after[id][name], float)
        ]
        assert gate["baseline"]["n"] == len(drops), name
        assert gate["baseline"]["drop"] == pytest.approx(math.fsum(drops) / len(drops)), name


def test_a_row_whose_checks_changed_is_a_changed_sample_for_the_baseline(server: ScriptedServer) -> None:
    command(write(server), "-q", "--no-gates")
    assert command("baseline", "accept", "--force").code == 0
    path = write(server, [{"metric": "checks", "baseline": "main", "max_drop": 0.5, "min_coverage": 0.5}])
    text = Path("data.jsonl").read_text()
    Path("data.jsonl").write_text(
        text.replace('{"contains": "receipt"', "X").replace('["receipt", "box"]', '["receipt"]')
    )
    done = command(path, "--json")
    first = command(path, "--limit", "3", "--json")
    assert first.code != 2, "the first rows ask no judge, which is no other scorer"
    pairs = [id for id in CASES if row_value(CASES[id]) is not None and id not in LOST]
    assert done.gates[0]["baseline"]["n"] == len(pairs) - 1
    assert done.gates[0]["baseline"]["excluded"] == 1


def test_tables_have_a_column_for_checks_and_one_for_each_name(server: ScriptedServer) -> None:
    command(write(server), "-q", "-o", "rows.csv")
    records = {record["id"]: record for record in csv.DictReader(Path("rows.csv").read_text().splitlines())}
    wanted = wanted_cells()
    for id, record in records.items():
        for name in ("checks", "checks/share", *NAMES):
            (column,) = [one for one in record if one in (f"{name}/v1/score", f"{name}/score")]
            value = wanted[id][name]
            assert (record[column] and float(record[column])) == (
                pytest.approx(value) if isinstance(value, float) else ""
            )


def test_equal_questions_to_the_judge_are_asked_once(server: ScriptedServer) -> None:
    """Of the seven rubric checks none is equal to another: criteria or answer differ."""
    command(write(server), "-q")
    asked = [request for request in server.requests if request.json["model"] == "judge"]
    assert len(asked) == len({json.dumps(request.json, sort_keys=True) for request in asked}) == 8
