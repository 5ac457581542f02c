"""Examples of the docs: found by the comment above each fenced block, and run in a folder of their own.

What a comment may say, directly above a block:

    file: PATH         the block is written to PATH
    run                its commands (sh) or its code (python) are run and end with code 0
    run: exit N        the same, and it ends with code N
    prints             the block is in what the last run printed; … stands for anything
    in: PATH           a fragment of YAML: its keys replace those of the suite PATH, and the whole is valid;
                       checked at the end of the page, all of them in one process
    help: COMMAND      the block is what `evalrun COMMAND --help` prints; rewritten by pytest --update-docs
    not run: REASON    nobody runs it, and why

`<!-- needs: model -->` on a line of its own says that a page runs the embedded model; `needs: server` that it
talks to the scripted server of `tests/fakes`, `needs: mlflow` that MLflow is installed.
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

ROOT = Path(__file__).parents[2]
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
COMMAND = "import sys; sys.argv[0] = 'evalrun'; from evalrunner.cli.main import main; main()"  # as the installed one
SECONDS = 240  # one example may load the embedded model and ask it fifty questions on a busy machine


@dataclass(frozen=True, slots=True)
class Example:
    """A fenced block: where it stands (line of its comment or fence, from 1), and what is to be done with it."""

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
    found: list[Example] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    place = 0
    while place < len(lines):
        fence = FENCE.fullmatch(lines[place])
        if fence is None:
            place += 1
            continue
        end = lines.index(fence["indent"] + "```", place + 1)
        body = [line.removeprefix(fence["indent"]) for line in lines[place + 1 : end]]
        said = COMMENT.fullmatch(lines[place - 1].strip()) if place else None
        verb, rest = (said["verb"], said["rest"] or "") if said else (None, "")
        found.append(Example(page, place + 1, fence["language"], "\n".join(body) + "\n", verb, rest))
        place = end + 1
    return found


def needs(page: Path) -> set[str]:
    """What a page needs beside evalrun itself."""
    return {found["what"] for found in NEEDS.finditer(page.read_text(encoding="utf-8"))}


@dataclass(slots=True)
class Workplace:
    """The folder in which the examples of one page are run, one after the other."""

    folder: Path
    env: dict[str, str]
    printed: str = ""
    fragments: list[str] = field(default_factory=list)

    def do(self, example: Example) -> None:
        """Do what the comment of an example says. Raises AssertionError with the place where it does not hold."""
        if example.verb == "file":
            path = self.folder / example.rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(example.text, encoding="utf-8")
        elif example.verb == "run":
            self.run(example)
        elif example.verb == "prints":
            assert fits(example.text, self.printed), f"{example.place}: was printed instead:\n{self.printed}"
        elif example.verb == "in":
            self.insert(example)

    def run(self, example: Example) -> None:
        """Run commands, ending at the first that fails, or code."""
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
        assert done.returncode == wanted, f"{example.place}: ended with {done.returncode}:\n{done.stdout}"

    def insert(self, example: Example) -> None:
        """Write a suite with the fragment in it, named after the fragment's line."""
        base = self.folder / example.rest
        suite = yaml.safe_load(base.read_text(encoding="utf-8"))
        fragment = yaml.safe_load(example.text)
        for one, other in (("target", "targets"), ("targets", "target")):
            if one in fragment:
                suite.pop(other, None)
        path = base.with_name(f"line-{example.line}.yaml")
        path.write_text(yaml.safe_dump({**suite, **fragment}, sort_keys=False), encoding="utf-8")
        self.fragments.append(str(path.relative_to(self.folder)))

    def finish(self, page: Path) -> None:
        """Let evalrun check every suite that was made of a fragment, with its data."""
        if self.fragments:
            self.run(Example(page, 0, "sh", shlex.join(["evalrun", "validate", *self.fragments]), "run", ""))


def open_workplace(folder: Path, **env: str) -> Workplace:
    """A folder with `evalrun` and `python` of this checkout on the path, and our suites beside the examples."""
    programs = folder / ".bin"
    programs.mkdir()
    for name, command in (("evalrun", [sys.executable, "-c", COMMAND]), ("python", [sys.executable])):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    (folder / "suites").symlink_to(ROOT / "suites")
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    return Workplace(folder, {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **env})


def fits(shown: str, printed: str) -> bool:
    """Whether the lines shown are in what was printed, in one piece; … is anything, blanks count as one."""
    parts = [re.escape(WORDS.sub(" ", part)) for part in WORDS.sub(" ", shown).strip().split("…")]
    return re.search(".*?".join(parts), WORDS.sub(" ", printed)) is not None
