"""levenshtein, similarity and the limits of length, against rapidfuzz, polyleven and autoevals."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.plugins import main_option_of
from evalrunner.scorers.length import max_chars, max_words, min_chars, min_words
from evalrunner.scorers.similarity import levenshtein, similarity
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of

METHODS = ("ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "jaro_winkler")
PAIRS = [
    ("kitten", "sitting"),
    ("Paris", "paris"),
    ("the cat sat on the mat", "on the mat sat the cat"),
    ("Zürich", "Zurich"),
    ("東京都", "京都"),
    ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05dd"),
    ("!!!", "???"),
    ("a", "b" * 300),
    ("\U0001f600 ok", "ok \U0001f601"),
]


@pytest.mark.parametrize(("output", "expected"), PAIRS)
def test_values_equal_those_of_the_packages(output: str, expected: str) -> None:
    import polyleven
    from autoevals import Levenshtein
    from rapidfuzz import fuzz
    from rapidfuzz.distance import JaroWinkler

    score = score_of(levenshtein(), output, expected)
    assert score == 1 - polyleven.levenshtein(output, expected) / max(len(output), len(expected))
    assert score == Levenshtein()(output, expected).score
    for method in METHODS:
        wanted = (
            JaroWinkler.normalized_similarity(output, expected)
            if method == "jaro_winkler"
            else getattr(fuzz, method)(output, expected) / 100
        )
        assert score_of(similarity(method=method), output, expected) == wanted


def test_they_declare_their_range_and_the_method() -> None:
    assert levenshtein().declaration == Declaration(needs_expected=True, inline=True)
    assert levenshtein(max_distance=2).declaration == Declaration(binary=True, needs_expected=True, inline=True)
    assert similarity(value="x").declaration == Declaration(inline=True, backend="rapidfuzz ratio")
    assert max_words(value=3).declaration == Declaration(binary=True, inline=True)
    factories = (levenshtein, similarity, max_words, min_words, max_chars, min_chars)
    assert [main_option_of(factory) for factory in factories] == ["value"] * 6


@pytest.mark.parametrize(
    ("limit", "output", "value", "explanation"),
    [
        (0, " Paris ", 1, "distance 0"),
        (1, "Pariss", 1, "distance 1"),
        (1, "Lyon", 0, "distance over 1"),
        (4, "Rom", 1, "distance 1"),  # of the nearest accepted answer
        (100, "x" * 90, 1, "distance 90"),
        (100, "x" * 106, 0, "distance over 100"),
    ],
)
def test_a_maximum_distance_makes_the_score_binary(limit: int, output: str, value: int, explanation: str) -> None:
    cell = cell_of(levenshtein(max_distance=limit), output, "Paris", "Rome")
    assert cell == Cell("scored", float(value), detail={"explanation": explanation})


def test_the_best_of_several_accepted_answers_counts() -> None:
    assert cell_of(levenshtein(), "Rom", "Paris", "Rome") == Cell("scored", 0.75, detail={"explanation": "distance 1"})
    assert score_of(similarity(), "Rome", "Paris", " ", "Rome") == 1
    assert score_of(similarity(value=["Paris", "Rome"]), "Rome", "Oslo") == 1


@pytest.mark.parametrize("factory", [levenshtein, similarity])
def test_blank_and_emptied_texts(factory) -> None:
    assert cell_of(factory(), "x") == Cell("skipped", reason="no expected answer")
    assert cell_of(factory(), "x", " ") == Cell("skipped", reason="the expected answer is blank")
    assert cell_of(factory(), " \n", "x").state == "unscored"
    assert score_of(factory(ignore_punctuation=True), "...", "yes") == 0
    assert score_of(factory(ignore_punctuation=True), "...", "...") == 1
    assert score_of(factory(), "caf\u00e9", "cafe\u0301") == 1
    assert score_of(factory(ignore_case=True), "PARIS", "paris") == 1


@pytest.mark.parametrize(
    "scorer", [levenshtein(), levenshtein(max_distance=3), *(similarity(method=method) for method in METHODS)]
)
def test_long_texts_are_compared_in_bounded_time_or_refused(scorer) -> None:
    one, other = "abc " * 250_000, "bca-" * 250_000
    start = time.process_time()
    cell = cell_of(scorer, one, other)
    assert time.process_time() - start < 10
    if scorer.declaration.binary:
        assert cell.value == 0
    else:
        assert cell.state == "error" and cell.reason is not None and cell.reason.startswith("too long to compare: ")


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_are_scored(output: str) -> None:
    for scorer in (levenshtein(), levenshtein(max_distance=2), *(similarity(method=method) for method in METHODS)):
        cell = cell_of(scorer, output, "an expected answer", "\ud800", "the")
        if output.isspace():
            assert cell.state == "unscored"
        elif cell.state == "error":  # a megabyte by a method that slides
            assert len(output) > 100_000 and "too long to compare" in str(cell.reason)
        else:
            assert cell.value is not None and 0 <= cell.value <= 1


@pytest.mark.parametrize(
    ("scorer", "output", "value", "explanation"),
    [
        (max_words(value=3), "one two\nthree", 1, "3 words"),
        (max_words(value=3), "one - two three", 0, "4 words"),
        (min_words(value=3), "one two", 0, "2 words"),
        (min_words(value=2), " one two ", 1, "2 words"),
        (max_chars(value=4), " cafe\u0301\n", 1, "4 characters"),
        (max_chars(value=3), "café", 0, "4 characters"),
        (min_chars(value=1), "\U0001f468\u200d\U0001f469", 1, "3 characters"),
        (min_chars(value=1_000_000), "x" * 1_000_000, 1, "1,000,000 characters"),
    ],
)
def test_lengths_are_counted(scorer, output: str, value: int, explanation: str) -> None:
    assert cell_of(scorer, output) == Cell("scored", float(value), detail={"explanation": explanation})


@pytest.mark.parametrize("factory", [max_words, min_words, max_chars, min_chars])
def test_limits_below_one_are_refused(factory) -> None:
    with pytest.raises(ValueError, match="'value' should be 1 or more"):
        factory(value=0)
    with pytest.raises(ValueError, match="'max_distance' should be 0 or more"):
        levenshtein(max_distance=-1)


def test_similarities_separate_right_from_wrong_answers(shared_data: Path) -> None:
    """Areas under the ROC curve against human labels of 1,490 answers, as in the docs."""
    with (shared_data / "openqa_eval" / "NQ301_BEM.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    areas = {}
    for method in ("levenshtein", "ratio", "token_set_ratio"):
        options = {"normalize": "squad"}
        scorer = levenshtein(**options) if method == "levenshtein" else similarity(method=method, **options)
        right, wrong = [], []
        for row in rows:
            answers = [answer.strip() for answer in row["Gold answers"].split("|")]
            scores = right if row["Acceptable?"] == "Yes" else wrong
            scores.append(score_of(scorer, row["Model answer"], *answers))
        wins = sum((good > bad) + (good == bad) / 2 for good in right for bad in wrong)
        areas[method] = round(wins / (len(right) * len(wrong)), 2)
    assert areas == {"levenshtein": 0.86, "ratio": 0.87, "token_set_ratio": 0.96}
