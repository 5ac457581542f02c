"""The scorer `expr`: what expressions give, what fails a row, what is a mistake of the suite, and that none escapes."""

from __future__ import annotations

import gc
import random
import time
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Cell, Completion, Sample, Score
from evalrunner.limits import TIGHT
from evalrunner.plugins import PluginContext, main_option_of, own_templates_of
from evalrunner.scorers.call import BoundScorer, call_sync, cell_without_call, offer
from evalrunner.scorers.expression import expr
from evalrunner.scorers.expression_language import Problem, compile_expression
from tests.scorers.scorer_calls import HOSTILE

ANSWER = 'Sure: {"refund": false, "amount": 3.5, "items": [{"name": "tray", "qty": 2}], "note": null} in 2 days.'
ROW = {"topic": "law", "limit": 60, "odd name": "x", "meta": {"tier": "gold"}, "text_limit": "60", "tags": ["a", "b"]}


UNTRUSTED = PluginContext(Path(), Path(), {}, limits=TIGHT)


def cell(text: str, output: str = ANSWER, expected: tuple[str, ...] = (), options: Any = None, **answer: Any) -> Cell:
    """The cell of an expression, as the engine makes it; the checks before the first call have to pass."""
    scorer = expr(value=text, **(options or {}))
    sample = Sample("1", "A question?", expected, ROW)
    assert scorer.function.check(sample) is None
    completion = Completion(output, **answer)
    bound = BoundScorer.bind("e", scorer)
    return cell_without_call(bound, sample, completion) or call_sync(bound, offer(sample, completion))


def mistake(text: str, row: Any = None, **options: Any) -> str:
    """What is wrong with an expression before the first call; nothing where it can run."""
    try:
        return str(
            expr(value=text, **options).function.check(Sample("1", "A question?", (), ROW if row is None else row))
            or ""
        )
    except ValueError as wrong:
        return str(wrong)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("output|length < 400", 1),
        ("output|length < 10", 0),
        ("'days' in output and not output.startswith('No')", 1),
        ("json.refund == false", 1),
        ("json.refund", 0),
        ("json.amount", 3.5),
        ("json.amount > 3 and json.amount < 4", 1),
        ("json['items'][0].name == 'tray'", 1),
        ("json['items']|map(attribute='qty')|sum == 2", 1),
        ("json['items']|selectattr('name', 'eq', 'tray')|list|length", 1),
        ("json.note is none", 1),
        ("json.other is not defined", 1),
        ("json.other|default(7)", 7),
        ("1 if json.refund else 0.5", 0.5),
        ("output|words|length", 15),
        ("output|lines|length", 1),
        ("output|number", 2),
        ("output|numbers", 2),
        ("output|numbers|first == 3.5", 1),
        ("output|matches('[0-9]+ days')", 1),
        ("output|matches('IN 2 DAYS', ignore_case=true)", 1),
        ("output|find('in ([0-9]+) days')|int", 2),
        ("output|find('[a-z]+', last=true) == 'days'", 1),
        ("output|find_all('[0-9]+')|length", 4),
        ("output|lower|trim|length > 3", 1),
        ("input|length < output|length", 1),
        ("topic == 'law' and limit > 3 and metadata['odd name'] == 'x'", 1),
        ("meta.tier == 'gold' and tags[1] == 'b' and topic.upper() == 'LAW'", 1),
        ("output|length > text_limit|number", 1),
        ("tags|select('in', output)|list|length == 1", 1),
        ("ended == 'stop' and tool_calls|length == 0 and reasoning == ''", 1),
        ("'42'|json + '[1]'|json|first", 43),
        ("true", 1),
        ("-2", -2),
    ],
)
def test_an_expression_gives_a_bool_or_a_number(text: str, value: float) -> None:
    if text == "output|numbers":
        assert "gives a list" in mistake(text)
    else:
        assert (cell(text).state, cell(text).value) == ("scored", value)


