"""exact_match, contains and token_f1, from factory to cell."""

from __future__ import annotations

import csv
import json
import re
import string
from collections import Counter
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Completion, Declaration
from evalrunner.plugins import main_option_of
from evalrunner.scorers.text import contains, contains_all, contains_any, ends_with, exact_match, starts_with, token_f1
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of


def squad_normalize(text: str) -> str:
    """The published algorithm (Rajpurkar et al. 2016, evaluation script of SQuAD 1.1), reimplemented."""
    text = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(said: str, wanted: str) -> float:
    words, truth = squad_normalize(said).split(), squad_normalize(wanted).split()
    same = sum((Counter(words) & Counter(truth)).values())
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(truth)
    return 2 * precision * recall / (precision + recall)


def test_text_scorers_declare_their_range_and_inline_calls() -> None:
    binary = Declaration(binary=True, needs_expected=True, inline=True)
    assert exact_match().declaration == binary
    assert contains().declaration == binary
    assert contains(values=["x"]).declaration == Declaration(binary=True, inline=True)
    assert token_f1().declaration == Declaration(needs_expected=True, inline=True)


@pytest.mark.parametrize("factory", [exact_match, contains, token_f1])
def test_rows_without_an_expected_answer_are_skipped(factory) -> None:
    assert cell_of(factory(), "Paris") == Cell("skipped", reason="no expected answer")
    assert cell_of(factory(), "Paris", " ", "") == Cell("skipped", reason="the expected answer is blank")


@pytest.mark.parametrize("factory", [exact_match, contains, token_f1])
@pytest.mark.parametrize("finish_reason", ["length", "filtered", "refused", "empty"])
def test_a_missing_answer_is_unscored_unless_on_no_answer_is_zero(factory, finish_reason) -> None:
    cut = Completion("Paris" if finish_reason == "length" else "", finish_reason)
    assert cell_of(factory(), cut, "Paris") == Cell("unscored", reason=finish_reason, cause="no_answer")
    assert cell_of(factory(), cut, "Paris", on_no_answer="zero") == Cell(
        "scored", 0.0, finish_reason, cause="no_answer"
    )


@pytest.mark.parametrize(
    ("options", "output", "expected", "value"),
    [
        ({}, "Paris", ["Paris"], 1),
        ({}, " Paris\n", ["Paris "], 1),  # whitespace at the ends is ignored
        ({}, "paris", ["Paris"], 0),
        ({}, "Paris.", ["Paris"], 0),
        ({}, "Paris", ["London", "Paris"], 1),
        ({}, "caf\u00e9", ["cafe\u0301"], 1),  # one letter in two encodings
        ({}, "New  York", ["New York"], 0),
        ({"ignore_whitespace": True}, "New \n York", ["New York"], 1),
        ({"ignore_case": True}, "STRASSE", ["Straße"], 1),
        ({"ignore_case": True}, "Paris.", ["paris"], 0),
        ({"ignore_punctuation": True}, "U.S.A.", ["USA"], 1),
        ({"ignore_punctuation": True}, "“Paris”", ["Paris"], 0),  # only ASCII punctuation, as in SQuAD
        ({"ignore_articles": True}, "The cat on a mat", ["cat on mat"], 1),
        ({"ignore_articles": True}, "theatre", ["atre"], 0),
        ({"ignore_articles": True}, "on  the mat", ["on  mat"], 1),
        ({"normalize": "squad"}, "The  Eiffel\nTower!", ["eiffel tower"], 1),
        ({"normalize": "squad"}, "Eiffel Towers", ["eiffel tower"], 0),
    ],
)
def test_exact_match_compares_normalized_texts(options, output, expected, value) -> None:
    assert score_of(exact_match(**options), output, *expected) == value


@pytest.mark.parametrize(
    ("output", "expected", "value"),
    [("A", "A", 1), ("a.", "A", 1), ("The", "A", 0), ("B", "A", 0), ("the", "The", 1), ("+", "+", 1), ("-", "+", 0)],
)
def test_answers_that_normalization_would_empty_are_still_compared(output, expected, value) -> None:
    """The SQuAD script treats all of these as equal, because each becomes the empty text."""
    assert score_of(exact_match(normalize="squad"), output, expected) == value
    assert score_of(contains(normalize="squad"), output, expected) == value
    assert score_of(token_f1(), output, expected) == value


