"""bleu, chrf and rouge against the packages that define them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.plugins import main_option_of
from evalrunner.scorers.overlap import bleu, chrf, rouge
from tests.fakes.command import ROOT
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of

sacrebleu = pytest.importorskip("sacrebleu")
rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")

CASES = [
    ("The cat sat on the mat.", ["The cat sat on the mat."]),
    ("the cat", ["The cat sat on the mat.", "A cat is sitting on a mat."]),
    ("Completely different words here", ["The cat sat on the mat."]),
    ("It is running, and they were running.\nIt ran.", ["It runs.\nThey were runners."]),
    ("&quot;A&amp;B&quot; <skipped> costs 1,000.50 €", ['"A&B" costs 1,000.50 €']),
    ("东京是日本的首都", ["东京是日本首都。"]),
    ("cafe\u0301", ["caf\u00e9"]),
    ("?!", ["..."]),
]
VARIANTS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@pytest.mark.parametrize(("output", "expected"), CASES)
def test_bleu_and_chrf_equal_those_of_sacrebleu(output: str, expected: list[str]) -> None:
    for tokenize in ("13a", "intl", "zh", "char", "none"):
        for ignore_case in (False, True):
            metric = sacrebleu.metrics.BLEU(tokenize=tokenize, lowercase=ignore_case, effective_order=True)
            wanted = min(1.0, metric.sentence_score(output, expected).score / 100)
            assert score_of(bleu(tokenize=tokenize, ignore_case=ignore_case), output, *expected) == wanted
    for word_order in (0, 2):
        wanted = sacrebleu.sentence_chrf(output, expected, word_order=word_order).score / 100
        assert score_of(chrf(word_order=word_order), output, *expected) == wanted
        best = max(sacrebleu.sentence_chrf(output, [one], word_order=word_order).score for one in expected)
        assert wanted == best / 100


@pytest.mark.parametrize(("output", "expected"), CASES[:5])
@pytest.mark.parametrize("stem", [False, True])
def test_rouge_equals_that_of_rouge_score(output: str, expected: list[str], stem: bool) -> None:
    scorer = rouge_scorer.RougeScorer(list(VARIANTS), use_stemmer=stem)
    for variant in VARIANTS:
        assert (
            score_of(rouge(variant=variant, stem=stem), output, *expected)
            == scorer.score_multi(expected, output)[variant].fmeasure
        )
        for measure in ("recall", "precision"):
            wanted = max(getattr(scorer.score(one, output)[variant], measure) for one in expected)
            assert score_of(rouge(variant=variant, measure=measure, stem=stem), output, *expected) == wanted


def test_rouge_needs_words() -> None:
    output, answer = "Москва большая", "Москва"
    assert cell_of(rouge(), output, answer) == Cell(
        "skipped", reason="the expected answer has no words that ROUGE counts; set 'words: unicode'"
    )
    assert score_of(rouge(words="unicode", variant="rouge1"), output, answer) == pytest.approx(2 / 3, abs=1e-12)
    assert score_of(rouge(words="unicode"), "МОСКВА!", answer) == 1
    assert score_of(rouge(), "?!", "words") == 0
    with pytest.raises(ValueError, match="'stem' is for English"):
        rouge(stem=True, words="unicode")


@pytest.mark.parametrize("factory", [bleu, chrf, rouge])
def test_declarations_and_blank_answers(factory) -> None:
    declared = factory().declaration
    assert declared == Declaration(needs_expected=True, backend=declared.backend)
    assert not factory(value="x").declaration.needs_expected
    assert main_option_of(factory) == "value"
    assert cell_of(factory(), "x") == Cell("skipped", reason="no expected answer")
    assert cell_of(factory(), "x", " ") == Cell("skipped", reason="the expected answer is blank")
    assert score_of(factory(value=["a b c d", "e f g h"]), "e f g h", "other") == 1
    assert "." in str(declared.backend)  # with the version


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="'word_order' should be 0 to 6"):
        chrf(word_order=7)
    with pytest.raises(ValueError, match="no blank one"):
        bleu(value="")


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_are_scored_or_too_long(output: str) -> None:
    scorers = (bleu(), chrf(), *(rouge(variant=variant) for variant in VARIANTS), rouge(words="unicode"))
    for scorer in scorers:
        cell = cell_of(scorer, output, "an expected answer", "\ud800", "the")
        if output.isspace():
            assert cell.state == "unscored"
        elif len(output) > 200_000:
            assert cell.cause == "function" and "too long to compare" in str(cell.reason)
        else:
            assert cell.value is not None and 0 <= cell.value <= 1


def test_a_long_common_subsequence_is_refused() -> None:
    assert cell_of(rouge(), "a " * 3_000, "b " * 3_000) == Cell(
        "error",
        reason="too long to compare: 3,000 with 3,000 words; the product may be 4,000,000",
        cause="function",
    )
    assert score_of(rouge(variant="rouge1"), "a " * 3_000, "b " * 3_000) == 0


@pytest.mark.parametrize("scorer", ["bleu", "chrf", "rouge"])
def test_a_missing_extra_is_an_error_before_the_first_call(tmp_path: Path, scorer: str) -> None:
    """An environment with the packages of this one, apart from those of the extra."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(sacrebleu.__file__).parents[1].iterdir():
        if not path.name.startswith(("sacrebleu", "rouge_score", "__editable__")):
            (packages / path.name).symlink_to(path)
    (tmp_path / "s.yaml").write_text(
        "dataset: {rows: [{input: a, expected: b, out: b}]}\ntarget: {type: recorded, column: out}\n"
        f"scorers: [exact_match, {scorer}]\n"
    )
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(packages)]!r}; from evalrunner.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "run", "s.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{scorer} needs the extra 'text': pip install" in done.stderr
    assert not (tmp_path / "runs").exists()