def test_names_of_the_call() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}
    answer: dict[str, Any] = {
        "latency_s": 1.5,
        "cost_usd": 0.002,
        "output_tokens": 9,
        "input_tokens": 4,
        "reasoning": "Hm.",
    }
    assert cell("latency < 2 and cost < 0.01 and tokens == 9 and input_tokens == 4", **answer).value == 1
    assert cell("reasoning == 'Hm.'", **answer).value == 1
    calls: dict[str, Any] = {"tool_calls": (call,), "finish_reason": "tool_calls"}
    assert cell("tool_calls[0].name == 'search' and tool_calls[0].arguments.q == 'x'", "", **calls).value == 1
    assert cell("ended == 'refused'", "", finish_reason="refused").value == 1
    assert cell("ended == 'empty'", " ").value == 1
    assert cell("output|length < 9", "", finish_reason="refused") == Cell(
        "unscored", reason="refused", cause="no_answer"
    )


def test_a_number_that_nobody_reported_skips_the_row() -> None:
    assert cell("latency < 2") == Cell("skipped", reason="the answer has no latency")
    assert cell("input_tokens < 2") == Cell("skipped", reason="the answer has no input tokens")
    assert cell("cost|default(0) < 2").value == 1
    assert cell("latency is not defined or latency < 2").value == 1
    assert cell("expected in output") == Cell("skipped", reason="no expected answer")
    assert cell("expected in output", expected=("days",)).value == 1


@pytest.mark.parametrize(
    ("text", "output", "reason"),
    [
        ("json.refnd == false", ANSWER, "no 'refnd' in the object; it has refund, amount, items, note"),
        ("json.refund == false", "No refund.", "the output has no JSON"),
        ("json[3] == 1", "[1, 2]", "no item 3 in a list of 2"),
        ("json.a.b == 1", '{"a": null}', "no 'b' in null"),
        ("json.a.b == 1", '{"a": {}}', "no 'b' in the object; it has no keys"),
        ("json.amount > 3", '{"amount": "much"}', "the expression cannot be computed: '>' not supported between instances of 'str' and 'int'"),
        ("json.name", '{"name": "Ann"}', "the expression gives the text 'Ann', not true, false or a number"),
        ("json.name", '{"name": null}', "the expression gives null, not true, false or a number"),
        ("output|number > 3", "none", "no number in the text"),
        ("output|find('x(.)') == 'y'", "none", "nothing matches 'x(.)'"),
        ("10 / output|length", "", None),
        ("10 / json.n", '{"n": 0}', "the expression cannot be computed: division by zero"),
        ("json.n * 1e308", '{"n": 100}', "the expression gives a number that is not finite"),
    ],
)  # fmt: skip
def test_what_the_answer_leaves_undefined_fails_with_the_reason(text: str, output: str, reason: str | None) -> None:
    if reason is None:
        assert cell(text, output).state == "unscored"
    else:
        assert cell(text, output) == Cell("scored", 0.0, detail={"undefined": True, "explanation": reason})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the expression is empty"),
        (
            "{{ output|length }}",
            "an expression is not a template, so it has no {{; write names without braces: output|length",
        ),
        ("output == '{% raw %}'", "so it has no {%"),
        ("outptu|length < 3", "uses 'outptu', which is no column of this sample; did you mean 'output'?"),
        ("topc == 'law'", "did you mean 'topic'?"),
        ("meta.teir == 'x'", "uses 'teir' of meta, which this sample does not have; it has tier"),
        ("tags[5] == 'x'", "uses 5 of tags, which this sample does not have"),
        ("metadata['odd nme'] == 1", "uses 'odd nme' of metadata"),
        ("output|lenght < 3", "unknown filter 'lenght'; did you mean 'length'?"),
        ("output is jsn", "unknown test 'jsn'"),
        ("len(output) < 3", "unknown function 'len'; use the filter: output|length"),
        ("range(3)|list|length", "unknown function 'range'"),
        ("output.toLowerCase() == 'x'", "output has no 'toLowerCase'; write output|lower"),
        ("output.length < 3", "output has no 'length'; write output|length"),
        ("output.upperr() == 'x'", "output is text, which has no 'upperr'; did you mean 'upper'?"),
        ("output.lower == 'x'", "output.lower is a function; call it: output.lower()"),
        ("output && true", "write 'and' for &&"),
        ("output || true", "write 'or' for ||"),
        ("!output", "write 'not' for !"),
        ("json.a === 1", "write == or != for === and !=="),
        ("json.a ? 1 : 2", "write `a if condition else b`"),
        ("json.a = 1", "write == to compare"),
        ("[x for x in tags]", "there are no loops"),
        ("output", "the expression gives the text '0 of 1.', not true, false or a number"),
        ("topic", "the expression gives the text 'law'"),
        ("output > 5", "'>' not supported between instances of 'str' and 'int'"),
        ("output|length < text_limit", "'text_limit' is text in this dataset: write text_limit|number"),
        ("10 / 0", "division by zero"),
        ("json.__class__ == 1", "the expression uses what no expression may: access to attribute '__class__'"),
        ("output|matches(topic)", "needs its pattern as a text in quotes"),
        ("output|matches('(')", "'pattern' is not a regular expression"),
        ("output|find('(a+)+$')", "'pattern' takes exponential time"),
        ("output|matches('a', true)", "cannot be computed"),
        ("a" * 4_001, "has 4,001 characters"),
        ("(" * 3_000 + "1" + ")" * 900, "the expression cannot be"),
    ],
)
def test_a_mistake_of_the_suite_is_found_before_the_first_call(text: str, problem: str) -> None:
    assert problem in mistake(text)


