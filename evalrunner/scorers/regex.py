"""The scorer `regex`: whether a pattern matches, found without ever hanging on a slow pattern."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import warnings
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from evalrunner.domain import Declaration, Failure, Sample, Score, Scorer, Skipped
from evalrunner.scorers.numeric import same_number
from evalrunner.scorers.text import Normalizer, normalizer

REPEATED_GROUP = re.compile(r"\)[*+{]")  # without one, the cost is at worst a power of the text's length
LENGTH = 60  # characters: 1.6 ** 60, the mildest exponential growth, is years; 60 ** 3 is milliseconds
LIMIT_S = 1.0  # of processor time, so that a busy machine is not taken for a slow pattern
WALL_S = 20.0  # where processor time cannot be limited (Windows)

TRIAL = """
import json, re, signal, sys
pattern, flags, length = json.loads(sys.stdin.readline())
if hasattr(signal, "ITIMER_VIRTUAL"):
    signal.setitimer(signal.ITIMER_VIRTUAL, float(sys.argv[1]))
tails = [pattern[place:] for place, sign in enumerate(pattern) if sign == "("]
for tried in [pattern, *tails[:40]]:
    try:
        compiled = re.compile(tried, flags)
    except (re.error, OverflowError, RecursionError):
        continue
    signs = [chr(code) for code in range(32, 127)] + ["\\n", "\\u00e9"]
    for unit in [*signs, *sorted({a + b for a in pattern[:20] for b in pattern[:20] if a != b})]:
        text = (unit * length)[:length] + "\\0"
        print(json.dumps(text), flush=True)
        compiled.search(text)
"""


@functools.lru_cache(maxsize=256)
def slow_text(pattern: re.Pattern[str]) -> str | None:
    """The start of a text on which the pattern, or its part from a group on, takes too long; None if none was found."""
    if REPEATED_GROUP.search(pattern.pattern) is None or not sys.executable:
        return None
    asked = json.dumps([pattern.pattern, pattern.flags, LENGTH])
    try:
        said, too_long = _try(asked + "\n")
    except OSError:  # no process to be had: the pattern is taken as it is, as it would be without this check
        return None
    tried = said.splitlines()
    return f"{json.loads(tried[-1])[:12]}…" if too_long and tried else None


def _try(asked: str) -> tuple[str, bool]:
    """What the trial printed, and whether its time was up."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", TRIAL, str(LIMIT_S)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as trial:
        try:
            said, _ = trial.communicate(asked, timeout=WALL_S)
        except subprocess.TimeoutExpired:
            trial.kill()
            said, _ = trial.communicate()
            return said, True
    alarm = getattr(signal, "SIGVTALRM", None)  # what ends the trial where its processor time is limited
    return said, alarm is not None and trial.returncode == -alarm


SEARCHED = 50_000  # characters; a pattern of quadratic cost takes up to a minute for that many, hours for a megabyte
SHOWN = 200  # characters of a captured text that stand beside a score


