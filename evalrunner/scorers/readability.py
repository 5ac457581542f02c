"""Readability grade levels, computed by textstat as MLflow does.

The package decides what a word, a sentence and a syllable is, so the numbers equal those of MLflow on the same
machine. Its import takes two to four seconds, because it imports NLTK.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from evalrunner.domain import Declaration, Failure, Scorer
from evalrunner.errors import MissingExtraError

AGGREGATES = ("mean", "variance", "p90")  # as MLflow has them
MAX_LENGTH = 2_000_000  # characters
MAX_CACHED_LENGTH = 20_000  # characters: textstat caches 128 texts at eleven times their size
DICTIONARY = "corpora/cmudict"  # by NLTK's name


def ari_grade_level() -> Scorer:
    """Automated readability index: a US school grade. It counts letters, words and sentences; lower is easier."""
    return Scorer(ari_grade, declaration("ari_grade_level"))


def flesch_kincaid_grade_level() -> Scorer:
    """Flesch-Kincaid grade: a US school grade. It counts syllables, words and sentences; lower is easier."""
    declared = declaration("flesch_kincaid_grade_level")
    load_dictionary()
    return Scorer(flesch_kincaid_grade, declared)


def declaration(name: str) -> Declaration:
    """The declaration of both. Raises MissingExtraError if textstat is not installed; imports nothing."""
    try:
        backend = f"textstat {version('textstat')}"
    except PackageNotFoundError:
        raise MissingExtraError(name, "readability") from None
    return Declaration(
        low=None, high=None, higher_is_better=False, unit="grade", aggregates=AGGREGATES, headline="mean", backend=backend
    )  # fmt: skip


def load_dictionary() -> None:
    """Load the dictionary of syllables. Raises ValueError if it is not found or cannot be read.

    textstat would download it silently. It is loaded before the first output, because the lazy loading of NLTK is not
    thread-safe.
    """
    import nltk
    import textstat

    try:
        nltk.data.find(DICTIONARY)
    except LookupError:
        raise ValueError(
            "needs NLTK's dictionary cmudict, which is not found on this machine and is not downloaded automatically: run "
            "'python -m nltk.downloader cmudict', or set NLTK_DATA to a folder that has it as corpora/cmudict"
        ) from None
    try:
        textstat.flesch_kincaid_grade("Read it now.")
    except Exception as crash:  # NLTK raises many types for a broken file
        raise ValueError(f"NLTK's dictionary cmudict cannot be read: {type(crash).__name__}: {crash}") from crash


def ari_grade(output: str) -> float | Failure:
    import textstat

    return grade(textstat.automated_readability_index, output)


def flesch_kincaid_grade(output: str) -> float | Failure:
    import textstat

    return grade(textstat.flesch_kincaid_grade, output)


def grade(measure: Callable[[str], float], output: str) -> float | Failure:
    """The grade of a text, or that it is too long: textstat takes eighty bytes for each character."""
    if len(output) > MAX_LENGTH:
        return Failure("function", f"too long to grade: {len(output):,} characters; the limit is {MAX_LENGTH:,}")
    value = float(measure(output))
    if len(output) > MAX_CACHED_LENGTH:
        clear_text_caches()
    return value


def clear_text_caches() -> None:
    """Empty the caches of textstat; its dictionaries stay loaded."""
    from textstat.backend import counts, metrics, selections, transformations

    for part in (counts, metrics, selections, transformations):
        for function in vars(part).values():
            if clear := getattr(function, "cache_clear", None):
                clear()
