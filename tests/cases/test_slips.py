"""Slips in a suite: each ends with exit code 2, its line, and a sentence that says what to write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cases.suites import Ended, command

ROWS = 'dataset: {rows: [{id: a, input: "Capital of France?", expected: Paris, output: Paris}]}\n'
RECORDED = ROWS + "target: {type: recorded, column: output}\nscorers: [exact_match]\n"
MODEL = ROWS + 'target: {model: m, base_url: "http://127.0.0.1:9/v1"}\nscorers: [exact_match]\n'


def check(text: str | bytes, *others: str) -> Ended:
    """`evalrun validate` of a suite with this text, and of other suites."""
    Path("s.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return command("validate", "s.yaml", *others)


def assert_slip(text: str | bytes, *expected: str) -> None:
    """Validate ends with exit code 2 and every expected text."""
    done = check(text)
    assert done.code == 2, done.err
    for part in expected:
        assert part in done.err


TEMPLATES = [
    ("prompt: {{ input }}", '4:9: prompt: put the template in quotes: "{{ input }}"'),
    ("prompt: {{ input }} please  # hi", '4:9: put the template in quotes: "{{ input }} please"'),
    ("prompt: {{input}}{{id}}", '4:9: put the template in quotes: "{{input}}{{id}}"'),
    ("prompt: {% if input %}x{% endif %}", '4:9: put the template in quotes: "{% if input %}x{% endif %}"'),
    ("prompt: {# a note #} {{ input }}", '4:9: put the template in quotes: "{# a note #} {{ input }}"'),
    ("prompt:\n  - user: {{ input }}", '5:11: prompt[0].user: put the template in quotes: "{{ input }}"'),
    ("prompt:\n  - user: {{ row['a'] }}, go", "5:11: put the template in quotes: \"{{ row['a'] }}, go\""),
    ('prompt:\n  - user: {{ row["a"] }}', "5:11: put the template in quotes: '{{ row[\"a\"] }}'"),
    ("prompt: [{user: {{ input }}}]", '4:17: prompt[0].user: put the template in quotes: "{{ input }}"'),
    ("prompt: [{user: {{ input }} please}]", '4:17: put the template in quotes: "{{ input }}"'),
    ("prompt:\n  {{ input }}", '5:3: prompt: put the template in quotes: "{{ input }}"'),
    ("prompt: {{ input", '4:9: put the template in quotes: "{{ input"'),
]


@pytest.mark.parametrize(("line", "message"), TEMPLATES)
def test_a_template_without_quotes_is_shown_with_quotes(line: str, message: str) -> None:
    assert_slip(f"{MODEL}{line}\n", f"s.yaml:{message}")


def test_all_templates_without_quotes_are_reported_at_once() -> None:
    done = check(MODEL + "prompt: {{ input }}\ndescription: {{ id }}\n")
    assert done.err.splitlines() == [
        's.yaml:4:9: prompt: put the template in quotes: "{{ input }}"',
        's.yaml:5:14: description: put the template in quotes: "{{ id }}"',
    ]


TAGS = [
    ("!!int abc", "description: 'abc' is not a value of !!int; remove the tag"),
    ("!!float x", "'x' is not a value of !!float"),
    ("!!bool maybe", "'maybe' is not a value of !!bool"),
    ("!!timestamp x", "the tag !!timestamp is not known here"),
    ("!!timestamp 2026-01-02", "the tag !!timestamp is not known here"),
    ("!!python/object/apply:os.system [ls]", "is not known here; put the text in quotes"),
    ("!!binary aGk=", "the tag !!binary is not known here"),
    ("!!set {a, b}", "the tag !!set is not known here"),
    ("!env HOME", "the tag !env is not known here; put the text in quotes"),
    ("!", "description: is "),
    ("!e!x y", "'!e!' is no known tag"),
]


@pytest.mark.parametrize(("value", "message"), TAGS)
def test_a_tag_that_does_not_fit_is_reported_with_its_line(value: str, message: str) -> None:
    if value == "!":
        value = "! {a: 1}"
    assert_slip(f"{RECORDED}description: {value}\n", "s.yaml:4:14: ", message)


SYNTAX = [
    ("description: a\x07b", "4:15: has the control character U+0007; remove it"),
    ("description: 'a\x1b[0m'", "4:16: has the control character U+001B"),
    ("a\x00: b", '4:2: has the control character U+0000; remove it, or write it as "\\x00"'),
    ('description: "\\ud83d"', "4:14: description: has half of a surrogate pair"),
    ('"a\\ud83d": 1', "4:1: has a key with half of a surrogate pair"),
    ('"a\\ud83d\\ude00": 1', "4:1: a😀: unknown key"),
    ("run:\n\tseed: 1", "5:1: is not valid YAML: a tab; use spaces"),
    ("run:\n    seed: 1\n\tepochs: 1", "6:1: is not valid YAML: a tab; use spaces"),
    ("run:\n  seed: 1\n epochs: 1", "6:2: is not valid YAML: the line does not continue what is above it; align it"),
    ("description: a: b", "4:15: is not valid YAML: ': ' is not allowed here; put text that contains ': ' in quotes"),
    ("description: 'it's'", "4:18: is not valid YAML: text after a closing quote"),
    ("description: 'x", "4:14: is not valid YAML: a quote that is not closed"),
    ('description: "\\d+"', "4:16: is not valid YAML: a backslash in double quotes begins an escape, and 'd' is none"),
    ("description: *x", "4:14: is not valid YAML: 'x' refers to no anchor; put text that begins with * in quotes"),
    ("description: **x**", "4:15: is not valid YAML: * and & mark anchors"),
    ("description: @x", "4:14: is not valid YAML: text cannot begin with '@'; put it in quotes"),
    ("description: `x`", "4:14: is not valid YAML: text cannot begin with '`'"),
    ("description: %x", "4:14: is not valid YAML: text cannot begin with '%'"),
    ("slices: [a", "is not valid YAML: a list that is not closed or lacks a comma"),
    ("prices: {a: {b: c", "is not valid YAML: a mapping that is not closed or lacks a comma"),
    ("---\nname: b", "4:1: is not valid YAML: several documents; put each suite into a file of its own"),
    ("? [a]\n: b", "4:3: a list or a mapping cannot be a key; keys are text"),
    ("{a: b}: c", "4:1: a list or a mapping cannot be a key"),
    ("prices: &p {m: *p}", "4:9: has an anchor that contains its own alias"),
    ("prices: &p {<<: *p}", "4:9: has a mapping that is merged into itself"),
    ("prices: {<<: [1]}", "4:15: has '<<' with something that is no mapping; write <<: *defaults"),
    ("description: 0x" + "f" * 3990, "4:14: has a number of more than 3,000 digits; put it in quotes"),
    ("description: " + "9" * 5000, "4:14: has a number of more than 3,000 digits"),
    ("run: {timeout: " + "9" * 400 + "}", "4:16: run.timeout: is a number with too many digits"),
    ("run: {epochs: -" + "9" * 400 + "}", "4:15: run.epochs: is -9999"),
    ("run: {timeout: 1e400}", "4:16: run.timeout: is inf; it should be a finite number"),
    ("run: {timeout: .nan}", "4:16: run.timeout: is nan; it should be a finite number"),
    ("on: x\nyes: y\n1: z\n~: w", "4:1: on: unknown key", "5:1: yes: unknown key", "6:1: 1: unknown key"),
    ("description: " + "[" * 3000, "4:114: has more than 100 levels"),
    ("description: " + "{a: " * 3000, "has more than 100 levels"),
    ("description:\n  " + "- " * 3000, "5:203: has more than 100 levels"),
    ("name: " + "n" * 101, "beginning with a letter or digit, at most 100 characters"),
]  # fmt: skip


@pytest.mark.parametrize("slip", SYNTAX, ids=range(len(SYNTAX)))
def test_a_slip_of_yaml_is_reported_with_line_and_column(slip: tuple[str, ...]) -> None:
    line, *messages = slip
    assert_slip(
        f"{RECORDED}{line}\n",
        *(part if part.startswith(("is", "has", "beg")) else f"s.yaml:{part}" for part in messages),
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "s.yaml: is empty"),
        (b"# nothing\n", "s.yaml: is empty"),
        (b"\xef\xbb\xbf", "s.yaml: is empty"),
        (b"[a, b]\n", "s.yaml:1:1: is not a mapping"),
        (b"just text\n", "s.yaml:1:1: is not a mapping"),
        (RECORDED.encode("utf-16"), "s.yaml: is UTF-16; save it as UTF-8"),
        (RECORDED.encode("utf-16-le").join([b"\xff\xfe", b""]), "s.yaml: is UTF-16; save it as UTF-8"),
        (RECORDED.encode() + "description: é\n".encode("latin-1"), "s.yaml:4:1: is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_that_is_no_suite_is_reported(data: bytes, message: str) -> None:
    assert_slip(data, message)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + RECORDED.encode(),
        RECORDED.replace("\n", "\r\n").encode(),
        b"---\n" + RECORDED.encode() + b"...\n",
        RECORDED.encode() + b'description: "\\ud83d\\ude00"\n',
        RECORDED.encode() + b"params: &a {seed: 1}\nprices: {}\n",
    ],
)
def test_marks_line_ends_and_escapes_of_other_editors_are_accepted(data: bytes) -> None:
    assert check(data).code == 0


def test_merges_of_merges_neither_multiply_nor_change_who_wins() -> None:
    from evalrunner.suite.yaml import parse_document

    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\nd: {y: 4, <<: *a}\n"
    data = parse_document(text, file="s.yaml").data
    assert (data["c"], data["d"]) == ({"x": 1, "y": 3, "z": 2}, {"x": 1, "y": 4})
    bomb = ["a0: &a0 {k0: v}"]
    bomb += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: v}}" for n in range(1, 12)]
    assert_slip("\n".join(bomb), "has more than 250,000 values")


PROMPTS = [
    ("[{role: usr, content: hi}]", "prompt[0].role: is 'usr'; it should be one of system, developer, user, assistant; did you mean 'user'?"),
    ("[{role: tool, content: hi}]", "prompt[0].role: is 'tool'; it should be one of system, developer, user, assistant"),
    ("[{role: messages, content: talk}]", "prompt[0].role: is 'messages'; it should be one of system"),
    ("[{role: user, content: hi, name: ann}]", "prompt[0].name: unknown key; valid keys: role, content"),
    ("[{role: user, content: null}]", "prompt[0].content: is empty; it should be text"),
    ("[{role: user}]", "prompt[0]: needs 'content', the text of the message"),
    ("[{role: 5}]", "prompt[0].role: is 5; it should be one of"),
    ("{model: m, messages: [{role: user, content: hi}]}", "prompt.model: is part of a request, not of a prompt; set the model and its params at the target"),
    ("{messages: []}", "prompt.messages: is a list; it should be text"),
    ("[{user: [{type: text, txt: hi}]}]", "prompt[0].user[0].txt: unknown key; did you mean 'text'?"),
    ("[{user: null}]", "prompt[0].user: is empty"),
    ("[{user: 5}]", "prompt[0].user: is 5; it should be text; put it in quotes"),
    ("[{tool: a}]", "prompt[0].tool: unknown key; valid keys: system"),
    ("[{human: a}]", "prompt[0].human: unknown key"),
    ("[{user: a, system: b}]", ("prompt[0]: is a mapping of 2 keys; it should be one role and its text, such as {user: …}; "
     "begin each with '- ': - user: …, - system: …")),
    ('["just text"]', "prompt[0]: is 'just text'; it should be one role and its text"),
    ("[[user, hi]]", "prompt[0]: is a list; it should be one role"),
    ("[null]", "prompt[0]: is empty"),
    ("[{}]", "prompt[0]: is a mapping; it should be one role"),
    ("[]", "prompt: is a list; it should be text"),
    ("{user: hi}", "prompt: is a mapping; write messages as a list: [{user: …}]"),
    ("{role: user, content: hi}", "prompt: is a mapping; write messages as a list"),
    ("{}", "prompt: needs 'file', the path of a prompt"),
    ("{file: null}", "prompt.file: is empty"),
    ("5", "prompt: is 5; it should be text"),
    ("[{user: {}}]", "prompt[0].user: needs 'file'"),
    ('[{messages: ""}]', "prompt[0].messages: is empty; name the column"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "message"), PROMPTS)
def test_a_prompt_that_is_wrong_throughout_is_reported(prompt: str, message: str) -> None:
    assert_slip(f"{MODEL}prompt: {prompt}\n", "s.yaml:4:", message)


@pytest.mark.parametrize(("prompt", "message"), PROMPTS[:8])
def test_a_prompt_of_one_target_that_is_wrong_throughout_is_reported(prompt: str, message: str) -> None:
    text = MODEL.replace('/v1"}', f'/v1", prompt: {prompt}}}')
    assert_slip(
        text, "s.yaml:2:", message.replace("prompt", "target.prompt", 1) if message.startswith("prompt") else message
    )


@pytest.mark.parametrize(
    ("ending", "text", "place"),
    [
        ("json", '[{"role": "tool", "content": "hi"}]', "p.json:1:"),
        ("yaml", "- role: user\n  content: hi\n- role: tool\n  content: hi\n", "p.yaml:3:"),
        ("json", '{"messages": [{"role": "user", "content": "hi"}],\n "temperature": 0}', "p.json:2:"),
    ],
)
@pytest.mark.parametrize("form", ["{{file: p.{}}}", "[{{user: {{file: p.{}}}}}]"])
def test_a_prompt_file_with_more_than_messages_is_reported(ending: str, text: str, place: str, form: str) -> None:
    Path(f"p.{ending}").write_text(text)
    problem = "is part of a request" if "temperature" in text else "is 'tool'; it should be one of"
    assert_slip(f"{MODEL}prompt: {form.format(ending)}\n", place, problem)


def test_a_prompt_file_in_json_may_escape_characters_in_pairs() -> None:
    Path("p.json").write_text('[{"user": "{{ input }} \\ud83d\\ude00"}]')
    done = check(MODEL + "prompt: {file: p.json}\n")
    assert done.code == 0, done.err
    assert "😀" in command("plan", "s.yaml", "--show", "1").out


FILES = ["{{file: {}}}", "[{{user: {{file: {}}}}}]"]


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope.txt", "'nope.txt' cannot be read: No such file or directory"),
        ("folder", "'folder' cannot be read: it is a folder"),
        ("latin.txt", "'latin.txt' is not UTF-8; save the file as UTF-8 (line 2)"),
        ("utf16.txt", "'utf16.txt' is UTF-16; save it as UTF-8"),
        ("pipe", "'pipe' cannot be read: it is not a regular file"),
        ("pipe.yaml", "pipe.yaml: cannot be read: it is not a regular file"),
        ("/dev/zero", "'/dev/zero' cannot be read: it is not a regular file"),
        ("large.txt", "'large.txt' cannot be read: it is larger than 16 MiB"),
        ('"a\\0b"', "cannot be read: the path has a character that no path can have"),
        ("n" * 5000, "cannot be read: File name too long"),
        ("n" * 5000 + ".yaml", "cannot be read: File name too long"),
        ("self.yaml", "'self.yaml' reads itself"),
        ("empty.yaml", "is empty; it should be text"),
        ("two.yaml", "two.yaml:2:3: [1].human: unknown key"),
    ],
)
def test_a_prompt_file_that_cannot_be_read_is_reported(name: str, message: str, form: str) -> None:
    Path("folder").mkdir()
    Path("latin.txt").write_bytes(b"a\n\xe9\n")
    Path("utf16.txt").write_text("a", encoding="utf-16")
    Path("self.yaml").write_text("- user: {file: self.yaml}\n")
    Path("empty.yaml").write_text("")
    Path("two.yaml").write_text("- user: a\n- human: b\n")
    with open("large.txt", "wb") as file:
        file.truncate(16 * 2**20 + 1)
    os.mkfifo("pipe")
    os.mkfifo("pipe.yaml")
    assert_slip(f"{MODEL}prompt: {form.format(name)}\n", message)


def test_problems_of_all_suites_are_reported_at_once() -> None:
    Path("good.yaml").write_text(RECORDED)
    Path("other.yaml").write_text("prompt: {{ input }}\n")
    done = check(MODEL + "prompt: [{tool: a}]\n", "good.yaml", "other.yaml")
    assert done.code == 2
    assert [line.split(" ")[0] for line in done.err.splitlines()] == ["s.yaml:4:11:", "other.yaml:1:9:"]


HISTORY = [{"role": "user", "content": "I live in Oslo"}, {"role": "assistant", "content": "ok"}]
TURNS = "prompt: [{system: s}, {messages: history}, {user: '{{ input }}'}]\n"


def shown(rows: list[dict[str, object]], prompt: str, *more: str) -> Ended:
    """`evalrun plan --show` of these samples, as JSONL."""
    Path("d.jsonl").write_text("".join(json.dumps({"expected": "x", **row}) + "\n" for row in rows))
    Path("s.yaml").write_text(
        MODEL.replace(ROWS, "dataset: {path: d.jsonl}\n").replace(
            "dataset: {path: d.jsonl}", "dataset: {path: d.jsonl, " + "".join(more) + "}"
        )
        + prompt
    )
    return command("plan", "s.yaml", "--offline", "--show", "9")


@pytest.mark.parametrize("history", [[], None, "", "[]", "null", " "])
@pytest.mark.parametrize("more", ["", "columns: {messages: history}"])
def test_an_empty_history_is_the_first_turn_of_a_conversation(history: object, more: str) -> None:
    rows = [
        {"id": "1", "history": HISTORY, "input": "where?", "expected": "Oslo"},
        {"id": "2", "history": history, "input": "who?", "expected": "Oslo"},
        {"id": "3", "input": "when?", "expected": "Oslo"},
    ]
    done = shown(rows, TURNS if not more else TURNS.replace("history", "messages"), more)
    assert done.code == 0, done.err
    assert done.out.count("I live in Oslo") == 1
    assert all(text in done.out for text in ("where?", "who?", "when?"))


def test_an_empty_cell_of_csv_is_an_empty_history() -> None:
    Path("d.csv").write_text('id,input,expected,history\n1,a,b,"[{""role"": ""user"", ""content"": ""x""}]"\n2,c,d,\n')
    assert check(MODEL.replace(ROWS, "dataset: d.csv\n") + TURNS).code == 0


@pytest.mark.parametrize("more", ["", "columns: {messages: history}"])
def test_a_prompt_that_is_empty_in_the_end_is_an_error(more: str) -> None:
    rows = [{"id": "1", "history": HISTORY, "input": "a"}, {"id": "2", "history": [], "input": "b"}]
    done = shown(rows, "" if more else "prompt: [{messages: history}]\n", more)
    assert (done.code, "d.jsonl:2: the prompt is empty: " in done.err) == (2, True), done.err


@pytest.mark.parametrize("more", ["", "columns: {messages: histroy}"])
def test_a_misspelled_history_is_an_error_with_its_line(more: str) -> None:
    rows = [{"id": "1", "history": HISTORY, "input": "a"}, {"id": "2", "input": "b"}]
    done = shown(rows, TURNS.replace("history", "messages" if more else "histroy"), more)
    assert done.code == 2
    assert "no sample has the column 'histroy'; did you mean 'history'?" in done.err
    assert done.err.startswith("s.yaml:1:" if more else "s.yaml:4:")


@pytest.mark.parametrize("name", ["self", "super", "loop", "caller", "varargs", "kwargs", "cycler", "range", "dict", "namespace", "joiner",
                                  "lipsum", "context", "environment", "column_self", "_", "class", "import", "l_0_x"])  # fmt: skip
@pytest.mark.parametrize(
    "template", ["{{ NAME }}", "<{{ NAME | upper | lower }}>", "{% if NAME == 'mine' %}{{ NAME }}{% endif %}"]
)
def test_a_column_with_a_name_of_jinja_is_the_column(name: str, template: str) -> None:
    done = shown([{"id": "1", "input": "a", name: "mine"}], f'prompt: "{template.replace("NAME", name)}"\n')
    assert done.code == 0, done.err
    assert "mine" in done.out


@pytest.mark.parametrize("name", ["true", "True", "false", "False", "none", "None"])
@pytest.mark.parametrize("template", ["{{ NAME }}", "a {{NAME}} b {{ input | upper }}"])
def test_a_column_with_the_name_of_a_value_is_an_error(name: str, template: str) -> None:
    done = shown([{"id": "1", "input": "a", name: "mine"}], f'prompt: "{template.replace("NAME", name)}"\n')
    assert (
        done.code,
        f"{name!r} is a value in templates, not the column of that name; write metadata[{name!r}]" in done.err,
    ) == (2, True)


@pytest.mark.parametrize("name", ["not", "if", "else", "in", "and", "is"])
def test_a_column_with_the_name_of_an_operator_is_the_column_or_an_error(name: str) -> None:
    done = shown([{"id": "1", "input": "a", name: "mine"}], f'prompt: "{{{{ {name} }}}}"\n')
    assert done.code == 2 or "mine" in done.out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("contains", "values: ['{{ body.x }} and {{ body }}']"),
        ("contains", "values: [a, 'x {% if a %}b{% endif %}']"),
        ("regex", "pattern: '{{ body }}'"),
        ("regex", "pattern: '^{{body|upper}}$', negate: true"),
    ],
)
def test_a_template_in_an_option_that_uses_an_unknown_column_is_an_error(option: str, value: str) -> None:
    text = RECORDED.replace("[exact_match]", f"[{{type: {option}, {value}}}]")
    assert_slip(text, "s.yaml:3:", "the template uses '", "which this sample does not have")


@pytest.mark.parametrize(
    "value",
    [
        "contains, values: ['{{', '}}'], negate: true",
        "regex, pattern: '\\{\\{.*?\\}\\}', negate: true",
        "regex, pattern: 'a{2}'",
    ],
)
def test_braces_that_are_no_template_are_accepted_in_options(value: str) -> None:
    done = check(RECORDED.replace("[exact_match]", f"[{{type: {value}}}]"))
    assert done.code == 0, done.err


HUGE = [
    "{{ 'a' * 10**10 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x | replace('a', 'aaaaaaaab') %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aaaaaaaab') %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ''.join([ns.x, ns.x]) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = '%s%s' | format(ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}{{ ns.x }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ 'x' | indent(10**9, first=true) }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%*d' | format(999999999, 1) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 999999999) }}",
    "{{ 10**(10**10) }}",
    "{{ (1).to_bytes(10**10, 'big') }}",
]


def test_unknown_name_in_every_sample_is_reported_at_its_template() -> None:
    prompt = "prompt:\n  - system: Be short.\n  - user: '{{ qestion }}'\n"
    assert_slip(MODEL + prompt, f"s.yaml:{MODEL.count(chr(10)) + 3}:11: the template uses 'qestion'")
    targets = '{name: a, model: m, base_url: "http://127.0.0.1:9/v1", prompt: "{{ inptu }}"}'
    text = MODEL.replace(
        "target: ", "targets:\n  - {name: b, type: recorded, column: expected}\n  - " + targets + "\n#"
    )
    line = text[: text.index("inptu")].count("\n") + 1
    assert_slip(text, f"s.yaml:{line}:", "the template uses 'inptu'", "did you mean 'input'?")


def test_unknown_name_in_some_samples_is_reported_at_the_sample() -> None:
    Path("d.jsonl").write_text('{"input": "a", "hint": "x", "expected": "b"}\n{"input": "c", "expected": "d"}\n')
    text = MODEL.replace(ROWS, "dataset: d.jsonl\n") + "prompt: '{{ hint }}'\n"
    assert_slip(text, "d.jsonl:2: the template uses 'hint'")


@pytest.mark.parametrize("template", HUGE)
def test_a_template_without_bounds_is_an_error_before_the_first_call(template: str) -> None:
    assert_slip(f"{MODEL}prompt: {json.dumps(template)}\n", "s.yaml:1:", "the template failed: ")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ range }}", "'safe_range' is a function here; call it: safe_range()"),
        ("{% macro f() %}{% endmacro %}{{ f }}", "'f' is a function here; call it: f()"),
        ("{{ ['a'] | map('upper') }}", "write `| list` or `| join(', ')` after it"),
        ("{{ self }}", "the template uses 'self', which this sample does not have"),
        ("{{ nope.x }}", "the template uses 'nope', which this sample does not have"),
        ("{{ input.x.y }}", "the template uses 'x' of text"),
        ("{{ input | round }}", "the template failed: TypeError"),
        ("{{ input | nofilter }}", "line 1 of the user message: No filter named 'nofilter'"),
        ("{{ input | uper }}", "No filter named 'uper'; did you mean 'upper'?"),
        ("{{ input is strng }}", "No test named 'strng'; did you mean 'string'?"),
        ("a {{ input", "write {{ '{{' }} or {% raw %}…{% endraw %} for the characters themselves"),
        ("\\frac{#1}", "{# begins a comment that does not end; write {{ '{#' }} for the characters themselves"),
        ("50 {% of", "write {{ '{%' }} or {% raw %}…{% endraw %} for the characters themselves"),
    ],
)
def test_a_template_that_fails_is_reported_in_a_sentence(template: str, message: str) -> None:
    assert_slip(f"{MODEL}prompt: {json.dumps(template)}\n", message)


def test_a_column_that_some_samples_lack_is_reported_for_each_of_them() -> None:
    done = shown([{"id": "1", "input": "a", "b": 1}, {"id": "2", "input": "c"}], "prompt: '{{ b }}'\n")
    assert (done.code, done.err.startswith("d.jsonl:2: the template uses 'b'")) == (2, True)


def test_a_syntax_error_in_a_prompt_file_has_the_place_that_names_it() -> None:
    Path("p.yaml").write_text("- user: '{{ input | nofilter }}'\n")
    Path("p.txt").write_text("{{ input")
    for form in ("{file: p.yaml}", "[{user: {file: p.yaml}}]", "{file: p.txt}", "[{user: {file: p.txt}}]"):
        assert_slip(f"{MODEL}prompt: {form}\n", "s.yaml:4:", "line 1 of the user message")


@pytest.mark.parametrize(
    ("template", "sent"),
    [
        ("{{ '%d people' | format(n) }}", "331000000 people"),
        ("{{ '{:,} people'.format(n) }}", "331,000,000 people"),
        ("{{ '**%s** is 100%%' | format(n) }}", "**331000000** is 100%"),
        ("{{ '%s, call 5551234567' % n }}", "331000000, call 5551234567"),
        ("{{ '{{\"a\": {}}}'.format(n) }}", '{"a": 331000000}'),
        ("{{ '%5.1f|%-4s|' % (1.25, 'x') }}", "  1.2|x   |"),
        ("{{ n * 3 }} {{ n ** 2 }} {{ 'ab' * 3 }} {{ [1] + [2] }}", "993000000 109561000000000000 ababab [1, 2]"),
        ("{{ [n, n] | join('-') }} {{ n | string | replace('3', '4') }}", "331000000-331000000 441000000"),
        ("{% set self = 5 %}{{ self }}", "5"),
        ("{% block t %}x{% endblock %}{{ self.t() }}", "xx"),
        ("{% macro f(a) %}<{{ a }}>{% endmacro %}{% for i in range(3) %}{{ f(i) ~ i }}{% endfor %}", "<0>0<1>1<2>2"),
    ],
)
def test_templates_with_large_numbers_and_signs_of_formats_render(template: str, sent: str) -> None:
    from evalrunner.domain import Sample
    from evalrunner.prompts import compile_prompt

    assert compile_prompt([("user", template)]).render(Sample("a", "b", (), {"n": 331000000}))[0]["content"] == sent


FILES_BESIDE = [
    ("dataset: {path: PATH, type: csv}\n", ROWS),
    (
        "target: {model: m, base_url: 'http://127.0.0.1:9/v1', transport: {verify: PATH}}\n",
        MODEL.splitlines(keepends=True)[1],
    ),
    ("scorers: [{type: python, function: 'PATH.py:f'}]\n", "scorers: [exact_match]\n"),
    ("gates: [{metric: exact_match, baseline: PATH, max_drop: 0.1}]\n", ""),
    ("prompt: {file: PATH}\n", ""),
]


@pytest.mark.parametrize("path", ["./pipe", "/dev/zero", "./folder", "n" * 5000, "'a\\0b'", "./x/" + "n" * 300])
@pytest.mark.parametrize(("line", "instead_of"), FILES_BESIDE)
def test_a_file_of_a_suite_that_cannot_be_read_is_an_error(path: str, line: str, instead_of: str) -> None:
    os.mkfifo("pipe")
    os.mkfifo("pipe.py")
    Path("folder").mkdir()
    if path.startswith("'"):
        line, path = (
            line.replace("'PATH.py:f'", "PATH").replace("PATH", '"a\\0b.py:f"' if "PATH.py" in line else '"a\\0b"'),
            "",
        )
    text = (MODEL.replace(instead_of, "") if instead_of else MODEL) + line.replace("PATH", path)
    done = check(text)
    missing_baseline = "baseline" in line and path.startswith("./x/")
    assert done.code == (0 if missing_baseline else 2), done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        ("exact_match/mean/v1", "; the version comes first: exact_match/v1/mean"),
        ("exact_match/mean/mean", "; a metric ends with one aggregate or reducer: exact_match/mean"),
        ("exact_match/pass_at_2", "; add the reducer 'pass_at_2' to 'reducer:'"),
    ],
)
def test_the_hint_of_a_metric_is_right_for_its_case(metric: str, hint: str) -> None:
    assert_slip(f"{RECORDED}gates: [{metric} >= 0]\n", "s.yaml:4:9:", f"no metric {metric!r} in this suite{hint}")


@pytest.mark.parametrize(
    "line",
    [
        "params: {temperature: .inf}",
        "params: {temperature: 1e999}",
        "prices: {m: {input: -.inf, output: 1}}",
    ],
)
def test_numbers_that_no_run_could_store_are_errors(line: str) -> None:
    assert_slip(f"{MODEL}{line}\n", "it should be a finite number")
