"""The scorer `regex`: whether a pattern matches. A search that takes too long is an error of its cell.

Patterns that certainly take exponential time are refused before the run.
"""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass, field, replace
from typing import Literal

from evalrunner.capabilities import InlineForSome, SampleFilter, SampleValidator
from evalrunner.domain import Declaration, Failure, Sample, Score, Scorer, Skipped
from evalrunner.limits import STANDARD, Limits
from evalrunner.matching import MAX_SEARCHED_LENGTH, Pattern, SearchFailed, compiles_soon
from evalrunner.plugins import PluginContext, main_option
from evalrunner.redact import redact_start
from evalrunner.scorers.text import Normalizer, normalizer, same_number, texts_of

REPEATED_GROUP = re.compile(r"\)[*+{]")  # without one, the cost is polynomial
TRIAL_LENGTH = 60  # characters: 1.6 ** 60, the slowest exponential growth, takes years; 60 ** 3 milliseconds
CPU_LIMIT_S = 1.0  # of one search; CPU time, so that a busy machine does not look like a slow pattern
TRIALS_S = 2.0  # of all searches that are fast
WALL_LIMIT_S = 20.0  # where CPU time cannot be limited (Windows)
MAX_UNTESTED_LENGTH = 1_000  # characters of a pattern that compiles at once, whatever it is
SIGN = r"[^\\^$.|?*+()\[\]{}]"  # a character that stands for itself
LITERAL = re.compile(rf"{SIGN}+(?![*?+{{])")  # at the start of a pattern

TRIAL_CODE = """
import json, re, signal, sys, time
pattern, flags, length, start = json.loads(sys.stdin.readline())
limit_s, all_s = map(float, sys.argv[1:])
compiled = re.compile(pattern, flags)
signs = [chr(code) for code in range(32, 127)] + ["\\n", "\\u00e9"]
own = dict.fromkeys(sign for sign in pattern if sign > "\\x7f")
units = [*signs, *own, *sorted({a + b for a in pattern[:20] for b in pattern[:20] if a != b})]
for text in [begin + (unit * length)[:length] + "\\0" for unit in units for begin in dict.fromkeys(["", start])]:
    if hasattr(signal, "ITIMER_VIRTUAL"):
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    print(json.dumps(text), flush=True)
    compiled.search(text)
    if time.process_time() > all_s:
        break
"""

MAX_FAILURES = 3  # expected answers on which a pattern is too slow
MAX_CAPTURE_LENGTH = 200  # characters of a captured text in an explanation


@main_option("pattern")
def regex(
    context: PluginContext | None = None,
    *,
    pattern: str,
    value: str | list[str] | None = None,
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
    match_timeout: float | None = None,
) -> Scorer:
    """1 if a pattern is found in the output, else 0. With a group: 1 if the captured text equals an accepted answer.

    Args:
        pattern: A regular expression of Python's re.
        value: Text, or several, to compare with instead of the accepted answers.
        group: The group, by number or name, whose text is compared; 0 is the whole match. Without: only search.
        find: Which match to use if there are several.
        numeric: Compare numbers by value, so that $1,000.00 equals 1000.
        expected_pattern: Applied to the accepted answers first, with the same group, such as '#### (.+)'.
        negate: For a search without group: 1 if the pattern is not found.
        multiline: Let ^ and $ match at each line.
        dotall: Let the dot match line breaks as well.
        ignore_case: Ignore case, in the pattern and in the comparison.
        ignore_punctuation: Remove ASCII punctuation from both texts before they are compared.
        ignore_articles: Remove the words a, an and the from both texts before they are compared.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
        match_timeout: Maximum CPU time of one search in seconds; a longer one is an error of its row. Default: 5.
    """
    limit_s = match_limit(match_timeout, STANDARD if context is None else context.limits)
    flags = (re.IGNORECASE * ignore_case) | (re.MULTILINE * multiline) | (re.DOTALL * dotall)
    compiled = compile_pattern(pattern, flags, "pattern", limit_s, group)
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    if group is None:
        if numeric or expected_pattern is not None or value is not None or rule != Normalizer(case=ignore_case):
            raise ValueError("compares texts only with 'group'; name the group that captures the answer")
        return Scorer(Search(compiled, negate), Declaration(binary=True))
    check_comparison(negate, value, expected_pattern)
    expected = _reference_pattern(expected_pattern, flags, limit_s, group)
    extract = Extract(compiled, group, find == "last", numeric, expected, rule, value=texts_of(value))
    return Scorer(extract, Declaration(binary=True, needs_expected=value is None))


