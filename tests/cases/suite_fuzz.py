"""Broken suites from good ones: a seeded stream of mutations, and what `validate` and `run` make of each.

By hand, with other seeds and more of them:

    PYTHONPATH=. python -m tests.cases.suite_fuzz --seed 7 --count 10000
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cases.suites import command

ROOT = Path(__file__).parents[2]
DEAD = "http://127.0.0.1:9/v1"  # nothing listens on the discard port
LIMIT_S = 60.0  # for one command; most take a hundredth of that
CODES = {"validate": (0, 2), "run": (0, 1, 2, 3, 4)}
PLACE = re.compile(r"^(?:evalrun: )?(?:\S+:\d+:\d+|\S+:\d+|\S*rows\[\d+\]|\S*\.(?:yaml|csv|jsonl|json|txt|py)):? ?")
ENVIRONMENT = {
    "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": DEAD, "LITELLM_BASE_URL": DEAD, "EVALRUN_JUDGE": "gateway-chat",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1",
    "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9",
}  # fmt: skip
"""Nothing that a mutated suite names is reached: every way out of the machine ends at a closed port."""

FULL = """\
name: full
description: Every section of a suite.
dataset:
  path: data.jsonl
  columns: {id: qid, input: question.text, expected: {column: answers, split: "|"}}
  where: {kind: [a, b]}
  shuffle: 7
  limit: 3
  cluster: group
prompt:
  - system: Be short.
  - messages: history
  - user: "{% for c in choices %}{{ loop.index }}. {{ c }}\\n{% endfor %}{{ input | trim }} {{ metadata['my col'] | default('-') }}"
targets:
  - {type: recorded, name: old, column: output}
  - {type: python, name: own, function: "own.py:answer", args: {loud: true}}
params: {temperature: 0, max_tokens: null}
on_no_answer: zero
scorers:
  - exact_match
  - {type: contains, values: [Paris, "4"], ignore_case: true, on_no_answer: unscored}
  - {type: regex, name: digits, pattern: '\\d+', negate: true}
  - {type: numeric_match, tolerance: 0.1}
  - {type: python, name: polite, function: "own.py:polite", args: {word: please}, low: 0, high: 1, aggregates: [mean, p90]}
  - token_f1
gate_defaults: {min_coverage: 0.5, confidence: 0.9}
gates:
  - exact_match >= 0.1
  - {metric: polite/p90, max: 1, target: old, slice: {kind: a}}
  - {metric: "contains[kind=b]", min: 0.1, confidence: 0.8}
  - {metric: latency/p90, max: 5}
  - {per_sample: {metric: exact_match, min: 0.5, passes: 1, of: 2, share: 0.5}}
  - {metric: token_f1, baseline: main, max_drop: 0.1}
run: {concurrency: 4, epochs: 2, seed: 3, timeout: 7, row_timeout: 20, run_timeout: 60, retries: 0, fail_on_error: 50%, cache: {mode: all, ttl: 12h}}
reducer: [mean, at_least_1]
slices: [kind]
prices: {m: {input: 0.1, output: 0.2, above: {tokens: 100, input: 1, output: 2}}}
"""
SERVICE = """\
name: service
dataset: data.csv
targets:
  - {name: gateway, model: m, base_url: "http://127.0.0.1:9/v1", api_key: "${OPENAI_API_KEY}", headers: {X-Team: qa}, params: {temperature: 0}, timeout: 2, retries: 0, reasoning: keep, prompt: {file: prompt.txt}}
  - {name: http, type: http, url: "http://127.0.0.1:9/ask?q={{ input }}", method: POST, headers: {A: b}, body: {q: "{{ input }}", k: 3, l: ["{{ id }}"]}, output: result.0.text, retries: 0}
