"""Find and run the examples of the docs. A comment directly above a fenced block declares how the block is used:

    file: PATH         the block is written to PATH
    run                its commands (sh) or its code (python) are run and exit with 0
    run: exit N        the same, with exit code N
    prints             the output of the last run contains the block; … matches any text
    in: PATH           a YAML fragment whose keys replace those of the suite PATH; the result must be valid.
                       All fragments of a page are checked in one process at its end.
    help: COMMAND      the output of `evalrun COMMAND --help`; rewritten by pytest --update-docs
    not run: REASON    the block is not run, with the reason

`<!-- needs: model -->` on its own line marks a page that runs the embedded model, `needs: server` one that uses the
scripted server of `tests/fakes`, `needs: mlflow` one that needs MLflow.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.fakes.command import ROOT, command_env, command_server
from tests.fakes.forked import COMMAND, SECONDS

PAGES = (
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
COMMENT = re.compile(r"<!-- (?P<verb>file|run|prints|in|help|not run)(?:: (?P<rest>.+?))? -->")
NEEDS = re.compile(r"<!-- needs: (?P<what>\w+) -->")
FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)")
WORDS = re.compile(r"\s+")


class WordLoader(yaml.SafeLoader):
    """Reads `on`, `off`, `yes` and `no` as text, as suites do."""


WordLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if letter not in "onyONY" or tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Example:
    """A fenced block, the line of its fence (from 1), and how it is used."""

    page: Path
    line: int
    language: str
    text: str
    verb: str | None
    rest: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read_examples(page: Path) -> list[Example]:
    """Every fenced block of a page, in order."""
    examples: list[Example] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    place = 0
    while place < len(lines):
        fence = FENCE.fullmatch(lines[place])
        if fence is None:
            place += 1
            continue
        end = lines.index(fence["indent"] + "```", place + 1)
        body = [line.removeprefix(fence["indent"]) for line in lines[place + 1 : end]]
        comment = COMMENT.fullmatch(lines[place - 1].strip()) if place else None
        verb, rest = (comment["verb"], comment["rest"] or "") if comment else (None, "")
        examples.append(Example(page, place + 1, fence["language"], "\n".join(body) + "\n", verb, rest))
        place = end + 1
    return examples


def needs(page: Path) -> set[str]:
    """What a page needs besides evalrun."""
    return {match["what"] for match in NEEDS.finditer(page.read_text(encoding="utf-8"))}


@dataclass(slots=True)
class Workplace:
    """The folder in which the examples of one page run in order."""

    folder: Path
    env: dict[str, str]
    printed: str = ""
    fragments: list[str] = field(default_factory=list)

    def do(self, example: Example) -> None:
        """Apply one example. Raises AssertionError with its place where it fails."""
        if example.verb == "file":
            path = self.folder / example.rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(example.text, encoding="utf-8")
        elif example.verb == "run":
            self.run(example)
        elif example.verb == "prints":
            assert matches(example.text, self.printed), f"{example.place}: the output is:\n{self.printed}"
        elif example.verb == "in":
            self.insert(example)

    def run(self, example: Example) -> None:
        """Run shell commands up to the first failure, or Python code."""
        wanted = int(example.rest.removeprefix("exit ")) if example.rest else 0
        start = [sys.executable, "-c"] if example.language == "python" else ["bash", "-ec"]
        done = subprocess.run(
            [*start, example.text],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        self.printed = done.stdout
        assert done.returncode == wanted, f"{example.place}: exit code {done.returncode}:\n{done.stdout}"

    def insert(self, example: Example) -> None:
        """Write the suite with the fragment merged in, named after the fragment's line."""
        base = self.folder / example.rest
        suite = yaml.load(base.read_text(encoding="utf-8"), WordLoader)
        fragment = yaml.load(example.text, WordLoader)
        for one, other in (("target", "targets"), ("targets", "target")):
            if one in fragment:
                suite.pop(other, None)
        path = base.with_name(f"line-{example.line}.yaml")
        path.write_text(yaml.safe_dump({**suite, **fragment}, sort_keys=False), encoding="utf-8")
        self.fragments.append(str(path.relative_to(self.folder)))

    def finish(self, page: Path) -> None:
        """Validate every suite that contains a fragment."""
        if self.fragments:
            self.run(Example(page, 0, "sh", shlex.join(["evalrun", "validate", *self.fragments]), "run", ""))


def open_workplace(folder: Path, *, fresh: bool = False, **env: str) -> Workplace:
    """A folder with this checkout's `evalrun` and `python` on the path, and a link to `suites`.

    Each command is a new process if `fresh`; else it is forked from one that has imported evalrun.
    """
    programs = folder / ".bin"
    programs.mkdir()
    for name, command in (("evalrun", [sys.executable, "-c", COMMAND]), ("python", [sys.executable])):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    if (server := command_server()) is not None and not fresh:
        server.write_client(programs / "evalrun")
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / "suites").symlink_to(ROOT / "suites")
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    return Workplace(folder, {**command_env(), "COLUMNS": "80", "PATH": path, **env})


def matches(block: str, printed: str) -> bool:
    """Whether the output contains the block; … matches any text, and runs of whitespace are equal."""
    parts = [re.escape(WORDS.sub(" ", part)) for part in WORDS.sub(" ", block).strip().split("…")]
    return re.search(".*?".join(parts), WORDS.sub(" ", printed)) is not None
