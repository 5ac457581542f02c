"""The scorer json: validity, schemas, values at paths, and fields with a metric each."""

from __future__ import annotations

import json as json_module
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalrunner.domain import Cell, Completion, Declaration, Sample
from evalrunner.limits import TIGHT, Limits
from evalrunner.plugins import PluginContext, main_option_of
from evalrunner.scorers.call import BoundScorer, call_parts, cell_without_call, offer
from evalrunner.scorers.json_match import json
from evalrunner.scorers.json_schema import FORMATS
from tests.fakes.command import evalrun
from tests.scorers.scorer_calls import HOSTILE, cell_of, sample, score_of


def reason_of(scorer: Any, output: str, *expected: str) -> str:
    cell = cell_of(scorer, output, *expected)
    assert cell.value == 0 and cell.detail is not None
    return str(cell.detail["explanation"])


def parts_of(scorer: Any, output: str, *expected: str, **metadata: Any) -> dict[str, float | str | None]:
    """The value of each cell; the reason of one without."""
    bound = BoundScorer.bind("json", scorer)
    row = Sample("1", "a question", expected, metadata)
    cells = call_parts(bound, offer(row, Completion(output)))
    return {name: cell.reason if cell.value is None else cell.value for name, cell in cells.items()}


def test_declarations() -> None:
    assert json().declaration == Declaration(binary=True, inline=True)
    assert json(schema={}).declaration == Declaration(binary=True)
    assert json(equals_expected=True).declaration == Declaration(binary=True, needs_expected=True, inline=True)
    total = Declaration(binary=True, needs_expected=True, inline=True)
    fields = json(fields={"total": "numeric_match"}).declaration
    assert fields == Declaration(needs_expected=True, passes=1.0, parts={"total": total})
    assert not json(fields={"total": "numeric_match"}, record="wanted").declaration.needs_expected
    assert main_option_of(json) == "schema"


@pytest.mark.parametrize(
    ("output", "strict", "lenient"),
    [
        ('{"a": 1}', 1, 1),
        (" [1, 2]\n", 1, 1),
        ("42", 1, 1),
        ("null", 1, 1),
        ('"text"', 1, 1),
        ('```json\n{"a": 1}\n```', 0, 1),
        ('Here it is: {"a": 1}. Bye', 0, 1),
        ('{"a": 1} {"b": 2}', 0, 1),
        ("{'a': 1}", 0, 0),
        ('{"a": 1,}', 0, 0),
        ('{"a": NaN}', 0, 0),
        ('{"a": -Infinity}', 0, 0),
        ('{"a": 1 // one\n}', 0, 0),
        ('{"a": "line\nbreak"}', 0, 1),
        ("Good day!", 0, 0),
        ("\ufeff{}", 0, 1),
        ('{"a": ' + "9" * 5000 + "}", 0, 0),
        ("[" * 100_000, 0, 0),
    ],
)
def test_only_json_is_valid_and_lenient_finds_it_in_a_fence_or_in_prose(output: str, strict: int, lenient: int) -> None:
    assert score_of(json(), output) == strict
    assert score_of(json(lenient=True), output) == lenient


def test_the_reason_says_where_the_json_is_broken() -> None:
    assert reason_of(json(), '{"a": 1,\n "b" 2}') == "not JSON: Expecting ':' delimiter at line 2 column 6"
    assert reason_of(json(), "```\n{}\n```") == (
        "not JSON: Expecting value at line 1 column 1; "
        "there is JSON in a fence or in prose, which 'lenient: true' accepts"
    )
    assert reason_of(json(lenient=True), "none") == "no JSON in the output"
    assert reason_of(json(), "[" * 100_000) == "nested too deeply"