def _reference_pattern(pattern: str | None, flags: int, limit_s: float, group: int | str) -> Pattern | None:
    return None if pattern is None else compile_pattern(pattern, flags, "expected_pattern", limit_s, group)


def check_comparison(negate: bool, value: str | list[str] | None, expected_pattern: str | None) -> None:
    """Raises ValueError for options that cannot be combined with a group, or with each other."""
    if negate:
        raise ValueError("'negate' cannot be combined with 'group'; remove one of them")
    if value is not None and expected_pattern is not None:
        raise ValueError("'expected_pattern' is for accepted answers, which 'value' replaces; remove one of them")


def match_limit(wanted: float | None, limits: Limits) -> float:
    """The limit of a search in seconds. Raises ValueError if the option is too large, or not positive."""
    if wanted is None:
        return limits.match_s
    if not 0 < wanted < float("inf"):
        raise ValueError("'match_timeout' should be more than 0 seconds")
    if limits.fixed and wanted > limits.match_s:
        raise ValueError(f"'match_timeout' is {wanted:g}; an untrusted suite has at most {limits.match_s:g} s")
    return wanted


@functools.lru_cache(maxsize=256)
def slow_text(pattern: re.Pattern[str]) -> str | None:
    """The start of a text on which a search takes too long; None if none was found."""
    if REPEATED_GROUP.search(pattern.pattern) is None or not sys.executable:
        return None
    start = LITERAL.match(pattern.pattern)
    request = json.dumps([pattern.pattern, pattern.flags, TRIAL_LENGTH, start[0] if start else ""])
    try:
        output, too_long = _run_trial(request + "\n")
    except OSError:  # no process can be started: the pattern is accepted unchecked
        return None
    trials = output.splitlines()
    return f"{json.loads(trials[-1])[: 12 + (start.end() if start else 0)]}…" if too_long and trials else None