judge: {model: m, base_url: "http://127.0.0.1:9/v1", retries: 0}
judge_check: off
scorers: [contains, {type: toxicity, backend: lexical}, {type: factuality, name: facts}, flesch_kincaid_grade_level]
gates: [contains > 0.5]
run: {retries: 0, timeout: 2, max_cost: 1}
prices: {m: {input: 0.1, output: 0.2}}
"""
OWN = "def answer(input, loud=False):\n    return str(input)\n\n\ndef polite(output, word='x'):\n    return word in output\n"
ROWS = [
    {"qid": "1", "question": {"text": "Capital?"}, "answers": "Paris|paris", "kind": "a", "group": "x", "output": "Paris",
     "choices": ["a", 2], "history": [{"role": "user", "content": "hi"}], "my col": None, "self": "me", "true": 1},
    {"qid": "2", "question": {"text": "2+2?"}, "answers": "4", "kind": "b", "group": "y", "output": "four 4", "choices": []},
    {"qid": "3", "question": {"text": "é😀?"}, "answers": ["x"], "kind": "a", "group": "x", "output": "", "choices": [None],
     "history": []},
]  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 10**400, -(10**30), float("nan"), float("inf"), "", " ", "\n", "\t",
    "no", "0", "1", "-1", "1e999", "nan", "5%", "101%", "x", "X" * 300, "n" * 5000, "é😀", "\x00", "a\x1b[31mb", "\u2028", "\ufeff",
    "a/b", "../..", "/", "/dev/zero", "/dev/null", ".", "own.py", "own.py:", "own.py:nope", "own.py:polite", ":", "a:b", "os:getcwd",
    "{{ input }}", "{{ input", "{% for x in y %}", "{{ self }}", "{{ loop }}", "{{ range }}", "{{ true }}", "{{ nope }}", "{# x #}",
    "{{ input.x.y }}", "{{ 1/0 }}", "{{ 'a' * 10**10 }}", "{{ input | nofilter }}", "{{ [1] | map('upper') | list }}", "{{ input() }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% include 'x' %}", "{{ choices | join(',', 5) }}", "{{ metadata.items() | list }}", "{% set input = 5 %}{{ input }}",
    "{{ 'x' | center(10**9) }}", "{{ '%999999999d' | format(1) }}", "{{ input ~ nope }}", "{{ ''.__class__ }}", "{{ ns.x }}",
    "${NOPE}", "${OPENAI_API_KEY}", "${", "$$", "${A:-b}", "*", "[", "(", "(?P<x>", "(a+)+$", "\\", "[a-", "(?i)x(?-i)", "a{9999999999}",
    "exact_match", "exact_match >= 0.5", "exact_match >= 80%", "exact_match/p90 > 1", "exact_match[kind=a] >= 0", "exact_match/mean/v1 >= 0",
    "nope >= 1", "latency/p90 < 1", "cost <= 0", "main", "run:last", "2026-01-02", "12h", "auto", "mean", "at_least_9", "pass_at_2",
    "openai/x", "http://", "http://127.0.0.1:9", "http://[", "http://a b", "http://u:p@127.0.0.1:9/v1", "ftp://x", "data.csv", "data.jsonl",
    "nope.csv", "folder", "*.csv", "**/*", "-", "[]", "recorded", "python", "http", "http://127.0.0.1:99999/v1", "http://127.0.0.1:-1",
    [], [[]], [None], [[[[]]]], ["a", "a"], [1, "a", None, {}], list(range(300)), {}, {"": None}, {"a": {}}, {"file": None},
    {"file": "nope"}, {"file": "folder"}, {"file": "prompt.txt"}, {"file": "s.yaml"}, {"file": "/dev/zero"}, {"role": "user", "content": "x"},
    {"type": None}, {"type": "nope"}, {"type": "recorded"}, {"type": "recorded", "column": "nope"}, {"model": None}, {"model": {}},
    {"metric": "exact_match"}, {"metric": "exact_match", "min": None}, {"metric": "exact_match", "min": 0, "max": 1}, {"per_sample": None},
    {"mode": "all"}, {"ttl": "x"}, {"column": None}, {"column": []}, {"tokens": 1}, {"a": 1, "b": [2]}, {"1": 2}, {"rows": []},
    {"rows": [{}]}, {"rows": [{"input": None}]}, {"rows": [{"input": {"a": [1]}, "expected": [[], {}]}]}, {"path": None}, {"mlflow": None},
    {"mlflow": {}}, {"user": None}, [{"user": "{{ input }}"}], [{"user": ["x"]}], [{"messages": "nope"}], [{"messages": "history"}],
    [{"user": {"file": "nope"}}], [{"role": "user", "content": "x"}],
)  # fmt: skip
KEYS = ("", " ", "name", "type", "nope", "file", "rows", "path", "a.b", "a[0]", "é", "\x00", "<<", "null", "1", "true", "x" * 500, "__class__", "self", "metric",
        "min", "judge", "model", "args", "function", "column", "where", "context", "version")  # fmt: skip
SCRAPS = (
    "\t", "  ", " ", "\n", "\r", "\r\n", ":", ": ", "-", "- ", "{", "}", "{{", "}}", "[", "]", "'", '"', "#", " # ", "&a ", "*a", "!", "!!int ",
    "!!python/object:os.system ", "!!binary ", "!!timestamp ", "!!set ", "!x ", "|", ">", "%", "@", "`", ",", "?", "? ", "---\n", "...\n", "<<: ",
    "<<: *a\n", "\x00", "\x07", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "\ud800", "\\", "\\d", "\\ud83d", "~", "null", "0x" + "f" * 5000,
    "9" * 5000, "1e999", ".nan", "[" * 400, "{a: " * 200, "- " * 300, "é", "😀", "{%", "%}", "{#", "${", "${X}", "$",
)  # fmt: skip

CHECKS = """\
name: checks
checks: [{not_contains: "As an AI"}, {max_words: 60, where: {kind: {not: [b]}}}, {any: [exact_match, {contains: x, ignore_case: true}], weight: 2, name: grp}]
dataset:
  rows:
    - {id: a, input: "Can I?", period: 30, expected: '{"refund": false, "text": "a"}', kind: b, output: '{"refund": false, "text": "in 30 days"}', checks: [{contains: "{{ period }} days"}, {json: {path: $.refund, equals: false}}, {expr: "output|length < 400", name: short}, {type: regex, pattern: "\\\\d+", weight: 2, extract: {json: $.text}}]}
    - {id: b, input: "b", period: 14, expected: '{"refund": true, "text": "a"}', kind: c, output: "As an AI 3", checks: {threshold: 0.5, all: [{similarity: "x", threshold: 0.5}, {not_regex: a}]}}