@pytest.mark.parametrize(
    ("options", "output", "expected", "value"),
    [
        ({}, "It is Paris, of course.", ["Paris"], 1),
        ({}, "It is paris.", ["Paris"], 0),
        ({"ignore_case": True}, "It is paris.", ["Paris"], 1),
        ({}, "London or Rome", ["Paris", "Rome"], 1),
        ({"mode": "all"}, "London or Rome", ["Paris", "Rome"], 0),
        ({"mode": "all"}, "Paris or Rome", ["Paris", "Rome"], 1),
        ({"negate": True}, "Paris or Rome", ["Paris"], 0),
        ({"negate": True}, "London", ["Paris", "Rome"], 1),
        ({"negate": True, "mode": "all"}, "Paris", ["Paris", "Rome"], 1),
        ({}, "a category", ["cat"], 1),
        ({"whole_words": True}, "a category", ["cat"], 0),
        ({"whole_words": True}, "category: cat", ["cat"], 1),
        ({"whole_words": True}, "C++ is fast", ["C++"], 1),
        ({"whole_words": True}, "142", ["42"], 0),
        ({"whole_words": True}, "(42)", ["42"], 1),
        ({"normalize": "squad"}, "In the U.S.  of A", ["us of"], 1),
        ({"values": ["sorry", "cannot"]}, "I cannot say", [], 1),
        ({"values": ["sorry", "cannot"], "negate": True}, "I cannot say", ["I cannot say"], 0),
        ({}, "any", ["", "any"], 1),  # a blank answer matches nothing
        ({}, "any", ["", "other"], 0),
    ],
)
def test_contains_finds_normalized_texts(options, output, expected, value) -> None:
    assert score_of(contains(**options), output, *expected) == value


@pytest.mark.parametrize("values", [[], [""], ["x", "  "]])
def test_blank_values_are_refused(values) -> None:
    with pytest.raises(ValueError, match="'values' should have at least one text, and no blank one"):
        contains(values=values)


@pytest.mark.parametrize(
    ("output", "expected", "value"),
    [
        ("the cat sat", ["The cat sat."], 1.0),
        ("cat", ["dog"], 0.0),
        ("a cat sat on the mat", ["cat sat"], 2 * 2 / (4 + 2)),
        ("yes yes yes", ["yes no"], 2 * 1 / (3 + 2)),  # bags: repeated words count
        ("cat", ["dog", "black cat", "cat"], 1.0),
        ("!!!", ["cat"], 0.0),
    ],
)
def test_token_f1_is_the_best_over_the_accepted_answers(output, expected, value) -> None:
    assert score_of(token_f1(), output, *expected) == pytest.approx(value, abs=1e-12)


def test_normalization_steps_of_token_f1_can_be_disabled() -> None:
    assert score_of(token_f1(ignore_articles=False), "an alle", "alle") == pytest.approx(2 / 3)
    assert score_of(token_f1(ignore_case=False), "Haus", "haus") == 0
    assert score_of(token_f1(ignore_punctuation=False), "end.", "end") == 0


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_are_scored(output) -> None:
    for scorer in (
        exact_match(normalize="squad"),
        contains(normalize="squad", whole_words=True),
        contains(values=["zzz"], mode="all"),
        token_f1(),
    ):
        cell = cell_of(scorer, output, "an expected answer", "\ud800", "the")
        if output.isspace():
            assert cell == Cell("unscored", reason="empty", cause="no_answer")
        else:
            assert cell.state == "scored" and cell.value is not None and 0 <= cell.value <= 1


@pytest.mark.parametrize("kind", ["zeroshot", "fewshot-n64"])
def test_scores_equal_those_of_the_squad_script(shared_data: Path, kind: str) -> None:
    """301 questions, several accepted answers each, real model outputs: the same value for every row."""
    lines = (shared_data / "openqa_eval" / f"NQ301_text-davinci-003_{kind}.jsonl").read_text("utf-8").splitlines()
    right = 0.0
    for line in lines:
        row = json.loads(line)
        message = row["prediction"] if isinstance(row["prediction"], str) else "; ".join(row["prediction"])
        if not message.strip():
            continue
        wanted = [squad_normalize(answer) for answer in row["answer"]]
        assert all(wanted)
        exact = float(squad_normalize(message) in wanted)
        right += exact
        assert score_of(exact_match(normalize="squad"), message, *row["answer"]) == exact
        best = max(squad_f1(message, answer) for answer in row["answer"])
        assert score_of(token_f1(), message, *row["answer"]) == pytest.approx(best, abs=1e-12)
    assert len(lines) == 301 and right > 30


