"""Order, signs and letters of a ranking."""

from __future__ import annotations

import itertools
import random

import pytest

from evalrunner.compare.compare import compact_letters, pareto_front, rank
from evalrunner.compare.result import ParetoFront, Ranking, model_families, shared_family


def test_letters_of_a_nontransitive_ranking() -> None:
    result = rank({"A": 0.8, "B": 0.7, "C": 0.6}, [("A", "C")], higher_is_better=True)
    assert result == Ranking(
        order=("A", "B", "C"),
        signs=("≈", "≈"),
        letters={"A": "a", "B": "ab", "C": "b"},
        best=None,
        differing=(("A", "C"),),
    )


def test_a_greater_sign_requires_all_before_to_beat_all_after() -> None:
    values = {"A": 0.9, "B": 0.8, "C": 0.4, "D": 0.3}
    better = [("A", "C"), ("A", "D"), ("B", "C"), ("B", "D")]
    result = rank(values, better, higher_is_better=True)
    assert (result.signs, result.best, result.differing) == (("≈", ">", "≈"), None, ())
    assert result.letters == {"A": "a", "B": "a", "C": "b", "D": "b"}
    without = rank(values, better[:-1], higher_is_better=True)
    assert without.signs == ("≈", "≈", "≈")
    assert without.differing == tuple(better[:-1])


def test_best_is_significantly_better_than_every_other() -> None:
    values = {"A": 0.9, "B": 0.5, "C": 0.4}
    assert rank(values, [("A", "B"), ("A", "C")], higher_is_better=True).best == "A"
    assert rank(values, [("A", "B")], higher_is_better=True).best is None
    assert rank({"A": 0.9}, [], higher_is_better=True).best is None


def test_lower_is_better_ranking_with_ties_broken_by_name() -> None:
    assert rank({"b": 0.2, "a": 0.2, "c": 0.1}, [], higher_is_better=False).order == ("c", "a", "b")
    assert rank({"b": 0.2, "a": 0.2, "c": None}, [], higher_is_better=True).order == ("a", "b", "c")


@pytest.mark.parametrize("seed", range(40))
def test_candidates_share_a_letter_exactly_if_not_significantly_different(seed: int) -> None:
    chance = random.Random(seed)
    names = [chr(65 + place) for place in range(chance.randrange(2, 8))]
    differ = {pair for pair in itertools.combinations(names, 2) if chance.random() < 0.5}
    letters = compact_letters(names, differ)
    for one, other in itertools.combinations(names, 2):
        assert bool(set(letters[one]) & set(letters[other])) == ((one, other) not in differ), letters
    assert letters[names[0]].startswith("a")


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("openai/gpt-5-mini", ("GPT",)),
        ("o3-mini", ("GPT",)),
        ("anthropic/claude-sonnet-4-5", ("Claude",)),
        ("vertex_ai/gemini-2.5-pro", ("Gemini",)),
        ("google/gemma-3-4b-it", ("Gemini",)),
        ("meta-llama/Llama-3.1-8B-Instruct", ("Llama",)),
        ("ollama/qwen2.5:7b", ("Qwen",)),
        ("deepseek-r1-distill-llama-70b", ("Llama", "DeepSeek")),
        ("local/smollm2-135m-instruct", ("SmolLM",)),
        ("gateway-chat", ()),
        ("ollama/mymodel", ()),  # a runner's name is not its models'
        ("photo3", ()),
    ],
)
def test_model_family_from_the_model_name(name: str, families: tuple[str, ...]) -> None:
    assert model_families(name) == families


def test_shared_family_by_family_or_model_name() -> None:
    assert shared_family(["openai/gpt-5-mini"], ["azure/gpt-4o"]) == "of the same family, GPT"
    assert shared_family(["mine"], ["mine", "served"]) == "the same model, mine"
    assert shared_family(["openai/gpt-5-mini"], ["claude-sonnet"]) is None


def test_dominated_candidates_are_not_pareto_optimal() -> None:
    quality = {"cheap": 0.6, "middle": 0.6, "dear": 0.9, "worse": 0.5, "unknown": 0.95}
    cost = {"cheap": 1.0, "middle": 2.0, "dear": 5.0, "worse": 6.0, "unknown": None}
    result = pareto_front(("q", quality), ("cost", cost), higher_is_better=True)
    assert result == ParetoFront(quality="q", against="cost", members=("cheap", "dear"), missing=("unknown",))
    turned = pareto_front(("q", quality), ("cost", cost), higher_is_better=False)
    assert (turned is not None and turned.members == ("cheap", "worse")) or turned.members == (
        "cheap",
        "middle",
        "worse",
    )
    assert pareto_front(("q", {"a": None}), ("cost", {"a": 1.0}), higher_is_better=True) is None