prompts:
  short: "{{ input }}"
  long: [{role: system, content: "x"}, {user: "{{ input }} {{ period }}"}]
targets:
  - {type: recorded, name: old, column: output, extract: [{after: "x"}, last_line, number]}
  - {type: command, command: [cat], name: prog}
  - {name: m, model: openai/m, base_url: "http://127.0.0.1:9/v1", params: {n: 1}}
scorers:
  - {type: json, schema: {type: object}, name: valid}
  - {type: json, name: doc, fields: {refund: exact_match, text: {type: levenshtein, value: "{{ input }}"}}}
  - {type: rubric, criteria: {tone: "is polite", facts: "{{ period }} days"}, scale: 1-5}
  - {expr: "json.refund"}
  - {type: autoevals, name: ClosedQA, criteria: x}
  - {type: tool_calls, expected: []}
  - {preset: question_answering, without: [toxicity, flesch_kincaid_grade_level]}
judge: {model: openai/j, base_url: "http://127.0.0.1:9/v1"}
slices: [kind]
gates: [checks >= 0.9, short >= 0.5, checks/share >= 0.4, doc/refund >= 0.1]
"""
"""Checks of a suite and of rows, prompts for every model, and scorers with parts, judges and templates."""


@dataclass
class Seed:
    """A suite to mutate: its text, and its data for mutations of the structure."""

    name: str
    text: str
    data: Any = field(init=False)

    def __post_init__(self) -> None:
        self.data = yaml.safe_load(self.text)


def seeds() -> list[Seed]:
    """The shipped suites and three that use every section; models that would be loaded are replaced by a closed port."""
    shipped = [
        Seed(path.stem, path.read_text(encoding="utf-8").replace("local/smollm2-135m-instruct", "openai/m"))
        for path in sorted((ROOT / "suites").glob("*.yaml"))
        if path.stem != "proxy_config"
    ]
    return [*shipped, Seed("full", FULL), Seed("full", FULL), Seed("service", SERVICE), Seed("checks", CHECKS)]


def write_files(folder: Path) -> None:
    """The files that the seeds name."""
    shutil.copytree(ROOT / "suites" / "data", folder / "data")
    (folder / "own.py").write_text(OWN)
    (folder / "prompt.txt").write_text("Q: {{ input }}\n")
    (folder / "data.csv").write_text("id,input,expected,output,kind\n1,a,b,c,x\n2,é,f,g,y\n")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "folder").mkdir()


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` mutations, each with a name; the same for the same seed."""
    chance = random.Random(seed)
    known = seeds()
    for number in range(count):
        base = chance.choice(known)
        many = chance.choice((1, 1, 1, 2, 2, 3))
        if chance.random() < 0.55:
            data = json.loads(json.dumps(base.data))
            for _ in range(many):
                data = mutate_data(data, chance)
            text = written(data, chance)
        else:
            text = base.text
        if text is base.text or chance.random() < 0.1:
            for _ in range(many):
                text = mutate_text(text, chance)
        raw = text.encode("utf-8", errors="surrogatepass")
        if chance.random() < 0.02:
            raw = chance.choice((b"\xff\xfe", b"\xef\xbb\xbf", b"\xfe\xff", b"\x80")) + raw
        if chance.random() < 0.01:
            raw = text.encode(chance.choice(("utf-16", "utf-32", "latin-1")), errors="replace")
        yield f"{base.name}-{number}", raw