def test_scorers_separate_right_from_wrong_answers(shared_data: Path) -> None:
    """Areas under the ROC curve against human labels of 1,490 answers, as in the docs."""
    with (shared_data / "openqa_eval" / "NQ301_BEM.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    scorers = {
        "strict": exact_match(),
        "exact": exact_match(normalize="squad"),
        "contains": contains(normalize="squad"),
        "f1": token_f1(),
    }
    areas: dict[str, float] = {}
    for name, scorer in scorers.items():
        result: dict[bool, list[float]] = {True: [], False: []}
        for row in rows:
            answers = [answer.strip() for answer in row["Gold answers"].split("|")]
            result[row["Acceptable?"] == "Yes"].append(score_of(scorer, row["Model answer"], *answers))
        assert (len(result[True]), len(result[False])) == (671, 819)
        areas[name] = round(area(result), 2)
    assert areas == {"strict": 0.64, "exact": 0.75, "contains": 0.87, "f1": 0.95}


def area(scores: dict[bool, list[float]]) -> float:
    """The probability that a right answer scores above a wrong one, ties count half (Mann & Whitney 1947)."""
    wins = sum((good > bad) + (good == bad) / 2 for good in scores[True] for bad in scores[False])
    return wins / (len(scores[True]) * len(scores[False]))


@pytest.mark.parametrize(
    ("factory", "value", "output", "score"),
    [
        (exact_match, "Paris", " Paris\n", 1),
        (exact_match, ["Rome", "Paris"], "Paris", 1),
        (exact_match, "Paris", "London", 0),
        (contains, "30 days", "within 30 days.", 1),
        (contains, ["40", "30"], "within 30 days.", 1),
        (contains_any, ["sorry", "apolog"], "We apologize.", 1),
        (contains_any, ["sorry", "apolog"], "No.", 0),
        (contains_all, ["depot", "tomorrow"], "Tomorrow at the depot", 0),
        (contains_all, ["depot", "omorrow"], "Tomorrow at the depot", 1),
        (starts_with, "Late", " Later on", 1),
        (starts_with, "late", "Late", 0),
        (starts_with, ["Yes", "No"], "No, thanks", 1),
        (starts_with, "caf\u00e9", "cafe\u0301 au lait", 1),
        (ends_with, "?", "Anything else? ", 1),
        (ends_with, "?", "Anything else?!", 0),
        (ends_with, "\u05e9\u05dc\u05d5\u05dd", "\u200f\u05d0\u05de\u05e8: \u05e9\u05dc\u05d5\u05dd", 1),
        (token_f1, "black cat", "cat", 2 / 3),
    ],
)
def test_the_option_value_replaces_the_accepted_answers(factory, value, output, score) -> None:
    assert factory(value=value).declaration.needs_expected is False
    for expected in ([], [output], ["something else"]):
        assert score_of(factory(value=value), output, *expected) == pytest.approx(score, abs=1e-12)
    assert main_option_of(factory) == "value"


@pytest.mark.parametrize(
    "factory", [exact_match, contains, contains_any, contains_all, starts_with, ends_with, token_f1]
)
def test_a_blank_value_is_refused(factory) -> None:
    for value in ("", " ", [], ["x", "\n"]):
        with pytest.raises(ValueError, match="'value' should have at least one text, and no blank one"):
            factory(value=value)


def test_contains_all_names_what_is_missing() -> None:
    cell = cell_of(contains_all(value=["depot", "tomorrow", "noon"], ignore_case=True), "Tomorrow")
    assert cell == Cell("scored", 0.0, detail={"explanation": "missing: 'depot', 'noon'"})


@pytest.mark.parametrize(
    ("options", "output", "starts", "ends"),
    [
        ({"ignore_case": True}, "STRASSE strasse", 1, 1),
        ({"ignore_punctuation": True, "ignore_case": True}, "(Strasse) or strasse!", 1, 1),
        ({"normalize": "squad"}, "The strasse, a  STRASSE.", 1, 1),
        ({}, "one", 0, 0),
    ],
)
def test_affixes_are_compared_after_normalization(options, output, starts, ends) -> None:
    assert score_of(starts_with(**options), output, "Straße") == starts
    assert score_of(ends_with(**options), output, "Straße") == ends


def test_affixes_need_an_accepted_answer_that_is_not_blank() -> None:
    for factory in (starts_with, ends_with):
        assert cell_of(factory(), "x") == Cell("skipped", reason="no expected answer")
        assert cell_of(factory(), "x", " ") == Cell("skipped", reason="the expected answer is blank")
        assert score_of(factory(), "x", " ", "x") == 1


def test_value_and_values_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="has both 'value' and 'values'"):
        contains(value="x", values=["y"])
