"""The checks of a row, read from the detail of its cells: which passed, which failed and why, which were not judged.

The detail comes from a row log, and its texts from data, models and judges: anything that is not as expected is left out,
and every text is escaped by the report that shows it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evalrunner.domain import Cell, Row
from evalrunner.formatting import one_line

PASSED: Final = "✓"
FAILED: Final = "✗"
UNJUDGED: Final = "?"
MAX_LABEL: Final = 60  # characters of a check in a list of several
MAX_WHY: Final = 160  # characters of a reason in it
MAX_LISTED: Final = 4  # failing checks of a row in a summary; the report has all


@dataclass(slots=True)  # not frozen, which would take half of the time that reports need for checks
class CheckResult:
    """One check of a row. `passed` is None where it was skipped, or could not be judged.

    `depth` is how many groups it is in. `decides` is False for a group of which all have to pass, whose checks speak for
    it, and for checks in a group that passes, or of which one is enough.
    """

    text: str
    type: str = ""
    name: str = ""
    passed: bool | None = None
    value: float | None = None
    weight: float = 1.0
    state: str = "scored"
    why: str = ""
    extracted: str | None = None
    depth: int = 0
    decides: bool = True

    @property
    def label(self) -> str:
        """The name of the check, or what it checks: `refusal_tone`, `contains: 30 days`."""
        return self.name or self.text or self.type

    @property
    def group(self) -> str:
        """The name under which a run counts the check: its own, or that of its type."""
        return self.name or self.type or self.text

    @property
    def is_unjudged(self) -> bool:
        """Whether it should have a result, and has none."""
        return self.passed is None and self.state != "skipped"


def checks_of(cell: Cell | None) -> tuple[CheckResult, ...]:
    """The checks in the detail of a cell; none in cells of other scorers."""
    listed = None if cell is None or cell.detail is None else cell.detail.get("checks")
    if listed is None or (type(listed) is not list and (not isinstance(listed, Sequence) or isinstance(listed, str))):
        return ()
    results: dict[int, CheckResult] = {}
    is_open: dict[int, bool] = {}  # whether a failure of the checks in a group fails the row
    for place, entry in enumerate(listed):
        if type(entry) is not dict and not isinstance(entry, Mapping):
            continue
        group = entry.get("group")
        is_all = entry.get("type") == "all"
        if group is None and not is_all:  # nearly always
            is_open[place] = False
            results[place] = _result(entry, 0, decides=True)
            continue
        group = group if isinstance(group, int) and group in results else None
        decides = group is None or is_open[group]
        is_open[place] = decides and is_all and entry.get("passed") is not True
        depth = 0 if group is None else results[group].depth + 1
        results[place] = _result(entry, depth, decides=decides and not is_all)
    return tuple(results.values())


def row_checks(cells: Mapping[str, Cell]) -> Iterator[CheckResult]:
    """The checks of all cells of a row."""
    for cell in cells.values():
        yield from checks_of(cell)


def failing_checks(row: Row) -> list[CheckResult]:
    """The checks that a row fails, those with the most weight first."""
    failing = (check for check in row_checks(row.cells) if check.passed is False and check.decides)
    return sorted(failing, key=lambda check: -check.weight)


def failing_text(row: Row) -> str:
    """`✗ contains: 30 days · refusal_tone: it names no period`: the failing checks of a row on one line, the first few."""
    failing = failing_checks(row)
    parts = [check_line(check) for check in failing[:MAX_LISTED]]
    more = len(failing) - len(parts)
    return f"{FAILED} {' · '.join([*parts, *([f'{more} more'] if more else [])])}" if parts else ""


def check_line(check: CheckResult, *, label: int = MAX_LABEL, why: int = MAX_WHY) -> str:
    """A check with its reason on one line, each cut to that many characters: `refusal_tone: it names no period`.

    A named check without a reason has what it checks in its place.
    """
    reason = one_line(check.why or (check.text if check.name else ""), why)
    return f"{one_line(check.label, label)}: {reason}" if reason else one_line(check.label, label)


def changed_checks(before: Row, after: Row) -> tuple[list[CheckResult], list[CheckResult]]:
    """The checks of a row that fail now and did not before, and those that pass now and failed before.

    Checks are the same where their names and texts are; of equal ones their numbers are compared.
    """
    was, now = (
        Counter(_key(check) for check in row_checks(row.cells) if check.passed is False and check.decides)
        for row in (before, after)
    )
    known = [{_key(check) for check in row_checks(row.cells)} for row in (before, after)]
    broken = [
        check
        for check in _distinct(row_checks(after.cells))
        if now[_key(check)] > was[_key(check)] and _key(check) in known[0]
    ]
    fixed = [
        check
        for check in _distinct(row_checks(before.cells))
        if was[_key(check)] > now[_key(check)] and _key(check) in known[1]
    ]
    return broken, fixed


def _key(check: CheckResult) -> tuple[str, str]:
    return check.name, check.text


def _distinct(checks: Iterable[CheckResult]) -> list[CheckResult]:
    return list({_key(check): check for check in checks}.values())


def _result(entry: Mapping[str, Any], depth: int, *, decides: bool) -> CheckResult:
    get = entry.get
    text, kind, name, state = get("text"), get("type"), get("name"), get("state")
    passed, value, weight = get("passed"), get("value"), get("weight", 1.0)
    extracted, reason, explanation = get("extracted"), get("reason"), get("explanation")
    return CheckResult(
        text if type(text) is str else "",
        kind if type(kind) is str else "",
        name if type(name) is str else "",
        passed if type(passed) is bool else None,
        None if value is None else _number(value),
        1.0 if weight == 1 and weight is not True else _number(weight) or 0.0,
        state if type(state) is str and state else "scored",
        _why(reason, explanation) if reason or explanation else "",
        extracted if type(extracted) is str else None,
        depth,
        decides,
    )


def _why(*texts: Any) -> str:
    """The texts that are there, each once."""
    return "; ".join(filter(None, dict.fromkeys(text for text in texts if isinstance(text, str))))


def _number(value: Any) -> float | None:
    if type(value) is float and math.isfinite(value):
        return value  # nearly always
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