def _run_trial(request: str) -> tuple[str, bool]:
    """The output of the trial, and whether it ran out of time."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", TRIAL_CODE, str(CPU_LIMIT_S), str(TRIALS_S)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as trial:
        try:
            output, _ = trial.communicate(request, timeout=WALL_LIMIT_S)
        except subprocess.TimeoutExpired:
            trial.kill()
            output, _ = trial.communicate()
            return output, True
    alarm = getattr(signal, "SIGVTALRM", None)  # ends the trial where its CPU time is limited
    return output, alarm is not None and trial.returncode == -alarm


def compile_pattern(pattern: str, flags: int, option: str, limit_s: float, group: int | str | None) -> Pattern:
    """The compiled pattern. Raises ValueError if it is invalid, lacks the group, or takes exponential time on some texts."""
    if not pattern:
        raise ValueError(f"'{option}' is empty, and an empty pattern matches every text")
    if len(pattern) > MAX_UNTESTED_LENGTH and not compiles_soon(pattern, flags):
        raise ValueError(f"'{option}' takes too long to compile; make it shorter, or write it without ignore_case")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about future syntax
            compiled = re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as broken:
        raise ValueError(f"'{option}' is not a regular expression: {broken}") from None
    check_group(compiled, group, option)
    text = slow_text(compiled)
    if text is not None:
        raise ValueError(
            f"'{option}' takes exponential time on texts with {text!r} in them, and an output may have it; "
            "let a repeated group start with a character that cannot end it, or make it possessive: (?:…)++"
        )
    return Pattern(compiled, option, limit_s)


def check_group(compiled: re.Pattern[str], group: int | str | None, option: str) -> None:
    """Raises ValueError if a pattern has no such group."""
    if isinstance(group, str) and group not in compiled.groupindex:
        named = ", ".join(compiled.groupindex) or "no named groups"
        raise ValueError(f"'{option}' has no group called {group!r}; it has {named}")
    if isinstance(group, int) and not 0 <= group <= compiled.groups:
        raise ValueError(f"'{option}' has no group {group}; it has {compiled.groups}")


@dataclass(frozen=True, slots=True)
class Search(InlineForSome):
    """Whether the pattern is found in the first `MAX_SEARCHED_LENGTH` characters."""

    pattern: Pattern
    negate: bool

    def __call__(self, output: str) -> bool | Score | Failure:
        try:
            matches = self.pattern.find(output) is not None
        except SearchFailed as failed:
            return Failure("timeout", str(failed))
        return with_searched_length(matches != self.negate, output)

    def is_quick(self, output: str) -> bool:
        """Whether the search ends so soon that it needs no thread."""
        return self.pattern.is_quick(output)


@dataclass(frozen=True, slots=True)
class Extract(SampleFilter, SampleValidator):
    """Whether the text that the pattern captures in the output equals an accepted answer."""

    pattern: Pattern
    group: int | str
    last: bool
    numeric: bool
    expected_pattern: Pattern | None
    rule: Normalizer
    failures: list[SearchFailed] = field(default_factory=list, compare=False)
    value: tuple[str, ...] | None = None

    def __call__(self, output: str, sample: Sample) -> Score | Skipped | Failure:
        answers = self.value or [answer for answer in sample.expected if answer.strip()]
        if not answers:
            return Skipped("the expected answer is blank")
        try:
            wanted = [reference for answer in answers if (reference := self._reference(answer)) is not None]
            if not wanted:
                # a 0 would blame the model for a pattern that does not fit the dataset
                return Failure(
                    "function",
                    f"'expected_pattern' finds nothing in the expected answer {redact_start(answers[0], 80)!r}",
                )
            captured = self._capture(self.pattern, output)
        except SearchFailed as failed:
            return Failure("timeout", str(failed))
        if captured is None:
            return with_searched_length(False, output, "the pattern was not found")
        right = any(self._same(captured, answer) for answer in wanted)
        return with_searched_length(right, output, f"captured {redact_start(captured, MAX_CAPTURE_LENGTH)!r}")

    def check(self, sample: Sample) -> str | None:
        """That a search in the accepted answers takes too long; after a few of them, none is searched again."""
        if self.expected_pattern is None:
            return None
        if len(self.failures) >= MAX_FAILURES:
            return str(self.failures[-1])
        try:
            for answer in sample.expected:
                self._reference(answer)
        except SearchFailed as failed:
            self.failures.append(failed)
            return str(failed)
        return None

    def skip_reason(self, sample: Sample) -> str | None:
        """That `expected_pattern` finds nothing; None if it finds something in one of the accepted answers."""
        if self.expected_pattern is None or self.failures:
            return None
        try:
            finds = any(self._reference(answer) for answer in sample.expected)
        except SearchFailed:  # `check` reports it
            return None
        return None if finds else "'expected_pattern' finds nothing in the expected answer"

    def _reference(self, answer: str) -> str | None:
        return answer if self.expected_pattern is None else self._capture(self.expected_pattern, answer)

    def _capture(self, pattern: Pattern, text: str) -> str | None:
        """The text of the group; None if nothing matches or the group is not in the match."""
        match = pattern.find(text, self.group, last=self.last)
        return None if match is None else match[0]

    def _same(self, captured: str, answer: str) -> bool:
        equal = same_number(captured, answer) if self.numeric else None
        if equal is not None:
            return equal
        rule, wanted = self.rule.of_answer(answer)
        return rule(captured) == wanted


def with_searched_length(value: bool, output: str, explanation: str | None = None) -> Score:
    """The score; if only a part of the output was searched, its metadata has both lengths."""
    score = Score(value, explanation)
    if len(output) <= MAX_SEARCHED_LENGTH:
        return score
    return replace(score, metadata={"searched_characters": MAX_SEARCHED_LENGTH, "output_characters": len(output)})
