"""Options that another one leaves without effect are usage errors."""

from __future__ import annotations

import pytest

from tests.cases.suites import command

SUITE = """\
name: s
dataset: {rows: [{input: a, expected: b, output: b}]}
targets: [{type: recorded, column: output, name: one}, {type: recorded, column: input, name: two}]
scorers: [exact_match]
"""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["s.yaml", "-q", "-v"], "--verbose shows details, and --quiet prints none"),
        (["s.yaml", "--json", "-v"], "--verbose shows details, and --json prints none"),
        (["s.yaml", "--json", "--diff", "5"], "--diff shows details, and --json prints none"),
        (["s.yaml", "-q", "--diff", "0"], "--diff shows details, and --quiet prints none"),
        (["gate", "last", "--json", "-v"], "--verbose shows details, and --json prints none"),
        (["compare", "last", "--json", "--diff", "5"], "--diff shows details, and --json prints none"),
        (["s.yaml", "--refresh", "--no-cache"], "--refresh caches new answers, and --no-cache caches none"),
        (["plan", "s.yaml", "--refresh", "--no-cache"], "--refresh caches new answers, and --no-cache caches none"),
    ],
)
def test_an_option_without_effect_is_a_usage_error(tmp_path, args: list[str], message: str) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    assert command("s.yaml", "-q").code == 0
    refused = command(*args)
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert len(list((tmp_path / "runs" / "s").iterdir())) == 1


@pytest.mark.parametrize("args", [["-v"], ["--diff", "5"], ["--json"], ["-q"], ["--json", "-q"], ["--refresh"]])
def test_each_of_them_alone_has_an_effect(tmp_path, args: list[str]) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    assert command("s.yaml", *args).code == 0
