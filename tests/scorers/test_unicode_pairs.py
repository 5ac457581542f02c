"""Scorers that compare texts, over seeded pairs of hostile Unicode texts: finite scores in range, and laws that always hold."""

from __future__ import annotations

import importlib.util
import json as json_module
import math
import random
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from evalrunner.domain import Completion, Scorer
from evalrunner.scorers.call import BoundScorer, call_parts, cell_without_call, offer
from evalrunner.scorers.json_match import json
from evalrunner.scorers.length import max_chars, max_words, min_chars, min_words
from evalrunner.scorers.overlap import bleu, chrf, rouge
from evalrunner.scorers.similarity import levenshtein, similarity
from evalrunner.scorers.text import (
    contains,
    contains_all,
    contains_any,
    ends_with,
    exact_match,
    numeric_match,
    starts_with,
    token_f1,
)
from tests.scorers.scorer_calls import sample

PIECES = (
    "a", "Z", "the", " ", "\n", "\t", "\u00a0", "\u2028", "\u3000", "\x00", "\x1b[0m", "\ufeff", "\u200b", "\u200d", "\u202e", "\u202c",
    "\u200f", "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "e\u0301", "\u00e9", "a" + "\u0300" * 30, "\ufb01", "\u0130", "ß", "ſ",
    "\U0001f468\u200d\U0001f469", "\U0001f600", "\ud800", "\udfff", "\U0010ffff", "東京", "한국", "ไทย", "١٢٣", "²", "½", "-3", "1,234.50", "1e9", "9" * 40,
    ".", "!?", "+", '"', "'", "{", "}", "[", "]", ":", ",", "\\u0000", "null", "true", '{"a": 1}', "[1]", "```json\n", "```", "<b>", "&amp;",
    "%s", "{{ x }}", "=cmd|", "…", "–", "−",
)  # fmt: skip
TEXT = importlib.util.find_spec("sacrebleu") is not None and importlib.util.find_spec("rouge_score") is not None

BINARY: dict[str, Callable[[], Scorer]] = {
    "exact_match": exact_match,
    "exact_match squad": lambda: exact_match(normalize="squad"),
    "contains": contains,
    "contains words": lambda: contains(whole_words=True, normalize="squad"),
    "contains_any": contains_any,
    "contains_all": contains_all,
    "starts_with": lambda: starts_with(ignore_case=True),
    "ends_with": lambda: ends_with(ignore_punctuation=True),
    "levenshtein 0": lambda: levenshtein(max_distance=0),
    "numeric_match": numeric_match,
    "json expected": lambda: json(equals_expected=True),
}
GRADED: dict[str, Callable[[], Scorer]] = {
    "token_f1": token_f1,
    "levenshtein": levenshtein,
    "levenshtein squad": lambda: levenshtein(normalize="squad"),
    "ratio": similarity,
    "partial_ratio": lambda: similarity(method="partial_ratio"),
    "token_sort_ratio": lambda: similarity(method="token_sort_ratio"),
    "token_set_ratio": lambda: similarity(method="token_set_ratio"),
    "jaro_winkler": lambda: similarity(method="jaro_winkler", ignore_case=True),
}
OVERLAP: dict[str, Callable[[], Scorer]] = {
    "bleu": bleu,
    "bleu intl": lambda: bleu(tokenize="intl", ignore_case=True),
    "bleu zh": lambda: bleu(tokenize="zh"),
    "chrf": lambda: chrf(word_order=2),
    "rougeL": rouge,
    "rougeLsum": lambda: rouge(variant="rougeLsum", measure="recall"),
    "rouge2": lambda: rouge(variant="rouge2", words="unicode"),
}
OTHER: dict[str, Callable[[], Scorer]] = {
    "json": json,
    "json lenient": lambda: json(lenient=True, path="$..a", equals=1),
    "json schema": lambda: json(schema={"type": ["object", "array"], "items": {"format": "uri", "pattern": "^a"}}),
    "json fields": lambda: json(fields={"a": "exact_match", "$['b c']": "levenshtein"}),
    "max_words": lambda: max_words(value=3),
    "min_words": lambda: min_words(value=3),
    "max_chars": lambda: max_chars(value=9),
    "min_chars": lambda: min_chars(value=9),
}
FACTORIES = {**BINARY, **GRADED, **(OVERLAP if TEXT else {}), **OTHER}
NO_IDENTITY = ("numeric_match", "json expected")  # a text without a number, or a number beyond 64 bits


