"""The scorers by what people look for, each with an example as a suite writes it. Strings only, so reading it imports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CATALOGUE: Final[Mapping[str, Mapping[str, str]]] = {
    "text": {
        "exact_match": "exact_match",
        "contains": "{contains: 30 days}",
        "contains_any": "{contains_any: [30 days, a month]}",
        "contains_all": "{contains_all: [refund, 30 days]}",
        "starts_with": "{starts_with: Dear}",
        "ends_with": "{ends_with: Kind regards}",
        "regex": "{regex: '[0-9]+ days'}",
        "choice": "{choice: B}",
        "refusal": "refusal",
        "max_words": "{max_words: 60}",
        "min_words": "{min_words: 5}",
        "min_chars": "{min_chars: 20}",
        "max_chars": "{max_chars: 400}",
    },
    "similarity of texts": {
        "token_f1": "token_f1",
        "levenshtein": "{levenshtein: 'Yes, you can.'}",
        "similarity": "{similarity: 'Yes, you can.'}",
        "bleu": "bleu",
        "chrf": "chrf",
        "rouge": "rouge",
        "embedding_similarity": "{type: embedding_similarity, model: openai/text-embedding-3-small}",
    },
    "JSON": {
        "json": "{json: {path: $.refund, equals: false}}",
    },
    "numbers and expressions": {
        "numeric_match": "{numeric_match: '42', tolerance: 0.5}",
        "expr": "{expr: 'output|length < 400'}",
        "column": "{column: rating}",
    },
    "judges": {
        "rubric": "{rubric: Says no and names the refund period.}",
        "factuality": "factuality",
        "autoevals": "{type: autoevals, name: ClosedQA, criteria: It is polite.}",
    },
    "tool calls": {
        "tool_calls": "{tool_calls: [{name: search, arguments: {query: refund}}]}",
    },
    "cost and latency": {
        "latency_under": "{latency_under: 2}",
        "cost_under": "{cost_under: 0.001}",
        "tokens_under": "{tokens_under: 500}",
    },
    "language and safety": {
        "flesch_kincaid_grade_level": "flesch_kincaid_grade_level",
        "ari_grade_level": "ari_grade_level",
        "toxicity": "{type: toxicity, backend: lexical}",
        "moderation": "{type: moderation, model: openai/omni-moderation-latest}",
    },
    "custom": {
        "python": "{type: python, function: 'scorers.py:polite'}",
        "mlflow": "{type: mlflow, metric: rouge1}",
    },
}
"""Group to scorers to an example each: an item of `scorers:`."""

OTHER: Final = "other"


def group_of(name: str) -> str:
    """The group of a scorer; `other` for those of installed packages."""
    return next((group for group, scorers in CATALOGUE.items() if name in scorers), OTHER)


def example_of(name: str) -> str | None:
    """The scorer as an item of `scorers:`, None for those of installed packages."""
    return next((scorers[name] for scorers in CATALOGUE.values() if name in scorers), None)
