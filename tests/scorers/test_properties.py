"""Every built-in scorer that asks no judge and no model, over random Unicode pairs: no exception, no NaN, no value outside its range."""

from __future__ import annotations

import importlib.util
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from evalrunner.capabilities import SampleFilter, SampleValidator
from evalrunner.domain import Cell, Completion, FinishReason, Sample
from evalrunner.plugin_table import BUILTIN
from evalrunner.plugins import PluginContext, call_factory, load
from evalrunner.scorers.call import BoundScorer, call_parts, cell_without_call, offer
from evalrunner.scorers.checks import PassRule, negate
from evalrunner.scorers.extraction import compile_extract
from tests.scorers.test_unicode_pairs import PIECES, TEXT

ASKING = frozenset({"embedding_similarity", "factuality", "mlflow", "moderation", "rubric", "autoevals"})
"""Scorers that ask a judge or a model, or are other packages' own; their replies are tested by their own tests."""
# the last one needs a dictionary of NLTK
NEEDED = {"bleu": TEXT, "chrf": TEXT, "rouge": TEXT, "toxicity": importlib.util.find_spec("profanity_check") is not None,
          "ari_grade_level": importlib.util.find_spec("textstat") is not None,
          "flesch_kincaid_grade_level": False}  # fmt: skip

OPTIONS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "ari_grade_level": [{}],
    "bleu": [{}],
    "choice": [{"value": "B"}, {"value": "b", "choices": ["a", "the"]}],
    "chrf": [{}],
    "column": [{"column": "score"}],
    "contains": [{}, {"value": ["a", "é"]}],
    "contains_all": [{}],
    "contains_any": [{}],
    "cost_under": [{"usd": 0.1}],
    "ends_with": [{}],
    "exact_match": [{}, {"normalize": "squad"}],
    "expr": [{"value": text} for text in ("output|length", "json.a", "output|number", "output|matches('[0-9]')", "expected in output", "output|words|length < 3 and json.b[0].c", "topic|length / output|length")],
    "flesch_kincaid_grade_level": [{}],
    "json": [{}, {"path": "$.a", "equals": 1}, {"fields": {"a": "exact_match", "b": "numeric_match"}}],
    "latency_under": [{"seconds": 2}],
    "levenshtein": [{}],
    "max_chars": [{"value": 5}],
    "max_words": [{"value": 2}],
    "min_chars": [{"value": 5}],
    "min_words": [{"value": 2}],
    "numeric_match": [{}, {"relative": 0.1}],
    "python": [{"function": "own.py:length"}],
    "refusal": [{}, {"patterns": ["a.b"]}],
    "regex": [{"pattern": "[a-z]+"}, {"pattern": "(a|1)", "group": 1, "numeric": True}],
    "rouge": [{}],
    "similarity": [{}],
    "starts_with": [{}],
    "token_f1": [{}],
    "tokens_under": [{"tokens": 5}],
    "tool_calls": [{"expected": ["search"]}, {"expected": ["a"], "match": "f1"}],
    "toxicity": [{"backend": "lexical"}],
}  # fmt: skip
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


def test_every_built_in_scorer_is_tested_here_or_asks_another_model() -> None:
    assert set(BUILTIN["scorers"]) - ASKING - OPTIONS.keys() == set()


def bound(name: str, options: Mapping[str, Any], *, negated: bool = False, **keys: Any) -> BoundScorer:
    Path("own.py").write_text("def length(output):\n    return len(output)\n")
    factory = load("scorers", name)
    return BoundScorer.bind(
        "s", call_factory(negate(factory) if negated else factory, options, PluginContext(Path(), Path(), {})), **keys
    )


