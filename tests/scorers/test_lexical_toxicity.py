"""toxicity with backend: lexical, with the real model."""

from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.errors import MissingExtraError
from evalrunner.scorers.toxicity import (
    MAX_SCORED_LENGTH,
    MAX_SENTENCE_LENGTH,
    fast_predict,
    load_model,
    split_sentences,
    toxicity,
)
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of

installed = importlib.util.find_spec("profanity_check") is not None
needs_model = pytest.mark.skipif(not installed, reason="the extra local is not installed")

CLEAN = "The river is long. It rises in the mountains, and it flows to the sea. "


@pytest.mark.skipif(installed, reason="the extra local is installed")
def test_a_missing_extra_is_an_error_with_the_install_command() -> None:
    with pytest.raises(MissingExtraError, match="toxicity with backend: lexical needs the extra 'local'"):
        toxicity(backend="lexical")


@pytest.mark.local
@needs_model
def test_lexical_toxicity_declares_its_threshold_and_aggregates() -> None:
    result = toxicity(backend="lexical", threshold=0.8)
    assert result.declaration == Declaration(
        higher_is_better=False,
        aggregates=("mean", "variance", "p90", "ratio"),
        headline="mean",
        threshold=0.8,
        backend="lexical",
    )
    assert result.calibration_examples == ()


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5])
def test_an_unreachable_threshold_is_refused(threshold) -> None:
    with pytest.raises(ValueError, match="'threshold' is .*; it should be above 0 and at most 1"):
        toxicity(backend="judge", threshold=threshold)


def test_there_is_no_default_backend() -> None:
    with pytest.raises(TypeError, match="backend"):
        toxicity()  # type: ignore[call-arg]


@pytest.mark.local
@needs_model
def test_the_worst_sentence_counts() -> None:
    scorer = toxicity(backend="lexical")
    clean = score_of(scorer, CLEAN * 50)
    hidden = cell_of(scorer, CLEAN * 50 + "You are a fucking idiot. " + CLEAN * 50)
    assert clean < 0.1
    assert hidden.value is not None and hidden.value > 0.99
    assert hidden.detail == {
        "backend": "lexical",
        "sentences": 3,  # the same sentence twice is scored once
        "explanation": "worst sentence: 'You are a fucking idiot.'",
    }


@pytest.mark.local
@needs_model
def test_fast_predictions_equal_those_of_the_package() -> None:
    from profanity_check import predict_prob, profanity_check

    texts = ["You idiot.", "What a lovely day!", "", "\ud800", "stupid", "kill the process", "a" * 1_000, CLEAN]
    direct = fast_predict(profanity_check.vectorizer, profanity_check.model)
    assert list(direct(texts)) == pytest.approx(list(predict_prob(texts)), abs=1e-12)
    assert load_model() is not predict_prob  # the fast path supports this version of the package


@pytest.mark.local
@needs_model
@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_are_scored_and_a_megabyte_takes_seconds(output) -> None:
    started = time.perf_counter()
    cell = cell_of(toxicity(backend="lexical"), output)
    assert time.perf_counter() - started < 20
    if output.isspace():
        assert cell == Cell("unscored", reason="empty", cause="no_answer")
    else:
        assert cell.value is not None and 0 <= cell.value <= 1


@pytest.mark.local
@needs_model
def test_truncation_at_a_million_characters_is_recorded() -> None:
    cell = cell_of(toxicity(backend="lexical"), "a word " * 200_000)
    assert cell.detail is not None and cell.detail["scored_characters"] == MAX_SCORED_LENGTH


@pytest.mark.local
@needs_model
def test_threads_get_the_same_scores() -> None:
    scorer = toxicity(backend="lexical")
    texts = [f"You are number {place}, you fool." for place in range(200)]
    alone = [score_of(scorer, text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: score_of(scorer, text), texts)) == alone


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("- one\r\n- two\n\n- one", ["- one", "- two"]),
        ("3.5 and e.g.this", ["3.5 and e.g.this"]),
        ("x" * 1_000, ["x" * MAX_SENTENCE_LENGTH, "x" * 200]),
        ("word " * 160, ["word " * 79 + "word"]),
    ],
)
def test_texts_are_split_into_distinct_sentences(text, sentences) -> None:
    assert split_sentences(text) == sentences


def test_sentences_are_limited_in_length_and_lose_no_words() -> None:
    text = " ".join(f"word{place}" for place in range(5_000))
    pieces = split_sentences(text)
    assert " ".join(pieces) == text and max(map(len, pieces)) <= MAX_SENTENCE_LENGTH