def test_ranges() -> None:
    assert mistake("output|length < 3", low=0) == "'low' and 'high' are for numbers; this expression is true or false"
    assert mistake("json.a", low=2, high=1) == "'low' is 2 and 'high' is 1; 'low' should be smaller"
    assert "the largest score is" in mistake("json.a", high=float("inf"))
    assert cell("json.amount", options={"low": 0, "high": 10}).value == 3.5
    outside = Cell(
        "scored", 0.0, detail={"undefined": True, "explanation": "the expression gives 3.5, which is above 'high' (1)"}
    )
    assert cell("json.amount", options={"low": 0, "high": 1}) == outside
    assert cell("json.missing", options={"low": 1, "high": 5}).value == 1


def test_declarations_follow_from_the_expression() -> None:
    condition, number = expr(value="output|length < 3").declaration, expr(value="json.n", unit="words").declaration
    assert (condition.binary, condition.low, condition.high, condition.passes) == (True, 0.0, 1.0, None)
    assert (number.binary, number.low, number.high, number.unit) == (False, None, None, "words")
    assert number.passes is not None and 0 < number.passes < 1e-8  # above 0
    assert condition.needs_answer and not expr(value="latency < 2").declaration.needs_answer
    assert not expr(value="ended == 'length' or output|length > 2").declaration.needs_answer
    assert expr(value="expected in output").declaration.needs_expected
    assert not expr(value="expected is not defined or expected in output").declaration.needs_expected
    assert condition.inline and not expr(value="output|matches('a')").declaration.inline
    assert main_option_of(expr) == "value" and own_templates_of(expr) == {"value"}


def test_equal_texts_are_compiled_once() -> None:
    assert compile_expression("output|length < 4000") is compile_expression("output|length < 4000")


