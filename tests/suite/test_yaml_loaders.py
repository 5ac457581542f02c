"""Suites read the same with libyaml as with PyYAML's own scanner, and large or hostile ones are read or refused at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from evalrunner.errors import SuiteError
from evalrunner.suite.yaml import MAX_BYTES, MAX_PYTHON_LENGTH, Document, parse_document
from tests.cases.suite_fuzz import mutants
from tests.docs.examples import PAGES
from tests.fakes.command import ROOT, command_env

WITHOUT_LIBYAML = (
    "import sys; sys.modules['yaml._yaml'] = None; import yaml; assert not yaml.__with_libyaml__\n"
    "from evalrunner.cli.main import main; main()\n"
)
pytestmark = pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no libyaml here")

ODDITIES = (
    "a: 1\r\nb: 2\r\n", "a: 1\rb: 2\r", "a: é😀\nb: x\n", "\u2028a: 1", "a: b\x85c: d", "{}", "", "# only a comment", "---\na: 1\n...\n",
    "a: |\n  x\n   y\n\n\nb: >-\n  x\n  y\n", "a: 'it''s'\nb: \"\\x41\\u00e9\\/\\N\"", "? a\n: b", "a:\n- x\n- - y\n  - z\n", "a: &x [1, 2]\nb: *x",
    "base: &b {x: 1}\nc: {<<: *b, y: 2}", "a: !!str 1\nb: !!int '2'\nc: !!float 3", "a: !x 1", "%YAML 1.2\n---\na: 1", "%YAML 1.9\n---\na: 1",
    "%TAG ! tag:x,2000:\n---\na: 1", "a: b: c", "a: [", "a: {b", "a: 'x", 'a: "\\q"', "a: *x", "a: &x 1\nb: &x 2", "- a\nb: c", "a: |x", "@a", "`a`",
    "a: {x: http://y/z, k: [a:b]}", 'a: "\\ud83d\\ude00"', 'a: "\\ud83d"', "x" * 1100 + ": 1", "a: 1\n b: 2", "a: 0x1F\nb: 1_000\nc: .5\nd: 1e3",
    "a: ~\nb:\nc: null\n? d\n", "a: yes\nb: on\nc: 12:30", "'a': 1\n\"b\": 2", "a: >+\n  x\n\n", "a: # c\n  b", "a: b # c", "a: b#c", "!!map {a: 1}",
)  # fmt: skip


def read(text: str, *, libyaml: bool) -> tuple[object, ...]:
    """Data, positions and problems of a text, or the sentences of its refusal."""
    try:
        document = parse_document(text, file="s.yaml", libyaml=libyaml)
    except SuiteError as refused:
        return ("refused", [str(problem) for problem in refused.problems])
    return (document.data, document.marks, document.keys, document.problems)


def differences(texts: dict[str, str]) -> list[str]:
    """The names of texts that mean something else, or stand elsewhere, without libyaml."""
    fast = {name: read(text, libyaml=True) for name, text in texts.items()}
    slow = {name: read(text, libyaml=False) for name, text in texts.items()}
    return [
        f"{name}: {fast[name]!r:.300} but {slow[name]!r:.300}"
        for name in texts
        if fast[name] != slow[name] and not (slow[name][0] == "refused" and "?" in texts[name])
    ]  # libyaml takes a question mark in a flow collection, PyYAML does not


def test_suites_and_odd_texts_mean_the_same_without_libyaml() -> None:
    files = [*(ROOT / "suites").rglob("*.y*ml"), *(ROOT / "docs").rglob("*.y*ml"), ROOT / "action.yml"]
    texts = {str(path): path.read_text(encoding="utf-8") for path in files}
    for page in PAGES:
        blocks = page.read_text(encoding="utf-8").split("```yaml\n")[1:]
        texts.update({f"{page}:{number}": block.partition("```")[0] for number, block in enumerate(blocks)})
    texts.update({repr(text): text for text in ODDITIES})
    assert len(texts) > 100
    assert differences(texts) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_mutated_suites_mean_the_same_without_libyaml(seed: int) -> None:
    texts: dict[str, str] = {}
    for name, raw in mutants(seed, 700):
        try:
            texts[name] = raw.decode()
        except UnicodeDecodeError:
            continue
    assert differences(texts) == []


def test_a_suite_runs_without_libyaml_in_the_same_words(tmp_path: Path) -> None:
    good = "name: s\ndataset: {rows: [{input: a, expected: b, out: b}]}\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
    (tmp_path / "s.yaml").write_text(good)
    (tmp_path / "broken.yaml").write_text(good + "gates: [exact_match >= 1\n")
    (tmp_path / "long.yaml").write_text(good + "#" * MAX_PYTHON_LENGTH)
    results = {}
    for name in ("s", "broken", "long"):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_LIBYAML, "validate", f"{name}.yaml"],
            cwd=tmp_path, env=command_env(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        results[name] = (done.returncode, done.stderr)
    assert results["s"][0] == 0
    assert results["broken"][0] == 2
    assert "s.yaml:6:1: is not valid YAML: a list that is not closed" in results["broken"][1].replace("broken", "s")
    assert results["long"][0] == 2
    assert "has more than 524,288 characters, which takes PyYAML with libyaml" in results["long"][1]


def inline_rows(count: int) -> str:
    row = "    - {{id: r{0}, input: 'What is {0}+{0}? Please answer with a number only, thanks.', expected: '{0}'}}\n"
    return "name: s\ndataset:\n  rows:\n" + "".join(row.format(number) for number in range(count))


LARGE = {
    "rows": (inline_rows(140_000), "has more than 250,000 values; put the data into a dataset file"),
    "aliases": ("a: &a0 [x,x]\n" + "".join(f"b{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)), "values"),
    "brackets": ("[" * MAX_BYTES, "more than 100 levels"),
    "braces": ("{a: " * (MAX_BYTES // 4), "more than 100 levels"),
    "dashes": ("- " * (MAX_BYTES // 2), "more than 100 levels"),
    "question marks": ("? " * (MAX_BYTES // 2), "more than 100 levels"),
    "list": ("[" + "a," * (MAX_BYTES // 2 - 1), "values"),
    "broken at its end": ("a: " + "x y " * 4_000_000 + "\nb: [", "is not valid YAML: a value is missing here"),
    "open quote": ("'" + "x" * (MAX_BYTES - 1), "a quote that is not closed"),
    "two documents": ("a: " + "x" * 15_000_000 + "\n---\nb\n", "several documents"),
    "bad indentation": ("a: " + "x" * 15_000_000 + "\n b: 1\n", "': ' is not allowed here"),
    "tag": ("!" + "x" * (MAX_BYTES - 5) + " a", "the tag !xxx"),
    "colons": (":" * MAX_BYTES, "is not valid YAML"),
    "percent signs": ("%" * MAX_BYTES, "is not valid YAML: this is no directive"),
    "documents": ("---\na\n" * 2_000_000, "several documents"),
    "escapes": ('"' + "\\ud83d" * 2_000_000 + '"', "is not valid YAML"),
    "digits": ("a: " + "9" * (MAX_BYTES - 4), "a number of more than 3,000 digits"),
    "control character": ("a: " + "x" * 15_000_000 + "\x07", "has the control character U+0007"),
}  # fmt: skip
SLOW = {"rows", "braces"}  # 3 s of CPU time each, the others at most 1.2 s


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LARGE])
def test_a_hostile_suite_of_many_megabytes_is_refused_in_little_time(name: str) -> None:
    text, expected = LARGE[name]
    started = time.process_time()  # of this process alone: other work on the machine does not count
    with pytest.raises(SuiteError) as refused:
        parse_document(text, file="s.yaml")
    (problem,) = refused.value.problems
    assert expected in problem.message
    assert len(str(problem)) < 300
    assert time.process_time() - started < 20  # 0.1 to 1.2 s; PyYAML's own scanner takes minutes


@pytest.mark.parametrize("text", ['a: "{}"', "a: {}", "a: |\n  {}\n", "# {}", "'{}'"])
def test_texts_of_16_mib_in_a_suite_are_read(text: str) -> None:
    document = parse_document(text.format("x y " * (4_000_000)), file="s.yaml")
    assert isinstance(document, Document)
    assert len(str(document.data)) > 15_000_000 or document.data is None


def test_each_position_in_a_long_suite_is_known() -> None:
    text = inline_rows(10_000)
    document = parse_document(text, file="s.yaml")
    column = text.splitlines()[-1].index("'9999'") + 1
    assert document.problem_at(("dataset", "rows", 9_999, "expected"), "x").where == f"s.yaml:10003:{column}"
