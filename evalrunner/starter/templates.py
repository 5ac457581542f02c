"""The templates of `evalrun init`: prompt, scorers, gates and a sample for each kind of task, and a workflow for CI."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Template:
    """What a suite of one kind holds, as lines of YAML. `{context}`, `{labels}` and `{pattern}` are filled in.

    `data` is a sample as CSV, whose recorded outputs pass the gates.
    """

    name: str
    about: str
    system: str
    scorers: tuple[str, ...]
    gates: tuple[str, ...]
    data: str
    user: str = "{{ input }}"
    short_system: str = ""
    needs: tuple[str, ...] = ("input", "expected")


EXACT: Final = (
    "{type: exact_match, normalize: squad}                   # the answer alone; case and punctuation are ignored"
)
INSIDE: Final = "{type: contains, normalize: squad, whole_words: true}   # the answer anywhere in the output"
OVERLAP: Final = "token_f1                                              # shared words of output and answer"

QA_DATA: Final = """\
id,input,expected,output
q01,What is the capital of France?,Paris,Paris
q02,How many legs does a spider have?,8|eight,Eight
q03,What is 7 times 6?,42,The answer is 42.
q04,What color do you get from blue and yellow paint?,green,Green
q05,Which planet is closest to the sun?,Mercury,Venus
q06,Who wrote Romeo and Juliet?,Shakespeare|William Shakespeare,William Shakespeare
q07,What is the opposite of hot?,cold,Cold
q08,How many minutes are in two hours?,120,120 minutes
q09,Which gas do plants take in for photosynthesis?,carbon dioxide|CO2,Carbon dioxide
q10,In which year did the Second World War end?,1945,It ended in 1945.
q11,What is a baby dog called?,puppy|pup,Puppy
q12,Which ocean lies between Europe and North America?,Atlantic|Atlantic Ocean,The Atlantic
"""

RAG_DATA: Final = """\
id,context,input,expected,output
r01,[returns] Items can be returned within 30 days with the receipt.,How long can I return an item?,30 days,You can return it within 30 days [returns].
r02,[shipping] Orders above 50 euros ship free. Others cost 4.90 euros.,What does shipping cost for an order of 20 euros?,4.90 euros,It costs 4.90 euros [shipping].
r03,[warranty] Devices have a warranty of two years.,How long is the warranty?,two years,The warranty is two years [warranty].
r04,[hours] The store is open from 9 to 18 on weekdays.,When does the store close on Tuesday?,18,It closes at 18 [hours].
r05,[returns] Items can be returned within 30 days with the receipt.,Do you ship to Norway?,not in the context,That is not in the context.
r06,[payment] We accept cards and bank transfers.,Can I pay by bank transfer?,yes,"Yes, you can [payment]."
r07,[pickup] Orders can be picked up after two hours.,When can I pick up my order?,two hours,After about two hours.
r08,[gift] Gift cards are valid for three years.,How long is a gift card valid?,three years,Gift cards are valid for three years [gift].
"""

JSON_DATA: Final = """\
id,input,expected,output
j01,"My invoice of May is wrong, please correct it.",billing,"{""category"": ""billing"", ""urgent"": false}"
j02,The app crashes when I open the settings!,bug,"{""category"": ""bug"", ""urgent"": true}"
j03,Could you add a dark mode?,feature,"{""category"": ""feature"", ""urgent"": false}"
j04,I was charged twice today.,billing,"{""category"": ""billing"", ""urgent"": true}"
j05,The export button does nothing.,bug,"{""category"": ""bug"", ""urgent"": false}"
j06,An option to sort by date would help.,feature,"{""category"": ""feature"", ""urgent"": false}"
j07,Where is my refund?,billing,"{""category"": ""billing"", ""urgent"": false}"
j08,Login fails with error 500.,bug,"{""category"": ""feature"", ""urgent"": true}"
"""

LABEL_DATA: Final = """\
id,input,expected,output
c01,I love this phone.,positive,positive
c02,The battery died after a day.,negative,Negative
c03,It arrived on Monday.,neutral,neutral
c04,"Great screen, great sound.",positive,positive
c05,Never again.,negative,negative
c06,The box is blue.,neutral,neutral
c07,Works better than I expected.,positive,positive
c08,"Slow, loud and expensive.",negative,negative
c09,It has two buttons.,neutral,positive
c10,Worth every cent.,positive,positive
c11,The screen cracked in a week.,negative,negative
c12,It is made of steel.,neutral,neutral
"""

COMPARE_DATA: Final = """\
id,input,expected,output_short,output_long
q01,What is the capital of France?,Paris,Paris,"The capital of France is Paris, on the river Seine."
q02,How many legs does a spider have?,8|eight,Eight,"A spider has eight legs, unlike an insect."
q03,What is 7 times 6?,42,42,7 times 6 equals 42.
q04,What color do you get from blue and yellow paint?,green,Green,Blue and yellow paint make green.
q05,Which planet is closest to the sun?,Mercury,Venus,The planet closest to the sun is Mercury.
q06,Who wrote Romeo and Juliet?,Shakespeare|William Shakespeare,Shakespeare,Romeo and Juliet is a play by William Shakespeare.
q07,What is the opposite of hot?,cold,Cold,The opposite of hot is cold.
q08,How many minutes are in two hours?,120,120,There are 120 minutes in two hours.
q09,Which gas do plants take in for photosynthesis?,carbon dioxide|CO2,Oxygen,Plants take in carbon dioxide.
q10,In which year did the Second World War end?,1945,1945,The Second World War ended in 1945.
q11,What is a baby dog called?,puppy|pup,Puppy,A baby dog is called a puppy.
q12,Which ocean lies between Europe and North America?,Atlantic|Atlantic Ocean,Atlantic,That is the Atlantic Ocean.
"""

TEMPLATES: Final = {
    item.name: item
    for item in (
        Template(
            "qa",
            "short answers, compared with accepted answers",
            "Reply with only the answer, as short as possible.",
            (EXACT, INSIDE, OVERLAP),
            ("contains >= 0.7                 # metric, operator, number",),
            QA_DATA,
        ),
        Template(
            "rag",
            "answers from a context",
            "Answer from the context only. If the answer is not there, say that it is not in the context.",
            (
                INSIDE,
                OVERLAP,
                r"{type: regex, name: no_hedging, pattern: '\b(probably|perhaps|I think|I guess)\b', ignore_case: true, negate: true}",
                "# factuality                                          # a judge compares the facts; set judge: MODEL",
            ),
            ("contains >= 0.7                 # metric, operator, number",),
            RAG_DATA,
            user="Context: {context}\\n\\nQuestion: {{ input }}",
            needs=("input", "expected", "context"),
        ),
        Template(
            "json",
            "JSON objects with a field that has to be right",
            'Sort the message. Reply with one JSON object and nothing else: {"category": …, "urgent": true or false}. '
            "The category is one of {labels}.",
            (
                "{type: json, name: one_object, schema: {type: object}}     # nothing around the object",
                r"{type: regex, name: category, pattern: '{pattern}', group: 1}    # the value of one field",
                "{type: json, name: urgent_is_boolean, path: $.urgent, schema: {type: boolean}}",
            ),
            ("one_object >= 0.8", "category >= 0.7"),
            JSON_DATA,
        ),
        Template(
            "classification",
            "one label out of a few",
            "Classify the text. Reply with one of these labels and nothing else: {labels}.",
            (
                "{type: exact_match, ignore_case: true, ignore_punctuation: true}    # accuracy",
                "{type: regex, name: known_label, pattern: '{pattern}', ignore_case: true}   # any of the labels",
            ),
            ("exact_match >= 0.7", "known_label >= 0.9"),
            LABEL_DATA,
        ),
        Template(
            "compare",
            "two prompts, models or recorded answers on the same rows",
            "Answer in one short sentence.",
            (EXACT, INSIDE, OVERLAP),
            ("contains >= 0.7                 # each target has to pass",),
            COMPARE_DATA,
            short_system="Reply with only the answer, as short as possible.",
        ),
        Template(
            "ci",
            "a gate for pull requests",
            "Reply with only the answer, as short as possible.",
            (EXACT, INSIDE),
            (
                "contains >= 0.7",
                "# Fail if the result is significantly worse than the baseline (`evalrun baseline accept last`, or main in CI):",
                "# {metric: contains, baseline: main, max_drop: 0.05}",
            ),
            QA_DATA,
        ),
    )
}

System = Literal["github", "gitlab"]

PLAIN_TEXT: Final = re.compile(r"[\w./][\w./ -]*", re.ASCII)  # a text that YAML reads as one without quotes
PATHS: Final = {"github": ".github/workflows/evals.yml", "gitlab": ".gitlab-ci.yml"}

GITHUB: Final = """\
# Runs the suite for every pull request. Runs on main are the baseline of gates with `baseline: main`.
# OWNER/evalrun is the repository of evalrun, or your fork of it: replace OWNER, and main with the SHA of a commit.
name: evals
on:
  pull_request:
  push:
    branches: [main]