def pairs(seed: str, count: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    alphabet = [*PIECES, "B", "(A)", "answer is", "I can't help", '{"a": 1, "b": [{"c": 2}]}']

    def text() -> str:
        return "".join(
            chr(draw.randrange(0x110000)) if draw.random() < 0.2 else draw.choice(alphabet)
            for _ in range(draw.randrange(8))
        )

    return [(text(), text()) for _ in range(count)]


def cells(scorer: BoundScorer, output: str, expected: str, seed: str) -> dict[str, Cell]:
    """The cells of one answer that ended somehow."""
    draw = random.Random(f"{seed}{output}".encode("utf-8", "surrogatepass"))
    calls = ({"function": {"name": output, "arguments": expected}},) if draw.random() < 0.3 else ()
    ended = draw.choice(get_args(FinishReason)) if draw.random() < 0.2 else "stop"
    numbers = {"latency_s": 0.5, "cost_usd": 0.01, "output_tokens": 3} if draw.random() < 0.5 else {}
    completion = Completion(output, ended, tool_calls=calls, **numbers)
    sample = Sample(
        "1",
        expected,
        (expected,) if draw.random() < 0.9 else (),
        {"topic": expected, "score": draw.choice([1, 0.5, expected, None])},
    )
    function: object = scorer.scorer.function
    if isinstance(function, SampleValidator):
        problem = function.check(sample)
        assert problem is None or isinstance(problem, str)
    if isinstance(function, SampleFilter):
        function.skip_reason(sample)
    cell = cell_without_call(scorer, sample, completion)
    return {scorer.name: cell} if cell is not None else call_parts(scorer, offer(sample, completion))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_scores_are_finite_and_in_range_for_any_pair_of_texts(name: str, options: Mapping[str, Any]) -> None:
    if not NEEDED.get(name, True):
        pytest.skip("needs an extra")
    scorer = bound(name, options)
    declared = {scorer.name: scorer.scorer.declaration, **{part.cell: part.declaration for part in scorer.parts}}
    for output, expected in pairs(name, 40 if name in ("toxicity", "flesch_kincaid_grade_level") else 250):
        for cell_name, cell in cells(scorer, output, expected, name).items():
            own = declared[cell_name]
            assert cell.state in ("scored", "skipped", "unscored", "error"), (output, expected)
            assert cell.state != "error" or (name == "column" and cell.reason), (cell, output, expected)
            assert (cell.state == "scored") == (cell.value is not None)
            if cell.value is not None:
                assert math.isfinite(cell.value), (output, expected)
                assert own.low is None or cell.value >= own.low
                assert own.high is None or cell.value <= own.high
                assert not own.binary or cell.value in (0, 1)
            json.dumps([cell.detail, cell.reason], allow_nan=False)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_opposite_passes_exactly_where_the_scorer_does_not(name: str, options: Mapping[str, Any]) -> None:
    if not NEEDED.get(name, True):
        pytest.skip("needs an extra")
    plain = bound(name, options)
    rule = PassRule.of(plain.scorer.declaration)
    if rule is None:
        with pytest.raises(ValueError, match="gives a number"):
            bound(name, options, negated=True)
        return
    opposite = bound(name, options, negated=True)
    for output, expected in pairs(f"not {name}", 60):
        one, other = (cells(each, output, expected, name)["s"] for each in (plain, opposite))
        if plain.scorer.declaration.infer_binary and "threshold" in str(other.reason):
            assert one.value not in (0, 1)  # a number, which needs a threshold to pass
            continue
        assert one.state == other.state, (one, other, output, expected)
        if one.value is not None and other.value is not None and one.cause is None:
            undefined = bool(one.detail and one.detail.get("undefined"))
            assert other.value == (0 if undefined else float(not rule(one.value))), (output, expected)


@pytest.mark.parametrize("name", ["exact_match", "token_f1", "numeric_match", "refusal", "json", "max_words"])
def test_extraction_before_a_scorer_gives_a_score_or_no_answer(name: str) -> None:
    for spec in ("number", {"json": "$.a"}, "last_line", ["trim", "lower"], {"fence": "json"}, "choice"):
        for on_no_answer in ("unscored", "zero"):
            scorer = bound(name, OPTIONS[name][0], extract=compile_extract(spec), on_no_answer=on_no_answer)
            for output, expected in pairs(f"{name}{spec}", 60):
                cell = cells(scorer, output, expected, name)["s"]
                assert cell.state in (
                    ("scored", "skipped") if on_no_answer == "zero" else ("scored", "skipped", "unscored")
                ), (cell, output)
