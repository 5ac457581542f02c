"""The model names of the README, the docs, the suites, messages and `evalrun init`; `make models` checks their dates."""

from __future__ import annotations

from typing import Final

LOCAL: Final = "local/smollm2-135m-instruct"
HOSTED: Final = "openai/gpt-5.4-mini"
LARGE: Final = "openai/gpt-5.4"
EMBEDDING: Final = "openai/text-embedding-3-small"
MODERATION: Final = "openai/omni-moderation-latest"
BY_KEY: Final = {
    "OPENAI_API_KEY": HOSTED,
    "ANTHROPIC_API_KEY": "anthropic/claude-haiku-4-5",
    "GEMINI_API_KEY": "gemini/gemini-3.5-flash",
    "MISTRAL_API_KEY": "mistral/mistral-small-latest",
}
"""The model that `evalrun init` suggests for each variable with an API key. All but the first need the extra `litellm`."""

EXAMPLE_MODELS: Final = tuple(dict.fromkeys((HOSTED, LARGE, EMBEDDING, MODERATION, *BY_KEY.values())))