ESCAPES = [
    base.replace("X", subject)
    for subject in ("output", "json", "''", "()", "[]", "{}", "1", "topic", "tags", "metadata", "tool_calls", "input", "output.format", "json.items", "(output|list)", "latency", "undefined_name")
    for base in (
        "X.__class__", "X.__class__.__base__.__subclasses__()|length", "X['__class__']|length", "X|attr('__class__')|length",
        "X.__init__.__globals__", "X.__reduce__()|length", "X|attr('__doc__')|length > 0", "X.__dict__|length",
        "X.mro()|length", "X['__globals__']['__builtins__']|length", "X.__getattribute__('__class__')|length",
        "'{0.__class__}'.format(X)|length < 5", "'{x.__class__.__mro__}'.format_map({'x': X})|length < 5",
        "('%s'|format(X.__class__))|length < 5", "[X]|map(attribute='__class__')|list|length < 0",
        "[X]|map('attr', '__class__')|first|length", "[X]|groupby('__class__')|length < 0", "X|selectattr('__class__')|list|length < 0",
    )
] + [
    "self.__init__", "cycler.__init__.__globals__.os", "lipsum.__globals__['os'].popen('id')", "namespace().x", "joiner", "dict(a=1)|length",
    "config", "request.application", "get_flashed_messages.__globals__", "template_step()", "template_collect([1])", "environment", "context",
    "caller()", "super()", "_('x')", "gettext('x')", "__import__('os')", "open('/etc/passwd')|length", "eval('1')", "output|eval", "output|exec",
    "{% set x = 1 %}", "{# x #}", "{{ 1 }}", "import os", "output; import os", "output\n__import__('os')", "output|include", "output|random",
    "output.encode('utf-7')|length", "output.encode('idna')|length", "output.format_map(metadata)|length > 10000000",
]  # fmt: skip

BOMBS = [
    "'a' * 10**9 == 'b'", "(output * 10**8)|length", "[1] * 10**8 == 1", "10**10**10 > 1", "2**2**30 > 1", "(9**999)**999 > 1",
    "output.ljust(10**10)|length", "'%1000000000d'|format(1)|length", "'{:1000000000}'.format(1)|length", "output.replace('', 'x' * 1000000)|length > 9**9",
    "output|list|map('replace', '', 'x' * 100000)|list|length > 9**9", "(output|list * 1000)|join(output)|length > 9**9", "output|center(10**9)|length",
    "output|indent(10**8)|length", "output|wordwrap(1)|length > 9**9", "(output|list)|batch(10**9)|list|length > 9**9",
    "(output|list)|slice(10**9)|list|length > 9**9", "output.zfill(10**10)|length", "output.expandtabs(10**9)|length", "(1).to_bytes(10**9)|length",
    "[output, output, output]|join(output * 1000)|length > 9**9", "(output ~ output ~ output) * 100000 == 1", "output|list|sort|unique|list|sort|length > 9**9",
    "json|tojson(indent=100000)|length > 9**9", "output|urlize|length > 9**9", "output|striptags|length > 9**9", "output|xmlattr|length",
    "(output|json)|tojson|json|tojson|length > 9**9", "output|matches('(?:a|b|ab)*c.*d.*e')", "output|find_all('(.*)(.*)(.*)x')|length > 9**9",
    "output|matches('(x+x+)+y')", "output|numbers|sum ** 99999 > 1", "output.translate({97: 'x' * 1000000})|length > 9**9",
    "output.split('')|length", "output|title|length > 9**9", "output|round(10**9)", "(1.5)|round(10**9) > 1", "output|int(base=99) > 1",
]  # fmt: skip

ROWS = [
    *HOSTILE,
    ANSWER,
    "",
    "a" * 100_000,
    "[" * 100_000,
    '{"a":' * 50_000,
    "9" * 50_000,
    '{"__class__": 1, "items": 2, "format": "{0.__class__}"}',
    "x1" * 30_000,
]


def _harmless(result: Any) -> bool:
    """A bool, a number or a problem, and nothing of Python's own."""
    return (
        isinstance(result, Problem | bool | int | float) and "<class" not in str(result) and "root:" not in str(result)
    )


def test_no_expression_escapes_the_sandbox() -> None:
    assert len(ESCAPES) > 300
    reached, messages = 0, list[str]()
    for text in ESCAPES:
        try:
            scorer = expr(value=text)
        except ValueError as wrong:
            messages.append(str(wrong))
            continue
        reached += 1
        for output in (ANSWER, ROWS[-2], "{0.__class__}"):
            sample = Sample("1", output, ("e",), {**ROW, "topic": output})
            assert "<class" not in str(scorer.function.check(sample))
            result = scorer.function(output, sample, Completion(output, latency_s=1.0))
            value = getattr(result, "value", result)
            assert "<class" not in str(result) and (
                value is None or _harmless(value) or hasattr(result, "reason") or hasattr(result, "kind")
            )
            assert value in (0, 1) or not isinstance(value, int | float) or abs(value) < 1e9
    assert not any("<class" in message or "Traceback" in message for message in messages)
    assert reached > 20  # the others were refused while they were read


