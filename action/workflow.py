"""What the steps of the action share: inputs, outputs, messages and the event of the workflow.

The scripts in this folder need nothing but Python's standard library. Inputs arrive as variables of the environment
(`INPUT_SUITES` for `suites`), so that nothing in them reaches a shell.
"""

from __future__ import annotations

import glob
import json
import os
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

TOKEN = "JOB_TOKEN"  # noqa: S105  the name of a variable, which a job has no other use for


def read_input(name: str) -> str:
    """An input of the action, without blanks around it."""
    return os.environ.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip()


def read_flag(name: str) -> bool:
    """An input that is true or false. Ends the step with 2 if it is neither."""
    text = read_input(name)
    if text not in ("true", "false"):
        refuse(f"{name} should be true or false, not {text!r}")
    return text == "true"


def read_words(name: str) -> list[str]:
    """An input as words, split as a shell does and nothing else. Ends the step with 2 for an unclosed quote."""
    try:
        return shlex.split(read_input(name))
    except ValueError as error:
        refuse(f"cannot parse {name}: {error}")


def suite_files() -> list[str]:
    """The files of the input `suites`, wildcards expanded; a pattern without a match stays as it is."""
    words = read_words("suites")
    return [path for word in words for path in sorted(glob.glob(word, recursive=True)) or [word]]  # noqa: PTH207  as typed


def write_output(name: str, value: str) -> None:
    """Set an output of the step, which may have several lines."""
    end = f"end-{secrets.token_hex(16)}"
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"{name}<<{end}\n{value}\n{end}\n")


def annotate(kind: str, message: str) -> None:
    """Print a workflow command: `notice`, `warning` or `error`."""
    for mark, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        message = message.replace(mark, escape)
    print(f"::{kind} title=evalrun::{message}", flush=True)


def refuse(message: str) -> NoReturn:
    """End the step because of a wrong input, as evalrun ends for a wrong option."""
    annotate("error", message)
    sys.exit(2)


def read_event() -> dict[str, Any]:
    """The payload of the event that started the workflow; empty if there is none."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    data = json.loads(Path(path).read_text(encoding="utf-8")) if path and Path(path).is_file() else {}
    return data if isinstance(data, dict) else {}


def environment() -> dict[str, str]:
    """The environment for evalrun, which does not need the token of the job."""
    return {name: value for name, value in os.environ.items() if name != TOKEN}


def run_evalrun(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The finished process of `evalrun ARGS…`; modules of the working folder are not imported."""
    command = [sys.executable, "-P", "-m", "evalrunner", *args]
    return subprocess.run(command, env=options.pop("env", None) or environment(), check=False, text=True, **options)
