"""The scorer `factuality`, and other LLM classifiers of autoevals whose questions are built in."""

from __future__ import annotations

import asyncio
import copy
import functools
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evalrunner.domain import CalibrationExample, Declaration, Judge, Outcome, Sample, Scorer, Skipped
from evalrunner.formatting import plain_text
from evalrunner.scorers.autoevals_client import evaluate, judge_client_class

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
    """Agreement of the facts with the accepted answer. Graded by a judge (Factuality of autoevals).

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


@functools.cache
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
        return await evaluate(classifier, client, values)

    def _load(self) -> Any:
        with _loading:
            import autoevals

            return self._classifier or self._make(autoevals)


def expected_text(answers: list[str]) -> str:
    """The accepted answers as the judge reads them: one call for all of them, not one for each."""
    if len(answers) == 1:
        return answers[0]
    return "Any one of these answers is right by itself:\n" + "\n".join(f"- {answer}" for answer in answers)
