"""Hostile patterns, templates, texts and scorers: each ends in a value or a sentence. A hang fails by the time limit of tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Sample, Scorer
from evalrunner.limits import STANDARD, TIGHT
from evalrunner.matching import MAX_SEARCHED_LENGTH, Pattern, SearchFailed, most_steps
from evalrunner.prompts import compile_prompt
from evalrunner.scorers.readability import ari_grade_level
from evalrunner.scorers.regex import regex
from evalrunner.scorers.text import contains, exact_match, numeric_match, token_f1
from evalrunner.templates import PromptError
from tests.cases.suites import command
from tests.fakes.command import command_env
from tests.scorers.scorer_calls import cell_of

WORD = "abcdefghijklmnopqrstuvwx"
TEXTS = {
    "letters": "a" * 5_000,
    "Cyrillic": "ж" * 200,
    "words": "the total, the sum, the answer is = " * 1_400,
    "word": WORD * 100,
    "blanks": " " * 20_000 + "x",
    "digits": "1" * 3_000 + "x",
    "signs": '<{"' * 5_000,
    "mixed": "aAbB ä\u0301𝕒1_" * 800,
}
PATTERNS = [
    # exponential
    (r"(a+)+$", "letters"), (r"(a|a)*!", "letters"), (r"(a|aa)+!", "letters"), (r"(a*)*!", "letters"), (r"(a?a?)*!", "letters"),
    (r"((a+)(a+))+!", "letters"), (r"(?:[жж]|ж)*!", "Cyrillic"), (r"(?:ж|[ж])+!", "Cyrillic"),
    (rf"(?:{WORD}|{WORD})*!", "word"), (rf"(?:{WORD}|{WORD[:12]}{WORD[12:]})+!", "word"), (r"^(\w+\s?)*!$", "mixed"),
    (r"(?:\w|\d|_)*!", "digits"), (r"([a-z]+,?\s?)+\?", "words"), (r"(?i)(?:a|A)*!", "letters"), (r"(?:(?:a+)+)+!", "letters"),
    (r"(?x) ( a + ) + !", "letters"), (r"(a+)(?#again)+!", "letters"), (r"(?:(?:\d+)?1)*!", "digits"), (r"(?:.|\s)*?!!", "blanks"),
    (r"(?s:.+)+!", "letters"), (r"(?:a{1,9}){1,99}!", "letters"), (r"(?:a{0,5}){20}!", "letters"), ("a?" * 60 + "a" * 60 + "!", "letters"),
    ("(?:a|b|ab)" * 60 + "!", "letters"),
    # with lookaround, backreferences and conditions
    (r"(?=(a+)+!)a", "letters"), (r"(?!(?:a|a)*!)b", "letters"), (r"(a*)\1*!", "letters"), (r"(a+)\1+\1+!", "letters"),
    (r"(?P<w>a+)(?P=w)*!", "letters"), (r"(a)?(?(1)a*a*a*!|b)", "letters"), (r"((a*)\2)*!", "letters"), (r"(?:(?=(a+))\1?)*!", "letters"),
    (r"(?<=a)(a+)+!", "letters"),
    # polynomial
    (r"(?s)answer.*total.*sum.*=.*\\boxed", "words"), (r".*.*.*=x", "words"), (r"a*a*a*a*b", "letters"), (r"\s*\s*\s*end", "blanks"),
    (r"\d+\d+\d+\d+\.", "digits"), (r"[<{\"]*[<{\"]*[<{]*!", "signs"), (r"(?s).*?.*?.*?.*?!", "words"), (r"\w*\W*\w*\W*\w*!", "mixed"),
    (r"(?i)ä*ä*\w*\w*\w*!", "mixed"), (r"(?m)^.*,.*,.*,.*,.*!$", "words"), (r"\s+end", "blanks"), (r".+,.+,.+,.+;", "words"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "text"), PATTERNS, ids=[f"{index}-{text}" for index, (_, text) in enumerate(PATTERNS)]
)
def test_a_search_ends_whatever_the_pattern(pattern: str, text: str) -> None:
    problem = ""
    try:
        Pattern(re.compile(pattern), limit_s=0.05).find(TEXTS[text])
    except SearchFailed as failed:
        problem = str(failed)
    assert not problem or ("'pattern: " in problem and "takes more than 0.05 s of CPU time on a text of " in problem)


def test_slow_patterns_run_apart_and_fast_ones_here() -> None:
    slow = [pattern for pattern, text in PATTERNS if most_steps(re.compile(pattern), len(TEXTS[text])) < 5e6]
    assert slow == []
    for pattern in (r"\d", "Paris", r"\d+", "yes|no", r"Answer: (\w+)", r"^\s*yes\b", r"\*\*(.+?)\*\*"):
        assert most_steps(re.compile(pattern), 100) < 5e6, pattern


@pytest.mark.parametrize(
    "text", [*TEXTS.values(), "Answer: Paris\nNo: Rome", "", "\ud800 Answer: Ä", "Answer: 1" + "x" * 60_000]
)
@pytest.mark.parametrize(
    "pattern", [r"Answer:\s*(\w+)", r"(?s)(\w+)\W*(?:\W{2})*\Z", r"(?i)^(a\w*)\W+(\w*)", r"(x)?(?:y+)?\b(\W+)?"]
)
def test_a_search_apart_has_the_result_of_a_search_here(pattern: str, text: str) -> None:
    compiled = re.compile(pattern)
    part = text[:MAX_SEARCHED_LENGTH]
    assert most_steps(compiled, 50_000) > 5e6
    match = compiled.search(part)
    assert Pattern(compiled).find(text, 1) == (None if match is None else (match[1],))
    every = list(compiled.finditer(text, max(0, len(text) - MAX_SEARCHED_LENGTH)))
    assert Pattern(compiled).find(text, 1, last=True) == ((every[-1][1],) if every else None)


def test_a_process_that_the_system_ended_is_replaced() -> None:
    from evalrunner import matching

    pattern = Pattern(re.compile(r"(?:a|b)*c"))
    assert pattern.find("ab" * 50 + "c") is not None
    for process in matching._processes.idle:
        process.process.kill()
        process.process.wait()
    assert pattern.find("ab" * 50 + "c") is not None


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?=.{1,10}$)(a+)+$",  # at most ten letters are repeated
        r"\b(?:\d{1,3})(?:,\d{3})*(?:\.\d+)?(?:\s?(?:million|billion))?" * 8,
        "(a)" * 60 + r"\d*\d*\d*",
        r"(?:[A-Z][a-z]+ )*[A-Z][a-z]+",
        r"(?:\w+[.!?]\s)*\w+",
    ],
)
def test_patterns_that_end_are_not_refused(pattern: str) -> None:
    assert cell_of(regex(pattern=pattern), "It is Paris. No.").state == "scored"


def test_a_pattern_that_is_slow_to_compile_is_refused() -> None:
    with pytest.raises(ValueError, match="'pattern' takes too long to compile"):
        regex(pattern="[\u0100-\U0010ffff]" * 2_000, ignore_case=True)
    with pytest.raises(ValueError, match="is not a regular expression"):
        regex(pattern="(" * 5_000)


def rows(tmp: Path, *outputs: str) -> None:
    lines = [{"id": f"r{number}", "input": "q", "expected": "x", "out": text} for number, text in enumerate(outputs)]
    (tmp / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def suite(tmp: Path, scorers: object, **run: object) -> str:
    """A suite over recorded answers in d.jsonl."""
    keys = {
        "name": "s",
        "dataset": "d.jsonl",
        "target": {"type": "recorded", "column": "out"},
        "scorers": scorers,
        "run": run,
    }
    (tmp / "s.yaml").write_text(json.dumps(keys))
    return "s.yaml"


def cells(tmp: Path) -> list[dict[str, dict[str, object]]]:
    """The cells of every row of the only run."""
    (log,) = (tmp / "runs").glob("*/*/rows.jsonl")
    return [json.loads(line)["cells"] for line in log.read_text().splitlines()]


def test_a_row_whose_match_takes_too_long_is_an_error_and_the_run_goes_on(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path, TEXTS["words"], "the answer: total sum = \\boxed", "short")
    slow = {"type": "regex", "pattern": r"(?s)answer.*total.*sum.*=.*\\boxed", "match_timeout": 0.2}
    done = command(suite(tmp_path, [slow, "contains"]))
    assert done.code == 0, done.err
    assert "1 score in error, e.g. 'r0': timeout" in done.out
    by_row = {row["regex"]["state"]: row["regex"] for row in cells(tmp_path)}
    assert sorted(by_row) == ["error", "scored"]
    assert f"'pattern: {slow['pattern']}' takes more than 0.2 s" in str(by_row["error"]["reason"])


def test_an_expected_pattern_that_takes_too_long_is_said_before_the_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").write_text(
        json.dumps({"id": "r", "input": "q", "expected": TEXTS["words"], "out": "x"}) + "\n"
    )
    slow = {"type": "regex", "pattern": "(x)", "group": 1, "expected_pattern": r"(.*,.*,.*,.*;)", "match_timeout": 0.2}
    done = command("validate", suite(tmp_path, [slow]))
    assert done.code == 2
    assert "d.jsonl:1: regex: 'expected_pattern: (.*,.*,.*,.*;)' takes more than 0.2 s of CPU time" in done.err


@pytest.mark.parametrize("value", [0, -1, ".inf", "soon"])
def test_a_limit_that_is_none_is_refused(tmp_path, monkeypatch, value: object) -> None:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path, "x")
    (tmp_path / "s.yaml").write_text(
        "dataset: d.jsonl\ntarget: {type: recorded, column: out}\n"
        f"scorers: [{{type: regex, pattern: x, match_timeout: {value}}}]\n"
    )
    done = command("validate", "s.yaml")
    assert done.code == 2
    assert "match_timeout" in done.err


OWN = """
import os, re, time

