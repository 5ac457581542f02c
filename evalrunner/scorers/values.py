"""What scorers return, checked against what they declare."""

from __future__ import annotations

import inspect
import json
import math
from decimal import Decimal
from numbers import Real
from typing import Any

from evalrunner.domain import EMPTY, Declaration, Score

TOLERANCE = 1e-9  # what arithmetic may leave over the end of a range


def checked_value(value: Any, declaration: Declaration) -> float | str:
    """The finite number in range that `value` is; else the rest of a sentence that starts with "returned"."""
    number = float(value) if type(value) in (float, bool) else as_number(value)
    if isinstance(number, str):
        return number
    if not math.isfinite(number):
        return f"{number}, which is not a finite number"
    if declaration.binary and number not in (0.0, 1.0):
        return f"{number}, but declares that its scores are 0 or 1"
    low, high = declaration.low, declaration.high
    if low is not None and number < low:
        return low if number >= low - TOLERANCE else f"{number}, but declares that its scores start at {low}"
    if high is not None and number > high:
        return high if number <= high + TOLERANCE else f"{number}, but declares that its scores end at {high}"
    return number


def as_number(value: Any) -> float | str:
    """`value` as a float, if it is a number of Python's or numpy's; else what it is, in words."""
    try:
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()  # numpy's scalars and tensors of one value; numpy.bool is no number of Python's
        if isinstance(value, Real | Decimal):
            return float(value)
    except Exception:  # an object of someone's own may raise whatever it likes when it is looked at
        return f"{kind_of(value)} that does not fit a float"
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine; a function that awaits should be an `async def`"
    shown = f"the text {value[:80]!r}" if isinstance(value, str) else kind_of(value)
    return f"{shown}; it should return a number, True or False, None, or a Score of evalrun's"


def kind_of(value: Any) -> str:
    """`a dict`, `a pandas.DataFrame`: the type of a value, with its package where it is not Python's own."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return f"a {kind.__qualname__}" if package == "builtins" else f"a {package}.{kind.__qualname__}"


def detail_of(score: Score) -> dict[str, Any] | None:
    """Explanation and metadata of a score as plain data that any file can hold; None where there are none."""
    detail: dict[str, Any] = {}
    if score.metadata is not EMPTY:
        detail.update(plain_metadata(score.metadata))
    if score.explanation is not None:
        text = score.explanation
        detail["explanation"] = text if type(text) is str else str(plain_metadata({"said": text}).get("said"))
    return detail or None


def plain_metadata(metadata: Any) -> dict[str, Any]:
    """What a scorer of someone's own keeps beside a score, as JSON knows it; what JSON has no word for as its text."""
    try:
        plain = json.loads(json.dumps(metadata, default=str, allow_nan=False))
    except Exception:  # cycles, keys that are no text, NaN, objects without a text: no reason to lose a score
        plain = f"{kind_of(metadata)} that JSON cannot hold"
    return plain if isinstance(plain, dict) else {"metadata": plain}