permissions:
  contents: read
  actions: read               # reads the artifact of main, for the baseline
  pull-requests: write        # writes the comment
jobs:
  evals:
    runs-on: ubuntu-latest
    timeout-minutes: 30
{env}    steps:
      - uses: actions/checkout@v6
      - uses: OWNER/evalrun@main
        with:
          suites: {suite}
          fail-on: fail             # an outage of the provider is a warning
          baseline: main            # taken from the newest artifact of main
          artifact: evals           # the run folders with all answers, for the baseline and the report
          comment: true
"""

GITLAB: Final = """\
# Runs the suite for every merge request. The exit code reflects the verdict.
# HOST/OWNER/evalrun is the repository of evalrun, or your fork of it: replace HOST and OWNER.
{about}evals:
  image: python:3.12
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  before_script:
    - pip install "evalrunner{extras} @ git+https://HOST/OWNER/evalrun.git"
  script:
    - {command}
  allow_failure:
    exit_codes: [3, 4]        # the provider is down, or there are too few samples: a warning
  artifacts:
    when: always
    paths: [runs]
    reports:
      junit: runs/*/*/junit.xml
"""


def workflow(system: System, suite: str, variables: Sequence[str], extras: Sequence[str]) -> str:
    """The workflow for a suite, a path from the root of the repository, whose models need these variables and extras."""
    suite = shlex.quote(suite)  # the action splits its input as a shell does
    if system == "github":
        env = "".join(f"      {name}: ${{{{ secrets.{name} }}}}\n" for name in variables)
        text = GITHUB.format(env=f"    env:\n{env}" if env else "", suite=_yaml_text(suite))
        return text + (f"          extras: {','.join(extras)}\n" if extras else "")
    about = f"# Set {' and '.join(variables)} as a masked variable of the project.\n" if variables else ""
    command = _yaml_text(f"evalrun {suite}")
    return GITLAB.format(about=about, command=command, extras=f"[{','.join(extras)}]" if extras else "")


def _yaml_text(text: str) -> str:
    return text if PLAIN_TEXT.fullmatch(text) else json.dumps(text, ensure_ascii=False)