def texts(seed: str, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(PIECES, k=draw.randrange(1, 9))) for _ in range(count)]


def cells_of(bound: BoundScorer, output: str, *expected: str) -> dict[str, Any]:
    row, completion = sample(*expected), Completion(output)
    missing = cell_without_call(bound, row, completion)
    return {bound.name: missing} if missing is not None else dict(call_parts(bound, offer(row, completion)))


@pytest.mark.parametrize("name", FACTORIES)
def test_scores_are_finite_and_in_range_for_any_pair(name: str) -> None:
    scorer = FACTORIES[name]()
    bound = BoundScorer.bind("tested", scorer)
    wrapped = [json_module.dumps({"a": text, "b c": text}) for text in texts(f"{name} records", 60)]
    scored = 0
    for output, expected in zip(texts(name, 300), texts(f"{name} expected", 300), strict=True):
        record = wrapped[scored % 60]
        # a text that is no record is refused before the first call
        wanted = record if name == "json fields" else expected
        for said in (output, record):
            for cell in cells_of(bound, said, wanted).values():
                assert cell.state != "error", (said, wanted, cell)
                if cell.value is not None:
                    scored += 1
                    assert math.isfinite(cell.value) and 0 <= cell.value <= 1
                    assert not scorer.declaration.binary or cell.value in (0, 1)
    assert scored > 100  # blank texts and those without words, numbers or JSON are skipped


@pytest.mark.parametrize("name", [name for name in [*BINARY, *GRADED] if name not in NO_IDENTITY])
def test_a_text_equals_itself_in_any_encoding(name: str) -> None:
    bound = BoundScorer.bind("tested", FACTORIES[name]())
    for text in texts("identity", 300):
        for form in ("NFC", "NFD"):
            cell = cells_of(bound, f" {unicodedata.normalize(form, text)}\n", text)["tested"]
            # `token_set_ratio` splits at separators that are no whitespace for Python's strip, and may have no token left
            assert cell.value == 1 or cell.value is None or name.startswith("token_"), (text, cell)


def test_edit_distance_is_symmetric_and_agrees_with_its_limit() -> None:
    from evalrunner.domain import Cell

    graded = BoundScorer.bind("tested", levenshtein())
    for one, other in zip(texts("one", 300), texts("other", 300), strict=True):
        there: Cell = cells_of(graded, one, other)["tested"]
        back: Cell = cells_of(graded, other, one)["tested"]
        if there.value is None or back.value is None:
            continue
        assert there == back and there.detail is not None
        distance = int(there.detail["explanation"].removeprefix("distance "))
        for limit in (distance, distance - 1):
            if limit >= 0:
                limited = BoundScorer.bind("tested", levenshtein(max_distance=limit))
                assert cells_of(limited, one, other)["tested"].value == float(distance <= limit)


def test_more_accepted_answers_never_lower_a_score() -> None:
    answers = texts("answers", 200)
    for name, make in {**BINARY, **GRADED, **(OVERLAP if TEXT else {})}.items():
        if name == "contains_all" or name.startswith("bleu"):  # every text is required; references are taken together
            continue
        bound = BoundScorer.bind("tested", make())
        for output, one, other in zip(texts("outputs", 100), answers[:100], answers[100:], strict=True):
            alone = cells_of(bound, output, one)["tested"].value
            both = cells_of(bound, output, one, other)["tested"].value
            assert alone is None or (both is not None and both >= alone), (name, output, one, other)