def forever(output):
    while True:
        pass

def sleeps(output):
    time.sleep(3600)

def holds(output):
    return re.match("(a+)+$", "a" * 60 + "b") is not None

def leaves(output):
    os._exit(0)
"""
POLYNOMIAL = {"type": "regex", "pattern": "a*a*a*a*a*b", "match_timeout": 3600}
FOREVER = {"type": "python", "function": "own.py:forever"}
SLEEPS = {"type": "python", "function": "own.py:sleeps"}


def start(tmp: Path, *args: str) -> subprocess.Popen[str]:
    (tmp / "own.py").write_text(OWN)
    return subprocess.Popen(
        [sys.executable, "-m", "evalrunner", *args],
        cwd=tmp, env=command_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for_run(tmp: Path) -> None:
    while not list((tmp / "runs").glob("*/*/rows.jsonl")):
        time.sleep(0.05)
    time.sleep(0.5)  # for the first row to reach its scorers


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
@pytest.mark.parametrize(
    "signals", [[signal.SIGINT] * 2, [signal.SIGTERM] * 2, [signal.SIGINT]], ids=["INT INT", "TERM TERM", "INT"]
)
@pytest.mark.parametrize("scorer", [POLYNOMIAL, FOREVER, SLEEPS], ids=["regex", "forever", "sleeps"])
def test_a_signal_ends_a_run_during_a_scorer(tmp_path, scorer, signals) -> None:
    rows(tmp_path, "a" * 30_000, "a" * 30_000)
    running = start(tmp_path, suite(tmp_path, [scorer]))
    wait_for_run(tmp_path)
    for number in signals:
        running.send_signal(number)
        time.sleep(0.3)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert "Resume: evalrun --resume" in out


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [POLYNOMIAL, FOREVER, SLEEPS], ids=["regex", "forever", "sleeps"])
def test_time_limits_work_during_a_scorer(tmp_path, scorer) -> None:
    rows(tmp_path, "a" * 30_000)
    running = start(tmp_path, suite(tmp_path, [scorer], row_timeout=1))
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0, out
    assert "1 score in error" in out and ": timeout: " in out
    running = start(tmp_path, suite(tmp_path, [scorer], run_timeout=1))
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 3, out
    assert "run timeout of 1 s reached" in out


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.slow
def test_a_search_ends_with_a_run_that_was_killed(tmp_path) -> None:
    rows(tmp_path, "a" * 30_000)
    running = start(tmp_path, suite(tmp_path, [POLYNOMIAL]))
    wait_for_run(tmp_path)
    threads = Path(f"/proc/{running.pid}/task").iterdir()
    searches = [Path("/proc", child) for each in threads for child in (each / "children").read_text().split()]
    assert searches
    running.kill()
    running.communicate()
    while any(each.exists() for each in searches):  # or else the timeout of the test ends it
        time.sleep(0.05)


@pytest.mark.slow
def test_time_limits_work_in_a_run_that_waits_for_nothing(tmp_path) -> None:
    rows(tmp_path, *["it is x"] * 100_000)
    running = start(tmp_path, suite(tmp_path, ["contains"], run_timeout=0.5), "-q")
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 3, out
    assert "Run timeout of 0.5 s reached" in out


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_a_second_signal_ends_a_run_whose_function_holds_the_lock_of_python(tmp_path) -> None:
    rows(tmp_path, "a", "b")
    running = start(tmp_path, suite(tmp_path, [{"type": "python", "function": "own.py:holds"}]))
    wait_for_run(tmp_path)
    for _ in range(2):
        time.sleep(0.5)
        running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    assert "cannot be interrupted, so the run was killed" in out


def test_a_function_cannot_end_the_process(tmp_path) -> None:
    rows(tmp_path, "a", "b")
    running = start(tmp_path, suite(tmp_path, [{"type": "python", "function": "own.py:leaves"}, "contains"]))
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "raised RuntimeError: os._exit(0) would end the whole run" in " ".join(out.split())
    assert [row["contains"]["state"] for row in cells(tmp_path)] == ["scored", "scored"]


def test_a_function_that_never_ends_does_not_keep_a_program_alive(tmp_path) -> None:
    rows(tmp_path, "a", "b", "c")
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "program.py").write_text("import evalrunner\nprint(evalrunner.run_suite('s.yaml').exit_code)\n")
    suite(tmp_path, [FOREVER, "contains"], row_timeout=0.5)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=command_env(), capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert [row["forever"]["cause"] for row in cells(tmp_path)] == ["timeout"] * 3


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_ctrl_c_ends_the_check_and_the_scoring_of_a_large_dataset(tmp_path) -> None:
    rows(tmp_path, *["it is x"] * 400_000)
    running = start(tmp_path, suite(tmp_path, ["contains"]))
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "evalrun: interrupted" in out or "stopped early: interrupted" in out


NESTED = "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(60) %}"
TEMPLATES = [
    # huge texts and numbers
    "{{ 'a' * 10**10 }}", "{{ 9**(9**9) }}", "{{ (-8)**99999999 }}", "{{ 5|round(-99999999) }}", "{{ 5|round(10**8, 'ceil') }}",
    "{{ '%1000000000d'|format(1) }}", "{{ '%*d' % (999999999, 1) }}", "{{ '%.999999999f' % 1.5 }}", "{{ ('%999999d' * 9999) % ((1,) * 9999) }}",
    "{{ ('{0:999999}' * 9999).format(1) }}", "{{ '{:{w}}'.format(1, w=999999999) }}", "{{ '{:999999999}'.format(1) }}",
    "{{ 'a'|center(10**9) }}", "{{ 'a'|center(width=999999999) }}", "{{ 'a'.center(999999999) }}", "{{ 'a'.zfill(999999999) }}", "{{ 'a'.ljust(999999999) }}",
    "{{ ('a\n' * 100000)|indent(1000) }}", "{{ ('a\n' * 100000)|indent('x' * 1000) }}", "{{ ('\t' * 100000).expandtabs(99999) }}",
    "{{ ('a' * 400000)|replace('a', 'b' * 1000) }}", "{{ ('a' * 1000).replace('', 'b' * 100000) }}", "{{ ('a' * 100000).translate({97: 'b' * 10000}) }}",
    "{{ ('x' * 4000).join('b' * 16000) }}", "{{ (['a' * 100000] * 10000)|join }}", "{{ range(99999)|map('string')|map('center', 100000)|join }}",
    "{{ ''.join(range(99999)|map('string')|map('center', 100000)) }}", "{{ ('%(a)s' * 30000) % {'a': 'x' * 100000} }}", "{{ ('{0}' * 100000).format('x' * 100000) }}",
    "{{ (('f' * 400000)|int(base=16)) // (('f' * 200000)|int(base=16)) }}", "{{ (1).to_bytes(999999999, 'big')|length }}",
    "{{ ('é' * 500000).encode('punycode')|length }}", "{{ ('a.' * 400000).encode('idna')|length }}", "{{ ('a ' * 400000)|title|length }}",
    "{{ ('a' * 900000)|wordwrap(1) }}", "{{ ('www.a.b ' * 90000)|urlize|length }}", "{{ ('é' * 900000)|urlencode|length }}",
    "{{ [1, 2]|tojson(indent=10**8) }}", "{{ ([1] * 10000)|tojson(indent=10000) }}",
    # lists that contain themselves often
    NESTED + "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}", NESTED + "{% set n.x = [[n.x], [n.x]] %}{% endfor %}{{ n.x|tojson|length }}",
    NESTED + "{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1}|length }}", NESTED + "{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}{{ n.x|string }}",
    NESTED + "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}", NESTED + "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x|length }}",
    NESTED + "{% set n.x = [n.x]|map('batch', 1, n.x)|map('list')|list + [n.x] %}{% endfor %}{{ n.x|length }}",
    "{{ [[0] * 10000] * 10000 }}", "{{ ([[0] * 10000] * 10000)|sum(start=[]) }}", "{{ ([[1]] * 9999)|sum(start=[])|length }}", "{{ ([['a' * 9999] * 99] * 9999)|string }}",
    "{{ 'a'|batch(10**9, 'x')|list }}", "{{ [1]|batch(10**6, 'x')|list }}", "{{ [1]|slice(10**6)|list }}", "{{ ('ab' * 500000)|list|length }}",
    # many steps
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "{{ range(10**9)|length }}",
    "{% for a in range(1000) recursive %}{{ loop(range(1000)) }}{% endfor %}", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}", "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{% for i in range(19999) %}{% set y = range(99999)|list %}{% endfor %}", "{% for i in range(19999) %}{% set y = ('a' * 900000)|upper %}{% endfor %}",
    "{{ (['c'] * 9999)|select('in', ['d'] * 19999)|list|length }}{{ (['c'] * 9999)|select('in', ['d'] * 19999)|list|length }}{{ range(99999)|map('string')|select('in', 'ab' * 500000)|list }}",
    "{% filter upper %}{% for i in range(19999) %}{{ 'a' * 1000 }}{% endfor %}{% endfilter %}", "{{ lipsum(n=10**6) }}", "{{ cycler('a') }}",
    # deep or long templates
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "[" * 3000 + "]" * 3000 + " }}", "{{ " + "not " * 20_000 + "1 }}", "{% if 1 %}" * 2_000 + "{% endif %}" * 2_000, "{{ 1e" + "9" * 1_000 + " }}{{ 9**(9**9) }}", "{{ " + "9" * 100_000 + " }}", "{% raw %}" * 10_000,
    "{%- set x=1 -%}" * 50_000, "{{ " + "0" * 3_000_000 + " }}", "{%" + " " * 1_000_000 + "x", " " * 1_000_000 + "{%-", "{{-" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_a_template_ends_with_a_sentence(template: str) -> None:
    sample = Sample("a", "hi", (), {"a": 1})
    with pytest.raises(PromptError) as refused:
        compile_prompt([("user", template)], TIGHT).render(sample)
    assert str(refused.value)
    assert "MemoryError" not in str(refused.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 2**64 }} {{ 7 // 2 }} {{ 'ab' * 3 }} {{ [1, 2] * 2 }}", "18446744073709551616 3 ababab [1, 2, 1, 2]"),
        ("{{ '%5.2f|%-5s|%%'|format(1.5, 'a') }} {{ '{:>6,}'.format(1234) }}", " 1.50|a    |%  1,234"),
        ("{{ rows|map(attribute='n')|join(', ') }} {{ rows|sum(attribute='n') }}", "1, 2 3"),
        ("{{ rows|map(attribute='n')|list + [3] }} {{ [[a, 'x'], [1]] }}", '[1, 2, 3] [["A", "x"], [1]]'),
        ("{% for k, v in {'x': a, 'y': 2}.items() %}{{ k }}={{ v }} {% endfor %}", "x=A y=2 "),
        ("{% set n = namespace(x=[]) %}{% for i in range(3) %}{% set n.x = n.x + [i] %}{% endfor %}{{ n.x }}", "[0, 1, 2]"),
        ("{{ 'a\nb'|indent(2) }} {{ range(5)|batch(2)|list }}", "a\n  b [[0, 1], [2, 3], [4]]"),
        ("{{ 'long text'|title }} {{ 'a b'|urlencode }} {{ 5.678|round(1) }} {{ {'a': [1]}|tojson(indent=1) }}", 'Long Text a%20b 5.7 {\n "a": [\n  1\n ]\n}'),
        ("{{ ', '.join(rows|map(attribute='n')|map('string')) }} {{ 'é'.encode('utf-8')|length }}", "1, 2 2"),
        ("{{ rows|selectattr('n', 'gt', 1)|list|length }} {{ 'abc'|reverse }} {{ ['b', 'a']|sort|first }}", "1 cba a"),
    ],
)  # fmt: skip
def test_an_ordinary_template_renders_as_without_limits(template: str, text: str) -> None:
    sample = Sample("a", "hi", (), {"a": "A", "rows": [{"n": 1}, {"n": 2}]})
    for limits in (STANDARD, TIGHT):
        assert compile_prompt([("user", template)], limits).render(sample) == ({"role": "user", "content": text},)


@pytest.mark.parametrize(
    "target", ["model: m\n  base_url: http://127.0.0.1:9/v1", "type: http\n  url: http://127.0.0.1:9/\n  body: {q: %s}"]
)
def test_a_template_beyond_its_limits_is_said_by_validate(tmp_path, monkeypatch, target: str) -> None:
    monkeypatch.chdir(tmp_path)
    template = '"{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}"'
    prompt = f"prompt: {template}\n" if "model" in target else ""
    (tmp_path / "s.yaml").write_text(
        f"dataset: {{rows: [{{input: q, expected: x}}]}}\nscorers: [contains]\n{prompt}target:\n  {target.replace('%s', template)}\n"
    )
    done = command("validate", "s.yaml")
    assert done.code == 2
    assert "it makes a list or mapping of more than 200,000 items" in done.err
    assert "s.yaml:" in done.err


@pytest.mark.parametrize("sign", ["{", "{{", "{%", "{#", "${", "$", "[[", "<", "%(", "  "])
def test_long_texts_in_a_suite_are_read_in_linear_time(tmp_path, monkeypatch, sign: str) -> None:
    monkeypatch.chdir(tmp_path)
    text = (sign * 300_000)[:300_000]
    row = {"id": "a", "input": text, "expected": "x", "out": text}
    scorers = [
        {"type": "contains", "values": [text + "x"]},
        {"type": "regex", "name": "r", "pattern": re.escape(text)[:900]},
    ]
    data = {
        "dataset": {"rows": [row]},
        "description": text,
        "scorers": scorers,
        "target": {"type": "recorded", "column": "out"},
    }
    (tmp_path / "s.yaml").write_text(json.dumps(data))
    assert command("validate", "s.yaml").code == 0
    (tmp_path / "s.yaml").write_text(
        json.dumps({**data, "prompt": text, "target": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}})
    )
    assert command("validate", "s.yaml").code in (0, 2)


def test_words_that_are_often_inside_longer_words_are_an_error_of_their_cell() -> None:
    cell = cell_of(contains(whole_words=True), "a" * 400_000, "a" * 200_000)
    assert cell.state == "error"
    assert "a text of 200,000 characters occurs too often inside longer words" in str(cell.reason)
    assert cell_of(contains(whole_words=True), "ab " * 400_000 + "a", "a").value == 1


LONG = {
    "letters": "a" * 3_000_000,
    "words": "the cat, 42. " * 230_000,
    "marks": "é\u0301" * 1_000_000,
    "line ends": "a\n" * 1_500_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize(
    "scorer",
    [
        exact_match(normalize="squad"), contains(whole_words=True, normalize="squad"), token_f1(), numeric_match(),
        regex(pattern=r"(\w+)\s*$", group=1, find="last"), regex(pattern=r"\b42\b", group=0),
    ],
    ids=["exact_match", "contains", "token_f1", "numeric_match", "regex last", "regex"],
)  # fmt: skip
def test_a_huge_answer_is_scored(scorer: Scorer, text: str) -> None:
    assert cell_of(scorer, text, "42 cats").state == "scored"


def test_a_huge_answer_is_too_long_to_grade() -> None:
    reason = "too long to grade: 2,990,000 characters; the limit is 2,000,000"
    assert cell_of(ari_grade_level(), LONG["words"]) == Cell("error", reason=reason, cause="function")
