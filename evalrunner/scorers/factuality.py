"""The scorer `factuality`: a judge compares the facts of the output with the accepted answer."""

from __future__ import annotations

import json
from typing import Any

from evalrunner.domain import CalibrationExample, Declaration, Judge, Outcome, Sample, Scorer, Skipped
from evalrunner.scorers.autoevals import Classifier, autoevals_version


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
        return await self.classifier.ask(judge, output=output, expected=expected_text(answers), input=input_text(input))


def expected_text(answers: list[str]) -> str:
    """The accepted answers as the judge reads them: one call for all of them, not one for each."""
    if len(answers) == 1:
        return answers[0]
    return "Any one of these answers is right by itself:\n" + "\n".join(f"- {answer}" for answer in answers)


def input_text(value: Any) -> str:
    """The input as the judge reads it: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# Good outputs say the same in other words, so no comparison of strings passes; bad ones differ in the one word that
# matters. No output is a part of the accepted answer or adds to it, since those cases are a matter of opinion.
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
        "When did the Berlin Wall fall?", "On 9 November 1989", "It came down on the ninth of November 1989.", good=True
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
        "Does the Sun go round the Earth?",
        "No, the Earth goes round the Sun.",
        "Yes, the Sun goes round the Earth.",
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
)
