"""Grade levels: how many years of school a text asks of its reader, by the formulas of textstat, which MLflow takes too.

Nothing is worked out here: what a word, a sentence and a syllable is comes from the package, so that the numbers are
those of MLflow on the same machine, whatever the text. Importing it takes two to four seconds (it imports NLTK).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from evalrunner.domain import Declaration, Scorer
from evalrunner.errors import MissingExtraError

AGGREGATES = ("mean", "variance", "p90")  # MLflow's, by its names
KEPT = 20_000  # characters: textstat keeps 128 texts with all their words, and a megabyte of text takes eleven
DICTIONARY = "corpora/cmudict"  # by NLTK's name


def ari_grade_level() -> Scorer:
    """The automated readability index of the output: a grade of school, from letters, words and sentences; lower is easier."""
    return Scorer(ari_grade, declaration("ari_grade_level"))


def flesch_kincaid_grade_level() -> Scorer:
    """The Flesch-Kincaid grade of the output: a grade of school, from syllables, words and sentences; lower is easier."""
    found = declaration("flesch_kincaid_grade_level")
    load_dictionary()
    return Scorer(flesch_kincaid_grade, found)


def declaration(name: str) -> Declaration:
    """What both declare. Raises MissingExtraError where textstat is not installed; imports nothing."""
    try:
        backend = f"textstat {version('textstat')}"
    except PackageNotFoundError:
        raise MissingExtraError(name, "readability") from None
    return Declaration(
        low=None, high=None, higher_is_better=False, unit="grade", aggregates=AGGREGATES, headline="mean", backend=backend
    )  # fmt: skip


def load_dictionary() -> None:
    """None, once the dictionary of syllables is read. Raises ValueError where it is not there, or cannot be read.

    textstat would fetch it without a word. It is read here and not with the first answers, because NLTK's way of
    reading a corpus when it is first used cannot bear several threads.
    """
    import nltk
    import textstat

    try:
        nltk.data.find(DICTIONARY)
    except LookupError:
        raise ValueError(
            "needs NLTK's dictionary cmudict, which is not on this machine and is not fetched by itself: run "
            "'python -m nltk.downloader cmudict', or let NLTK_DATA name the folder that has it as corpora/cmudict"
        ) from None
    try:
        textstat.flesch_kincaid_grade("Read it now.")
    except Exception as crash:  # a broken file ends in whatever the reader of NLTK stumbles over
        raise ValueError(f"NLTK's dictionary cmudict cannot be read: {type(crash).__name__}: {crash}") from crash


def ari_grade(output: str) -> float:
    import textstat

    found = float(textstat.automated_readability_index(output))
    if len(output) > KEPT:
        forget_texts()
    return found


def flesch_kincaid_grade(output: str) -> float:
    import textstat

    found = float(textstat.flesch_kincaid_grade(output))
    if len(output) > KEPT:
        forget_texts()
    return found


def forget_texts() -> None:
    """None, once textstat has let go of the texts it has seen; its dictionaries stay."""
    from textstat.backend import counts, metrics, selections, transformations

    for part in (counts, metrics, selections, transformations):
        for function in vars(part).values():
            if clear := getattr(function, "cache_clear", None):
                clear()
