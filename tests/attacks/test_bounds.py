"""Hostile patterns, templates, texts and scorers: each ends in a value or a sentence. A hang fails by the time limit of tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalrunner.scorers.matching import MAX_SEARCHED_LENGTH, Pattern, SearchFailed, most_steps
from evalrunner.scorers.regex import regex
from tests.cases.suites import command
from tests.fakes.command import command_env
from tests.scorers.scorer_calls import cell_of

WORD = "abcdefghijklmnopqrstuvwx"
TEXTS = {
    "letters": "a" * 5_000,
    "Cyrillic": "ж" * 200,
    "words": "the total, the sum, the answer is = " * 1_400,
    "word": WORD * 100,
    "blanks": " " * 20_000 + "x",
    "digits": "1" * 3_000 + "x",
    "signs": '<{"' * 5_000,
    "mixed": "aAbB ä\u0301𝕒1_" * 800,
}
PATTERNS = [
    # exponential
    (r"(a+)+$", "letters"), (r"(a|a)*!", "letters"), (r"(a|aa)+!", "letters"), (r"(a*)*!", "letters"), (r"(a?a?)*!", "letters"),
    (r"((a+)(a+))+!", "letters"), (r"(?:[жж]|ж)*!", "Cyrillic"), (r"(?:ж|[ж])+!", "Cyrillic"),
    (rf"(?:{WORD}|{WORD})*!", "word"), (rf"(?:{WORD}|{WORD[:12]}{WORD[12:]})+!", "word"), (r"^(\w+\s?)*!$", "mixed"),
    (r"(?:\w|\d|_)*!", "digits"), (r"([a-z]+,?\s?)+\?", "words"), (r"(?i)(?:a|A)*!", "letters"), (r"(?:(?:a+)+)+!", "letters"),
    (r"(?x) ( a + ) + !", "letters"), (r"(a+)(?#again)+!", "letters"), (r"(?:(?:\d+)?1)*!", "digits"), (r"(?:.|\s)*?!!", "blanks"),
    (r"(?s:.+)+!", "letters"), (r"(?:a{1,9}){1,99}!", "letters"), (r"(?:a{0,5}){20}!", "letters"), ("a?" * 60 + "a" * 60 + "!", "letters"),
    ("(?:a|b|ab)" * 60 + "!", "letters"),
    # with lookaround, backreferences and conditions
    (r"(?=(a+)+!)a", "letters"), (r"(?!(?:a|a)*!)b", "letters"), (r"(a*)\1*!", "letters"), (r"(a+)\1+\1+!", "letters"),
    (r"(?P<w>a+)(?P=w)*!", "letters"), (r"(a)?(?(1)a*a*a*!|b)", "letters"), (r"((a*)\2)*!", "letters"), (r"(?:(?=(a+))\1?)*!", "letters"),
    (r"(?<=a)(a+)+!", "letters"),
    # polynomial
    (r"(?s)answer.*total.*sum.*=.*\\boxed", "words"), (r".*.*.*=x", "words"), (r"a*a*a*a*b", "letters"), (r"\s*\s*\s*end", "blanks"),
    (r"\d+\d+\d+\d+\.", "digits"), (r"[<{\"]*[<{\"]*[<{]*!", "signs"), (r"(?s).*?.*?.*?.*?!", "words"), (r"\w*\W*\w*\W*\w*!", "mixed"),
    (r"(?i)ä*ä*\w*\w*\w*!", "mixed"), (r"(?m)^.*,.*,.*,.*,.*!$", "words"), (r"\s+end", "blanks"), (r".+,.+,.+,.+;", "words"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "text"), PATTERNS, ids=[f"{index}-{text}" for index, (_, text) in enumerate(PATTERNS)]
)
def test_a_search_ends_whatever_the_pattern(pattern: str, text: str) -> None:
    problem = ""
    try:
        Pattern(re.compile(pattern), limit_s=0.05).find(TEXTS[text])
    except SearchFailed as failed:
        problem = str(failed)
    assert not problem or ("'pattern: " in problem and "takes more than 0.05 s of CPU time on a text of " in problem)


def test_slow_patterns_run_apart_and_fast_ones_here() -> None:
    slow = [pattern for pattern, text in PATTERNS if most_steps(re.compile(pattern), len(TEXTS[text])) < 5e6]
    assert slow == []
    for pattern in (r"\d", "Paris", r"\d+", "yes|no", r"Answer: (\w+)", r"^\s*yes\b", r"\*\*(.+?)\*\*"):
        assert most_steps(re.compile(pattern), 100) < 5e6, pattern


@pytest.mark.parametrize(
    "text", [*TEXTS.values(), "Answer: Paris\nNo: Rome", "", "\ud800 Answer: Ä", "Answer: 1" + "x" * 60_000]
)
@pytest.mark.parametrize(
    "pattern", [r"Answer:\s*(\w+)", r"(?s)(\w+)\W*(?:\W{2})*\Z", r"(?i)^(a\w*)\W+(\w*)", r"(x)?(?:y+)?\b(\W+)?"]
)
def test_a_search_apart_has_the_result_of_a_search_here(pattern: str, text: str) -> None:
    compiled = re.compile(pattern)
    part = text[:MAX_SEARCHED_LENGTH]
    assert most_steps(compiled, 50_000) > 5e6
    match = compiled.search(part)
    assert Pattern(compiled).find(text, 1) == (None if match is None else (match[1],))
    every = list(compiled.finditer(text, max(0, len(text) - MAX_SEARCHED_LENGTH)))
    assert Pattern(compiled).find(text, 1, last=True) == ((every[-1][1],) if every else None)


def test_a_process_that_the_system_ended_is_replaced() -> None:
    from evalrunner.scorers import matching

    pattern = Pattern(re.compile(r"(?:a|b)*c"))
    assert pattern.find("ab" * 50 + "c") is not None
    for process in matching._processes.idle:
        process.process.kill()
        process.process.wait()
    assert pattern.find("ab" * 50 + "c") is not None


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?=.{1,10}$)(a+)+$",  # at most ten letters are repeated
        r"\b(?:\d{1,3})(?:,\d{3})*(?:\.\d+)?(?:\s?(?:million|billion))?" * 8,
        "(a)" * 60 + r"\d*\d*\d*",
        r"(?:[A-Z][a-z]+ )*[A-Z][a-z]+",
        r"(?:\w+[.!?]\s)*\w+",
    ],
)
def test_patterns_that_end_are_not_refused(pattern: str) -> None:
    assert cell_of(regex(pattern=pattern), "It is Paris. No.").state == "scored"


def test_a_pattern_that_is_slow_to_compile_is_refused() -> None:
    with pytest.raises(ValueError, match="'pattern' takes too long to compile"):
        regex(pattern="[\u0100-\U0010ffff]" * 2_000, ignore_case=True)
    with pytest.raises(ValueError, match="is not a regular expression"):
        regex(pattern="(" * 5_000)


def rows(tmp: Path, *outputs: str) -> None:
    lines = [{"id": f"r{number}", "input": "q", "expected": "x", "out": text} for number, text in enumerate(outputs)]
    (tmp / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def suite(tmp: Path, scorers: object, **run: object) -> str:
    """A suite over recorded answers in d.jsonl."""
    keys = {
        "name": "s",
        "dataset": "d.jsonl",
        "target": {"type": "recorded", "column": "out"},
        "scorers": scorers,
        "run": run,
    }
    (tmp / "s.yaml").write_text(json.dumps(keys))
    return "s.yaml"


def cells(tmp: Path) -> list[dict[str, dict[str, object]]]:
    """The cells of every row of the only run."""
    (log,) = (tmp / "runs").glob("*/*/rows.jsonl")
    return [json.loads(line)["cells"] for line in log.read_text().splitlines()]


def test_a_row_whose_match_takes_too_long_is_an_error_and_the_run_goes_on(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path, TEXTS["words"], "the answer: total sum = \\boxed", "short")
    slow = {"type": "regex", "pattern": r"(?s)answer.*total.*sum.*=.*\\boxed", "match_timeout": 0.2}
    done = command(suite(tmp_path, [slow, "contains"]))
    assert done.code == 0, done.err
    assert "1 error (timeout)" in done.out
    by_row = {row["regex"]["state"]: row["regex"] for row in cells(tmp_path)}
    assert sorted(by_row) == ["error", "scored"]
    assert f"'pattern: {slow['pattern']}' takes more than 0.2 s" in str(by_row["error"]["reason"])


def test_an_expected_pattern_that_takes_too_long_is_said_before_the_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").write_text(
        json.dumps({"id": "r", "input": "q", "expected": TEXTS["words"], "out": "x"}) + "\n"
    )
    slow = {"type": "regex", "pattern": "(x)", "group": 1, "expected_pattern": r"(.*,.*,.*,.*;)", "match_timeout": 0.2}
    done = command("validate", suite(tmp_path, [slow]))
    assert done.code == 2
    assert "d.jsonl:1: regex: 'expected_pattern: (.*,.*,.*,.*;)' takes more than 0.2 s of CPU time" in done.err


@pytest.mark.parametrize("value", [0, -1, ".inf", "soon"])
def test_a_limit_that_is_none_is_refused(tmp_path, monkeypatch, value: object) -> None:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path, "x")
    (tmp_path / "s.yaml").write_text(
        "dataset: d.jsonl\ntarget: {type: recorded, column: out}\n"
        f"scorers: [{{type: regex, pattern: x, match_timeout: {value}}}]\n"
    )
    done = command("validate", "s.yaml")
    assert done.code == 2
    assert "match_timeout" in done.err


OWN = """
import os, re, time