ORDER = '{"refund": false, "total": 12.5, "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": true}], "note": null}'


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"path": "$.refund"}, 1),
        ({"path": "$.refunds"}, 0),
        ({"path": "$.note"}, 1),  # null is a value
        ({"path": "$.refund", "equals": False}, 1),
        ({"path": "$.refund", "equals": 0}, 0),  # false is not 0
        ({"path": "$.note", "equals": None}, 1),
        ({"path": "$.total", "equals": None}, 0),
        ({"path": "$.total", "equals": 12.50}, 1),
        ({"path": "$.total", "equals": "12.5"}, 0),
        ({"path": "$.items[0].n", "equals": 1.0}, 1),
        ({"path": "$.items[1].n", "equals": 1}, 0),
        ({"path": "$.items[*].sku", "equals": ["a", "b"]}, 1),
        ({"path": "$.items[*].sku", "contains": "b"}, 1),
        ({"path": "$.items[*].sku", "contains": "c"}, 0),
        ({"path": "$.items", "contains": {"n": 1, "sku": "a"}}, 1),
        ({"path": "$.items[0]", "contains": "sku"}, 1),
        ({"path": "$.items[0].sku", "contains": "a"}, 1),
        ({"path": "$.total", "contains": "1"}, 0),
        ({"path": "$.items[0]", "equals": {"n": 1, "sku": "a"}}, 1),
        ({"path": "$.total", "schema": {"type": "number", "minimum": 12}}, 1),
        ({"path": "$.total", "schema": {"type": "integer"}}, 0),
    ],
)
def test_a_value_at_a_path_is_compared(options, value) -> None:
    assert score_of(json(**options), ORDER) == value


def test_reasons_show_both_values() -> None:
    assert reason_of(json(path="$.total", equals=13), ORDER) == "$.total is 12.5, not 13"
    assert reason_of(json(path="$.x"), ORDER) == "nothing at $.x"
    assert reason_of(json(equals={}), '{"a": 1}') == 'the output is {"a": 1}, not {}'
    assert reason_of(json(contains="b"), '["a"]') == 'the output is ["a"], without "b"'


def test_the_output_is_compared_with_the_json_of_an_accepted_answer() -> None:
    scorer = json(equals_expected=True)
    assert score_of(scorer, '{"b": [1], "a": 2}', "nothing", '{"a": 2.0, "b": [1]}') == 1
    assert score_of(scorer, '"text"', "text") == 1
    assert score_of(scorer, "true", "1") == 0
    assert cell_of(scorer, "{}") == Cell("skipped", reason="no expected answer")


SCHEMA = {
    "type": "object",
    "required": ["reason", "amount"],
    "properties": {
        "reason": {"enum": ["damaged", "late"]},
        "amount": {"type": "number", "minimum": 0},
        "due": {"type": "string", "format": "date"},
    },
    "additionalProperties": False,
}


def test_the_reason_names_the_errors_of_a_schema() -> None:
    scorer = json(schema=SCHEMA)
    assert score_of(scorer, '{"reason": "late", "amount": 1, "due": "2031-02-28"}') == 1
    reason = reason_of(scorer, '{"reason": "delay", "amount": "unknown", "due": "2031-02-30"}')
    assert reason == (
        "$.reason: 'delay' is not one of ['damaged', 'late']; $.amount: 'unknown' is not of type 'number'; "
        "$.due: '2031-02-30' is not a 'date'"
    )
    assert reason_of(scorer, '{"x": 1}').count(";") == 2  # three at most


def test_a_schema_is_read_from_a_file_beside_the_suite(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json_module.dumps(SCHEMA))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SCHEMA))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "large.json").write_text(" " * 1_000_001)
    context = PluginContext(tmp_path, tmp_path / "runs", {})
    for name in ("s.json", "s.yaml"):
        assert score_of(json(context, schema=name), '{"reason": "late", "amount": -1}') == 0
        assert score_of(json(context, schema=name), '{"reason": "late", "amount": 1}') == 1
        before = json(context, schema=name).declaration.backend
        assert before is not None and before.startswith(f"schema {name}@")
        (tmp_path / f"other-{name}").write_text((tmp_path / name).read_text().replace("late", "slow"))
        assert str(json(context, schema=f"other-{name}").declaration.backend)[-12:] != before[-12:]  # another scorer
    for name, reason in [
        ("none.json", "cannot be read: No such file"),
        ("broken.json", "is not JSON"),
        ("large.json", "more than 1,000,000 bytes"),
        (".", "cannot be read"),
    ]:
        with pytest.raises(ValueError, match=f"'schema' names the file '{name}', which .*{reason}"):
            json(context, schema=name)


