"""The main option of a factory, which the short form of a check sets."""

from __future__ import annotations

from typing import Any

import pytest

from evalrunner import Declaration, Scorer, main_option
from evalrunner.plugins import main_option_of, own_templates, own_templates_of


def test_a_factory_keeps_its_options_and_names_its_main_one() -> None:
    @main_option("least")
    def lines(*, least: int, blank: bool = False) -> Scorer:
        return Scorer(lambda output: len(output.splitlines()) >= least, Declaration(binary=True))

    assert main_option_of(lines) == "least"
    assert lines(least=2).function("a\nb")


@pytest.mark.parametrize("factory", [lambda: None, lambda least: least, lambda **options: options])
def test_a_main_option_is_a_keyword_only_option(factory: Any) -> None:
    assert main_option_of(factory) is None
    with pytest.raises(TypeError, match="has no keyword-only option 'least'"):
        main_option("least")(factory)


def test_options_with_templates_of_their_own_are_named_by_the_factory() -> None:
    @own_templates("prompt")
    def classifier(*, prompt: str, criteria: str = "") -> Scorer:
        return Scorer(len)

    assert own_templates_of(classifier) == {"prompt"} and own_templates_of(len) == frozenset()
    with pytest.raises(TypeError, match="no keyword-only option 'text'"):
        own_templates("text")(classifier)
