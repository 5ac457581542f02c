"""The scorer `factuality` and other LLM classifiers of autoevals, called through the judge of the suite only.

Without a client, autoevals calls a gateway of its vendor and sends it the OpenAI key. So each call gets a client that
can only ask the judge. It is a subclass of autoevals' `LLMClient` that skips its constructor, which imports openai,
wraps clients with a tracer if one is installed, and sends models named `gpt-5…` to another API than the judge speaks.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evalrunner.domain import (
    CalibrationExample,
    Declaration,
    Failure,
    Judge,
    Outcome,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.formatting import plain_text
from evalrunner.redact import redact_message
from evalrunner.scorers.judge_replies import NoVerdict, Verdict, VerdictFormat, options_in, read_verdict

MAX_REASON_LENGTH = 200  # characters of the reason why a verdict is unreadable

_loading = threading.Lock()

# Good outputs say the same in other words, so no comparison of strings passes; bad ones differ in the one word that
# matters. No output is a part of the accepted answer or adds to it, since those cases are a matter of opinion. The first
# six of each side are the first stage of the check, the others the second.
CALIBRATION_EXAMPLES = (
    CalibrationExample(
        "What is the capital of Australia?", "Canberra", "The capital is the city of Canberra.", good=True
    ),
    CalibrationExample(
        "What is the capital of Australia?", "Canberra", "The capital is the city of Sydney.", good=False
    ),
    CalibrationExample("How many legs does a spider have?", "Eight", "Spiders have 8 legs.", good=True),
    CalibrationExample("How many legs does an insect have?", "Six", "Insects have 8 legs.", good=False),
    CalibrationExample(
        "When did the Berlin Wall fall?",
        "On November 9, 1989",
        "It came down on the ninth of November 1989.",
        good=True,
    ),
    CalibrationExample(
        "When did people first walk on the Moon?", "In July 1969", "They first walked on it in July 1996.", good=False
    ),
    CalibrationExample(
        "Does water boil at a lower temperature on a high mountain than at sea level?",
        "Yes, because the air pressure is lower there.",
        "It does: up there the pressure of the air is lower, so boiling starts at a lower temperature.",
        good=True,
    ),
    CalibrationExample(
        "Does the Sun go around the Earth?",
        "No, the Earth goes around the Sun.",
        "Yes, the Sun goes around the Earth.",
        good=False,
    ),
    CalibrationExample(
        "Which is larger, the Atlantic or the Pacific Ocean?",
        "The Pacific is larger.",
        "Of the two oceans it is the Pacific.",
        good=True,
    ),
    CalibrationExample(
        "Which planet is closer to the Sun, Venus or Mars?",
        "Venus is closer.",
        "Of the two planets it is Mars.",
        good=False,
    ),
    CalibrationExample("On which continent is Egypt?", "Africa", "Egypt is an African country.", good=True),
    CalibrationExample(
        "Which gas do plants take in for photosynthesis?",
        "Carbon dioxide",
        "Plants take in oxygen for photosynthesis.",
        good=False,
    ),
    CalibrationExample("What is the freezing point of water in degrees Celsius?", "0", "Zero.", good=True),
    CalibrationExample("What is 12 times 12?", "144", "It is 124.", good=False),
    CalibrationExample("Who wrote the play Romeo and Juliet?", "Shakespeare", "Its author is Shakespeare.", good=True),
    CalibrationExample(
        "Who painted the Mona Lisa?", "Leonardo da Vinci", "It was painted by Michelangelo.", good=False
    ),
    CalibrationExample(
        "How much does the patient weigh?",
        "2.5 kilograms",
        "If you read the chart and convert the number that it gives to the smaller unit, you get 2,500 grams.",
        good=True,
    ),
    CalibrationExample(
        "How long is the course?",
        "Three weeks",
        "According to the schedule, which lists every session with its room and its teacher, the course takes 3 months.",
        good=False,
    ),
    CalibrationExample(
        "Is a whale a fish?",
        "No, it is a mammal.",
        "It is not. Whales belong to the mammals, as people do.",
        good=True,
    ),
    CalibrationExample("Is a bat a bird?", "No, it is a mammal.", "Yes.", good=False),
    CalibrationExample(
        "Why do we see lightning before we hear the thunder?",
        "Because light travels faster than sound.",
        "Sound is slower than light, so the noise reaches us after the flash.",
        good=True,
    ),
    CalibrationExample(
        "Why does ice float on water?",
        "Because ice is less dense than water.",
        "It floats because frozen water has a higher density than liquid water.",
        good=False,
    ),
    CalibrationExample("Which month comes right before April?", "March", "The third month of the year.", good=True),
    CalibrationExample(
        "Which is the largest planet of the solar system?", "Jupiter", "Saturn is the largest.", good=False
    ),
)


def factuality(*, use_cot: bool = True) -> Scorer:
    """How well the facts of the output agree with the accepted answer, by a judge (Factuality of autoevals).

    Args:
        use_cot: Let the judge write its reasons before it chooses; they are stored with the score.
    """

    def make(autoevals: Any) -> Any:
        # Placeholders, so that autoevals looks for neither a client nor a model; each call brings its own client.
        return autoevals.Factuality(client=object(), model="judge", use_cot=use_cot)

    declaration = Declaration(needs_expected=True, backend=f"autoevals {autoevals_version()}")
    return Scorer(Factuality(Classifier(make)), declaration, CALIBRATION_EXAMPLES)


class Factuality:
    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    async def __call__(self, output: str, input: Any, sample: Sample, judge: Judge) -> Outcome:
        answers = [answer for answer in sample.expected if answer.strip()]
        if not answers:
            return Skipped("the expected answer is blank")
        return await self.classifier.ask(judge, output=output, expected=expected_text(answers), input=plain_text(input))


class EndpointFailed(Exception):
    """The judge's endpoint failed: carries the failure through autoevals, which retries nothing of this type."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class NoVerdictFound(Exception):
    """The judge's reply has no verdict: carries the reason through autoevals."""

    def __init__(self, verdict: NoVerdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


def autoevals_version() -> str:
    """The installed version, without importing the package. Raises ValueError if it is not installed."""
    try:
        return version("autoevals")
    except PackageNotFoundError:
        raise ValueError("needs the package autoevals, which is not installed: pip install autoevals") from None


class Classifier:
    """An LLM classifier of autoevals, created on the first call; the import takes almost a second, in a thread."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._classifier: Any = None

    async def ask(self, judge: Judge, **values: Any) -> Outcome:
        """The score with the judge's choice and rationale; Unscored if the verdict is unreadable.

        `values` are the variables of the classifier's template, which the judge may quote. A failed call is returned as
        its Failure.
        """
        if self._classifier is None:
            self._classifier = await asyncio.to_thread(self._load)
        classifier = copy.copy(self._classifier)  # rows are judged concurrently, each with its own client
        graded = [value for value in values.values() if isinstance(value, str)]
        classifier.client = client = judge_client_class()(judge, graded)
        try:
            result = await classifier.eval_async(**values)
        except EndpointFailed as failed:
            return failed.failure
        except NoVerdictFound as found:
            return found.verdict
        except Exception as unreadable:  # autoevals raises many types
            if not client.replied:
                raise  # no reply was read yet, so the reply is not the cause
            return Unscored("judge", f"unreadable verdict: {describe_error(unreadable)}")
        return score_from(result)

    def _load(self) -> Any:
        with _loading:
            import autoevals

            return self._classifier or self._make(autoevals)


def score_from(result: Any) -> Outcome:
    """The score for a result of autoevals."""
    metadata = result.metadata if isinstance(result.metadata, Mapping) else {}
    if result.score is None:
        return Unscored("judge", "unreadable verdict: it has no score")
    rationale = metadata.get("rationale")
    if rationale is not None and not isinstance(rationale, str):
        rationale = json.dumps(rationale, ensure_ascii=False)
    return Score(float(result.score), rationale, {"choice": metadata.get("choice")})


def describe_error(crash: Exception) -> str:
    """An exception as one short line without secrets."""
    message = " ".join(str(crash).split())
    text = redact_message(f"{type(crash).__name__}: {message}" if message else type(crash).__name__)
    return text if len(text) <= MAX_REASON_LENGTH else text[:MAX_REASON_LENGTH] + "…"


@functools.cache
def judge_client_class() -> Any:
    """The class of clients that ask a judge, created after autoevals is imported."""
    from autoevals.oai import LLMClient

    class UnusedRateLimitError(Exception):
        """Replaces openai's RateLimitError, on which autoevals would retry for hours. Nothing raises it."""

    class JudgeClient(LLMClient):  # type: ignore[misc]
        def __init__(self, judge: Judge, graded: Sequence[str] = ()) -> None:
            self.judge = judge
            self.graded = graded
            self.replied = False
            self.is_async = True
            self._is_wrapped = False
            self.RateLimitError = UnusedRateLimitError

        async def complete(
            self, *, messages: list[Any], tools: list[Any] | None = None, model: str | None = None, **params: Any
        ) -> dict[str, Any]:
            answer = await self.judge.ask(messages, params=params, tools=tools or ())
            if isinstance(answer, Failure):
                raise EndpointFailed(answer)
            self.replied = True
            verdict = read_verdict(answer, format_of(tools or (), messages), self.graded)
            if isinstance(verdict, NoVerdict):
                raise NoVerdictFound(verdict)
            return {"choices": [{"index": 0, "message": message_of(verdict), "finish_reason": "tool_calls"}]}

    return JudgeClient


def format_of(tools: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]] = ()) -> VerdictFormat:
    """The verdict that a classifier asks for: a choice from the list in the schema of its tool."""
    choice = tools[0]["function"]["parameters"]["properties"]["choice"] if tools else {}
    prompt = messages[-1].get("content") if messages else None
    return _verdict_format(tuple(choice.get("enum", ())), options_in(prompt) if isinstance(prompt, str) else ())


@functools.lru_cache(64)
def _verdict_format(labels: tuple[str, ...], options: tuple[str, ...]) -> VerdictFormat:
    """The format, made once: its patterns are compiled at their first use."""
    return VerdictFormat("choice", "reasons", labels, options)


def message_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the call of the tool that autoevals reads."""
    arguments = {"choice": verdict.label, **({} if verdict.reasons is None else {"reasons": verdict.reasons})}
    call = {"type": "function", "function": {"name": "select_choice", "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def expected_text(answers: list[str]) -> str:
    """The accepted answers as the judge reads them: one call for all of them, not one for each."""
    if len(answers) == 1:
        return answers[0]
    return "Any one of these answers is right by itself:\n" + "\n".join(f"- {answer}" for answer in answers)