def test_an_untrusted_suite_reads_schemas_of_its_folder_only_and_runs_no_python(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "suite" / "s.json").write_text("{}")
    context = PluginContext(tmp_path / "suite", tmp_path / "runs", {}, limits=TIGHT)
    assert score_of(json(context, schema="s.json"), "1") == 1
    for name in ("../secret.json", str(tmp_path / "secret.json"), ".hidden.json"):
        with pytest.raises(ValueError, match="--untrusted refuses it"):
            json(context, schema=name)
    for kind in ("python", "own.py:scorer", "mlflow", "os:system"):
        with pytest.raises(ValueError, match="may run Python, which --untrusted refuses"):
            json(context, fields={"a": kind})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "'schema' is no JSON Schema"),
        ({"properties": []}, "'schema' is no JSON Schema"),
        ({"pattern": "("}, "'schema' is no JSON Schema"),
        ({"pattern": "(a+)+$"}, "takes exponential time"),
        ({"$schema": "http://example.org/own"}, "unknown version 'http://example.org/own'"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "outside of itself, which is not fetched"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "outside of itself, which is not fetched"),
        ({"$ref": "#/$defs/none"}, "'#/\\$defs/none', which it does not have"),
        ({"$ref": "#none"}, "which it does not have"),
    ],
)
def test_wrong_schemas_are_refused_before_the_first_call(schema, message) -> None:
    with pytest.raises(ValueError, match=message):
        json(schema=schema)


def test_references_drafts_and_properties_called_like_keywords_work() -> None:
    tree = {"$defs": {"t": {"type": "object", "properties": {"sub": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"}
    assert score_of(json(schema=tree), '{"sub": {"sub": {}}}') == 1
    assert score_of(json(schema=tree), '{"sub": {"sub": 1}}') == 0
    draft_7 = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"$id": "#n", "type": "integer"}},
        "items": [{"$ref": "#/definitions/n"}],
    }
    assert score_of(json(schema=draft_7), '["x"]') == 0
    anchor = {"$defs": {"n": {"$anchor": "whole", "type": "integer"}}, "items": {"$ref": "#whole"}}
    assert score_of(json(schema=anchor), "[1, 2]") == 1
    names = {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}, "enum": {"type": "integer"}}}
    assert score_of(json(schema=names), '{"pattern": "((", "$ref": "x", "enum": 1}') == 1
    patterns = {"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": {"pattern": r"^\d{2}$"}}
    assert score_of(json(schema=patterns), '{"n_a": 1, "b": "12"}') == 1
    assert score_of(json(schema=patterns), '{"n_a": "1", "b": "12"}') == 0
    assert reason_of(json(schema=patterns), '{"b": "1"}') == r"$.b: '1' does not match '^\\d{2}$'"


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        ("date-time", ["2024-02-29T23:59:60Z", "2024-01-01t00:00:00.123+05:30"], ["2023-02-29T00:00:00Z", "2024-01-01", "2024-01-01T25:00:00Z", "2024-01-01T00:00:00"]),
        ("time", ["12:30:00Z", "23:59:59.9-08:00"], ["12:30", "24:00:00Z", "12:60:00Z"]),
        ("date", ["2024-02-29"], ["2023-02-29", "2024-2-1", "20240229"]),
        ("email", ["a@b.example", "a+b@localhost"], ["a", "a@", "@b", "a b@c", "a@b@c"]),
        ("uri", ["https://example.org/a?b#c", "mailto:a@b", "urn:x:1"], ["/a", "example.org", "http://a b", "http://[::1", "a:", "http://a:x/"]),
        ("hostname", ["example.org", "a-1"], ["-a.example", "a..b", "a_b", "a" * 64, ""]),
        ("ipv4", ["127.0.0.1"], ["127.0.0.256", "1.2.3"]),
        ("ipv6", ["::1"], ["::g", "1.2.3.4"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000", "x"]),
        ("regex", ["^a+$"], ["(", "a" * 1_001]),
        ("duration", ["P1D", "PT1H30M", "P2W", "P1Y2M3DT4H"], ["P", "PT", "1D", "P1DT"]),
        ("json-pointer", ["", "/a/~1b/0"], ["a", "/~2"]),
        ("an-unknown-one", ["anything"], []),
    ],
)  # fmt: skip
def test_formats_are_checked(name: str, valid: list[str], invalid: list[str]) -> None:
    scorer = json(schema={"format": name})
    for text in valid:
        assert score_of(scorer, json_module.dumps(text)) == 1, text
    for text in invalid:
        assert score_of(scorer, json_module.dumps(text)) == 0, text
    assert score_of(scorer, "17") == 1  # formats are about texts


