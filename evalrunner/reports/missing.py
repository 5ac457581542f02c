"""The answers behind a metric in words: how many are scored, and why the others are not. The same in every output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from evalrunner.domain import FailureKind, Metric
from evalrunner.formatting import one_line, styled

ALWAYS: Final = ("latency", "token_count", "cost_usd", "ttft", "output_rate")  # measured in every run, without a scorer
UNTRUSTED: Final = "!"  # beside a value
UNTRUSTED_LEGEND: Final = "! untrusted: too few of the answers have a score"
MAX_REASON: Final = 60  # characters of a reason
MAX_REASONS: Final = 2  # of a count; run.json and the report have all
CAUSES: Final[Mapping[str, str]] = {
    "judge": "unreadable judge reply",
    "judge sanity check": "judge failed its sanity check",
    "server": "server error",
    "rate_limit": "rate limit",
    "auth": "API key rejected",
    "bad_request": "request rejected",
    "context_length": "input too long",
    "connection": "connection failed",
    "malformed": "malformed reply",
    "function": "exception in code",
    "missing": "no recorded output",
}
NO_ANSWER: Final[Mapping[str, str]] = {
    "length": "truncated",
    "empty": "empty answer",
    "tool_calls": "tool call",
    "extract": "nothing extracted",
    "choice": "no choice",
}
INTERVAL_MISSES: Final = 0.05  # of 95% intervals


def scored_text(metric: Metric, planned: int = 0) -> str:
    """The answers with a score: `300`; `299 of 300: 1 unscored (empty answer)`.

    With epochs `120 of 500 (24 samples): 380 errors (server error)`.
    """
    rest = missing_text(metric, planned)
    return f"{scored_count(metric, planned)}: {rest}" if rest else scored_count(metric, planned)


def scored_count(metric: Metric, planned: int = 0) -> str:
    """`300`, `299 of 300`; with epochs `120 of 500 (24 samples)`: the samples behind the number are fewer."""
    total = _total(metric, planned)
    return (f"{metric.scored:,}" if metric.scored == total else f"{metric.scored:,} of {total:,}") + _samples(metric)


def answers_texts(metrics: Iterable[Metric], planned: int = 0) -> list[str]:
    """The same as phrases: `120 of 500 answers scored (24 samples): 380 errors (server error)`."""
    return [_answers_text(metric, 0 if metric.slice else planned) for metric in metrics]


def _answers_text(metric: Metric, planned: int) -> str:
    rest = missing_text(metric, planned)
    return f"{_answers_scored(metric, planned)}{_samples(metric)}{f': {rest}' if rest else ''}"


def _answers_scored(metric: Metric, planned: int) -> str:
    total = _total(metric, planned)
    of = "" if metric.scored == total else f"{metric.scored:,} of "
    return f"{of}{total:,} answer{'' if total == 1 else 's'} scored"


def _samples(metric: Metric) -> str:
    """How many samples a number is of, if that are not as many as answers."""
    return f" ({metric.n:,} sample{'' if metric.n == 1 else 's'})" if metric.n != metric.scored else ""


def missing_text(metric: Metric, planned: int = 0) -> str:
    """`100 skipped (50%), 1 unscored (empty answer), 3 errors (timeout), 29 not run`; empty if every answer is scored."""
    total = _total(metric, planned)
    parts = []
    if metric.skipped:
        parts.append(f"{metric.skipped:,} skipped ({share(metric.skipped, total)})")
    if metric.unscored:
        parts.append(f"{metric.unscored:,} unscored{_why(metric, errors=False)}")
    if metric.errors:
        parts.append(f"{metric.errors:,} error{'s' if metric.errors > 1 else ''}{_why(metric, errors=True)}")
    if not_run := total - _total(metric):
        parts.append(f"{not_run:,} not run")
    return ", ".join(parts)


def count_columns(metric: Metric, planned: int = 0, *, why: bool = True) -> dict[str, str]:
    """The counts of answers without a score that are not zero, by column: `{"unscored": "1 (empty answer)"}`."""
    total = _total(metric, planned)
    counts = {
        "unscored": f"{metric.unscored:,}{_why(metric, errors=False) if why else ''}" if metric.unscored else "",
        "errors": f"{metric.errors:,}{_why(metric, errors=True) if why else ''}" if metric.errors else "",
        "skipped": f"{metric.skipped:,} ({share(metric.skipped, total)})" if metric.skipped else "",
        "not run": f"{not_run:,}" if (not_run := total - _total(metric)) else "",
    }
    return {name: text for name, text in counts.items() if text}


def _total(metric: Metric, planned: int = 0) -> int:
    """The answers of a metric: those that ended, or more where the run did not end."""
    return max(planned, metric.scored + metric.skipped + metric.unscored + metric.errors)


def is_marked(metric: Metric) -> bool:
    """Whether a value is marked as untrusted."""
    return not metric.trusted and metric.value is not None and metric.scorer not in ALWAYS


def value_cell(text: str, marked: bool) -> Any:
    """The text of a value, marked where it is untrusted: by a sign, as not every terminal has colors."""
    return styled(f"{text} {UNTRUSTED}", "magenta") if marked else styled(text)


def share(part: int, total: int) -> str:
    """A share in whole percent that does not round to none or all: `50%`, `under 1%`."""
    percent = 100 * part / total
    return "under 1%" if percent < 0.5 else "over 99%" if 99.5 <= percent < 100 else f"{percent:.0f}%"


def missing_texts(metrics: Iterable[Metric], planned: int = 0) -> Iterator[tuple[Metric, str]]:
    """The first metric of each scorer that lacks scores: `120 of 500 answers scored, 380 errors (server error)`."""
    seen: set[str] = set()
    for metric in metrics:
        if metric.slice is None and metric.scorer not in ALWAYS and metric.scorer not in seen:
            seen.add(metric.scorer)
            if missing := missing_text(metric, planned):
                untrusted = "" if metric.trusted else "; untrusted"
                yield metric, f"{_answers_scored(metric, planned)}, {missing}{untrusted}"


def missing_lines(metrics: Iterable[Metric], planned: int = 0) -> Iterator[str]:
    """The same with the name of the scorer: `exact_match: 120 of 500 answers scored, 380 errors (server error)`."""
    for metric, text in missing_texts(metrics, planned):
        yield f"{metric.scorer}: {text}"


def other_reading(reading: Mapping[str, Any]) -> str:
    """What a value is with the other setting of `on_no_answer`."""
    return "counting missing answers as 0" if reading["on_no_answer"] == "zero" else "excluding missing answers"


def side_by_side(intervals: int) -> str:
    """What the number of intervals that stand side by side means: each of them misses with 5%."""
    misses = INTERVAL_MISSES * intervals
    return f"{intervals} unadjusted 95% CIs side by side: on average {misses:.2g} of them miss the true value"


def _why(metric: Metric, *, errors: bool) -> str:
    """The most common reasons in brackets, with their counts if there are several."""
    found: Counter[str] = Counter()
    for text, count in ((metric.detail or {}).get("reasons") or {}).items():
        cause, _, reason = text.partition(": ")
        if (cause in get_args(FailureKind)) == errors:
            word = (
                NO_ANSWER.get(reason, one_line(reason, MAX_REASON))
                if cause == "no_answer"
                else CAUSES.get(cause, one_line(cause.replace("_", " "), MAX_REASON))
            )
            found[word] += count
    if not found:
        return ""
    if len(found) == 1:
        return f" ({next(iter(found))})"
    named = [f"{count:,} {word}" for word, count in found.most_common(MAX_REASONS)]
    return f" ({', '.join(named)}{', …' if len(found) > MAX_REASONS else ''})"