def written(data: Any, chance: random.Random) -> str:
    """The data as YAML or JSON."""
    if chance.random() < 0.3:
        return json.dumps(data, indent=1, ensure_ascii=chance.random() < 0.5)
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=200)


def mutate_data(data: Any, chance: random.Random) -> Any:
    """The data with one node replaced, removed, doubled, renamed, wrapped or moved."""
    nodes = list(containers(data))
    if not nodes or chance.random() < 0.01:
        return chance.choice(VALUES)
    place = chance.choice(nodes)
    key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    how = chance.random()
    if how < 0.5:
        place[key] = chance.choice(VALUES)
    elif how < 0.6:
        del place[key]
    elif how < 0.7:
        place[key] = chance.choice(
            ([place[key]], {"a": place[key]}, [place[key], place[key]], [[place[key]]], str(place[key]))
        )
    elif how < 0.8:
        other = chance.choice(nodes)
        place[key] = json.loads(json.dumps(chance.choice(list(other.values()) if isinstance(other, dict) else other)))
    elif isinstance(place, dict):
        value = place.pop(key) if how < 0.9 else chance.choice(VALUES)
        near = key[:-1] + chance.choice("sxe_ ") if key else "a"
        place[chance.choice((near, key.upper(), *KEYS))] = value
    else:
        place.insert(key, chance.choice((place[key], *VALUES)))
    return data


def containers(data: Any) -> Iterator[Any]:
    """Every mapping and list with something in it."""
    if isinstance(data, dict | list) and data:
        yield data
        for item in data.values() if isinstance(data, dict) else data:
            yield from containers(item)


def mutate_text(text: str, chance: random.Random) -> str:
    """The text with characters added, removed or replaced, or its lines moved or indented."""
    if not text:
        return chance.choice(SCRAPS)
    at = chance.randrange(len(text))
    how = chance.random()
    if how < 0.4:
        return text[:at] + chance.choice(SCRAPS) + text[at:]
    if how < 0.5:
        return text[:at] + text[at + chance.choice((1, 1, 2, 5, 30)) :]
    if how < 0.6:
        return text[:at] + chance.choice(SCRAPS) + text[at + chance.choice((1, 2, 8)) :]
    if how < 0.7:
        signs = [place for place, sign in enumerate(text) if sign in "'\"{}[]:,-#"]
        at = chance.choice(signs) if signs else at
        return text[:at] + chance.choice(("", text[at] * 2, *"'\"{}[]:,-#")) + text[at + 1 :]
    lines = text.split("\n")
    line, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    if how < 0.8:
        lines[line] = chance.choice((" ", "  ", "    ", "\t", "\u00a0")) + lines[line]
    elif how < 0.85:
        lines[line] = lines[line].lstrip()
    elif how < 0.9:
        lines.insert(other, lines[line])
    elif how < 0.94:
        lines[line], lines[other] = lines[other], lines[line]
    elif how < 0.97:
        lines[line] = re.sub(r":.*", lambda match: ": " + chance.choice(SCRAPS), lines[line])
    else:
        return text[:at]
    return "\n".join(lines)


