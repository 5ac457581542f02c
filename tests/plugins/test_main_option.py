"""The main option of a factory, which the short form of a check sets."""

from __future__ import annotations

from typing import Any

import pytest

from evalrunner import Declaration, Scorer, main_option
from evalrunner.plugins import main_option_of


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
