"""A script for the fake server: a model that knows the answers of `suites/data/qa.csv`. It is no judge."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

from tests.fakes.server import Answer

QUESTIONS = Path(__file__).parents[2] / "suites" / "data" / "qa.csv"


@functools.cache
def known_answers() -> dict[str, str]:
    """The first accepted answer of every question."""
    with QUESTIONS.open(encoding="utf-8", newline="") as file:
        return {row["input"]: row["expected"].split("|")[0] for row in csv.DictReader(file)}


def knows(request: Any, _nth: int) -> Answer:
    """The answer to the last message; for a choice, the first option."""
    if not request.get("tools"):
        return Answer(known_answers().get(request["messages"][-1]["content"], "Who knows?"))
    function = request["tools"][0]["function"]
    choice = function["parameters"]["properties"]["choice"]["enum"][0]
    arguments = json.dumps({"reasons": "It is the first one.", "choice": choice})
    call = {"id": "1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return Answer(None, "tool_calls", message={"tool_calls": [call]})