@dataclass
class Outcome:
    """The counts of exit codes by command, and what should not have happened."""

    codes: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in CODES})
    faults: list[str] = field(default_factory=list)
    without_place: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str, str] = (0.0, "", "")

    def __str__(self) -> str:
        parts = [
            f"{name}: " + ", ".join(f"{count:,} x exit {code}" for code, count in sorted(codes.items()))
            for name, codes in self.codes.items()
        ]
        return f"{'; '.join(parts)}; faults: {len(self.faults)}; without a place: {self.without_place.total()}"


class HangError(BaseException):
    """A command that takes longer than any suite should."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise HangError in this thread after so many seconds; beyond that, end the process with a traceback."""

    def on_alarm(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(4 * seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def fuzz(
    seed: int, count: int, *, keep: Path | None = None, only: Callable[[str], bool] = lambda name: True
) -> Outcome:
    """What `validate` and, where it finds nothing, `run` make of each mutation, in the working folder."""
    outcome = Outcome()
    suite = Path("s.yaml")
    for good in seeds():  # what they import takes longer than a mutation may
        suite.write_text(good.text, encoding="utf-8")
        command("validate", "s.yaml")
    for name, raw in mutants(seed, count):
        if not only(name):
            continue
        suite.write_bytes(raw)
        for task, arguments in (("validate", ()), ("run", ("-q", "--retries", "0"))):
            fault, started = "", time.monotonic()
            try:
                with time_limit(LIMIT_S):
                    done = command(task, "s.yaml", *arguments)
            except HangError:
                fault = f"took over {LIMIT_S:g} s\n{traceback.format_exc()[-1500:]}"
            except BaseException:  # what the command line would call a bug
                fault = traceback.format_exc()[-1500:]
            else:
                outcome.codes[task][done.code] += 1
                if done.code not in CODES[task] or "Traceback" in done.err + done.out:
                    fault = f"exit {done.code}: {done.err[-1500:]}"
                elif done.code == 2 and (missing := [line for line in done.err.splitlines() if not PLACE.match(line)]):
                    outcome.without_place.update(missing)
                elif done.code == 2 and not done.err.strip():
                    fault = "exit 2 without a word"
            took = time.monotonic() - started
            if took > outcome.slowest[0]:
                outcome.slowest = (took, name, task)
            if took > 2:
                print(f"{took:.1f} s: {name} {task}", file=sys.stderr)
            if fault:
                outcome.faults.append(f"seed {seed}, {name}, {task}: {fault}")
                if keep is not None:
                    (keep / f"{seed}-{name}.yaml").write_bytes(raw)
            if fault or done.code != 0 or b"tracking" in raw:  # a server that is away is waited for
                break
        shutil.rmtree("runs", ignore_errors=True)
    return outcome


def main() -> None:
    """Fuzz by hand, and print the counts and every fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="Folder for the suites that fail.")
    parser.add_argument("--only", help="Name of one mutation.")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    keep = given.keep.resolve() if given.keep is not None else None
    os.environ.update(ENVIRONMENT)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["EVALRUN_CACHE_DIR"] = folder
        write_files(Path(folder))
        outcome = fuzz(given.seed, given.count, keep=keep, only=lambda name: given.only is None or name == given.only)
    print(*outcome.faults, sep="\n\n")
    for line, count in outcome.without_place.most_common(60):
        print(f"{count:5} x {line[:200]}")
    print(f"seed {given.seed}: {outcome}")


if __name__ == "__main__":
    main()