def test_every_format_takes_any_text() -> None:
    for name, check in FORMATS.items():
        valid = [text for text in HOSTILE if check(text)]
        assert not valid or name == "regex", name  # any text without brackets is a regular expression


def laughs(depth: int) -> dict[str, Any]:
    """A schema whose references double at each of `depth` levels."""
    level = {f"d{number}": {"allOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2} for number in range(depth)}
    return {"$defs": {**level, f"d{depth}": {}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "output", "state"),
    [
        (laughs(40), "1", "error"),
        ({"$ref": "#"}, '{"a": [1]}', "error"),  # the schema's fault, not the model's
        ({"uniqueItems": True}, json_module.dumps([{"n": number} for number in range(60_000)]), "scored"),
        ({"items": {"pattern": "^a*a*a*$"}}, json_module.dumps(["a" * 49_000 + "b"]), "error"),
        ({"patternProperties": {"^a*a*a*b$": {}}}, json_module.dumps({"a" * 100_000: 1}), "error"),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}}, "[" * 400 + "]" * 400, "scored"),
        ({}, '"' + "x" * 1_000_000 + '"', "error"),
    ],
)
def test_schemas_end_on_hostile_documents(schema, output: str, state: str) -> None:
    start = time.process_time()
    context = PluginContext(Path(), Path("runs"), {}, limits=Limits(match_s=0.5))
    cell = cell_of(json(context, schema=schema), output)
    assert cell.state == state, cell
    assert time.process_time() - start < 30


def test_a_schema_file_gives_the_verdicts_of_promptfoo(shared_data: Path) -> None:
    """Eleven replies with schemas inline, as YAML text and in a file, and their recorded verdicts."""
    folder = shared_data.parent / "cases" / "promptfoo" / "04-refund-triage"
    config = yaml.safe_load((folder / "promptfooconfig.yaml").read_text(encoding="utf-8"))
    recorded = json_module.loads((folder / "expected.json").read_text(encoding="utf-8"))["results"]
    context, compared = PluginContext(folder, folder / "runs", {}), 0
    for result in recorded:
        if not isinstance(result["output"], str):
            continue  # parsed by the provider of promptfoo
        asserted = [*config["defaultTest"]["assert"], *config["tests"][result["test"]]["assert"]]
        for check, verdict in zip(asserted, result["checks"], strict=True):
            kind, schema = check["type"].removeprefix("not-"), check.get("value")
            if kind not in ("is-json", "contains-json"):
                continue
            if isinstance(schema, str):
                schema = schema.removeprefix("file://") if schema.startswith("file://") else yaml.safe_load(schema)
            passed = score_of(json(context, schema=schema, lenient=kind == "contains-json"), result["output"])
            assert (passed == 1) == (verdict["pass"] != check["type"].startswith("not-")), (result["output"], check)
            compared += 1
    assert compared >= 12


