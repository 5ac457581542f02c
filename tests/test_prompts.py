"""Templates to messages: what a prompt sends, and the error for each template that cannot be rendered."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Sample
from evalrunner.prompts import ABSENT, compile_prompt, find_value
from evalrunner.templates import PromptError

ROW = {"question": "2+2?", "topic": "sums", "choices": ["3", "4"], "meta": {"values": [1]}, "none": None, "my col": "x"}
SAMPLE = Sample("q1", "2+2?", ("4",), ROW)
TALK = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"})


def filled(template: str, sample: Sample = SAMPLE) -> str:
    (message,) = compile_prompt([("user", template)]).render(sample)
    assert message["role"] == "user"
    return str(message["content"])


def refusal(template: str, sample: Sample = SAMPLE) -> str:
    with pytest.raises(PromptError) as raised:
        compile_prompt([("user", template)]).render(sample)
    return str(raised.value)


def test_a_list_of_roles_becomes_messages_in_order() -> None:
    prompt = compile_prompt([("system", "Be short."), ("user", "Q: {{ question }}"), ("assistant", "A:")])
    assert prompt.roles == ("system", "user", "assistant")
    assert prompt.render(SAMPLE) == (
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Q: 2+2?"},
        {"role": "assistant", "content": "A:"},
    )


def test_without_a_prompt_the_input_is_one_user_message() -> None:
    prompt = compile_prompt(None)
    assert prompt.roles == ()
    assert prompt.render(SAMPLE) == ({"role": "user", "content": "2+2?"},)
    assert prompt.render(Sample("a", {"é": [1, None]})) == ({"role": "user", "content": '{"é": [1, null]}'},)


def test_without_a_prompt_a_conversation_is_sent_as_it_is() -> None:
    assert compile_prompt(None).render(Sample("a", "hi", messages=TALK)) == TALK


def test_a_conversation_can_be_inserted_between_messages() -> None:
    prompt = compile_prompt([("system", "Be short."), ("messages", "messages"), ("user", "{{ topic }}?")])
    assert prompt.roles == ("system", "messages", "user")
    sent = prompt.render(Sample("a", "hi", metadata={"topic": "sums"}, messages=TALK))
    assert sent == ({"role": "system", "content": "Be short."}, *TALK, {"role": "user", "content": "sums?"})


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ("talk", {"talk": list(TALK)}),
        ("chat.turns", {"chat": {"turns": list(TALK)}}),
        ("talk", {"talk": json.dumps(TALK)}),
        ("messages", {"messages": list(TALK)}),
    ],
)
def test_a_conversation_can_come_from_any_column(column: str, row: dict[str, Any]) -> None:
    assert compile_prompt([("messages", column)]).render(Sample("a", "hi", metadata=row)) == TALK


def test_a_missing_or_invalid_conversation_is_an_error() -> None:
    prompt = compile_prompt([("messages", "tlak")])
    with pytest.raises(PromptError, match=r"from 'tlak', which this sample does not have; did you mean 'talk'\?"):
        prompt.render(Sample("a", "hi", metadata={"talk": list(TALK)}))
    with pytest.raises(PromptError, match=r"the column 'tlak' has a message 1 without a role"):
        prompt.render(Sample("a", "hi", metadata={"tlak": [{"content": "x"}]}))


def test_sample_fields_take_precedence_over_source_columns() -> None:
    row = {"input": "theirs", "id": "theirs", "expected": "theirs", "messages": "theirs"}
    sample = Sample("ours", "our input", ("our answer",), row, TALK)
    assert (
        filled("{{ id }} {{ input }} {{ expected }} {{ messages[0].content }}", sample)
        == "ours our input our answer hi"
    )


def test_expected_in_templates_is_text_a_list_or_undefined() -> None:
    assert filled("{{ expected }}") == "4"
    assert filled("{{ expected|join(' or ') }}", Sample("a", "q", ("4", "four"))) == "4 or four"
    assert filled("{{ expected is defined }}", Sample("a", "q", (), {"expected": ""})) == "false"


def test_a_column_name_with_spaces_is_reached_through_metadata() -> None:
    assert filled("{{ metadata['my col'] }}") == "x"
    assert (
        filled("{{ metadata }}", Sample("a", "q", (), {"metadata": "a column of that name"})) == "a column of that name"
    )
    assert refusal("{{ my col }}").endswith("; write a column whose name is not a single word as metadata['the name']")
    assert refusal("{{ mycol }}").endswith("; did you mean metadata['my col']?")


def test_values_are_rendered_as_json_or_text() -> None:
    assert (
        filled("{{ choices }}|{{ meta }}|{{ metadata['none'] }}|{{ 1 == 1 }}|{{ 1.5 }}")
        == '["3", "4"]|{"values": [1]}||true|1.5'
    )
    assert filled("{{ input|tojson }}", Sample("a", "<b> & é")) == '"<b> & é"'
    assert filled("{{ input }}", Sample("a", "<b> & 'c'")) == "<b> & 'c'"


def test_a_key_takes_precedence_over_a_method_of_the_same_name() -> None:
    assert filled("{{ meta.values }} {{ meta['values'] }} {{ choices.1 }}") == "[1] [1] 4"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ questoin }}", "the template uses 'questoin', which this sample does not have; did you mean 'question'?"),
        ("{{ questoin.x.y }}", "the template uses 'questoin', which this sample does not have; did you mean 'question'?"),
        ("{% if questoin %}x{% endif %}", "the template uses 'questoin', which this sample does not have; did you mean 'question'?"),
        ("{% for c in choice %}x{% endfor %}", "the template uses 'choice', which this sample does not have; did you mean 'choices'?"),
        ("{{ meta.value }}", "the template uses 'value' of a value that does not have it; did you mean 'values'?"),
        ("{{ choices[7] }}", "the template uses item 7 of a list that has 2"),
        ("{{ none.x }}", "the template uses 'x' of an empty value, which does not have it"),
        ("{{ question.x }}", "the template uses 'x' of text, which does not have it"),
        ("{{ question.upper }}", "the template failed: TypeError: 'upper' is a function here; call it: upper()"),
        ("{{ 1 / 0 }}", "the template failed: ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_undefined_names_are_reported_in_a_sentence(template: str, message: str) -> None:
    assert refusal(template) == message


def test_an_undefined_name_without_a_near_match_lists_all_columns() -> None:
    assert refusal("{{ zzz }}", Sample("a", "q", (), {"topic": 1})) == (
        "the template uses 'zzz', which this sample does not have; it has metadata, topic, id, input"
    )


def test_a_default_filter_prevents_the_undefined_error() -> None:
    assert filled("{{ zzz|default('none') }}{% if zzz is defined %}x{% endif %}") == "none"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "one\n{% if %}",
            "line 2 of the user message: Expected an expression, got 'end of statement block'; write {{ '{%' }} or {% raw %}…{% endraw %} for the characters themselves",
        ),
        (
            "{{ input",
            "line 1 of the user message: unexpected end of template, expected 'end of print statement'; write {{ '{{' }} or {% raw %}…{% endraw %} for the characters themselves",
        ),
        ("a\n\n{{ input|nofilter }}", "line 3 of the user message: No filter named 'nofilter'"),
        ("{{ choices|random }}", "line 1 of the user message: No filter named 'random'"),
    ],
)
def test_a_syntax_error_names_its_line(template: str, message: str) -> None:
    with pytest.raises(PromptError) as raised:
        compile_prompt([("user", template)])
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "template",
    ["x\n{% include 'a' %}", "x\n{% import 'a' as b %}", "x\n{% from 'a' import b %}", "x\n{% extends 'a' %}"],
)
def test_include_import_and_extends_are_refused(template: str) -> None:
    with pytest.raises(PromptError) as raised:
        compile_prompt([("system", template)])
    assert str(raised.value) == (
        "line 2 of the system message: a prompt cannot include, import or extend templates; "
        "use {file: PATH} in the suite instead"
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ choices.append(1) }}",
        "{{ metadata.update({'a': 1}) }}",
        "{{ range(10000000)|length }}",
        "{{ lipsum() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ metadata.pop('question') }}",
    ],
)
def test_templates_are_sandboxed(template: str) -> None:
    assert refusal(template)
    assert list(ROW) == ["question", "topic", "choices", "meta", "none", "my col"]


def test_templates_that_crash_the_compiler_are_refused() -> None:
    for template in ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "{{ " + "9" * 5000 + " }}"):
        with pytest.raises(PromptError, match="the user message cannot be compiled"):
            compile_prompt([("user", template)])


def test_text_of_the_data_is_never_rendered_as_a_template() -> None:
    assert filled("{{ input }}", Sample("a", "{{ id }} {% raise %}")) == "{{ id }} {% raise %}"
    assert compile_prompt(None).render(Sample("a", "{{ id }}")) == ({"role": "user", "content": "{{ id }}"},)


@pytest.mark.parametrize("text", ["plain", "one\ntwo\n", "one\n\n", "a\r\nb\rc\r\n", "{ } }} %}", ""])
def test_text_without_a_template_has_line_ends_as_in_jinja(text: str) -> None:
    assert filled(text) == filled("{# nothing #}" + text)


def test_the_digest_is_of_roles_and_templates() -> None:
    one = compile_prompt([("user", "{{ input }}")])
    assert one == compile_prompt([("user", "{{ input }}")])
    assert one.digest == sha256(b'[["user", "{{ input }}"]]').hexdigest()
    others = [compile_prompt(None), compile_prompt([("system", "{{ input }}")]), compile_prompt([("user", "{{ id }}")])]
    assert len({one.digest, *(other.digest for other in others)}) == 4


def test_a_prompt_needs_a_message() -> None:
    with pytest.raises(PromptError, match="a prompt needs at least one message"):
        compile_prompt([])


def test_find_value_prefers_the_longest_key() -> None:
    data = {"a": {"b": [{"c": 1}]}, "a.b": {"0": {"c": 2}}, "d.e": {"f": 3}, "": 4}
    paths = ["a.b.0.c", "d.e.f", "a.b.1.c", "a.b", "", "d", "a.b.0.c.x", "a.b.-1"]
    assert [find_value(data, path) for path in paths] == [2, 3, ABSENT, {"0": {"c": 2}}, 4, ABSENT, ABSENT, ABSENT]
    assert find_value({"a": [[1, 2]]}, "a.0.1") == 2


def test_jinja_is_imported_only_for_templates_that_need_it() -> None:
    code = """
import sys
from evalrunner.domain import Sample
from evalrunner.prompts import compile_prompt
compile_prompt([("system", "Be short."), ("messages", "talk")])
print(compile_prompt(None).render(Sample("a", "b"))[0]["content"], "jinja2" in sys.modules)
compile_prompt([("user", "{{ input|upper }}")])
print("jinja2" in sys.modules)
"""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b", "False", "True"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ input }}",
        "Q: {{input}}\r\n\n",
        "{{ yes }} {{ none_at_all }} {{ number }} {{ items }}{{expected}}",
        "{{ nope }}",
        "{{ metadata }} and {{ class }}",
    ],
)
def test_templates_of_names_alone_render_as_in_jinja(template: str) -> None:
    sample = Sample(
        "x", "in <b> {{ x }}", ("a", "b"), {"yes": True, "none_at_all": None, "number": 1.5, "items": [1, {"a": "é"}]}
    )

    def rendered(text: str) -> str:
        try:
            return str(compile_prompt([("user", text)]).render(sample)[0]["content"])
        except PromptError as wrong:
            return str(wrong)

    assert rendered(template) == rendered("{# read by Jinja2 #}" + template)
