"""What the terminal, the Markdown summary and the reasons of gates print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cases.suites import at_least, command, run, samples, write

SUMMARY = "summary.md"


def printed(path: str) -> tuple[str, str]:
    """What a run of a suite prints, and its Markdown summary."""
    done = command(path, "-o", SUMMARY)
    return done.out, Path(SUMMARY).read_text()


def test_intervals_are_printed_by_both_ends() -> None:
    path = write(samples((19, "right"), (1, "wrong")), [at_least(0.5)], targets=[
        {"name": "a", "type": "python", "function": "own.py:answer"},
        {"name": "b", "type": "python", "function": "own.py:answer"},
    ])  # fmt: skip
    terminal, markdown = printed(path)
    assert "±" not in terminal + markdown
    assert "0.764–0.991" in terminal
    assert "0.764–0.991" in markdown


def test_large_numbers_in_a_reason_differ_where_they_differ() -> None:
    data = samples(*((1, 1e9 + at) for at in range(40)))
    ended = run(data, [{"metric": "open", "min": 1000000019.6, "confidence": 0.95}], scorers=["open"])
    assert ended.verdict == "inconclusive"
    assert "1e+09 and 1e+09" not in ended.text
    low, high = re.search(r"between (\S+) and (\S+) at", ended.text).groups()  # type: ignore[union-attr]
    assert low != high


def test_small_numbers_and_thresholds_are_not_rounded_to_zero() -> None:
    data = samples(*((1, at * 1e-8) for at in range(40)))
    path = write(data, [{"metric": "open", "max": 2e-7, "confidence": 0.95}], scorers=["open"])
    terminal, markdown = printed(path)
    assert "0.000–0.000" not in terminal + markdown
    assert "0.000 [0.000, 0.000]" not in terminal + markdown
    assert "2e-07" in terminal


def test_summary_names_what_is_missing() -> None:
    path = write(samples((76, "right"), (20, "wrong"), (4, "error")), ["exact_match >= 0.8"])
    for text in printed(path):
        assert re.search(r"failed on\s+4|4 rows with errors|4\s+error", text), text
        assert "UNTRUSTED" in text.upper()


def test_slices_with_missing_answers_are_marked_as_untrusted() -> None:
    data = samples((10, "right"), (10, "error"), (40, "right"), topic=["a"] * 20 + ["b"] * 40)
    for text in printed(write(data, [], slices=["topic"])):
        assert "untrusted" in text.lower()


def test_variance_has_no_effective_number_of_samples() -> None:
    import json

    run(samples(*((1, at / 200) for at in range(200))), [], scorers=["harm"])
    (file,) = Path("runs/case").glob("*/metrics.json")
    metrics = json.loads(file.read_text())["targets"]["m"]["metrics"]
    (variance,) = [one for one in metrics if one["name"] == "harm/v1/variance"]
    assert variance["n_effective"] is None


def test_many_intervals_of_slices_are_said_to_be_unadjusted() -> None:
    data = samples((200, "right"), topic=[f"t{at}" for at in range(10)])
    path = write(data, [], slices=["topic"])
    terminal, markdown = command(path, "-v", "-o", SUMMARY).out, Path(SUMMARY).read_text()
    for text in (terminal, markdown):
        assert "unadjusted" in text or "not adjusted" in text


@pytest.mark.parametrize("verbose", [False, True])
def test_details_of_a_verdict_are_behind_v(verbose: bool) -> None:
    path = write(samples((60, "right"), (40, "wrong")), [at_least(0.65)])
    text = " ".join(command(path, *(["-v"] if verbose else [])).out.split())
    assert "About" in text
    assert ("50% power" in text) is verbose
