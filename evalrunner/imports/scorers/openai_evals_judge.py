"""Model-graded evals and graders of OpenAI. Yours to change: evalrun copied this file into the project.

The judge of the suite gets the messages of the old tool; a reply without a verdict is unscored, not wrong.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from evalrunner import Failure, Sample, Score, Unscored

FIELD = re.compile(r"\{\{|\}\}|\{(\w+)\}")
PATH = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


async def classify(
    output: str, sample: Sample, judge: Any, *, prompt: str, choices: Sequence[str], answer: str,
    scores: Mapping[str, float] | None = None, reasons_first: bool = False, values: Mapping[str, str] | None = None,
) -> Score | Unscored | Failure:  # fmt: skip
    """The score of the choice that the judge names; without scores 1, and the choice is in the parts.

    `answer` is the name of the output in the prompt, `{completion}`; `values` are those that no row has.
    """
    known = {
        **sample.metadata,
        "input": sample.input,
        "ideal": _text(list(sample.expected)),
        **(values or {}),
        answer: output,
    }

    def fill(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else _text(known.get(found[1], found[0]))

    reply = await judge.ask([{"role": "user", "content": FIELD.sub(fill, prompt)}])
    if isinstance(reply, Failure):
        return reply
    lines = reply.text.strip().split("\n")
    for line in reversed(lines) if reasons_first else lines:
        bare = "".join(sign for sign in line.strip() if sign not in string.punctuation)
        choice = next((item for item in choices if bare and (bare.startswith(item) or bare.endswith(item))), None)
        if choice is not None:
            parts = {item: float(item == choice) for item in choices}
            return Score(1.0 if scores is None else float(scores[choice]), f"{choice}: {reply.text[:500]}", parts=parts)
    return Unscored("judge", f"replied without a choice: {reply.text[:80]!r}")


async def label_model(
    output: str, sample: Sample, judge: Any, *, messages: Sequence[Mapping[str, str]], labels: Sequence[str],
    passing_labels: Sequence[str],
) -> Score | Unscored | Failure:  # fmt: skip
    """1 if the judge gives the answer a label that passes, else 0."""
    request = f"Reply with one of these labels and nothing else: {', '.join(labels)}"
    reply = await judge.ask([*_filled(messages, output, sample), {"role": "user", "content": request}])
    if isinstance(reply, Failure):
        return reply
    text = reply.text.strip()
    found = next((label for label in labels if text.strip("\"'`*. ").lower() == label.lower()), None)
    if found is None:
        last = text.split("\n")[-1]
        matches = [label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", last, re.IGNORECASE)]
        found = matches[0] if len(matches) == 1 else None
    if found is None:
        return Unscored("judge", f"replied without a label: {text[:80]!r}")
    return Score(float(found in set(passing_labels)), f"{found}: {text[:500]}")


async def score_model(
    output: str,
    sample: Sample,
    judge: Any,
    *,
    messages: Sequence[Mapping[str, str]],
    low: float = 0.0,
    high: float = 1.0,
) -> Score | Unscored | Failure:
    """The number that the judge gives the answer."""
    request = f"Reply with a number from {low:g} to {high:g} and nothing else."
    reply = await judge.ask([*_filled(messages, output, sample), {"role": "user", "content": request}])
    if isinstance(reply, Failure):
        return reply
    numbers = NUMBER.findall(reply.text)
    if len(numbers) != 1 or not low <= float(numbers[0]) <= high:
        return Unscored("judge", f"replied without a number from {low:g} to {high:g}: {reply.text[:80]!r}")
    return Score(float(numbers[0]), reply.text[:500])


def _filled(messages: Sequence[Mapping[str, str]], output: str, sample: Sample) -> list[dict[str, str]]:
    """The messages with `{{ item.… }}` and `{{ sample.output_text }}` replaced at once."""

    def fill(found: re.Match[str]) -> str:
        path = found[1].split(".")
        if path[:2] == ["sample", "output_text"]:
            return output
        value: Any = sample.metadata
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        return _text(value)

    return [{"role": item["role"], "content": PATH.sub(fill, item["content"])} for item in messages]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return (
        "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    )
