"""The tools whose projects can be imported, by name. Strings only, so reading the table imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from evalrunner.errors import SuiteError, nearest
from evalrunner.imports.migration import Migration
from evalrunner.imports.project import Project

TOOLS: Final[Mapping[str, str]] = {
    "openai-evals": "evalrunner.imports.openai_export:import_project",
    "lm-eval": "evalrunner.imports.lm_eval_task:import_project",
    "inspect": "evalrunner.imports.inspect_log:import_project",
    "deepeval": "evalrunner.imports.golden_data:import_deepeval",
    "ragas": "evalrunner.imports.golden_data:import_ragas",
    "langfuse": "evalrunner.imports.golden_data:import_langfuse",
    "braintrust": "evalrunner.imports.golden_data:import_braintrust",
    "promptfoo-results": "evalrunner.imports.promptfoo_results:import_project",
}
"""Name on the command line to the function that reads a project."""


def load_tool(name: str) -> Callable[[Path, Migration], Project]:
    """The function that reads projects of a tool. Raises SuiteError with the nearest name for others."""
    if name not in TOOLS:
        raise SuiteError(f"unknown tool {name!r}{nearest(name, TOOLS)}; evalrun reads: {', '.join(TOOLS)}")
    module, _, function = TOOLS[name].partition(":")
    reader: Callable[[Path, Migration], Project] = getattr(importlib.import_module(module), function)
    return reader