RECORD = json_module.dumps({"name": "Ann Lee", "total": 12.5, "tags": ["x", "y"], "note": None})
FIELDS = {
    "name": {"type": "exact_match", "ignore_case": True},
    "total": {"type": "numeric_match", "tolerance": 0.01},
    "tags": "exact_match",
    "note": "exact_match",
    "age": "numeric_match",
}


@pytest.mark.parametrize(
    ("output", "parts"),
    [
        ({"name": "ANN LEE", "total": "12.505 €", "tags": ["x", "y"]}, (1, 1, 1, 1)),
        ({"name": "Ann", "total": 12.6, "tags": ["y", "x"], "note": "?"}, (0, 0, 0, 0)),
        ({"name": None, "total": 12.5, "tags": [], "note": ""}, (0, 1, 0, 1)),
        ({"total": True, "tags": "x"}, (0, 0, 0, 1)),
        ([], (0, 0, 0, 1)),
        ("text", (0, 0, 0, 1)),
    ],
)
def test_each_field_is_scored_by_its_own_scorer(output, parts) -> None:
    cells = parts_of(json(fields=FIELDS), json_module.dumps(output), RECORD)
    assert cells == {
        "json": sum(parts) / 4,
        **{f"json/{name}": part for name, part in zip(FIELDS, parts, strict=False)},
        "json/age": "the expected record has no age",
    }


def test_an_output_without_json_has_no_right_field() -> None:
    cells = parts_of(json(fields={"a": "exact_match", "b": "exact_match"}), "none", '{"a": 1}')
    assert cells == {"json": 0, "json/a": 0, "json/b": "the expected record has no b"}


def test_fields_are_compared_with_a_column_a_path_or_their_own_value() -> None:
    fields = {"$.order.total": "numeric_match"}
    output = '{"data": {"order": {"total": 3}}}'
    wanted = {"order": {"total": 3.0}}
    scorer = json(fields=fields, record="wanted", path="$.data")
    assert parts_of(scorer, output, wanted=wanted) == {"json": 1, "json/order.total": 1}
    assert parts_of(scorer, output, wanted=json_module.dumps(wanted)) == {"json": 1, "json/order.total": 1}
    assert parts_of(scorer, output, wanted=" ")["json"] == "the expected record has none of the fields"
    odd = json(fields={"$.items[0].n": "exact_match", "$['a b']": "exact_match"})
    document = '{"items": [{"n": 1}], "a b": "x"}'
    assert parts_of(odd, document, document) == {"json": 1, "json/items.0.n": 1, "json/a_b": 1}
    own = json(fields={"note": {"type": "contains", "value": "sorry"}, "n": {"type": "max_words", "value": 2}})
    assert parts_of(own, '{"note": "so sorry", "n": "a b c"}') == {"json": 0.5, "json/note": 1, "json/n": 0}
    assert not own.declaration.needs_expected


def test_the_best_of_several_accepted_records_counts() -> None:
    scorer = json(fields={"a": "exact_match", "b": "exact_match"})
    records = ('{"a": 1, "b": 1}', '{"a": 1, "b": 2}', '{"a": 2, "b": 2}')
    assert parts_of(scorer, '{"a": 1, "b": 2}', *records) == {"json": 1, "json/a": 1, "json/b": 1}


def test_a_field_that_fails_is_an_error_of_the_whole() -> None:
    fields = {"a": {"type": "regex", "pattern": "^a*a*a*$", "match_timeout": 0.2}, "b": "exact_match"}
    output = json_module.dumps({"a": "a" * 40_000 + "b", "b": 1})
    cells = parts_of(json(fields=fields), output, '{"a": "x", "b": 1}')
    assert cells["json/b"] == 1
    assert cells["json"] == cells["json/a"] and "takes more than 0.2 s of CPU time" in str(cells["json"])


