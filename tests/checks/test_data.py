"""Checks in datasets of every format, their errors, templates, and what a stranger's data may ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import command
from tests.checks.running import cells, metrics, refused, run, stored_rows

ROWS: list[dict[str, Any]] = [
    {"id": "a", "input": "a", "reply": "30 days", "n": 30, "checks": [{"contains": "{{ n }} days"}, {"not_contains": "ä"}]},
    {"id": "b", "input": "b", "reply": "31 days", "n": 30, "checks": {"threshold": 0.5, "all": [{"contains": "{{ n }}"}, {"contains": 31}]}},
    {"id": "c", "input": "c", "reply": "x", "n": 30},
]  # fmt: skip
EXPECTED = [("scored", 1), ("scored", 1), ("skipped", None)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def csv_cell(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return '"' + text.replace('"', '""') + '"'


def write_csv(rows: list[dict[str, Any]], path: str = "d.csv") -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(csv_cell(row.get(name)) for name in names) for row in rows)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_inline_rows_have_checks() -> None:
    run(ROWS)
    assert cells() == EXPECTED


def test_json_lines_have_checks_in_some_rows() -> None:
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run(dataset="d.jsonl", gates=["checks >= 0.1"])
    assert cells() == EXPECTED
    assert [row.get("checks") for row in stored_rows()] == [row.get("checks") for row in ROWS]
    assert all("checks" not in row["metadata"] for row in stored_rows())


def test_json_has_checks() -> None:
    Path("d.json").write_text(json.dumps(ROWS))
    run(dataset="d.json")
    assert cells() == EXPECTED


def test_cells_of_csv_hold_checks_as_json_or_yaml() -> None:
    rows = [
        *ROWS,
        {"id": "d", "input": "d", "reply": "x", "n": 1, "checks": "- contains: x\n- {contains: y, name: why}\n"},
    ]
    rows.append({"id": "e", "input": "e", "reply": "x", "n": 1, "checks": "[{contains: x}, not_exact_match]"})
    rows.append({"id": "f", "input": "f", "reply": "x", "n": 1, "checks": "not_exact_match"})
    run(dataset=write_csv(rows), gates=["why >= 0"])
    assert cells() == [*EXPECTED, ("scored", 0), ("scored", 1), ("skipped", None)]


def test_parquet_cells_hold_checks() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{**row, "checks": json.dumps(row["checks"]) if "checks" in row else None} for row in ROWS]
    parquet.write_table(pyarrow.Table.from_pylist(rows), "d.parquet")
    run(dataset="d.parquet")
    assert cells() == EXPECTED


def test_another_column_can_hold_the_checks() -> None:
    rows = [{**row, "asks": row.get("checks")} for row in ROWS]
    for row in rows:
        row.pop("checks", None)
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(dataset={"path": "d.jsonl", "columns": {"checks": "asks"}})
    assert cells() == EXPECTED


def test_a_broken_cell_is_reported_with_its_line() -> None:
    path = write_csv(
        [ROWS[0], {"id": "b", "input": "b", "reply": "x", "n": 1, "checks": "- contains: x\n- {contains: [y}\n"}]
    )
    message = refused(dataset=path)
    assert "d.csv:3" in message and "has a column 'checks' that is not YAML (line 2 of the cell)" in message


@pytest.mark.parametrize("cell", ["5", "true", "2026-01-01 x: [", "&a [*a]", "!!python/object:os.system x"])
def test_a_cell_that_holds_no_checks_is_refused(cell: str) -> None:
    message = refused(dataset=write_csv([{"id": "b", "input": "b", "reply": "x", "checks": cell}]))
    assert "column 'checks'" in message or "unknown check" in message
    assert "Traceback" not in message


def test_every_problem_of_a_row_names_its_place() -> None:
    rows = [
        {
            "input": "a",
            "reply": "x",
            "checks": [{"contans": "x"}, {"max_words": "many"}, {"contains": "{{ peroid }}"}],
            "period": 1,
        }
    ]
    message = refused(rows)
    assert "case.yaml:1:" in message and "checks[0]: unknown check 'contans'; did you mean 'contains'?" in message
    rows[0]["checks"] = rows[0]["checks"][1:]
    message = refused(rows)
    assert "checks[0]: " in message and "is 'many'; it should be a whole number" in message
    assert (
        "checks[1]: value: the template uses 'peroid', which this sample does not have; did you mean 'period'?"
        in message
    )


def test_data_is_never_read_as_a_template() -> None:
    rows = [
        {
            "input": "{{ 7 * 7 }}",
            "expected": "{{ n }}",
            "n": "{{ secret }}",
            "reply": "{{ secret }} {{ n }}",
            "checks": [{"contains": "{{ n }}"}, {"contains": "{{ expected }}"}, {"not_contains": "49"}],
        }
    ]
    run(rows, scorers=[{"contains": "{{ input }}", "name": "own"}])
    assert (cells(), cells("own")) == ([("scored", 1)], [("scored", 0)])


def test_a_template_is_converted_to_the_type_of_its_option() -> None:
    checks = [
        {"max_words": "{{ most }}"},
        {"contains": {"value": "{{ words }}"}},
        {"contains": {"value": "A", "ignore_case": "{{ lax }}"}},
    ]
    rows = [{"input": "q", "reply": "a b", "most": 2, "words": ["zzz", "b"], "lax": True, "checks": checks}]
    run(rows)
    assert cells() == [("scored", 1)]
    assert "checks[0]: " in refused([{**rows[0], "most": "few"}])


def test_templates_of_a_hostile_row_are_bounded() -> None:
    for text in (
        "{{ 'a' * 10**10 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ):
        Path("d.jsonl").write_text(json.dumps({"input": "a", "reply": "x", "checks": [{"contains": text}]}))
        assert "checks[0]: value: " in refused(dataset="d.jsonl")
    for text in ("{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__.os.popen('id').read() }}"):
        Path("d.jsonl").write_text(json.dumps({"input": "a", "reply": "x", "checks": [{"contains": text}]}))
        assert "Traceback" not in refused(dataset="d.jsonl")


@pytest.mark.parametrize(
    "check",
    [
        {"type": "python", "function": "os:system"},
        {"type": "not_python", "function": "os:system"},
        {"python": {"function": "os:system"}},
        {"os:system": {}},
        {"any": [{"type": "os:system"}]},
        {"type": "mlflow", "metric": "x"},
    ],
)
def test_data_names_no_code(check: Any) -> None:
    Path("d.jsonl").write_text(json.dumps({"input": "a", "reply": "x", "checks": [check]}))
    assert "runs code, which data cannot name; put the check into the suite" in refused(dataset="d.jsonl")


def test_an_untrusted_suite_names_no_code_in_its_checks_and_rows() -> None:
    rows = [{"input": "a", "reply": "x"}]
    for kind in ("python", "not_python"):
        check = {"type": kind, "function": "os:system"}
        assert "runs Python, which --untrusted refuses" in refused(rows, "--untrusted", checks=[check])
        assert "runs code" in refused([{**rows[0], "checks": [check]}], "--untrusted")


def test_a_row_names_no_judge_that_the_suite_does_not_have() -> None:
    row = {
        "input": "a",
        "reply": "x",
        "expected": "x",
        "checks": [{"factuality": None, "threshold": 0.5, "judge": "http://evil"}],
    }
    assert "the suite has no judge 'http://evil'; it has none" in refused([row])


def test_changed_checks_make_a_changed_sample() -> None:
    run(ROWS[:2], gates=["checks >= 0.5"])
    assert command("baseline", "accept", "last").code == 0
    gates = [{"metric": "checks", "baseline": "main", "max_drop": 0.5}]
    run(ROWS[:2], gates=gates)
    assert "changed" not in str(run(ROWS[:2], gates=gates).gates)
    changed = [ROWS[0], {**ROWS[1], "checks": [{"contains": "31"}]}]
    assert "1 changed" in str(run(changed, gates=gates).gates)


def test_stored_answers_are_scored_by_the_checks_that_the_data_has_now() -> None:
    run(ROWS)
    run_file = Path("case.yaml")
    suite = json.loads(run_file.read_text())
    suite["dataset"]["rows"][0]["checks"] = [{"contains": "nowhere", "name": "new"}]
    run_file.write_text(json.dumps(suite))
    done = command("score", "last", "--json")
    assert metrics(done)["checks/v1"] == 0.5, done.err
    assert cells("new") == [("scored", 0), ("skipped", None), ("skipped", None)]


def test_shuffled_rows_keep_their_checks() -> None:
    run(dataset={"rows": ROWS, "shuffle": 3})
    assert {
        row["id"]: (row["cells"]["checks"]["state"], row["cells"]["checks"]["value"]) for row in stored_rows()
    } == dict(zip("abc", EXPECTED, strict=True))


def test_a_suite_without_scorers_and_checks_is_refused() -> None:
    assert "needs 'scorers'" in refused([{"input": "a", "reply": "x"}])
    Path("d.jsonl").write_text(json.dumps({"input": "a", "reply": "x"}))
    assert "needs 'scorers', such as scorers: [exact_match]; no row has checks" in refused(dataset="d.jsonl")


def test_code_that_checks_name_is_listed_and_identified() -> None:
    for name in ("own", "other"):
        Path(f"{name}.py").write_text("def fine(output) -> bool:\n    return True\n")
    rows = [{"input": "a", "reply": "x", "checks": [{"type": "python", "function": "own.py:fine"}]}]
    run(rows, checks=[{"type": "not_python", "function": "other.py:fine"}])
    listed = command("plan", "case.yaml", "--endpoints").out
    assert "own.py:fine" in listed and "other.py:fine" in listed
    record = json.loads(next(Path("runs/case").glob("2*/run.json")).read_text())
    assert sorted(record["scorers"]["checks"]["files"]) == ["other.py", "own.py"]