def test_bombs_end_soon_and_use_little_memory() -> None:
    start = time.process_time()
    for text in BOMBS:
        try:
            scorer = expr(UNTRUSTED, value=text)
        except ValueError:
            continue
        for output in (ANSWER, "ab" * 2_000, ROWS[2]):
            result = scorer.function(output, Sample("1", output, ("e",), ROW), Completion(output))
            assert result is not None
    assert time.process_time() - start < 30
    gc.collect()


def test_any_expression_over_hostile_rows_ends_without_an_exception() -> None:
    texts = ["output|length < 400", "json.a == 1", "output|words|length", "output|numbers|length > 2", "output|number", "output|lines|length",
             "output|matches('[a-z]+ [0-9]')", "output|find('x([0-9])')|int > 3", "'x' in output", "output|lower|trim|length", "output|find_all('..')|length",
             "json|length", "json.items", "json|tojson|length", "output|upper == output", "output|replace('a', 'b')|length"]  # fmt: skip
    start = time.process_time()
    for text in texts:
        expression = compile_expression(text, TIGHT)
        for output in ROWS:
            scorer = expr(value=text)
            values = scorer.function._values(output, Sample("1", output, (), ROW), Completion(output))
            assert _harmless(expression.evaluate(values)), (text, output[:20])
    assert time.process_time() - start < 60


def test_random_expressions_never_raise_anything_but_value_errors() -> None:
    draw = random.Random(11)
    tokens = ["output", "json", "topic", "limit", "latency", "'x'", "1", "0.5", "+", "-", "*", "/", "**", "%", "~", "<", "==", "and", "or", "not", "in", "is", "defined", "none",
              "(", ")", "[", "]", "{", "}", ",", ":", "|", ".", "length", "lower", "number", "find", "matches('a')", "if", "else", "a", "__class__", "true", "\n", "é", "\\", "'", "="]  # fmt: skip
    runs = 0
    for _ in range(6_000):
        text = " ".join(draw.choices(tokens, k=draw.randrange(1, 9)))
        try:
            scorer = expr(value=text)
        except ValueError:
            continue
        sample = Sample("1", "q", (), ROW)
        if scorer.function.check(sample) is None:
            runs += 1
            assert scorer.function(ANSWER, sample, Completion(ANSWER)) is not None
    assert runs > 20


def test_an_evaluation_is_cheap() -> None:
    scorer, sample, completion = (
        expr(value="output|length < 400 and topic == 'law'"),
        Sample("1", "q", (), ROW),
        Completion(ANSWER),
    )
    scorer.function(ANSWER, sample, completion)
    start = time.process_time()
    for _ in range(2_000):
        scorer.function(ANSWER, sample, completion)
    assert (time.process_time() - start) / 2_000 < 0.0005  # about 0.01 ms on an idle machine


@pytest.mark.parametrize(
    ("output", "lenient", "strict"),
    [('{"a": 1}', 1.0, 1.0), (' {"a": 1}\n', 1.0, 1.0), ('```json\n{"a": 1}\n```', 1.0, 0.0), ('See {"a": 1}', 1.0, 0.0),
     ("NaN", 0.0, 0.0), ("none", 0.0, 0.0)],
)  # fmt: skip
def test_strict_json_takes_only_a_text_that_is_json_as_a_whole(output: str, lenient: float, strict: float):
    values = []
    for value in ("(output|json).a == 1", "(output|json(strict=true)).a == 1"):
        result = expr(value=value).function(output, Sample("1", ""), Completion(output))
        values.append(float(result.value if isinstance(result, Score) else result))
    assert values == [lenient, strict]