def test_a_record_that_is_no_object_is_found_before_the_first_call() -> None:
    function = json(fields={"a": "exact_match"}).function
    assert function.check(sample("[1]")) == "the expected answer is no JSON object, which 'fields' needs"
    assert function.check(sample('{"a": 1}')) is None
    assert function.check(sample()) is None
    by_column = json(fields={"a": "exact_match"}, record="wanted").function
    assert by_column.check(sample("x")) == "has no column 'wanted', which 'record' names"
    assert by_column.check(Sample("1", "", (), {"wanted": "text"})) == (
        "the column 'wanted' is no JSON object, which 'fields' needs"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {}}, "1 to 100 fields"),
        ({"fields": {"a": 1}}, "the field 'a' should name a scorer"),
        ({"fields": {"a": "exact_mach"}}, "the field 'a': unknown scorer 'exact_mach'.*exact_match"),
        ({"fields": {"a": {"type": "exact_match", "case": True}}}, "the field 'a': case unknown option"),
        ({"fields": {"a": "factuality"}}, "the field 'a': factuality cannot score a field"),
        ({"fields": {"a": {"type": "json", "fields": {"b": "exact_match"}}}}, "cannot score a field"),
        ({"fields": {"$..": "exact_match"}}, "JSONPath"),
        ({"fields": {"a": "exact_match", "$.a": "exact_match"}}, "a field twice"),
        ({"fields": {"a": "exact_match"}, "equals": 1}, "cannot be combined"),
        ({"record": "x"}, "'record' is for 'fields'"),
        ({"path": "$["}, "JSONPath"),
    ],
)
def test_wrong_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        json(**options)


@pytest.mark.parametrize("output", [*HOSTILE, '{"a": "\\ud800"}', '{"a": 1e999}', "[" * 900 + "]" * 900])
def test_hostile_outputs_are_scored(output: str) -> None:
    scorers = (json(), json(lenient=True), json(schema=SCHEMA), json(path="$..a", equals=1), json(equals_expected=True))
    for scorer in (*scorers, json(fields={"a": "exact_match"})):
        bound = BoundScorer.bind("json", scorer)
        row, completion = sample('{"a": "\\ud800"}'), Completion(output)
        if (missing := cell_without_call(bound, row, completion)) is not None:
            assert missing.state == "unscored"
            continue
        cells = call_parts(bound, offer(row, completion))
        assert all(cell.state == "scored" and 0 <= (cell.value or 0) <= 1 for cell in cells.values()), cells


def test_fields_are_metrics_with_gates_on_the_command_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(
        "name: s\n"
        "dataset:\n"
        "  rows:\n"
        '    - {input: a, expected: {name: Ann, total: 3}, answer: \'{"name": "Ann", "total": 4}\'}\n'
        '    - {input: b, expected: {name: Bo}, answer: \'{"name": "Bo"}\'}\n'
        "target: {type: recorded, column: answer}\n"
        "scorers:\n"
        "  - {type: json, fields: {name: exact_match, total: numeric_match}}\n"
        "  - {type: json, name: valid, schema: {required: [total]}}\n"
        "gates: [json/name >= 0.9, json >= 0.7, json/total >= 0.5]\n"
    )
    done = evalrun("run", "s.yaml")
    assert done.returncode == 1, done.stderr
    metrics = json_module.loads(next(tmp_path.glob("runs/s/*/metrics.json")).read_text())
    values = {metric["name"]: metric["value"] for metric in metrics["targets"]["recorded"]["metrics"]}
    assert values["json/v1/mean"] == 0.75
    assert (values["json/name/v1"], values["json/total/v1"], values["valid/v1"]) == (1, 0, 0.5)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((tmp_path / "s.yaml").read_text().replace("required: [total]", "required: total"))
    done = evalrun("run", "wrong.yaml")
    assert done.returncode == 2 and "'schema' is no JSON Schema: $.required" in done.stderr
