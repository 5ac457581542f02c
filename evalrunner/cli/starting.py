"""`evalrun init`: a first suite with its data that runs as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from evalrunner.errors import SuiteError

SUITE = """\
# A first suite. Run it with:  evalrun {name}
# yaml-language-server: $schema=suite.schema.json      (evalrun schema > suite.schema.json)
name: first

dataset:
  path: questions.csv               # csv, tsv, json, jsonl or parquet
  columns:                          # id, input and expected are found by these names; here expected holds several
    expected: {{column: expected, split: "|"}}

prompt:                             # Jinja2; every column of the dataset can be used
  - system: Answer with the shortest correct answer, without a sentence around it.
  - user: "{{{{ input }}}}"

{target}

scorers:
  - {{type: exact_match, normalize: squad}}
  - {{type: contains, normalize: squad, whole_words: true}}
  - token_f1

gates:
  - contains >= 0.3                 # metric, operator, number; `evalrun list scorers` shows what there is
"""

LOCAL = """\
target: local/smollm2-135m-instruct # a small model that runs here; any model string, such as openai/gpt-5-mini
params: {temperature: 0, max_tokens: 256}"""

RECORDED = """\
target: {type: recorded, column: output}   # answers that are already there; a model would be
# target: openai/gpt-5-mini                # any model string (needs its key), or, after pip install '.[local]':
# target: local/smollm2-135m-instruct
# params: {temperature: 0, max_tokens: 256}"""

DATA = """\
id,input,expected,output
q1,What is the capital of France?,Paris,Paris
q2,How many legs does a spider have?,"8|eight",Eight
q3,What is 7 times 6?,42,The answer is 42.
q4,What colour do you get from blue and yellow paint?,green,Green
q5,Which planet is closest to the sun?,Mercury,Venus
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if it is not there.")] = Path(),
) -> None:
    """Write a first suite and its data, ready to run."""
    suite, data = folder / "suite.yaml", folder / "questions.csv"
    for path in (suite, data):
        if path.exists():
            raise SuiteError(f"{str(path)!r} is already there; name another folder: evalrun init DIR")
    local = importlib.util.find_spec("xllamacpp") is not None
    text = SUITE.format(name=suite, target=LOCAL if local else RECORDED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        suite.write_text(text, encoding="utf-8")
        data.write_text(DATA, encoding="utf-8")
    except OSError as refused:
        raise SuiteError(f"{str(folder)!r} cannot be written to: {refused.strerror}") from None
    typer.echo(f"wrote {suite} and {data}")
    typer.echo(f"run it: evalrun {suite}")
