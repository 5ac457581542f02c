"""What can be known from the suite and its data is reported before the first call: by validate, plan and run alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, command
from tests.fakes.server import Answer, ScriptedServer, always

ROWS = [
    {"id": "a", "input": "1+1?", "expected": "2", "output": "2", "topic": "sums"},
    {"id": "b", "input": "2+2?", "expected": "4", "output": "4", "topic": "sums"},
    {"id": "c", "input": "Ωmega?", "expected": "5", "output": "5", "topic": "words"},
]
RECORDED = {"type": "recorded", "column": "output"}


def suite(**keys: Any) -> str:
    """A suite file; `rows` are written to data.jsonl, unless the dataset is given."""
    rows = keys.pop("rows", ROWS)
    Path("data.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    base = {"name": "case", "dataset": "data.jsonl", "scorers": ["exact_match"]}
    target = {} if "targets" in keys else {"target": RECORDED}
    Path("case.yaml").write_text(json.dumps({**base, **target, **keys}, indent=1), encoding="utf-8")
    return "case.yaml"


def refused(path: str) -> str:
    """The message with which validate, plan and run refuse a suite: in one message, before a run begins."""
    ends = [command(*words, path) for words in (("validate",), ("plan", "--offline"), ("run", "-q"))]
    assert [end.code for end in ends] == [2, 2, 2], [end.err + end.out for end in ends]
    assert len({end.err for end in ends}) == 1 and not Path("runs").exists()
    return ends[0].err


def notes(path: str) -> list[str]:
    """The notes of validate; plan and the files of a run have them too."""
    checked, planned = command("validate", path), command("plan", "--offline", path)
    assert (checked.code, planned.code) == (0, 0), checked.err + planned.err
    listed = [line.strip().removeprefix("note: ") for line in checked.out.splitlines()[1:]]
    assert all(f"note: {note}" in planned.out for note in listed)
    return listed


def run_notes(path: str) -> tuple[Ended, list[str]]:
    """A run, and the notes in its record."""
    ended = command(path, "--json")
    (record,) = Path("runs").glob("*/*/run.json")
    return ended, json.loads(record.read_text(encoding="utf-8"))["notices"]


@pytest.fixture
def model() -> Any:
    with ScriptedServer(always(Answer("yes"))) as server:
        yield server


def asked(server: ScriptedServer, prompt: Any = "Answer in one word: {{ input }}", **keys: Any) -> str:
    """A suite whose target is a model on a local server."""
    return suite(target={"model": "m", "base_url": server.base_url}, prompt=prompt, **keys)


def without(name: str, rows: Sequence[Mapping[str, Any]] = ROWS, **more: str) -> list[dict[str, Any]]:
    return [{**{key: value for key, value in row.items() if key != name}, **more} for row in rows]


# expected answers


@pytest.mark.parametrize(
    ("scorers", "needed"),
    [
        (["exact_match"], "exact_match needs it"),
        (["exact_match", "contains", "numeric_match"], "exact_match, contains and numeric_match need it"),
        (["token_f1", {"type": "contains", "values": ["x"]}], "token_f1 needs it"),
        ([{"type": "regex", "pattern": "(.)", "group": 1}], "regex needs it"),
    ],
)
def test_scorers_without_any_expected_answer_are_refused_in_one_problem(scorers: list[Any], needed: str) -> None:
    text = refused(suite(rows=without("expected", answer="x"), scorers=scorers, gates=[]))
    assert f"no column 'expected' in data.jsonl, but {needed}; it has: id, input, output, topic, answer. " in text
    assert len(text.splitlines()) == 1 and text.startswith("case.yaml:3:13: dataset: ")
    assert text.strip().endswith("Map the expected answer: columns: {expected: answer}")


def test_no_call_is_made_without_any_expected_answer(model: ScriptedServer) -> None:
    refused(asked(model, rows=without("expected")))
    assert model.calls == 0


@pytest.mark.parametrize(
    "scorers", [[{"type": "contains", "values": ["2"]}], [{"type": "regex", "pattern": "2"}], ["ari_grade_level"]]
)
def test_scorers_that_need_no_expected_answer_run_without(scorers: list[Any]) -> None:
    path = suite(rows=without("expected"), scorers=scorers)
    assert notes(path) == [] and command(path, "-q").code == 0


@pytest.mark.parametrize(
    ("columns", "likely"),
    [
        (["ground_truth", "note"], "ground_truth"),
        (["Expected", "note"], "Expected"),
        (["expcted", "note"], "expcted"),
        (["Correct Answer", "note"], "Correct Answer"),
        (["réponse"], "réponse"),
        (["a: b"], '"a: b"'),
        (["x", "y"], "COLUMN"),
    ],
)
def test_likely_column_of_the_expected_answer_is_named(columns: list[str], likely: str) -> None:
    rows = [{"id": row["id"], "input": row["input"], "output": "x", **dict.fromkeys(columns, "2")} for row in ROWS]
    assert f"columns: {{expected: {likely}}}" in refused(suite(rows=rows))


@pytest.mark.parametrize("empty", ["", "  ", None, []])
def test_an_expected_column_that_is_empty_in_every_row_is_refused(empty: Any) -> None:
    rows = [{**row, "expected": empty} for row in ROWS]
    assert "the column 'expected' is empty in all 3 samples of data.jsonl, but exact_match needs it" in refused(
        suite(rows=rows)
    )
    mapped = {"path": "data.jsonl", "columns": {"expected": "gold"}, "limit": 2}
    rows = [{**row, "gold": empty} for row in ROWS]
    assert "the column 'gold' is empty in all 2 selected samples" in refused(suite(rows=rows, dataset=mapped))


def test_a_limit_is_named_where_only_the_first_samples_were_read() -> None:
    rows = [*without("expected", ROWS[:2]), ROWS[2]]
    message = refused(suite(rows=rows, dataset={"path": "data.jsonl", "limit": 2}))
    assert "no column 'expected' in the first 2 samples of data.jsonl, but exact_match needs it" in message


def test_a_stored_run_without_expected_answers_is_not_scored_with_them() -> None:
    path = suite(rows=without("expected"), scorers=[{"type": "contains", "values": ["2"]}])
    assert command(path, "-q").code == 0
    ended = command("score", "last", "--suite", suite())
    assert (
        ended.code == 2 and "no sample of the stored run has an expected answer, but exact_match needs one" in ended.err
    )


def test_rows_without_an_expected_answer_are_counted_in_notes_and_in_the_gate() -> None:
    rows = [ROWS[0], *without("expected", ROWS[1:], expcted="4")]
    path = suite(rows=rows, gates=["exact_match >= 0.7"])
    note = (
        "2 of 3 samples have no expected answer, so exact_match skips them (first: 'b'); is it in the column 'expcted'?"
    )
    assert notes(path) == [note]
    ended, listed = run_notes(path)
    assert ended.code == 0 and note in listed
    assert "based on 1 of 3 samples; 2 have no expected answer" in ended.text
    assert "based on 1 of 3 samples; 2 have no expected answer" in " ".join(command("show", "last", "-v").out.split())


def test_numbers_that_no_expected_answer_has_are_refused() -> None:
    path = suite(rows=[{**row, "expected": "two"} for row in ROWS], scorers=["numeric_match"])
    assert "'numeric_match' applies to no sample: the expected answer has no number (all 3; first: 'a')" in refused(
        path
    )
    path = suite(rows=[{**ROWS[0], "expected": "two"}, *ROWS[1:]], scorers=["numeric_match"])
    assert notes(path) == ["numeric_match does not apply to 1 sample: the expected answer has no number (first: 'a')"]


def test_an_expected_pattern_that_finds_nothing_is_refused() -> None:
    scorer = {"type": "regex", "pattern": r"#### (\d)", "group": 1, "expected_pattern": r"#### (\d)"}
    assert "'expected_pattern' finds nothing in the expected answer (all 3" in refused(suite(scorers=[scorer]))


def test_a_gate_on_a_value_that_no_sample_has_is_refused() -> None:
    path = suite(slices=["topic"], gates=["exact_match[topic=sum] >= 0.5"])
    assert "no sample has 'sum' in 'topic'; did you mean 'sums'?" in refused(path)
    path = suite(
        dataset={"path": "data.jsonl", "limit": 2}, slices=["topic"], gates=["exact_match[topic=words] >= 0.5"]
    )
    assert notes(path) == ["gate 'exact_match[topic=words] >= 0.5': no sample has 'words' in 'topic'; it has sums"]


# prompts


@pytest.mark.parametrize(
    "placeholder",
    ["{input}", "${input}", "$input", "%(input)s", "<input>", "[[input]]", "{ input }", "{input!r}", "#{input}", "%input%",
     "<%= input %>", "<<input>>", "[input]", "@input", "{Input}", "{row.input}"],
)  # fmt: skip
def test_a_placeholder_of_another_template_language_is_shown_in_the_right_spelling(
    model: ScriptedServer, placeholder: str
) -> None:
    for prompt in (
        f"Answer in one word: {placeholder}.",
        [{"system": "Be brief."}, {"user": f"Answer: {placeholder}"}],
    ):
        (note,) = notes(asked(model, prompt))
        assert note == (
            f"the prompt is the same for all 3 samples: {placeholder!r} is sent unchanged; a column is written {{{{ input }}}}"
        )


def test_the_same_prompt_for_every_sample_is_in_the_notes_of_the_run(model: ScriptedServer) -> None:
    path = asked(model, "Say {topic} yes.")
    (note,) = notes(path)
    assert "'{topic}' is sent unchanged; a column is written {{ topic }}" in note
    assert note in run_notes(path)[1] and note in " ".join(command(path).out.split())


@pytest.mark.parametrize("placeholder", ["{question}", "${text}", "%(q)s", "[[q]]", "{{ '' }}{text}"])
def test_a_placeholder_that_names_no_column_is_noted(model: ScriptedServer, placeholder: str) -> None:
    (note,) = notes(asked(model, f"Answer: {placeholder}"))
    literal = placeholder.removeprefix("{{ '' }}")
    assert note == (
        f"the prompt is the same for all 3 samples: {literal!r} is sent unchanged; a column is written {{{{ input }}}}"
    )


@pytest.mark.parametrize("prompt", ["Say yes.", [{"system": "Be brief."}, {"user": "Say yes for $5 to <b>all</b>."}]])
def test_a_prompt_that_uses_no_column_is_noted(model: ScriptedServer, prompt: Any) -> None:
    assert notes(asked(model, prompt)) == [
        "the prompt is the same for all 3 samples, as it uses no column; {{ input }} inserts the input"
    ]


def test_a_prompt_that_inserts_a_constant_is_noted(model: ScriptedServer) -> None:
    path = asked(model, "{{ unit }}: {# note #} {{ 'x' }}", rows=[{**row, "unit": "kg"} for row in ROWS])
    assert notes(path) == [
        "the prompt is the same for all 3 samples, as what it inserts does not change; {{ input }} inserts the input",
        "the prompt contains '{# note #}', a comment, which is not sent; write {{ '{#' }} for the characters",
    ]


def test_a_prompt_that_inserts_equal_inputs_is_noted(model: ScriptedServer) -> None:
    path = asked(model, "Say: {{ input | trim }}", rows=[{**row, "input": "yes?"} for row in ROWS])
    assert notes(path) == ["the prompt is the same for all 3 samples, as the values that it inserts are"]


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ input }}", "{% if topic == 'sums' %}a{% else %}b{% endif %}", [{"system": "{{ topic }}"}, {"user": "Say yes."}],
        '{{ input }} as {"answer": "…"} or <topic>', [{"messages": "history"}, {"user": "Go on."}], None,
        "{{ input }} {% raw %}{topic}{% endraw %}",
    ],
)  # fmt: skip
def test_a_prompt_that_differs_between_samples_has_no_note(model: ScriptedServer, prompt: Any) -> None:
    talk = [{"role": "user", "content": "hi"}]
    path = asked(model, prompt, rows=[{**row, "history": talk} for row in ROWS])
    assert notes(path) == []


def test_a_single_sample_has_no_note_on_its_prompt(model: ScriptedServer) -> None:
    assert notes(asked(model, "Say yes to {topic}.", rows=ROWS[:1])) == [
        "the prompt contains '{topic}', which is sent unchanged; a column is written {{ topic }}"
    ]
    assert notes(asked(model, "Say yes.", rows=ROWS[:1])) == []


def test_a_column_in_single_braces_beside_a_right_one_is_noted(model: ScriptedServer) -> None:
    assert notes(asked(model, "{{ input }} about ${topic}, as {json}")) == [
        "the prompt contains '${topic}', which is sent unchanged; a column is written {{ topic }}"
    ]


def test_the_target_of_a_prompt_of_its_own_is_named(model: ScriptedServer) -> None:
    targets = [
        {"name": "one", "model": "m", "base_url": model.base_url},
        {"name": "two", "model": "m", "base_url": model.base_url, "prompt": "Say yes to {input}."},
    ]
    assert notes(suite(targets=targets, prompt="{{ input }}")) == [
        "target 'two': the prompt is the same for all 3 samples: '{input}' is sent unchanged; a column is written {{ input }}"
    ]


def test_the_same_request_to_a_service_is_noted(model: ScriptedServer) -> None:
    service = {"type": "http", "url": f"{model.base_url}/ask", "body": {"q": "{input}"}}
    assert notes(suite(target=service)) == [
        "the request is the same for all 3 samples: '{input}' is sent unchanged; a column is written {{ input }}"
    ]


def test_targets_that_do_not_use_the_prompt_are_named(model: ScriptedServer) -> None:
    Path("bot.py").write_text("def answer(input): return input\n")
    bot = {"name": "bot", "type": "python", "function": "bot.py:answer"}
    assert notes(suite(prompt="{{ input }}")) == [
        "the prompt is not sent to target 'recorded' (recorded); prompts are for models"
    ]
    targets = [bot, {"name": "old", **RECORDED}, {"model": "m", "base_url": model.base_url}]
    assert notes(suite(prompt="{{ input }}", targets=targets)) == [
        "the prompt is not sent to targets 'bot' (python) and 'old' (recorded); prompts are for models"
    ]
    own = {"model": "m", "base_url": model.base_url, "prompt": "{{ input }}"}
    assert notes(suite(prompt="Say {{ input }}", target=own)) == [
        "the prompt of the suite is not used: every target has its own"
    ]


# columns of checks


@pytest.mark.parametrize(
    "name",
    ["assert", "asserts", "assertions", "Assert", "__expected", "__expected1", "__threshold", "assert_set"],
)
def test_a_column_of_checks_that_nothing_reads_is_refused(name: str) -> None:
    text = refused(suite(rows=[ROWS[0], {**ROWS[1], name: [{"type": "contains", "value": "x"}]}, ROWS[2]]))
    assert f"case.yaml:3:13: dataset: the column {name!r} looks like checks of each row in another format" in text


def test_checks_of_inline_rows_are_refused_at_their_line() -> None:
    rows = [ROWS[0], {**ROWS[1], "assert": [{"equals": "4"}]}]
    assert "case.yaml:18:5: dataset.rows[1].assert: the column 'assert'" in refused(suite(dataset={"rows": rows}))
    rows = [ROWS[0], {**ROWS[1], "options": {"assert": [{"equals": "4"}]}}]
    assert "dataset.rows[1].options.assert: the column 'options.assert'" in refused(suite(dataset={"rows": rows}))
    assert "the column 'options.assert' looks like" in refused(suite(rows=rows))


def test_checks_of_inline_rows_are_refused_together_with_other_problems() -> None:
    rows = [{"vars": {"q": "x"}, "assert": [{"type": "equals", "value": "y"}]}]
    message = refused(suite(dataset={"rows": rows}))
    assert "no column 'input' in rows; it has: vars, assert" in message
    assert "dataset.rows[0].assert: the column 'assert' looks like checks" in message


@pytest.mark.parametrize(
    "keys",
    [
        {"slices": ["assert"]},
        {"dataset": {"path": "data.jsonl", "where": {"assert": "x"}}},
        {"dataset": {"path": "data.jsonl", "columns": {"expected": "assert"}}},
        {"dataset": {"path": "data.jsonl", "cluster": "assert"}},
        {"target": {"type": "recorded", "column": "assert"}},
        {"scorers": [{"type": "python", "function": "own.py:per_row"}]},
    ],
)
def test_a_column_of_checks_that_the_suite_uses_is_accepted(keys: Mapping[str, Any]) -> None:
    Path("own.py").write_text("def per_row(output, sample): return sample.metadata['assert'] in output\n")
    assert command("validate", suite(rows=[{**row, "assert": "x"} for row in ROWS], **keys)).code == 0


def test_the_column_checks_is_data_where_the_suite_says_so() -> None:
    rows = [{**row, "checks": "x"} for row in ROWS]
    assert "columns: {checks: ''}" in refused(suite(rows=rows))
    for columns in ({"checks": ""}, {"expected": "checks"}):
        assert command("validate", suite(rows=rows, dataset={"path": "data.jsonl", "columns": columns})).code == 0


def test_a_column_of_checks_in_the_prompt_is_accepted(model: ScriptedServer) -> None:
    rows = [{**row, "assert": "x"} for row in ROWS]
    assert command("validate", asked(model, "{{ input }} {{ assert }}", rows=rows)).code == 0
    assert "'assert'" in refused(asked(model, "{{ input }} (assert)", rows=rows))


# ids


def test_duplicate_ids_of_inline_rows_name_the_file_and_both_lines() -> None:
    Path("case.yaml").write_text(
        "name: case\ntarget: {type: recorded, column: output}\nscorers: [exact_match]\ndataset:\n  rows:\n"
        "    - {id: 1, input: a, expected: b, output: b}\n    - {id: q, input: c, expected: d, output: d}\n"
        "    - {id: '1', input: e, expected: f, output: f}\n    - {id: 'q ', input: g, expected: h, output: h}\n"
    )
    first, second = refused("case.yaml").splitlines()
    assert first.startswith("case.yaml:8:7: has the id '1' of case.yaml:6:7; ids must be unique")
    assert second == "case.yaml:9:7: has the id 'q ' and case.yaml:7:7 has 'q': only spaces differ; ids must be unique"


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("d.csv", "id,input,expected,output\n1,a,b,b\n2,c,d,d\n1,e,f,f\n", (4, 2)),
        ("d.jsonl", '{"id":1,"input":"a","expected":"b","output":"b"}\n\n{"id":"1","input":"c","expected":"b","output":"b"}\n', (3, 1)),
        ("d.csv", 'id,input,expected,output\n1,"a\nb",b,b\n 1 ,c,d,d\n', (4, 2)),
    ],
)  # fmt: skip
def test_duplicate_ids_of_a_file_name_both_lines(name: str, text: str, lines: tuple[int, int]) -> None:
    Path(name).write_text(text)
    message = refused(suite(dataset=name))
    assert message.startswith(f"{name}:{lines[0]}: has the id ") and f"{name}:{lines[1]}" in message


def test_problems_of_inline_rows_have_their_line() -> None:
    Path("case.yaml").write_text(
        "name: case\ntarget: {type: recorded, column: output}\nscorers: [exact_match]\ndataset:\n  rows:\n"
        "    - {id: 1, input: a, expected: b, output: b}\n    - {id: 2, input: null, expected: d, output: d}\n"
        "    - {id: 3, input: x, expected: d}\n"
    )
    empty, missing = refused("case.yaml").splitlines()
    assert empty == "case.yaml:7:7: has an empty input (column 'input')"
    assert missing == "case.yaml:8:7: has no column 'output' for the recorded target"


# files that are not what their name says


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.json", "d.parquet"])
@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (LFS, "is a pointer of Git LFS, not the data; get it: git lfs pull"),
        (b"/annex/objects/SHA256E-s30--ab12.csv\n", "is a pointer of git-annex, not the data; get it: git annex get FILE"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page or XML, not data; download the file itself"),
        (b"SQLite format 3\x00", "is an SQLite database; save the table as CSV"),
        ("id,input\n1,a\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("id,input\n1,a\n".encode("utf-16-le"), "is not UTF-8 text (it has NUL bytes, as UTF-16 has); save it as UTF-8"),
        ("id,input\n1,a\n".encode("utf-32"), "is UTF-32; save it as UTF-8"),
    ],
    ids=lambda value: value.partition(";")[0][:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_that_is_something_else_is_named(name: str, content: bytes, advice: str) -> None:
    if name == "d.parquet":
        pytest.importorskip("pyarrow")
    Path(name).write_bytes(content)
    ended = command("validate", suite(dataset=name))
    assert ended.code == 2 and ended.err.startswith(f"{name}: {advice}"), ended.err


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_parquet_file_under_another_name_is_named(kind: str) -> None:
    Path(f"d.{kind}").write_bytes(b"PAR1\x15\x04")
    assert "is a Parquet file; set type: parquet" in command("validate", suite(dataset=f"d.{kind}")).err


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("d.xls", "save the sheet as CSV"), ("d.ods", "save the sheet as CSV"), ("d.zip", "is no ZIP archive"), ("d.tar.gz", "unpack it"),
        ("d.csv.lz4", "unpack it, or pack it with gzip"), ("D.TAR.XZ", "unpack it"), ("d.toml", "save the rows as YAML"),
        ("d.parquet.gz", "parquet is packed itself and not read from .gz; unpack it"), ("d.feather", "save the table as Parquet"),
        ("d.html", "save the data as CSV"), ("d.txt", None), ("data", None),
    ],
)  # fmt: skip
def test_a_type_is_proposed_only_for_files_that_can_be_text(name: str, advice: str | None) -> None:
    Path(name).write_text("x")
    message = refused(suite(dataset=name))
    if advice is None:
        assert "set type: one of csv, " in message
    else:
        assert f"{name!r} " in message and advice in message and "set type" not in message


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("s3://bucket/data.jsonl", "is an address of a kind that is not read; those of https:// and hf:// are"),
        ("file:///tmp/my%20data.csv", "is an address; write the path alone: /tmp/my data.csv"),
    ],
)
def test_an_address_in_place_of_a_path_is_refused(path: str, advice: str) -> None:
    assert f"{path!r} {advice}" in refused(suite(dataset=path))


def test_a_link_without_a_file_names_what_to_do() -> None:
    Path("d.csv").symlink_to(".git/annex/objects/Xx/Yy/SHA256E-s30--ab12.csv")
    assert "is a link without a file; git annex get d.csv" in refused(suite(dataset="d.csv"))
    Path("e.csv").symlink_to("gone.csv")
    assert "is a link without a file; it points to 'gone.csv', which does not exist" in refused(suite(dataset="e.csv"))


# delimiters and layouts


@pytest.mark.parametrize(("sign", "literal"), [(";", "';'"), ("\t", '"\\t"'), ("|", "'|'")])
@pytest.mark.parametrize("columns", [{}, {"input": "question"}, {"id": "key"}])
def test_a_table_with_another_delimiter_names_it(sign: str, literal: str, columns: Mapping[str, str]) -> None:
    Path("d.csv").write_text(f"id{sign}question{sign}expected\n1{sign}a{sign}b\n")
    message = refused(suite(dataset={"path": "d.csv", "columns": columns}))
    assert all(line.endswith(f"Set the delimiter: delimiter: {literal}") for line in message.splitlines())


def test_a_delimiter_beside_commas_in_names_is_named() -> None:
    Path("d.csv").write_text("input;expected, or gold;output\na;b, c;d\n")
    message = refused(suite(dataset="d.csv"))
    assert message.endswith("it has: 'input;expected,or gold;output'. Set the delimiter: delimiter: ';'")
    Path("d.csv").write_text("question,a|b,expected\na,b,c\n")
    assert "Map the input: columns: {input: question}" in refused(suite(dataset="d.csv"))


@pytest.mark.parametrize("head", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n", "\ufeffsep=;\n"])
def test_the_separator_line_of_a_table_is_followed(head: str) -> None:
    Path("d.csv").write_bytes(f"{head}id;input;expected;output\n1;a,a;b;b\n1;a;b;b\n".encode())
    assert refused(suite(dataset="d.csv")).startswith("d.csv:4: has the id '1' of d.csv:3")
    Path("d.csv").write_bytes(f"{head}id;input;expected;output\n1;a,a;b;b\n".encode())
    assert command(suite(dataset="d.csv"), "-q").code == 0


def test_rows_and_columns_of_nothing_but_delimiters_are_left_out_with_a_note() -> None:
    Path("d.csv").write_text(",,,,\nid,input,expected,output,\n1,a,b,b,\n,,,,\n , ,,,\n2,c,d,d, \n")
    path = suite(dataset="d.csv")
    assert notes(path) == [
        "d.csv: 3 rows of delimiters alone were skipped (first: line 1)",
        "d.csv: column 5 has neither a name nor values and was left out",
    ]
    assert run_notes(path)[1] == notes(path)
    Path("d.csv").write_text("id,input,expected,output,\n1,a,b,b,\n2,c,d,d,x\n")
    assert command("validate", path).err == (
        "d.csv:1: has no name for column 5, which has a value on line 3; name the column or remove it"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.jsonl", '[\n{"input": "a"}\n]', "starts an array, but each line must be one object; for one array, set type: json"),
        ("d.jsonl", '{\n  "input": "a"\n}', "starts an object of several lines, but each must be on one line"),
        ("d.jsonl", "id,input\n1,a\n", "is not JSON: 'id,input'; if the file is a table with a header, set type: csv"),
        ("d.json", '{"input": "a"}\n{"input": "b"}', "must be one array of objects: [{…}, {…}]; for one object per line, set type: jsonl"),
        ("d.json", '{"meta": [1],\n "examples": [{"input": "a"}]}', "the rows are under a key: set records: examples"),
        ("d.csv", '{"input": "a", "id": 1}\n', "is JSON, not a header of column names; set type: jsonl, or json for one array"),
        ("d.jsonl", '{"input": "a\tb"}', "is not JSON: Invalid control character at character 13"),
        ("d.jsonl", '{"input": "a', "is not JSON: Unterminated string starting at character 11"),
        ("d.json", '[{"input": "a\tb"}]', "is not JSON: Invalid control character at line 1"),
        ("d.csv", "", "d.csv has no rows"),
    ],
)  # fmt: skip
def test_a_file_of_another_layout_names_it(name: str, text: str, message: str) -> None:
    Path(name).write_text(text)
    ended = refused(suite(dataset=name))
    assert message in ended and len(ended.splitlines()) == 1


# names


@pytest.mark.litellm
@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("smal", "write PROVIDER/MODEL, or set base_url"),
        ("mistral-large-latest", "or mistral/mistral-large-latest, or set base_url"),
        ("opnai/gpt-4o-mini", "write PROVIDER/MODEL, or set base_url (--base-url URL); did you mean "),
    ],
)
def test_a_model_without_a_known_provider_is_refused(model: str, hint: str) -> None:
    pytest.importorskip("litellm")
    message = refused(suite(target=model))
    assert f"LiteLLM knows no provider of the model {model!r}; " in message and hint in message


@pytest.mark.litellm
@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-sonnet-4-5", "groq/new-model", "ollama/anything"])
def test_a_model_with_a_known_provider_is_accepted(model: str) -> None:
    pytest.importorskip("litellm")
    assert command("validate", suite(target=model)).code == 0


@pytest.mark.litellm
def test_a_misspelled_target_of_the_command_line_is_refused() -> None:
    pytest.importorskip("litellm")
    path = suite(targets=[{"name": "small", **RECORDED}, {"name": "large", **RECORDED}])
    assert command(path, "--target", "small", "-q").code == 0
    ended = command(path, "--target", "smal", "-q")
    problem = "--target: targets[0]: the suite has no target 'smal'; did you mean 'small'?"
    assert (ended.code, ended.err) == (2, problem)


def test_a_misspelled_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_KEY", "sk-1")
    path = suite(target={"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": "${MY_SERVCE_KEY}"})
    message = refused(path)
    assert "the variable MY_SERVCE_KEY is not set in the environment" in message
    assert "did you mean 'MY_SERVICE_KEY'?" in message and "sk-1" not in message


# settings that nothing uses


def test_settings_that_nothing_uses_are_noted(model: ScriptedServer) -> None:
    price = {"input": 1, "output": 2}
    judge = {"model": "gpt-5-mini", "base_url": model.base_url}
    assert notes(suite(params={"temperature": 0}, judge=judge, prices={"gpt-5-mni": price, "other": price})) == [
        "params are not used: no target is a model",
        "the judge of the suite is not used: no scorer asks it",
        "prices: no model 'gpt-5-mni' in this suite; did you mean 'gpt-5-mini'?",
    ]
    assert notes(asked(model, "{{ input }}", params={"temperature": 0}, prices={"m": price})) == []


def test_a_custom_scorer_that_gets_no_expected_answer_is_noted() -> None:
    Path("own.py").write_text("def own(output, expected): return expected is None\n")
    scorers = [{"type": "python", "function": "own.py:own"}]
    assert notes(suite(rows=without("expected"), scorers=scorers)) == [
        "no sample has an expected answer: own gets None for 'expected'"
    ]
    assert notes(suite(scorers=scorers)) == []


def test_a_baseline_of_another_dataset_is_noted() -> None:
    assert command(suite(), "-q").code == 0 and command("baseline", "accept").code == 0
    gate = {"metric": "exact_match", "baseline": "main", "max_drop": 0.1}
    assert notes(suite(gates=[gate])) == []
    other = [{**row, "id": f"{row['id']}-2"} for row in ROWS]
    assert notes(suite(gates=[gate], rows=other)) == [
        "the baseline 'main' has none of the 3 samples: it is of another dataset"
    ]


def test_a_slice_with_one_sample_per_value_is_noted() -> None:
    rows = [{**ROWS[0], "id": f"q{number}", "input": f"{number}?"} for number in range(30)]
    assert notes(suite(rows=rows, slices=["id"])) == ["slices: 'id' has a different value in each of the 30 samples"]
