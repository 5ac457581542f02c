"""`evalrun list`: a line for each scorer within 80 columns, and everything about one of them by its name."""

from __future__ import annotations

import pytest

from evalrunner.plugin_table import BUILTIN, CATALOGUE
from evalrunner.suite.presets import PRESETS
from tests.fakes.command import evalrun


def test_every_built_in_scorer_is_in_one_group() -> None:
    catalogued = [name for scorers in CATALOGUE.values() for name in scorers]
    assert sorted(catalogued) == sorted(BUILTIN["scorers"])


def test_each_scorer_has_one_line_within_80_columns_under_its_group() -> None:
    lines = evalrun("list", "scorers").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    groups = [group for group, scorers in CATALOGUE.items() if set(scorers) & set(BUILTIN["scorers"])]
    assert [line for line in lines[:-1] if not line.startswith(" ")] == [*groups, "presets, each several scorers"]
    names = [line.split()[0] for line in lines if line.startswith(" ") and line.split()[0] not in PRESETS]
    assert sorted(names) == sorted(BUILTIN["scorers"])
    assert all(len(line.split()) > 3 for line in lines if line.startswith(" "))
    assert lines[-1] == "options, pass rule and an example of one: evalrun list scorers NAME"


@pytest.mark.parametrize("name", sorted(BUILTIN["scorers"]))
def test_details_of_a_scorer_name_its_options_and_an_example(name: str) -> None:
    done = evalrun("list", "scorers", name)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{name}: ")
    example = next(scorers[name] for scorers in CATALOGUE.values() if name in scorers)
    assert f"    example: scorers: [{example}]\n" in done.stdout


def test_details_say_range_direction_pass_rule_and_needs() -> None:
    shown = evalrun("list", "scorers", "exact_match").stdout
    assert "    range: 0 or 1; higher is better\n    a check passes: at 1\n    needs: an expected answer, " in shown
    shown = evalrun("list", "scorers", "toxicity").stdout
    assert (
        "    range: 0 to 1; lower is better\n    a check passes: at most the check's threshold, which is required\n"
        in shown
    )


def test_an_unknown_scorer_has_the_nearest_name_beside_it() -> None:
    done = evalrun("list", "scorers", "contians")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "evalrun: unknown scorer 'contians'; did you mean 'contains'?; all: evalrun list scorers\n"


def test_the_opposite_of_a_scorer_leads_to_the_scorer() -> None:
    assert evalrun("list", "scorers", "not_contains").stdout == evalrun("list", "scorers", "contains").stdout


def test_a_name_shows_one_target_or_dataset_and_no_suite() -> None:
    assert evalrun("list", "datasets", "csv").stdout.startswith("csv: ")
    assert evalrun("list", "targets", "http").stdout.count("\n    url (") == 1
    assert evalrun("list", "suites", "x").returncode == 2


def test_presets_are_listed_with_their_scorers() -> None:
    assert "  question_answering    4 scorers, such as exact_match and toxicity\n" in evalrun("list", "scorers").stdout
    assert evalrun("list", "scorers", "summarization").stdout == (
        "summarization: the scorers rouge1, rouge2, rougeL, rougeLsum, toxicity, ari_grade_level, "
        "flesch_kincaid_grade_level\n    example: scorers: [{preset: summarization}]\n"
    )
