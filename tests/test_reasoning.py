"""Reasoning in the text of an answer: the marks of model families, half-open and unclosed ones, and marks that are none."""

from __future__ import annotations

import time

import pytest

from evalrunner.domain import Completion
from evalrunner.reasoning import MAX_MARKS, SplitAnswer, split_reasoning, strip_reasoning

FAMILIES = {
    "deepseek": "<think>\n{}\n</think>\n\nParis",
    "capitals": "<THINK>{}</THINK>Paris",
    "spaces": "  \n<think>{}</think>Paris",
    "attributes": '<think time="3">{}</think>Paris',
    "opening mark in the prompt": "{}\n</think>\n\nParis",
    "after the answer began": "Paris<think>{}</think>",
    "repeated": "<think>{}</think><think></think>Paris",
    "repeated end": "{}</think>Paris</think>",
    "seed": "<seed:think>{}</seed:think>Paris",
    "magistral": "[THINK]{}[/THINK]Paris",
    "magistral half-open": "{}[/THINK]Paris",
    "kimi": "◁think▷{}◁/think▷Paris",
    "sky": "<|begin_of_thought|>{}<|end_of_thought|>\n\n<|begin_of_solution|>Paris<|end_of_solution|>",
    "cohere": "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>Paris<|END_RESPONSE|>",
    "gpt-oss": "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>Paris<|return|>",
    "gpt-oss without end": "<|channel|>analysis<|message|>{}<|channel|>final<|message|>Paris",
    "gpt-oss without special tokens": "analysisThe user asks. {}assistantfinalParis",
    "gemma": "<|channel>thought\n{}<channel|>Paris",
    "medgemma": "<unused94>thought\n{}<unused95>Paris",
    "claude": "<thinking>{}</thinking>\nParis",
    "gemini": "<thought>{}</thought>Paris",
    "hermes": "<reasoning>{}</reasoning>Paris",
    "granite": "Here is my thought process: {}\n\nHere is my response: Paris",
    "after a colon": "Answer: <think>{}</think>Paris",
    "nested": "<think>Or<think>{}</think>so</think>Paris",
    "opened twice": "<think><think>{}</think>Paris",
    "other closing mark": "<think>{}</thinking>Paris",
    "after a byte order mark": "\ufeff<think>{}</think>Paris",
    "after the name of the role": "<|im_start|>assistant\n<think>{}</think>Paris",
    "longcat": "<longcat_think>{}</longcat_think>Paris",
    "solar": "<|think|>{}<|end|><|begin|>assistant<|content|>Paris<|flush|>",
    "apertus": "<|inner_prefix|>{}<|inner_suffix|>Paris",
    "glm": "<think>{}</think>\n<|begin_of_box|>Paris<|end_of_box|>",
    "scratchpad": "<scratchpad>{}</scratchpad>Paris",
    "chain of thought": "<chain_of_thought>\n{}\n</chain_of_thought>\nParis",
    "open webui": '<details type="reasoning" done="true">\n<summary>Thought</summary>{}</details>\nParis',
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "thought", ["Lyon? No.", "Is it 'Lyon'", "```python\nLyon", "a < b, so `Lyon", "Lyon `</think>` Lyon"]
)
def test_the_answer_is_split_from_reasoning_in_the_marks_of_a_family(family: str, thought: str) -> None:
    if "</think>" in thought and "think>" in FAMILIES[family]:
        thought = thought.removesuffix(" Lyon")
    split = split_reasoning(FAMILIES[family].format(thought))
    assert split is not None
    assert (split.text.removeprefix("Answer: ").strip(), split.is_open) == ("Paris", False)
    assert "Lyon" in split.reasoning


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nMaybe Paris is it, but wait", "[THINK]Paris", "◁think▷Paris", "<|channel|>analysis<|message|>Paris", "<thought>Paris",
        "<think>a</think>\n<think>Paris", "<seed:think>Paris",
    ],
)  # fmt: skip
def test_reasoning_that_never_ends_leaves_no_answer(text: str) -> None:
    answer = strip_reasoning(Completion(text))
    assert isinstance(answer, Completion)
    assert (answer.text, answer.finish_reason, answer.answered) == ("", "length", False)
    assert answer.reasoning is not None
    assert "Paris" in answer.reasoning
    assert answer.missing_reason == f"length: reasoning only, {len(answer.reasoning)} characters"


