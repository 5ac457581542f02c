"""Comparisons of OpenAI Evals. Yours to change: evalrun copied this file into the project."""

from __future__ import annotations

import json
import re
import string
from typing import Any

from evalrunner import Sample


def fuzzy_match(output: str, sample: Sample) -> bool:
    """FuzzyMatch: the normalized answer contains an ideal one, or is contained in one."""
    return any(_overlap(_normalized(output), _normalized(ideal)) for ideal in sample.expected)


def json_match(output: str, sample: Sample) -> bool:
    """JsonMatch: the answer is JSON equal to an ideal one; null equals nothing, as there."""
    try:
        value = json.loads(output)
    except (ValueError, RecursionError):
        return False
    return any(_equal(value, json.loads(ideal)) for ideal in sample.expected)


def _normalized(text: str) -> str:
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _overlap(one: str, other: str) -> bool:
    return one == other if not one or not other else one in other or other in one


def _equal(value: Any, ideal: Any) -> bool:
    if value is None or ideal is None:
        return False
    if isinstance(value, dict):
        keys = value.keys() | ideal.keys() if isinstance(ideal, dict) else ()
        return isinstance(ideal, dict) and all(_equal(value.get(key), ideal.get(key)) for key in keys)
    if isinstance(value, list):
        same = isinstance(ideal, list) and len(value) == len(ideal)
        return same and all(_equal(one, other) for one, other in zip(value, ideal, strict=True))
    return bool(value == ideal)