def forever(output):
    while True:
        pass

def sleeps(output):
    time.sleep(3600)
"""
POLYNOMIAL = {"type": "regex", "pattern": "a*a*a*a*a*b", "match_timeout": 3600}
FOREVER = {"type": "python", "function": "own.py:forever"}
SLEEPS = {"type": "python", "function": "own.py:sleeps"}


def start(tmp: Path, *args: str) -> subprocess.Popen[str]:
    (tmp / "own.py").write_text(OWN)
    return subprocess.Popen(
        [sys.executable, "-m", "evalrunner", *args],
        cwd=tmp, env=command_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for_run(tmp: Path) -> None:
    while not list((tmp / "runs").glob("*/*/rows.jsonl")):
        time.sleep(0.05)
    time.sleep(0.5)  # for the first row to reach its scorers


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
@pytest.mark.parametrize(
    "signals", [[signal.SIGINT] * 2, [signal.SIGTERM] * 2, [signal.SIGINT]], ids=["INT INT", "TERM TERM", "INT"]
)
@pytest.mark.parametrize("scorer", [POLYNOMIAL, FOREVER, SLEEPS], ids=["regex", "forever", "sleeps"])
def test_a_signal_ends_a_run_during_a_scorer(tmp_path, scorer, signals) -> None:
    rows(tmp_path, "a" * 30_000, "a" * 30_000)
    running = start(tmp_path, suite(tmp_path, [scorer]))
    wait_for_run(tmp_path)
    for number in signals:
        running.send_signal(number)
        time.sleep(0.3)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert "Resume: evalrun --resume" in out


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [POLYNOMIAL, FOREVER, SLEEPS], ids=["regex", "forever", "sleeps"])
def test_time_limits_work_during_a_scorer(tmp_path, scorer) -> None:
    rows(tmp_path, "a" * 30_000)
    running = start(tmp_path, suite(tmp_path, [scorer], row_timeout=1))
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0, out
    assert "1 error (timeout)" in out
    running = start(tmp_path, suite(tmp_path, [scorer], run_timeout=1))
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 3, out
    assert "run timeout of 1 s reached" in out


@pytest.mark.slow
def test_time_limits_work_in_a_run_that_waits_for_nothing(tmp_path) -> None:
    rows(tmp_path, *["it is x"] * 100_000)
    running = start(tmp_path, suite(tmp_path, ["contains"], run_timeout=0.5), "-q")
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 3, out
    assert "run timeout of 0.5 s reached" in out
