"""The table of built-in plug-ins: group, name, and where its factory is; scorers also by what people look for.

Strings only, so reading it imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Group: TypeAlias = Literal[
    "scorers",
    "targets",
    "datasets",
    "endpoints",
    "reporters",
    "dataset_sources",
    "baseline_sources",
    "exporters",
    "toxicity_backends",
    "scorer_names",
    "destinations",
]
"""A kind of plug-in. Each is a table in `BUILTIN` and an entry point group `evalrunner.<group>`.

- scorers, targets, datasets: factories, named by `type:` (a file's extension for datasets).
- endpoints: model prefixes. reporters: outputs of a run.
- dataset_sources: keys of `dataset:` that name a place outside the file system. See `DatasetSource`.
- baseline_sources: schemes of `baseline: SCHEME:…`. See `BaselineSource`.
- exporters: keys of `tracking:`. See `Exporter`.
- toxicity_backends: factories of scorer functions for `{type: toxicity, backend: NAME}`.
- destinations: functions from a `Suite` and the addresses of its trackers to the `Destination`s of a library.
- scorer_names: for a scorer type, a function from its options to the name it has if the suite gives none.
"""

BUILTIN: Mapping[Group, Mapping[str, str]] = {
    "scorers": {
        "ari_grade_level": "evalrunner.scorers.readability:ari_grade_level",
        "autoevals": "evalrunner.scorers.autoevals_scorers:autoevals",
        "bleu": "evalrunner.scorers.overlap:bleu",
        "choice": "evalrunner.scorers.choice:choice",
        "chrf": "evalrunner.scorers.overlap:chrf",
        "column": "evalrunner.scorers.measured:column",
        "contains": "evalrunner.scorers.text:contains",
        "contains_all": "evalrunner.scorers.text:contains_all",
        "contains_any": "evalrunner.scorers.text:contains_any",
        "cost_under": "evalrunner.scorers.measured:cost_under",
        "embedding_similarity": "evalrunner.scorers.embedding:embedding_similarity",
        "ends_with": "evalrunner.scorers.text:ends_with",
        "exact_match": "evalrunner.scorers.text:exact_match",
        "expr": "evalrunner.scorers.expression:expr",
        "factuality": "evalrunner.scorers.autoevals:factuality",
        "flesch_kincaid_grade_level": "evalrunner.scorers.readability:flesch_kincaid_grade_level",
        "json": "evalrunner.scorers.json_match:json",
        "levenshtein": "evalrunner.scorers.similarity:levenshtein",
        "max_chars": "evalrunner.scorers.length:max_chars",
        "max_words": "evalrunner.scorers.length:max_words",
        "min_chars": "evalrunner.scorers.length:min_chars",
        "min_words": "evalrunner.scorers.length:min_words",
        "latency_under": "evalrunner.scorers.measured:latency_under",
        "mlflow": "evalrunner.mlflow.scorers:mlflow",
        "moderation": "evalrunner.scorers.moderation:moderation",
        "numeric_match": "evalrunner.scorers.text:numeric_match",
        "python": "evalrunner.scorers.python:python",
        "refusal": "evalrunner.scorers.refusal:refusal",
        "regex": "evalrunner.scorers.regex:regex",
        "rouge": "evalrunner.scorers.overlap:rouge",
        "rubric": "evalrunner.scorers.rubric:rubric",
        "similarity": "evalrunner.scorers.similarity:similarity",
        "starts_with": "evalrunner.scorers.text:starts_with",
        "token_f1": "evalrunner.scorers.text:token_f1",
        "tokens_under": "evalrunner.scorers.measured:tokens_under",
        "tool_calls": "evalrunner.scorers.tool_calls:tool_calls",
        "toxicity": "evalrunner.scorers.toxicity:toxicity",
    },
    "targets": {
        "command": "evalrunner.targets.command:command",
        "http": "evalrunner.targets.http:http",
        "mlflow": "evalrunner.mlflow.target:mlflow",
        "python": "evalrunner.targets.python:python",
        "recorded": "evalrunner.targets.recorded:recorded",
    },
    "datasets": {
        "csv": "evalrunner.datasets.csv:csv",
        "json": "evalrunner.datasets.json_file:json",
        "jsonl": "evalrunner.datasets.json:jsonl",
        "parquet": "evalrunner.datasets.parquet:parquet",
        "tsv": "evalrunner.datasets.csv:tsv",
        "xlsx": "evalrunner.datasets.xlsx:xlsx",
        "yaml": "evalrunner.datasets.yaml:yaml",
    },
    "endpoints": {
        "http": "evalrunner.endpoints.http:connect",
        "litellm": "evalrunner.endpoints.litellm:connect",
        "local": "evalrunner.endpoints.local:connect",
        "openai": "evalrunner.endpoints.openai:connect",
    },
    "reporters": {  # those of files by their extension
        ".csv": "evalrunner.reports.csv:CsvReporter",
        ".html": "evalrunner.reports.html.page:HtmlReporter",
        ".json": "evalrunner.reports.outputs:JsonReporter",
        ".jsonl": "evalrunner.reports.outputs:JsonlReporter",
        ".md": "evalrunner.reports.markdown:MarkdownReporter",
        ".parquet": "evalrunner.reports.csv:ParquetReporter",
        ".png": "evalrunner.reports.html.forest:PngReporter",
        ".svg": "evalrunner.reports.html.forest:SvgReporter",
        ".xlsx": "evalrunner.reports.csv:XlsxReporter",
        ".xml": "evalrunner.reports.junit:JUnitReporter",
        "progress": "evalrunner.reports.progress:progress",
        "step-summary": "evalrunner.reports.github:StepSummaryReporter",
        "terminal": "evalrunner.reports.terminal:TerminalReporter",
    },
    "dataset_sources": {"mlflow": "evalrunner.mlflow.sources:mlflow_dataset"},
    "baseline_sources": {"mlflow": "evalrunner.mlflow.sources:mlflow_baselines"},
    "exporters": {"mlflow": "evalrunner.mlflow.export:mlflow"},
    "toxicity_backends": {"hf": "evalrunner.scorers.hf.toxicity:hf"},
    "destinations": {
        "data": "evalrunner.datasets.remote:data_destinations",
        "hf": "evalrunner.scorers.hf.model:hub_destinations",
        "local": "evalrunner.endpoints.local:download_destinations",
        "mlflow": "evalrunner.mlflow.destination:mlflow_destinations",
    },
    "scorer_names": {
        "autoevals": "evalrunner.scorers.autoevals_scorers:scorer_name",
        "column": "evalrunner.scorers.measured:column_name",
        "mlflow": "evalrunner.mlflow.catalogue:scorer_name",
    },
}

ADDRESS_SOURCES: Final[Mapping[str, str]] = {
    "https": "evalrunner.datasets.remote:web_dataset",
    "hf": "evalrunner.datasets.remote:hub_dataset",
}
"""What opens a dataset whose path is an address, by its scheme. Keyword-only parameters are options of the dataset."""

OPTION_OF_NAME: Mapping[str, str] = {"autoevals": "scorer"}
"""Scorer types whose `name` also sets this option where it is absent: `{type: autoevals, name: ClosedQA}`."""

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
        "tool_calls": "{tool_calls: [{search: {query: refund}}]}",
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
