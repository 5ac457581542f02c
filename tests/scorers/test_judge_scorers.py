"""factuality and toxicity with backend: judge: the real autoevals with a scripted judge."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import string
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Completion, Declaration, Failure
from evalrunner.scorers import autoevals as factuality_module
from evalrunner.scorers import toxicity as toxicity_module
from evalrunner.scorers.autoevals import factuality
from evalrunner.scorers.autoevals_client import judge_client_class
from evalrunner.scorers.call import BoundScorer, call_async
from evalrunner.scorers.toxicity import toxicity
from tests.scorers.scorer_calls import HOSTILE, ScriptedJudge, cell_of, choosing, judged, sample, tool_call

ROOT = Path(__file__).parents[2]


def answering(answer: Completion | Failure) -> ScriptedJudge:
    return ScriptedJudge(lambda text: answer)


def test_judge_scorers_declare_range_and_backend() -> None:
    assert factuality().declaration == Declaration(needs_expected=True, backend=f"autoevals {version('autoevals')}")
    assert toxicity(backend="judge").declaration == Declaration(
        higher_is_better=False,
        aggregates=("mean", "variance", "p90", "ratio"),
        headline="mean",
        threshold=0.5,
        backend="judge",
    )


@pytest.mark.parametrize("pairs", [factuality_module.CALIBRATION_EXAMPLES, toxicity_module.CALIBRATION_EXAMPLES])
def test_two_dozen_calibration_examples_half_of_them_good(pairs) -> None:
    assert len(pairs) == 24 == len({pair.output for pair in pairs})
    assert sum(pair.good for pair in pairs) == 12
    assert factuality().calibration_examples is factuality_module.CALIBRATION_EXAMPLES
    assert toxicity(backend="judge").calibration_examples is toxicity_module.CALIBRATION_EXAMPLES


@pytest.mark.parametrize(("choice", "value"), [("A", 0.4), ("B", 0.6), ("C", 1.0), ("D", 0.0), ("E", 1.0)])
def test_the_choices_of_factuality_and_their_scores(choice, value) -> None:
    judge = answering(choosing(choice, "they agree"))
    cell = judged(factuality(), judge, "It is Paris.", "Paris", input="What is the capital of France?")
    assert cell == Cell(
        "scored", value, detail={"choice": choice, "explanation": "they agree"}, calls=tuple(judge.calls)
    )
    assert len(judge.calls) == 1


@pytest.mark.parametrize(("choice", "value"), [("none", 0.0), ("slight", 0.25), ("clear", 0.75), ("severe", 1.0)])
def test_the_choices_of_toxicity_and_their_scores(choice, value) -> None:
    cell = judged(toxicity(backend="judge"), answering(choosing(choice, "why")), "some text")
    assert cell.value == value
    assert cell.detail == {"backend": "judge", "choice": choice, "explanation": "why"}


def test_texts_reach_the_judge_unchanged() -> None:
    """The templates of autoevals would escape HTML as `&quot;`."""
    judge = answering(choosing("C"))
    output = '<b>"2 < 3"</b> & {{expected}} &quot;'
    judged(factuality(), judge, output, 'it\'s "<yes>"', input={"q": 'is "2 < 3"?'})
    (requested,) = judge.asked
    (message,) = requested["messages"]
    assert message["role"] == "user"
    assert f"[Submission]: {output}\n" in message["content"]
    assert '[Expert]: it\'s "<yes>"\n' in message["content"]
    assert '[Question]: {"q": "is \\"2 < 3\\"?"}\n' in message["content"]
    judge = answering(choosing("none"))
    judged(toxicity(backend="judge"), judge, output)
    assert f"************\n{output}\n************" in judge.asked[0]["messages"][0]["content"]


def test_the_judge_call_forces_a_tool_choice_and_sets_no_parameters() -> None:
    judge = answering(choosing("C"))
    judged(factuality(), judge, "x", "y")
    judged(factuality(use_cot=False), judge, "x", "y")
    forced = {"tool_choice": {"type": "function", "function": {"name": "select_choice"}}}
    assert [requested["params"] for requested in judge.asked] == [forced, forced]
    schemas = [requested["tools"][0]["function"]["parameters"] for requested in judge.asked]
    assert [schema["required"] for schema in schemas] == [["reasons", "choice"], ["choice"]]
    assert schemas[0]["properties"]["choice"]["enum"] == ["A", "B", "C", "D", "E"]


def test_several_accepted_answers_are_one_judge_call() -> None:
    judge = answering(choosing("C"))
    judged(factuality(), judge, "Bobby Scott", "Bobby Scott", " ", "Bob Russell")
    assert len(judge.asked) == 1
    wanted = "[Expert]: Any one of these answers is right by itself:\n- Bobby Scott\n- Bob Russell\n"
    assert wanted in judge.asked[0]["messages"][0]["content"]


def test_rows_without_an_expected_answer_make_no_judge_call() -> None:
    judge = answering(choosing("C"))
    assert judged(factuality(), judge, "x", " ") == Cell("skipped", reason="the expected answer is blank")
    assert cell_of(factuality(), "x") == Cell("skipped", reason="no expected answer")
    assert judge.asked == []


@pytest.mark.parametrize("name", ["gpt-5", "gpt-5-mini", "gpt-4o", "local/smollm2-135m-instruct", "o3"])
def test_the_judge_model_name_does_not_change_the_call(name) -> None:
    """autoevals sends models named gpt-5… to another API."""
    judge = answering(choosing("C"))
    judge.model = name
    assert judged(factuality(), judge, "x", "y").value == 1.0


UNREADABLE = [
    Completion("A good answer."),
    Completion("The submission is better than (C)."),
    Completion("GRADE: CI"),
    Completion('["choice"]'),
    Completion('{"grade": "C"}'),
    Completion('{"choice": "F"}'),
    Completion('{"choice": ["C"]}'),
    Completion('{"choice": null}'),
    Completion("[" * 100_000),
    choosing("F"),
    choosing(""),
    choosing("C, E"),
    choosing(None),
    choosing(1),
    choosing({"C": 1}),
    tool_call("{}"),
    tool_call("{nope"),
    tool_call(""),
    tool_call("null"),
    tool_call("[]"),
    tool_call("0"),
    tool_call(None),
    tool_call({"choice": "F"}),
    tool_call({"answer": {"choice": "C"}}),
    Completion("", "tool_calls", tool_calls=({},)),
    Completion("", "tool_calls", tool_calls=({"function": None},)),
    Completion("", "tool_calls", tool_calls=(None,)),  # type: ignore[arg-type]
    Completion("", "tool_calls", tool_calls=("C",)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("answer", UNREADABLE)
def test_an_unreadable_verdict_is_unscored_and_never_a_number(answer) -> None:
    for scorer in (factuality(), toxicity(backend="judge")):
        cell = judged(scorer, answering(answer), "x", "y")
        assert cell.state == "unscored" and cell.value is None
        assert cell.message is not None and cell.message.startswith("judge: unreadable verdict: ")
        assert len(cell.message) < 300 and "\n" not in cell.message
        assert len(cell.calls) == 1  # the call is recorded


def test_random_replies_are_never_a_score() -> None:
    """400 random replies with a fixed seed, as text and as tool arguments."""
    dice = random.Random(7)
    scorer = factuality()
    signs = string.printable.replace("\n", "").replace("\r", "") + '{}[]":,ABCDE' * 5 + "\ud800\0é"
    for _ in range(200):
        message = "".join(dice.choices(signs, k=dice.randrange(8, 60)))
        for answer in (Completion(message), tool_call(message)):
            cell = judged(scorer, answering(answer), "x", "y")
            assert (cell.state, cell.value) == ("unscored", None), (answer, cell)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Completion("", "length"), "the judge's reply was truncated"),
        (Completion('{"choice": "C"}', "length"), "the judge's reply was truncated"),
        (Completion("", "filtered"), "the judge's reply was filtered"),
        (Completion("I cannot help with that.", "refused"), "the judge's reply was refused"),
        (Completion("", "empty"), "the judge's reply was empty"),
        (Completion(" \n "), "the judge's reply was empty"),
    ],
)
def test_an_empty_judge_reply_is_unscored(answer, reason) -> None:
    judge = answering(answer)
    assert judged(factuality(), judge, "x", "y") == Cell(
        "unscored", reason=reason, calls=tuple(judge.calls), cause="judge"
    )


def test_tool_arguments_as_plain_text_are_a_verdict() -> None:
    """Servers without tools let the model write the JSON."""
    message = Completion('{"reasons": "same", "choice": "C"}')
    cell = judged(factuality(), answering(message), "x", "y")
    assert (cell.value, cell.detail) == (1.0, {"choice": "C", "explanation": "same"})
    assert judged(factuality(), answering(Completion("", "empty", tool_calls=choosing("C").tool_calls)), "x", "y").value


@pytest.mark.parametrize(
    "failure",
    [
        Failure("rate_limit", "429 after 5 tries", 429),
        Failure("auth", "401", 401, fatal=True),
        Failure("timeout", "after 60 s"),
        Failure("server", "503", 503),
    ],
)
def test_a_failed_call_is_returned_and_not_retried(failure) -> None:
    """Retries are up to the middleware: autoevals would retry a hundred times, for hours."""
    judge = answering(failure)
    assert judged(factuality(), judge, "x", "y") == Cell("error", reason=failure.message, cause=failure.kind)
    assert len(judge.asked) == 1


def test_a_judge_exception_is_an_error_and_not_an_unreadable_verdict() -> None:
    def broken(text: str) -> Completion:
        raise RuntimeError("a bug of our own")

    cell = judged(factuality(), ScriptedJudge(broken), "x", "y")
    assert cell.state == "error" and (cell.message or "").endswith("raised RuntimeError: a bug of our own")


@pytest.mark.parametrize("output", HOSTILE)
def test_hostile_outputs_do_not_break_the_judge_call(output) -> None:
    judge = answering(choosing("D"))
    assert judged(factuality(), judge, output, "y").value == 0.0
    assert output in judge.asked[0]["messages"][0]["content"]


def test_rows_are_judged_concurrently_each_with_its_own_judge() -> None:
    bound = BoundScorer.bind("factuality", factuality())

    async def judge_one(place: int) -> Cell:
        letter = "ABCDE"[place % 5]
        judge = ScriptedJudge(lambda text: choosing(letter if f"[Submission]: answer {place}\n" in text else "F"))
        return await call_async(bound, sample("y"), Completion(f"answer {place}"), judge)

    async def judge_all() -> list[Cell]:
        return await asyncio.gather(*(judge_one(place) for place in range(100)))

    cells = asyncio.run(judge_all())
    assert [cell.value for cell in cells] == [0.4, 0.6, 1.0, 0.0, 1.0] * 20


def test_no_other_host_is_contacted_even_with_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a socket was opened: {args[1:]}")

    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-sent-anywhere")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    judge = answering(choosing("C"))
    assert judged(factuality(), judge, "x", "y").value == 1.0
    assert judged(toxicity(backend="judge"), judge, "x").state == "unscored"  # it has no choice C
    assert len(judge.asked) == 2


ALONE = """
import asyncio, socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"a socket was opened: {args}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import evalrunner.scorers.text, evalrunner.scorers.autoevals, evalrunner.scorers.toxicity, evalrunner.scorers.python
from evalrunner.scorers.autoevals import factuality
from evalrunner.scorers.call import BoundScorer, call_async
from evalrunner.domain import Completion, Sample
heavy = {"autoevals", "openai", "sklearn", "numpy", "pandas", "profanity_check"}
bound = BoundScorer.bind("factuality", factuality())
assert not heavy & set(sys.modules), heavy & set(sys.modules)
class Judge:
    model = "gpt-5-mini"
    async def ask(self, messages, *, params, tools, response_format=None):
        call = {"type": "function", "function": {"name": "select_choice", "arguments": '{"choice": "C"}'}}
        return Completion("", "tool_calls", tool_calls=(call,))
cell = asyncio.run(call_async(bound, Sample("1", "q", ("y",)), Completion("x"), Judge()))
assert cell.value == 1.0, cell
print(sorted(heavy & set(sys.modules)))
"""


def test_a_fresh_process_with_a_key_calls_only_the_judge() -> None:
    """No client of openai is created, the package is not imported, and nothing is imported before it is needed."""
    env = {**os.environ, "OPENAI_API_KEY": "sk-not-to-be-sent-anywhere", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ALONE], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout.replace("'", '"'))) == (0, ["autoevals"]), done.stderr


def test_the_client_has_no_fallback() -> None:
    from autoevals.oai import LLMClient, prepare_openai

    client = judge_client_class()(answering(choosing("C")))
    assert isinstance(client, LLMClient) and prepare_openai(client=client, is_async=True) is client
    assert not client.is_wrapped  # by a tracer
    for name in ("openai", "chat", "responses"):
        assert not hasattr(client, name)
