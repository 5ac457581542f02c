"""The regex scorer: searching, capturing, comparing numbers, and patterns of exponential cost."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.scorers.regex import MAX_SEARCHED_LENGTH, regex
from evalrunner.scorers.text import parse_number
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of

LAST_NUMBER = r"-?[\d,]*\.?\d+"


def test_regex_declares_binary_scores() -> None:
    assert regex(pattern="x").declaration == Declaration(binary=True)
    assert regex(pattern="x", group=0).declaration == Declaration(binary=True, needs_expected=True)


@pytest.mark.parametrize(
    ("options", "output", "value"),
    [
        ({"pattern": r"\d+"}, "it is 42", 1),
        ({"pattern": r"\d+"}, "it is many", 0),
        ({"pattern": r"\d+", "negate": True}, "it is many", 1),
        ({"pattern": "paris"}, "PARIS", 0),
        ({"pattern": "paris", "ignore_case": True}, "PARIS", 1),
        ({"pattern": "^b$"}, "a\nb", 0),
        ({"pattern": "^b$", "multiline": True}, "a\nb", 1),
        ({"pattern": "a.b"}, "a\nb", 0),
        ({"pattern": "a.b", "dotall": True}, "a\nb", 1),
    ],
)
def test_without_a_group_the_pattern_is_searched(options, output, value) -> None:
    assert score_of(regex(**options), output) == value


@pytest.mark.parametrize(
    ("options", "output", "expected", "value"),
    [
        ({"pattern": r"Answer: (\w+)", "group": 1}, "Well. Answer: Paris.", ["Paris"], 1),
        ({"pattern": r"Answer: (?P<it>\w+)", "group": "it"}, "Answer: Paris", ["Rome", "Paris"], 1),
        ({"pattern": r"Answer: (\w+)", "group": 1}, "Answer: paris", ["Paris"], 0),
        ({"pattern": r"Answer: (\w+)", "group": 1, "ignore_case": True}, "answer: paris", ["Paris"], 1),
        ({"pattern": r"\b[A-D]\b", "group": 0}, "B, or rather C", ["B"], 1),
        ({"pattern": r"\b[A-D]\b", "group": 0, "find": "last"}, "B, or rather C", ["C"], 1),
        ({"pattern": "x(y)?", "group": 1}, "x", ["y"], 0),  # the group is not in the match
        ({"pattern": LAST_NUMBER, "group": 0, "find": "last", "numeric": True}, "3 + 4 = $1,007.", ["1007.00"], 1),
        ({"pattern": LAST_NUMBER, "group": 0, "find": "last"}, "3 + 4 = $1,007.", ["1007"], 0),
        (
            {"pattern": r"\S+$", "group": 0, "numeric": True},
            "it is seven",
            ["seven"],
            1,
        ),  # not numbers: compared as text
        ({"pattern": r"\S+$", "group": 0, "numeric": True}, "it is 7", ["seven"], 0),
        (
            {"pattern": r"A: (.+)", "expected_pattern": r"#### (.+)", "group": 1, "numeric": True},
            "A: 18",
            ["16 - 3 = 13\n#### 18.0"],
            1,
        ),
        ({"pattern": r"A: (.+)", "group": 1, "normalize": "squad"}, "A: The  Tower!", ["tower"], 1),
    ],
)
def test_with_a_group_the_captured_text_is_compared(options, output, expected, value) -> None:
    assert score_of(regex(**options), output, *expected) == value


def test_the_explanation_has_the_captured_text() -> None:
    scorer = regex(pattern=r"A: (.+)", group=1)
    assert cell_of(scorer, "A: Rome", "Paris") == Cell("scored", 0.0, detail={"explanation": "captured 'Rome'"})
    assert cell_of(scorer, "Rome", "Rome") == Cell("scored", 0.0, detail={"explanation": "the pattern was not found"})
    assert cell_of(scorer, "A: Rome") == Cell("skipped", reason="no expected answer")


def test_an_expected_pattern_without_a_match_is_an_error_and_not_zero() -> None:
    scorer = regex(pattern=r"A: (.+)", expected_pattern=r"#### (.+)", group=1)
    reason = "'expected_pattern' finds nothing in the expected answer 'A: 18'"
    assert cell_of(scorer, "A: 18", "A: 18") == Cell("error", reason=reason, cause="function")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pattern": "(x"}, "'pattern' is not a regular expression: missing ), unterminated subpattern at position 0"),
        ({"pattern": ""}, "'pattern' is empty, and an empty pattern matches every text"),
        ({"pattern": "x", "group": 1}, "'pattern' has no group 1; it has 0"),
        ({"pattern": "(x)", "group": -1}, "'pattern' has no group -1; it has 1"),
        ({"pattern": "(?P<a>x)", "group": "b"}, "'pattern' has no group called 'b'; it has a"),
        ({"pattern": "(x)", "group": 1, "expected_pattern": "y"}, "'expected_pattern' has no group 1; it has 0"),
        ({"pattern": "(x)", "group": 1, "expected_pattern": "("}, "'expected_pattern' is not a regular expression"),
        ({"pattern": "(x)", "group": 1, "negate": True}, "'negate' cannot be combined with 'group'"),
        ({"pattern": "x", "numeric": True}, "compares texts only with 'group'"),
        ({"pattern": "x", "normalize": "squad"}, "compares texts only with 'group'"),
    ],
)
def test_invalid_options_are_errors_before_the_run(options, said) -> None:
    with pytest.raises(ValueError) as refused:
        regex(**options)
    assert said in str(refused.value)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"Answer: (\w+\s?)+$", r"(a|aa)+$", r"^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_patterns_of_exponential_cost_are_refused(pattern) -> None:
    with pytest.raises(ValueError, match="'pattern' takes exponential time on texts with "):
        regex(pattern=pattern)


@pytest.mark.parametrize("pattern", [r"(?:\d{1,3},)*\d+", r"(?:[^,]*,)*end", r"(\w+\s?)++$", r"```(?:\w+)?\n(.*?)```"])
def test_repeated_groups_without_exponential_cost_are_accepted(pattern) -> None:
    assert score_of(regex(pattern=pattern), "no such thing!") in (0, 1)


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_are_scored(output) -> None:
    for scorer in (regex(pattern=r"(\w+)\s*$", group=1, find="last"), regex(pattern="zzz")):
        assert cell_of(scorer, output, "\ud800").state in ("scored", "unscored")


def test_long_outputs_are_searched_partly_and_marked() -> None:
    output = "7 " + "x " * MAX_SEARCHED_LENGTH + "8"
    first = cell_of(regex(pattern=r"\d", group=0), output, "7")
    last = cell_of(regex(pattern=r"\d", group=0, find="last"), output, "8")
    cut = {"searched_characters": MAX_SEARCHED_LENGTH, "output_characters": len(output)}
    assert first == Cell("scored", 1.0, detail={**cut, "explanation": "captured '7'"})
    assert last == Cell("scored", 1.0, detail={**cut, "explanation": "captured '8'"})


@pytest.mark.slow
def test_a_megabyte_with_quadratic_cost_takes_seconds() -> None:
    started = time.perf_counter()
    assert score_of(regex(pattern=r"\s+end"), " " * 1_000_000 + "x") == 0
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"), ("42.", "42"), ("$1,234.50", "1234.5"), ("-$5", "-5"), ("$-5", "-5"), ("+3", "3"),
        ("\u22127", "-7"), ("75 %", "75"), (".5", "0.5"), ("1e3", "1000"), ("1,000,000", "1000000"), ("€ 9", "9"),
        ("1_000", None), ("nan", None), ("inf", None), ("1,00", None), ("5 apples", None), ("", None), ("-", None),
        ("--5", None), ("e5", None), ("٤٢", None), ("1.2.3", None), ("9" * 2_000, None), ("1e99999", None),
    ],
)  # fmt: skip
def test_numbers_in_common_notations(text, number) -> None:
    result = parse_number(text)
    assert result == (None if number is None else type(result)(number))


def test_it_agrees_with_labels_of_recorded_solutions(shared_data: Path) -> None:
    """1,319 word problems, four models: 286, 515, 458 and 742 right, as counted by the authors."""
    scorer = regex(pattern=r"A: (.+)", group=1, find="last", numeric=True, expected_pattern=r"A: (.+)")
    right: dict[str, int] = {}
    labelled: dict[str, int] = {}
    lines = (shared_data / "gsm8k" / "example_model_solutions.jsonl").read_text("utf-8").splitlines()
    for line in lines:
        row = json.loads(line)
        for model, answer in row.items():
            if isinstance(answer, dict):
                value = score_of(scorer, answer["solution"], row["ground_truth"])
                right[model] = right.get(model, 0) + int(value)
                labelled[model] = labelled.get(model, 0) + answer["is_correct"]
    assert list(labelled.values()) == [286, 515, 458, 742]
    assert right == labelled


def test_a_captured_text_is_compared_with_the_option_value() -> None:
    scorer = regex(pattern=r"Answer: (\w+)", group=1, value=["B", "b"])
    assert not scorer.declaration.needs_expected
    assert score_of(scorer, "Answer: b") == 1
    assert score_of(scorer, "Answer: C", "C") == 0
    with pytest.raises(ValueError, match="only with 'group'"):
        regex(pattern="x", value="x")
    with pytest.raises(ValueError, match="which 'value' replaces"):
        regex(pattern="(x)", group=1, value="x", expected_pattern="(y)")
