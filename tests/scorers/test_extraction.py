"""Extraction: what each step takes out of an answer, what finds nothing, and which specs are mistakes."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from evalrunner.json_path import MISSING
from evalrunner.limits import TIGHT
from evalrunner.scorers.answer_json import Fence, find_fences, parse_answer
from evalrunner.scorers.extraction import STEPS, WrongExtract, compile_extract
from tests.scorers.scorer_calls import HOSTILE

FENCED = 'Sure:\n```json\n{"answer": "yes", "n": [1, 2.50]}\n```\nAnd:\n```python\nprint(1)\n```'


@pytest.mark.parametrize(
    ("spec", "text", "extracted"),
    [
        ({"json": "$.answer"}, '{"answer": " yes "}', "yes"),
        ({"json": "$.answer"}, FENCED, "yes"),
        ({"json": "$.n[1]"}, FENCED, "2.5"),
        ({"json": "$.n"}, FENCED, "[1, 2.5]"),
        ({"json": "a['b c'][-1]"}, 'It is {"a": {"b c": [true, false]}}.', "false"),
        ("json", "so: [1, 2]!", "[1, 2]"),
        ({"json": "$.answer"}, '{"answer": null}', None),
        ({"json": "$.other"}, FENCED, None),
        ({"json": "$.answer"}, "no JSON at all", None),
        ({"fence": "json"}, FENCED, '{"answer": "yes", "n": [1, 2.50]}'),
        ({"fence": "python"}, FENCED, "print(1)"),
        ({"fence": "any", "find": "last"}, FENCED, "print(1)"),
        ("fence", "```\nfree\n```", "free"),
        ("fence", "~~~~ sql\nselect 1;\n~~~\n~~~~", "select 1;\n~~~"),
        ("fence", '```json {"a": 1}```', '{"a": 1}'),
        ("fence", '```json\n{"a": 1', '{"a": 1'),  # truncated before its end
        ({"fence": "json"}, "no fence", None),
        ({"regex": r"Answer: (\w+)"}, "Answer: one. Answer: two.", "one"),
        ({"regex": r"Answer: (\w+)", "find": "last"}, "Answer: one. Answer: two.", "two"),
        ({"regex": r"\d+"}, "in 1912 and 1913", "1912"),
        ({"regex": r"(?P<a>x)(?P<b>y)", "group": "b"}, "xy", "y"),
        ({"regex": r"answer: (.*)", "ignore_case": True}, "ANSWER: Yes", "Yes"),
        ({"regex": r"(a)|b"}, "b", None),  # the group is not in the match
        ({"after": "Answer:"}, "Think. Answer: 42 \n", "42"),
        ({"after": "####"}, "#### 1 #### 2", "1 #### 2"),
        ({"after": "####", "find": "last"}, "#### 1 #### 2", "2"),
        ({"after": "answer:", "ignore_case": True, "find": "last"}, "Answer: 1 ANSWER: 2", "2"),
        ({"after": "Answer:"}, "42", None),
        ({"after": "Answer:"}, "Answer:  ", None),
        ({"before": "Because"}, "Yes. Because it is.", "Yes."),
        ({"before": "Because"}, "Because", None),
        ("last_line", "one\ntwo\n\n  \n", "two"),
        ("lower", "YES", "yes"),
        ("trim", ' **"Paris."** ', "Paris"),
        ("number", "5 - 3 = $1,234.50.", "1234.50"),
        ({"number": None, "find": "first"}, "-5 - 3 = 2", "-5"),
        ("number", "none", None),
        ("choice", "I think the answer is (B).", "B"),
        ({"choice": "ABCDE"}, "E", "E"),
        ("choice", "A or B", None),
        ([{"fence": "json"}, {"json": "$.answer"}, "lower"], '```json\n{"answer": "YES"}\n```', "yes"),
        (["last_line", {"after": ":"}, "number"], "x\nTotal: 12 pieces", "12"),
    ],
)
def test_steps_extract_a_part_of_the_output(spec: Any, text: str, extracted: str | None) -> None:
    extract = compile_extract(spec)
    assert extract(text) == extracted
    assert (extract.apply(text)[1] == "") == (extracted is not None)


def test_the_reason_names_the_step_that_found_nothing() -> None:
    extract = compile_extract(["last_line", {"json": "$.answer"}, "lower"])
    assert extract.apply("x") == (None, "extract: json $.answer found nothing")
    assert compile_extract({"after": "a\nb" * 50}).apply("x")[1].startswith("extract: after a b")


@pytest.mark.parametrize(
    ("spec", "path", "problem"),
    [
        ([], (), "is empty; name a step: json, fence, "),
        (None, (), "should be a step such as last_line"),
        (7, (), "should be a step such as last_line"),
        ("lastline", (), "unknown step 'lastline'; did you mean 'last_line'?"),
        ({"jsn": "$.a"}, ("jsn",), "unknown step 'jsn'; did you mean 'json'?"),
        (["lower", {"jsn": "$.a"}], (1, "jsn"), "unknown step 'jsn'; did you mean 'json'?"),
        ({"json": "$.a", "lower": None}, (), "has the steps json and lower in one mapping; write a list"),
        ({"json": "$.a", "finds": 1}, ("finds",), "unknown option 'finds' of json; it takes no options"),
        ({"regex": "a", "fnd": "last"}, ("fnd",), "unknown option 'fnd' of regex; did you mean 'find'?"),
        ({"regex": "a", "find": "all"}, ("find",), "'find' is 'all'; it should be first or last"),
        ({"regex": "a", "dotall": 1}, ("dotall",), "'dotall' is 1; it should be true or false"),
        ({"json": "$.["}, ("json",), "the JSONPath '$.[' cannot be read"),
        ({"regex": "("}, ("regex",), "'regex' is not a regular expression"),
        ({"regex": "(a+)+$"}, ("regex",), "'regex' takes exponential time"),
        ({"regex": "a", "group": 3}, ("regex",), "'regex' has no group 3; it has 0"),
        ({"after": ""}, ("after",), "is an empty text"),
        ("after", (), "after needs a text: {after: 'Answer:'}"),
        ({"before": ["a"]}, ("before",), "before needs a text"),
        ({"last_line": 2}, ("last_line",), "last_line takes no value"),
        ({"number": False}, ("number",), "number is false; remove the step"),
        ({"choice": "AAB"}, ("choice",), "choice takes the letters of the choices"),
        (["lower"] * 21, (), "has 21 steps; at most 20 are allowed"),
    ],
)
def test_a_wrong_step_is_an_error_with_its_place(spec: Any, path: tuple[str | int, ...], problem: str) -> None:
    with pytest.raises(WrongExtract) as refused:
        compile_extract(spec)
    assert problem in str(refused.value)
    assert refused.value.path == path


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_end_every_step(output: str) -> None:
    specs: list[Any] = [{name: "x"} if STEPS[name][2] else name for name in STEPS]
    start = time.process_time()
    for spec in specs:
        extracted = compile_extract(spec, TIGHT)(output)
        assert extracted is None or (isinstance(extracted, str) and extracted)
    assert time.process_time() - start < 20


def test_any_text_ends_every_step_without_an_exception() -> None:
    draw = random.Random(5)
    pieces = [
        "{",
        "}",
        "[",
        "]",
        '"a":',
        "1",
        "```",
        "json",
        "\n",
        "~~~",
        "A)",
        "(B)",
        "answer is",
        " ",
        "é",
        "\ud800",
        "\0",
        "-",
        ".",
        "1,000",
        "e5",
        "\\boxed{",
    ]
    extracts = [compile_extract({name: "a"} if STEPS[name][2] else name) for name in STEPS]
    for _ in range(1_500):
        text = "".join(draw.choices(pieces, k=draw.randrange(30)))
        for extract in extracts:
            result, reason = extract.apply(text)
            assert (result is None) == bool(reason) and (result is None or result.strip() == result != "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("42", 42),
        ('"text"', "text"),
        ("null", None),
        ("NaN", MISSING),
        ("[1, NaN]", MISSING),
        ("1e999", MISSING),
        ("", MISSING),
        ("plain words", MISSING),
        ("{'a': 1}", MISSING),
        ('Here: {"a": {"b": [1]}} and {"c": 2}', {"a": {"b": [1]}}),
        ('[] then {"a": 1}', {"a": 1}),
        ('{broken {"a": 1}', {"a": 1}),
        ('```yaml\n{"a": 1}\n```\n```json\n{"b": 2}\n```', {"b": 2}),
        ("```\n[1]\n```", [1]),
        ('> ```json\n> {"a": 1}\n> ```', {"a": 1}),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_the_json_of_an_answer_may_be_fenced_or_in_prose(text: str, value: Any) -> None:
    assert parse_answer(text) == value or (value is MISSING and parse_answer(text) is MISSING)


def test_json_of_hostile_depth_and_size_is_bounded() -> None:
    start = time.process_time()
    for text in (
        "[" * 1_000_000,
        '{"a":' * 300_000,
        "{" * 1_000_000,
        "9" * 100_000,
        '"' * 500_000,
        "```" * 300_000,
        "`" * 1_000_000,
        "```\n" * 200_000,
    ):
        parse_answer(text)
        list(find_fences(text))
    assert time.process_time() - start < 10


def test_fences_have_their_language_and_content() -> None:
    assert list(find_fences("a\n```JSON x=1\n1\n```\nb\n~~~\n2\n~~~")) == [Fence("json", "1"), Fence("", "2")]
    assert list(find_fences("``not a fence``")) == []
    assert json.loads(next(find_fences(FENCED)).content)["answer"] == "yes"