def test_an_answer_that_thinks_again_without_an_end_is_not_complete() -> None:
    answer = strip_reasoning(Completion("Paris\n<think>or is it Lyon"))
    assert isinstance(answer, Completion)
    assert (answer.text.strip(), answer.finish_reason) == ("Paris", "length")


def test_reasoning_without_an_answer_is_empty() -> None:
    answer = strip_reasoning(Completion("<think>Paris</think>\n"))
    assert isinstance(answer, Completion)
    assert (answer.text, answer.finish_reason, answer.reasoning) == ("", "empty", "Paris")


@pytest.mark.parametrize(
    "text",
    [
        "Paris", "I think it is Paris.", "Use `<think>` and `</think>` around it.", "Use the <think> token to begin.",
        "```html\n<think>\n</think>\n```", 'The tag "</think>" ends it.', "analysis of the text: Paris", "analysisUnclosed",
        "<response><reasoning>x</reasoning><answer>B</answer></response>", '{"thought": "x"}', "Here is my thought process: it is Paris",
        "a <| b |> c", "re.sub(r'<think>', '', x)",
        "The <think> tag opens and </think> closes it.", "DeepSeek wraps its thoughts in <think>...</think> tags.",
        "<think> is the opening tag and </think> the closing one.", "1. <think>: opens\n2. </think>: closes",
        "- [THINK]: begins\n- [/THINK]: ends", "| tag | use |\n|---|---|\n| <think> | open |\n| </think> | close |",
        "Example:\n~~~\n<think>\nreason\n</think>\n~~~", "Example:\n\n    <think>\n    reason\n    </think>\n\nThat is all.",
        "Format: <think>reasoning here</think><answer>answer here</answer>", '{"a": "<think>x</think>"}', "re.sub(r'<think>.*?</think>', '', text)", 'f"<think>{thought}</think>"', "(<think>…</think>)",
        "> <think>\n> reason\n> </think>", "Put </think> at the end, then answer.", "The closing tag is </think>", "Vec<think>",
        "Models wrap thoughts in ◁think▷ and ◁/think▷ marks.", "The tokens <|START_THINKING|> and <|END_THINKING|> are special.",
    ],
)  # fmt: skip
def test_text_about_marks_stays_as_it_is(text: str) -> None:
    assert split_reasoning(text) is None
    assert strip_reasoning(Completion(text)) == Completion(text)


def test_reasoning_of_a_field_is_kept_beside_that_of_the_text() -> None:
    answer = strip_reasoning(Completion("<think>b</think>Paris", reasoning="a"))
    assert isinstance(answer, Completion)
    assert (answer.text, answer.reasoning) == ("Paris", "a\n\nb")


def test_tool_calls_and_filters_keep_their_finish_reason() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = strip_reasoning(Completion("<think>a</think>", "tool_calls", tool_calls=(call,)))
    assert isinstance(answer, Completion)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    answer = strip_reasoning(Completion("<think>a", "filtered"))
    assert isinstance(answer, Completion)
    assert answer.finish_reason == "filtered"


@pytest.mark.parametrize(
    "text", ["<think>", "</think>", "`<think>` ", "<think>a</think>", "<|channel|>analysis", "\n<think", "analysis"]
)
def test_many_marks_take_little_time(text: str) -> None:
    started = time.process_time()
    split_reasoning(text * 50_000)
    assert time.process_time() - started < 5
    assert split_reasoning("<think>a</think>" * (MAX_MARKS - 1) + "Paris") == SplitAnswer(
        "Paris", "\n\n".join("a" * (MAX_MARKS - 1))
    )
