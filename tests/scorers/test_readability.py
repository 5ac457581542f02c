"""ari_grade_level and flesch_kincaid_grade_level. tests/mlflow/test_numbers.py compares them with MLflow."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.errors import MissingExtraError
from evalrunner.scorers.readability import MAX_CACHED_LENGTH, ari_grade_level, flesch_kincaid_grade_level
from tests.fakes.command import command_env, evalrun
from tests.fakes.pronouncing import write_dictionary
from tests.scorers.scorer_calls import HOSTILE, cell_of, score_of

installed = importlib.util.find_spec("textstat") is not None
needs_textstat = pytest.mark.skipif(not installed, reason="the extra readability is not installed")
NO_DICTIONARY = """\
import sys
sys.addaudithook(lambda event, args: print("ASKED", *args) if event == "socket.getaddrinfo" else None)
import nltk
nltk.data.path.clear()
sys.argv = ["evalrun", *sys.argv[1:]]
from evalrunner.cli.main import main
main()
"""
SUITE = """\
name: grades
dataset:
  rows:
    - {input: a, answer: The cat sat on the mat.}
    - {input: b, answer: People sat on the area. The idea sat on the mat!}
    - {input: c, answer: "…"}
    - {input: d, answer: ""}
target: {type: recorded, column: answer}
scorers: [flesch_kincaid_grade_level]
"""


@pytest.mark.skipif(installed, reason="the extra readability is installed")
@pytest.mark.parametrize("factory", [ari_grade_level, flesch_kincaid_grade_level])
def test_a_missing_extra_is_an_error_with_the_install_command(factory) -> None:
    with pytest.raises(MissingExtraError, match=f"{factory.__name__} needs the extra 'readability'"):
        factory()


@needs_textstat
def test_grade_levels_declare_an_open_range_where_lower_is_better() -> None:
    import textstat

    assert ari_grade_level().declaration == Declaration(
        low=None,
        high=None,
        higher_is_better=False,
        unit="grade",
        aggregates=("mean", "variance", "p90"),
        headline="mean",
        backend=f"textstat {'.'.join(map(str, textstat.__version__))}",
    )


@needs_textstat
@pytest.mark.parametrize(
    ("output", "grade"),
    [
        ("The cat sat on the mat.", 4.71 * 18 / 6 + 0.5 * 6 - 21.43),
        ("The cat sat on the mat. A dog lay under a bed!", 4.71 * 35 / 12 + 0.5 * 12 / 2 - 21.43),
        ("…", 0.0),
        ("\U0001f600", 0.0),
        ("```", 0.0),
    ],
)
def test_the_grade_uses_letters_words_and_sentences(output: str, grade: float) -> None:
    assert score_of(ari_grade_level(), output) == pytest.approx(grade, abs=1e-12)


@needs_textstat
def test_a_blank_answer_has_no_grade() -> None:
    assert cell_of(ari_grade_level(), " \n") == Cell("unscored", reason="empty", cause="no_answer")


@needs_textstat
@pytest.mark.parametrize("output", [*HOSTILE, "?!" * 500_000, "'s" * 500_000, "a.b.c." * 160_000])
def test_hostile_outputs_are_scored(output: str) -> None:
    assert cell_of(ari_grade_level(), output).state in ("scored", "unscored")


@needs_textstat
def test_long_outputs_are_not_cached() -> None:
    from textstat.backend import counts, selections

    score_of(ari_grade_level(), "a word " * MAX_CACHED_LENGTH)
    assert counts.count_words.cache_info().currsize == 0
    assert selections.list_words.cache_info().currsize == 0


@needs_textstat
def test_threads_get_the_same_scores() -> None:
    scorer = ari_grade_level()
    texts = [
        f"This is the answer with the number {place}. It has {'very ' * (place % 9)}few words." for place in range(200)
    ]
    alone = [score_of(scorer, text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: score_of(scorer, text), texts)) == alone


@needs_textstat
def test_syllables_come_from_the_dictionary(tmp_path: Path) -> None:
    Path("grades.yaml").write_text(SUITE)
    done = evalrun("grades.yaml", "--json", "-o", "rows.jsonl", env={"NLTK_DATA": str(write_dictionary(tmp_path))})
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    cells = [row["cells"]["flesch_kincaid_grade_level"] for row in sorted(rows, key=lambda row: row["input"])]
    assert [cell["value"] for cell in cells] == pytest.approx(
        [0.39 * 6 + 11.8 * 6 / 6 - 15.59, 0.39 * 11 / 2 + 11.8 * 16 / 11 - 15.59, 0.0, None], abs=1e-12
    )
    assert cells[3]["state"] == "unscored"


@needs_textstat
def test_a_missing_dictionary_is_an_error_without_a_download() -> None:
    Path("grades.yaml").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-c", NO_DICTIONARY, "grades.yaml"],
        capture_output=True,
        text=True,
        env=command_env(),
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        "grades.yaml:9:11: scorers[0]: needs NLTK's dictionary cmudict, which is not found on this machine"
        in done.stderr
    )
    assert "python -m nltk.downloader cmudict" in done.stderr


@needs_textstat
def test_a_broken_dictionary_is_an_error_before_the_first_call(tmp_path: Path) -> None:
    Path("grades.yaml").write_text(SUITE)
    folder = write_dictionary(tmp_path)
    (folder / "corpora" / "cmudict" / "cmudict").write_bytes(b"\xff\xfe\xff broken")
    done = evalrun("grades.yaml", env={"NLTK_DATA": str(folder)})
    assert done.returncode == 2
    assert "NLTK's dictionary cmudict cannot be read: UnicodeDecodeError" in done.stderr
