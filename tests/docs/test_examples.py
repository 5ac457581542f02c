"""Every example of the docs is run, and says what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import PAGES, ROOT, needs, open_workplace, read_examples
from tests.fakes.server import Action, Answer, ScriptedServer
from tests.suites.knowing import knows

README = ROOT / "README.md"  # its commands are new processes, as those of a user
RUN = ("sh", "python", "yaml")  # languages whose blocks are examples


def pages() -> list[Any]:
    """The pages with something to run, marked with what they need."""
    result = []
    for page in PAGES:
        if any(example.verb in ("run", "in") for example in read_examples(page)):
            wanted = sorted(needs(page) & {"model", "local", "litellm", "mlflow"})
            marks = [getattr(pytest.mark, what) for what in [*wanted, *(["slow"] if "mlflow" in wanted else [])]]
            result.append(pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks))
    return result


def answer(request: Any, nth: int) -> Action:
    """The answer of `knows`; a model that was sent tools asks for the weather of the cities in the question."""
    if "get_weather" not in json.dumps(request.get("tools")):
        return knows(request, nth)
    cities = [city for city in ("Paris", "Rome", "Oslo") if city in request["messages"][-1]["content"]]
    if not cities:
        return Answer("You are welcome.")
    functions = [{"name": "get_weather", "arguments": json.dumps({"city": city})} for city in reversed(cities)]
    calls = [{"id": f"c{i}", "type": "function", "function": function} for i, function in enumerate(functions)]
    return Answer(None, "tool_calls", message={"tool_calls": calls})


@pytest.mark.parametrize("page", pages())
def test_all_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    with ScriptedServer(answer) as server:
        env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-none", "LITELLM_BASE_URL": server.base_url}
        place = open_workplace(tmp_path, fresh=page == README, **(env if "server" in needs(page) else {}))
        for example in read_examples(page):
            place.do(example)
        place.finish(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_declares_how_it_is_run(page: Path) -> None:
    silent = [example.place for example in read_examples(page) if example.language in RUN and example.verb is None]
    assert silent == []
