"""Two passes: the first reports all problems before the first call, the second streams the same samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from evalrunner.datasets.source import Scan
from evalrunner.domain import Sample
from evalrunner.errors import RunError, SuiteError
from evalrunner.prompts import compile_prompt
from evalrunner.templates import PromptError
from tests.datasets.reading import problems, source, write

ROOT = Path(__file__).parents[2]


def numbered(count: int, name: str = "qa.jsonl") -> str:
    return write(name, "".join(json.dumps({"input": f"q{n}", "expected": str(n)}) + "\n" for n in range(count)))


def test_a_scan_counts_hashes_and_names_columns() -> None:
    write("qa.jsonl", '{"id": "a", "input": 1, "b": 2}\n{"id": "c", "input": 2, "expected": "é", "d": {}}\n')
    lines = [
        '["a",1,[],{"b":2,"id":"a","input":1},null]',
        '["c",2,["é"],{"d":{},"expected":"é","id":"c","input":2},null]',
    ]
    digest = sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
    assert source("qa.jsonl").scan(lambda sample: ()) == Scan(2, ("id", "input", "b", "expected", "d"), digest, (), 1)


def test_every_sample_that_will_be_used_is_checked_and_no_other() -> None:
    seen: list[Sample] = []

    def check(sample: Sample) -> list[str]:
        seen.append(sample)
        return []

    opened = source(numbered(10), limit=3)
    opened.scan(check)
    assert seen == list(opened)


def test_a_problem_of_some_samples_is_reported_for_each() -> None:
    with pytest.raises(SuiteError) as raised:
        source(numbered(4)).scan(lambda sample: ["is odd", "is unlucky"] if sample.index % 2 else [])
    assert [str(problem) for problem in raised.value.problems] == [
        "qa.jsonl:2: is odd", "qa.jsonl:2: is unlucky", "qa.jsonl:4: is odd", "qa.jsonl:4: is unlucky",
    ]  # fmt: skip


def test_a_problem_of_every_sample_is_reported_once() -> None:
    prompt = compile_prompt([("user", "{{ inptu }}")])

    def check(sample: Sample) -> list[str]:
        try:
            prompt.render(sample)
        except PromptError as broken:
            return [str(broken)]
        return []

    with pytest.raises(SuiteError) as raised:
        source(numbered(1000)).scan(check)
    assert str(raised.value) == (
        "qa.jsonl:1: the template uses 'inptu', which this sample does not have; did you mean 'input'? "
        "(the same for every sample)"
    )


def test_twenty_problems_are_listed_and_the_others_counted() -> None:
    write("qa.jsonl", '{"input": 1}\n' + "{oops\n" * 1200)
    message = problems("qa.jsonl")
    assert [line.split(": ")[0] for line in message[:20]] == [f"qa.jsonl:{n}" for n in range(2, 22)]
    assert message[20:] == ["… and 1,180 more"]


def test_problems_of_every_kind_are_reported_in_one_pass() -> None:
    write("qa.jsonl", '{"id": "a", "input": 1}\n{oops\n{"id": "a", "input": 2}\n{"id": "b", "input": null}\n')
    with pytest.raises(SuiteError) as raised:
        source("qa.jsonl", where={"id": ["a", "b"]}).scan(lambda sample: ["is two"] if sample.input == 2 else [])
    message = [str(problem) for problem in raised.value.problems]
    assert [line.split("; ")[0] for line in message] == [
        "qa.jsonl:2: is not JSON: Expecting property name enclosed in double quotes at character 2",
        "qa.jsonl:3: is two",
        "qa.jsonl:4: has an empty input (column 'input')",
        "qa.jsonl:3: has the id 'a' of qa.jsonl:1",
    ]


def test_samples_can_be_read_without_an_explicit_scan() -> None:
    assert [sample.input for sample in source(numbered(2))] == ["q0", "q1"]


def test_two_iterations_at_once_are_independent() -> None:
    for spec in ({}, {"shuffle": 3}):
        opened = source(numbered(50), **spec)
        opened.scan(lambda sample: ())
        pairs = list(zip(opened, opened, strict=True))
        assert len(pairs) == 50
        assert all(one == other for one, other in pairs)


def test_a_file_that_changed_after_the_scan_is_an_error() -> None:
    opened = source(numbered(5))
    opened.scan(lambda sample: ())
    Path("qa.jsonl").write_text('{"input": "other"}\n', encoding="utf-8")
    with pytest.raises(RunError, match=r"^qa\.jsonl changed after it was checked; run again$"):
        list(opened)


def test_rows_lost_after_the_scan_are_an_error_even_with_an_unchanged_stamp() -> None:
    opened = source(numbered(5))
    opened.scan(lambda sample: ())
    before = Path("qa.jsonl").stat()
    text = Path("qa.jsonl").read_text(encoding="utf-8")
    for changed, message in (
        (text[:-1].rsplit("\n", 1)[0].ljust(len(text), "\n"), "it had 5 samples"),
        ("?" + text[1:], "qa.jsonl:1: is not JSON"),
    ):
        Path("qa.jsonl").write_text(changed, encoding="utf-8")
        os.utime("qa.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(RunError, match=message):
            list(opened)


MEASURE = """
import json, resource, sys
from pathlib import Path
from evalrunner.datasets.resolve import open_dataset
from evalrunner.suite.schema import DatasetSpec

def read(path):
    opened = open_dataset(DatasetSpec(path, **json.loads(sys.argv[1])), folder=Path(), spool_folder=Path("spool"))
    opened.scan(lambda sample: ())
    return sum(1 for _ in opened)

read("few.jsonl")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = read("many.jsonl")
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs elsewhere")
@pytest.mark.parametrize(
    "spec",
    [
        {},
        pytest.param({"shuffle": 1}, marks=pytest.mark.slow),
        pytest.param({"shuffle": 1, "limit": 50_000}, marks=pytest.mark.slow),
    ],
)
def test_memory_stays_flat_for_a_hundred_thousand_lines(spec: dict[str, int]) -> None:
    numbered(1000, "few.jsonl")
    numbered(100_000, "many.jsonl")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MEASURE, json.dumps(spec)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    count, kib = map(int, done.stdout.split())
    assert count == spec.get("limit", 100_000)
    # as dicts the rows take 50 MB; only keys of 8 bytes are stored, and offsets and ranks if shuffled
    assert kib < 16_000


def test_reading_datasets_imports_nothing_heavy() -> None:
    code = (
        "import sys, evalrunner.datasets.source, evalrunner.prompts;"
        "print([name for name in ('pyarrow', 'pandas', 'jinja2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
