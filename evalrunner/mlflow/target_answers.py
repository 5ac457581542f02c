"""What a logged model answered for one row, as a completion: texts, frames, and what chat models and agents give. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evalrunner.domain import Completion, FinishReason

TEXTS = ("content", "text", "output", "answer", "response")  # where a model that answers with a mapping has its text
TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))  # of chats, of responses
ENDINGS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "filtered", "max_output_tokens": "length"}


def read_answer(answer: Any, *, latency_s: float, model: str) -> Completion:
    """The completion in an answer, with its tokens and how it ended where the model says so."""
    answer = _single(answer)
    text = text_of(answer)
    said = answer if isinstance(answer, dict) else {}
    tokens_in, tokens_out = _tokens(said.get("usage"))
    finish_reason: FinishReason = ENDINGS.get(_reason(said), "stop" if text.strip() else "empty")
    return Completion(
        text if text.strip() else "",
        finish_reason,
        latency_s,
        served_model=model,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
    )


def text_of(answer: Any) -> str:
    """The text in what a model answered for one row: a text, or a list, array, frame or mapping with one in it."""
    answer = _single(answer)
    if isinstance(answer, str):
        return answer
    if answer is None:
        return ""
    if isinstance(answer, dict):
        if (found := _chat_text(answer)) is not None:
            return found
        for name in TEXTS:
            if isinstance(answer.get(name), str):
                return str(answer[name])
        if len(answer) == 1:
            return text_of(next(iter(answer.values())))
    return json.dumps(answer, ensure_ascii=False, default=str)


def _single(answer: Any) -> Any:
    """The answer of the one row that was asked, out of what may hold several."""
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        answer = answer.to_dict("records")
    elif hasattr(answer, "tolist"):
        answer = answer.tolist()
    return _single(answer[0]) if isinstance(answer, list) and len(answer) == 1 else answer


def _chat_text(answer: Mapping[str, Any]) -> str | None:
    """The text of a chat completion, of an agent's messages, or of a response; None where it is none of these."""
    if choices := _mappings(answer.get("choices")):
        message = choices[0].get("message")
        return _content(message.get("content")) if isinstance(message, Mapping) else None
    if messages := _mappings(answer.get("messages")):
        return _content(messages[-1].get("content"))
    if (output := _mappings(answer.get("output"))) and all("type" in item for item in output):
        return "".join(_content(item.get("content")) for item in output if item["type"] == "message")
    return None


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list that has nothing else in it, else none."""
    return value if isinstance(value, list) and all(isinstance(item, Mapping) for item in value) else []


def _content(content: Any) -> str:
    """The text of a message: it may come in parts, some of which are none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and part.get("text"))


def _reason(answer: Mapping[str, Any]) -> str:
    """Why a chat model or an agent stopped, as it says it itself."""
    choices, details = _mappings(answer.get("choices")), answer.get("incomplete_details")
    if choices:
        return str(choices[0].get("finish_reason"))
    return str(details.get("reason")) if isinstance(details, Mapping) else ""


def _tokens(usage: Any) -> tuple[int | None, int | None]:
    """Tokens in and out, under either of OpenAI's pairs of names."""
    if not isinstance(usage, Mapping):
        return None, None
    counts = [usage.get(name, usage.get(other)) for name, other in TOKENS]
    known = [count if isinstance(count, int) else None for count in counts]
    return known[0], known[1]
