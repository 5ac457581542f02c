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
    assert "based on 1 of 3 samples; 2 have no expected answer" in command("show", "last").out


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
    assert note in run_notes(path)[1] and note in command(path).out.replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize("prompt", ["Say yes.", [{"system": "Be brief."}, {"user": "Say yes for $5 to <b>all</b>."}]])
def test_a_prompt_that_uses_no_column_is_noted(model: ScriptedServer, prompt: Any) -> None:
    assert notes(asked(model, prompt)) == [
        "the prompt is the same for all 3 samples, as it uses no column; {{ input }} inserts the input"
    ]


def test_a_prompt_that_inserts_a_constant_is_noted(model: ScriptedServer) -> None:
    path = asked(model, "{{ unit }}: {# note #} {{ 'x' }}", rows=[{**row, "unit": "kg"} for row in ROWS])
    assert notes(path) == [
        "the prompt is the same for all 3 samples, as what it inserts does not change; {{ input }} inserts the input"
    ]


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
    ["assert", "asserts", "assertions", "Assert", "checks", "__expected", "__expected1", "__threshold", "assert_set"],
)
def test_a_column_of_checks_that_nothing_reads_is_refused(name: str) -> None:
    text = refused(suite(rows=[ROWS[0], {**ROWS[1], name: [{"type": "contains", "value": "x"}]}, ROWS[2]]))
    assert f"case.yaml:3:13: dataset: the column {name!r} looks like checks of each row, but nothing reads it" in text


def test_checks_of_inline_rows_are_refused_at_their_line() -> None:
    rows = [ROWS[0], {**ROWS[1], "assert": [{"equals": "4"}]}]
    assert "case.yaml:18:5: dataset.rows[1].assert: the column 'assert'" in refused(suite(dataset={"rows": rows}))
    rows = [ROWS[0], {**ROWS[1], "options": {"assert": [{"equals": "4"}]}}]
    assert "dataset.rows[1].options.assert: the column 'options.assert'" in refused(suite(dataset={"rows": rows}))
    assert "the column 'options.assert' looks like" in refused(suite(rows=rows))


@pytest.mark.parametrize(
    "keys",
    [
        {"slices": ["checks"]},
        {"dataset": {"path": "data.jsonl", "where": {"checks": "x"}}},
        {"dataset": {"path": "data.jsonl", "columns": {"expected": "checks"}}},
        {"dataset": {"path": "data.jsonl", "cluster": "checks"}},
        {"target": {"type": "recorded", "column": "checks"}},
        {"scorers": [{"type": "python", "function": "own.py:per_row"}]},
    ],
)
def test_a_column_of_checks_that_the_suite_uses_is_accepted(keys: Mapping[str, Any]) -> None:
    Path("own.py").write_text("def per_row(output, sample): return sample.metadata['checks'] in output\n")
    assert command("validate", suite(rows=[{**row, "checks": "x"} for row in ROWS], **keys)).code == 0


def test_a_column_of_checks_in_the_prompt_is_accepted(model: ScriptedServer) -> None:
    rows = [{**row, "checks": "x"} for row in ROWS]
    assert command("validate", asked(model, "{{ input }} {{ checks }}", rows=rows)).code == 0
    assert "'checks'" in refused(asked(model, "{{ input }} (checks)", rows=rows))