def regex(
    *,
    pattern: str,
    group: int | str | None = None,
    find: Literal["first", "last"] = "first",
    numeric: bool = False,
    expected_pattern: str | None = None,
    negate: bool = False,
    multiline: bool = False,
    dotall: bool = False,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if a pattern is found in the output or, with a group, if what it captures equals an accepted answer.

    Args:
        pattern: A regular expression of Python's re.
        group: The group, by number or name, whose text is compared; 0 is the whole match. Without: only search.
        find: Which match to take where there are several.
        numeric: Compare numbers by value, so that $1,000.00 equals 1000.
        expected_pattern: Taken to the accepted answers first, with the same group, such as '#### (.+)'.
        negate: For a search without group: 1 if the pattern is not found.
        multiline: Let ^ and $ match at every line.
        dotall: Let the dot match line breaks as well.
        ignore_case: Take upper and lower case for the same, in the pattern and in the comparison.
        ignore_punctuation: Leave the punctuation of ASCII out of both texts before they are compared.
        ignore_articles: Leave the words a, an and the out of both texts before they are compared.
        ignore_whitespace: Take any run of blanks and line breaks for one blank.
        normalize: squad is all four of them, as in SQuAD's own evaluation.
    """
    flags = (re.IGNORECASE * ignore_case) | (re.MULTILINE * multiline) | (re.DOTALL * dotall)
    compiled = compile_pattern(pattern, flags, "pattern")
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    if group is None:
        if numeric or expected_pattern is not None or rule != Normalizer(case=ignore_case):
            raise ValueError("compares something only with 'group'; name the group whose text is the answer")
        return Scorer(Search(compiled, negate), Declaration(binary=True))
    if negate:
        raise ValueError("'negate' goes with a search; take out 'group', or 'negate'")
    check_group(compiled, group, "pattern")
    wanted = None if expected_pattern is None else compile_pattern(expected_pattern, flags, "expected_pattern")
    if wanted is not None:
        check_group(wanted, group, "expected_pattern")
    function = Extract(compiled, group, find == "last", numeric, wanted, rule)
    return Scorer(function, Declaration(binary=True, needs_expected=True))


def compile_pattern(pattern: str, flags: int, option: str) -> re.Pattern[str]:
    """The compiled pattern. Raises ValueError where it is broken, or would take forever on some texts."""
    if not pattern:
        raise ValueError(f"'{option}' is empty, and an empty pattern is found everywhere")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hints about future syntax; the pattern means today what it means today
            compiled = re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as broken:
        raise ValueError(f"'{option}' is not a regular expression: {broken}") from None
    text = slow_text(compiled)
    if text is not None:
        raise ValueError(
            f"'{option}' takes exponential time on texts with {text!r} in them, and an output may be one; "
            "let a repeated group start with something that its end cannot be, or make it possessive: (?:…)++"
        )
    return compiled


def check_group(compiled: re.Pattern[str], group: int | str, option: str) -> None:
    """Raises ValueError where a pattern has no such group."""
    if isinstance(group, str) and group not in compiled.groupindex:
        named = ", ".join(compiled.groupindex) or "none that have a name"
        raise ValueError(f"'{option}' has no group called {group!r}; it has {named}")
    if isinstance(group, int) and not 0 <= group <= compiled.groups:
        raise ValueError(f"'{option}' has no group {group}; it has {compiled.groups}")


@dataclass(frozen=True, slots=True)
class Search:
    """Whether the pattern is found in the first SEARCHED characters."""

    pattern: re.Pattern[str]
    negate: bool

    def __call__(self, output: str) -> bool | Score:
        found = self.pattern.search(output, 0, SEARCHED) is not None
        return told_if_cut(found != self.negate, output)


@dataclass(frozen=True, slots=True)
class Extract:
    """Whether what the pattern captures in the output equals an accepted answer."""

    pattern: re.Pattern[str]
    group: int | str
    last: bool
    numeric: bool
    expected_pattern: re.Pattern[str] | None
    rule: Normalizer

    def __call__(self, output: str, sample: Sample) -> Score | Skipped | Failure:
        answers = [answer for answer in sample.expected if answer.strip()]
        if not answers:
            return Skipped("the expected answer is blank")
        wanted = [found for answer in answers if (found := self._wanted(answer)) is not None]
        if not wanted:
            # A 0 here would blame the model for a pattern that does not fit the dataset.
            return Failure("function", f"'expected_pattern' finds nothing in the expected answer {answers[0][:80]!r}")
        said = capture(self.pattern, self.group, output, last=self.last)
        if said is None:
            return told_if_cut(False, output, "the pattern was not found")
        right = any(self._same(said, answer) for answer in wanted)
        return told_if_cut(right, output, f"captured {said[:SHOWN]!r}")

    def _wanted(self, answer: str) -> str | None:
        if self.expected_pattern is None:
            return answer
        return capture(self.expected_pattern, self.group, answer, last=self.last)

    def _same(self, said: str, answer: str) -> bool:
        equal = same_number(said, answer) if self.numeric else None
        if equal is not None:
            return equal
        rule, wanted = self.rule.of_answer(answer)
        return rule(said) == wanted


def capture(pattern: re.Pattern[str], group: int | str, text: str, *, last: bool) -> str | None:
    """What the group holds in the first match, or the last; None where nothing matches or the group took no part."""
    if last:
        newest = deque(pattern.finditer(text, max(0, len(text) - SEARCHED)), maxlen=1)
        found = newest[0] if newest else None
    else:
        found = pattern.search(text, 0, SEARCHED)
    captured: str | None = None if found is None else found[group]
    return captured


def told_if_cut(value: bool, output: str, explanation: str | None = None) -> Score:
    """The score; where only a part of the output was searched, that is said beside it."""
    score = Score(value, explanation)
    if len(output) <= SEARCHED:
        return score
    return replace(score, metadata={"searched_characters": SEARCHED, "output_characters": len(output)})
