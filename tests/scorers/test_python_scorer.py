"""User-defined functions as scorers."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner import RunOptions, run_suite
from evalrunner.domain import Cell, Completion, Declaration
from evalrunner.errors import SuiteError
from evalrunner.plugins import PluginContext, ReferenceProblem, SignatureError
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.python import python
from tests.scorers.scorer_calls import cell_of, sample

TONE = """
from __future__ import annotations
import typing

def polite(output: str, *, strict: bool = False) -> bool:
    return "please" in output and not (strict and "!" in output)

def maybe(output) -> typing.Optional[bool]:
    return None if "?" in output else True

async def later(output: str) -> bool | None:
    return True

def words(output) -> float:
    return len(output.split())

def share(output, expected=None, fallback=0.5):
    return fallback

def broken(output) -> "Missing":
    raise ValueError("no tone")

class Counting:
    def __call__(self, output) -> bool:
        return True

counting = Counting()
number = 7
"""


@pytest.fixture
def context(tmp_path: Path) -> PluginContext:
    (tmp_path / "scorers").mkdir()
    (tmp_path / "scorers" / "tone.py").write_text(TONE, encoding="utf-8")
    return PluginContext(tmp_path, tmp_path / "runs", {})


def with_args(context: PluginContext, **args) -> PluginContext:
    return PluginContext(context.folder, context.runs, args)


@pytest.mark.parametrize("name", ["polite", "maybe", "later", "counting"])
def test_a_function_that_returns_bool_is_binary(context, name) -> None:
    result = python(context, function=f"scorers/tone.py:{name}").declaration
    assert result == Declaration(binary=True)


@pytest.mark.parametrize("name", ["words", "share", "broken"])
def test_other_functions_use_the_declaration_of_the_suite(context, name) -> None:
    assert python(context, function=f"scorers/tone.py:{name}").declaration == Declaration(
        low=None, high=None, infer_binary=True
    )
    result = python(
        context,
        function=f"scorers/tone.py:{name}",
        low=0.0,
        high=100.0,
        higher_is_better=False,
        unit="words",
        needs_answer=False,
        aggregates=["p90", "ratio"],
        threshold=50.0,
    )
    assert result.declaration == Declaration(
        low=0.0,
        high=100.0,
        higher_is_better=False,
        unit="words",
        needs_answer=False,
        aggregates=("p90", "ratio"),
        headline="p90",
        threshold=50.0,
    )


def test_a_function_gets_the_parameters_that_it_names_and_args(context) -> None:
    polite = "scorers/tone.py:polite"
    assert cell_of(python(context, function=polite), "please!") == Cell("scored", 1.0)
    assert cell_of(python(with_args(context, strict=True), function=polite), "please!") == Cell("scored", 0.0)
    share = python(with_args(context, fallback=0.25, expected="mine"), function="scorers/tone.py:share")
    assert cell_of(share, "x", "theirs") == Cell("scored", 0.25)
    assert cell_of(python(context, function="scorers/tone.py:maybe"), "well?").state == "skipped"
    assert cell_of(python(context, function="builtins:len"), "four") == Cell("scored", 4.0)


def test_an_exception_is_an_error_of_its_cell(context) -> None:
    cell = cell_of(python(context, function="scorers/tone.py:broken"), "x")
    assert cell == Cell("error", reason="broken() in scorers/tone.py:21 raised ValueError: no tone", cause="function")


def test_needs_answer_false_calls_the_function_without_an_answer(context) -> None:
    refused = Completion("", "refused")
    words = "scorers/tone.py:words"
    assert cell_of(python(context, function=words), refused) == Cell("unscored", reason="refused", cause="no_answer")
    assert cell_of(python(context, function=words, needs_answer=False), refused) == Cell("scored", 0.0)


def test_wrong_args_are_errors_before_the_run(context) -> None:
    scorer = python(with_args(context, strct=True), function="scorers/tone.py:polite")
    with pytest.raises(SignatureError, match=r"polite\(\) has no parameter 'strct'; did you mean 'strict'\?"):
        BoundScorer.bind("polite", scorer)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"function": "scorers/tone.py:number"}, "'scorers/tone.py:number' is a int, not a function"),
        ({"function": "scorers/tone.py:plite"}, "did you mean 'polite'?"),
        ({"function": "scorers/tune.py:polite"}, "there is no file 'scorers/tune.py'"),
        ({"function": "polite"}, "is neither 'package.module:name' nor 'path/file.py:name'"),
    ],
)
def test_a_missing_function_is_an_error(context, options, said) -> None:
    with pytest.raises(ReferenceProblem) as refused:
        python(context, **options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"function": "scorers/tone.py:words", "low": 5.0, "high": 1.0}, "'low' is 5 and 'high' is 1"),
        ({"function": "scorers/tone.py:polite", "low": 0.0}, "cannot be combined with a function that returns bool"),
        ({"function": "scorers/tone.py:words", "aggregates": ["median"]}, "'aggregates' has 'median'; it takes any of mean"),
        ({"function": "scorers/tone.py:words", "aggregates": []}, "'aggregates' is empty"),
        ({"function": "scorers/tone.py:words", "aggregates": ["ratio"]}, "'threshold' and the aggregate 'ratio' go together"),
        ({"function": "scorers/tone.py:words", "threshold": 1.0}, "'threshold' and the aggregate 'ratio' go together"),
    ],
)  # fmt: skip
def test_contradicting_options_are_refused(context, options, said) -> None:
    with pytest.raises(ValueError) as refused:
        python(context, **options)
    assert said in str(refused.value)


def test_several_accepted_answers_arrive_as_a_tuple(context) -> None:
    (context.folder / "seen.py").write_text(
        "def seen(expected) -> float:\n    return len(expected)\n", encoding="utf-8"
    )
    scorer = python(context, function="seen.py:seen")
    assert cell_of(scorer, "x", "one", "two") == Cell("scored", 2.0)
    assert cell_of(scorer, "x", "four") == Cell("scored", 4.0)
    assert sample("four").expected == ("four",)


def test_user_objects_with_methods_of_protocols_are_not_called(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "class Style:\n"
        "    def check(self, output):\n        raise RuntimeError('checked')\n"
        "    async def prepare(self, tell):\n        raise RuntimeError('prepared')\n"
        "    def __call__(self, output) -> bool:\n        return True\n\n"
        "style = Style()\n"
    )
    (tmp_path / "s.yaml").write_text(
        "name: s\ndataset: {rows: [{input: a, out: a}]}\ntarget: {type: recorded, column: out}\n"
        "scorers: [{type: python, function: 'own.py:style', name: style}]\n"
    )
    assert run_suite(tmp_path / "s.yaml", options=RunOptions(output_dir=tmp_path / "runs")).metrics["style/v1"] == 1.0


def test_a_function_in_place_of_a_factory_is_an_error_of_the_suite(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def polite(output):\n    return True\n")
    (tmp_path / "s.yaml").write_text(
        "name: s\ndataset: {rows: [{input: a, out: a}]}\ntarget: {type: recorded, column: out}\nscorers: [{type: 'own.py:polite'}]\n"
    )
    with pytest.raises(SuiteError) as refused:
        run_suite(tmp_path / "s.yaml", options=RunOptions(output_dir=tmp_path / "runs"))
    assert str(refused.value).endswith(
        "s.yaml:4:18: scorers[0].type: polite() needs 'output', which a factory does not get; to call it for each row, use "
        "`type: python` with `function:`"
    )
