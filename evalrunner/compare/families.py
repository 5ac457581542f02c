"""Which models are kin, by their names: a judge favours answers of its own kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

FAMILIES: Final[Mapping[str, str]] = {
    "GPT": r"gpt|chatgpt|davinci|o[134](?=$|[-:])",  # OpenAI: also its reasoning models o1, o3, o4
    "Claude": r"claude",  # Anthropic
    "Gemini": r"gemini|gemma|palm|bison",  # Google: Gemma is built from the same research and data as Gemini
    "Llama": r"llama|vicuna|alpaca",  # Meta, and what was tuned from it under another name
    "Mistral": r"mistral|mixtral|ministral|codestral|magistral|devstral",
    "Qwen": r"qwen|qwq",  # Alibaba
    "DeepSeek": r"deepseek",
    "Command": r"command-?[ar]|c4ai|aya",  # Cohere
    "Grok": r"grok",  # xAI
    "Nova": r"nova-(micro|lite|pro|premier)",  # Amazon
    "Phi": r"phi-?[1-9]",  # Microsoft
    "GLM": r"glm",  # Zhipu
    "Kimi": r"kimi|moonshot",
    "SmolLM": r"smollm",  # Hugging Face
    "Granite": r"granite",  # IBM
}
"""A pattern for each family, found at the start of a word of a model's name. A name can tell two:
`deepseek-r1-distill-llama-70b` has Llama's weights and DeepSeek's words."""
_WORD = {name: re.compile(rf"(?:^|[^a-z0-9])(?:{pattern})", re.IGNORECASE) for name, pattern in FAMILIES.items()}


def model_families(name: str) -> tuple[str, ...]:
    """The families that a model's name tells, none for a name that tells nothing, such as a gateway's own."""
    return tuple(family for family, pattern in _WORD.items() if pattern.search(name))


def shared_family(judge: Iterable[str], candidate: Iterable[str]) -> str | None:
    """What two models have in common: a family, or the very name; None for nothing. Each goes by several names."""
    judges, candidates = set(judge), set(candidate)
    same = sorted(judges & candidates)
    if same:
        return f"the same model, {same[0]}"
    ours = {family for name in candidates for family in model_families(name)}
    shared = [family for name in sorted(judges) for family in model_families(name) if family in ours]
    return f"of the same family, {shared[0]}" if shared else None
