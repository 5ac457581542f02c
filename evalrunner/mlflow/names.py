"""Names and texts as MLflow takes them: its rules are stricter than ours."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping

from evalrunner.redact import redact

ILLEGAL = re.compile(r"[^\w\-. :]")  # mlflow.utils.validation; / parts the steps of a name, so it stands in none
MARKUP = re.compile(r"[\\`<>\[\]]")
KEY_LENGTH = 250
TAG_LENGTH = 5000  # what servers before 2.16 take; newer ones 8,000
PARAM_LENGTH = 6000
ENDS = ("/low", "/high", "/n")
LONGEST = KEY_LENGTH - max(map(len, ENDS))


def metric_key(name: str, where: Mapping[str, str] | None = None) -> str:
    """The name of a metric in MLflow: `exact_match/v1`, of a slice `exact_match/v1/topic/law`.

    Brackets and `=` are not allowed there. What had to be changed gets the first digits of its hash, so that two names
    never become one.
    """
    steps = [*name.split("/"), *(part for pair in (where or {}).items() for part in pair)]
    key = "/".join(map(legal_step, steps))
    return key if len(key) <= LONGEST else f"{key[: LONGEST - 9]}-{_digits('/'.join(steps))}"


def legal_step(text: str) -> str:
    """One step of a name, between two slashes."""
    changed = ILLEGAL.sub("_", text)
    if changed.strip(". ") == "":  # nothing, or a step that means a folder
        changed = f"_{changed.strip('. ')}"
    return changed if changed == text else f"{changed}-{_digits(text)}"


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()[:8]


def tag_value(value: object) -> str:
    """A tag's value, cut to what servers take."""
    return cut(clean(str(value)), TAG_LENGTH)


def param_value(value: object) -> str:
    """A parameter's value, a list or mapping as JSON, cut to what servers take."""
    plain = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | Mapping) else str(value)
    return cut(clean(plain), PARAM_LENGTH)


def plain_markdown(text: str) -> str:
    """Text for a field that MLflow shows as Markdown: no pictures, links or HTML come of it, so nothing is loaded."""
    return MARKUP.sub(r"\\\g<0>", text)


def cut(text: str, length: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def clean(text: str) -> str:
    """Text that databases and JSON take: without keys, without NUL, half surrogates spelt out."""
    return redact(text).replace("\0", "").encode("utf-8", errors="backslashreplace").decode()


def harmless_as_json(text: str) -> bool:
    """Whether a server that reads a text as JSON, if it is some, gets on: not with endless digits or depth, or NaN.

    MLflow's refuses all spans of a request for one such text.
    """
    try:
        json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError:
        return True  # it is no JSON, so it stays a text
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse(text)
