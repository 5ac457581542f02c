"""The reference is complete: every command, option, key and field is documented, and no link is broken."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evalrunner import __version__
from evalrunner.cli.main import app
from evalrunner.domain import BaselineResult, EpochVariance, GateResult, Metric
from evalrunner.runs.record import SanityCheckRecord, SideRecord
from evalrunner.suite.json_schema import suite_schema
from evalrunner.verdicts import PRECEDENCE
from tests.docs.examples import PAGES, ROOT, read_examples
from tests.fakes.command import evalrun

REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\((?P<to>[^)\s]+)\)")
HEADING = re.compile(r"#{1,6} (?P<text>.+)")


def words_of(page: str) -> str:
    """The words in code quotes on a page, one per line, so that `limit` does not match `--limit`."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    inside = " ".join(re.findall(r"`([^`\n]+)`", text))
    return "\n" + "\n".join(re.split(r"[\s,{}:/]+", inside)) + "\n"


def missing(names: Any, page: str) -> list[str]:
    words = words_of(page)
    return sorted(name for name in set(names) if f"\n{name}\n" not in words)


def help_of(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The output of `evalrun COMMAND --help` on a terminal of 80 characters."""
    monkeypatch.setenv("COLUMNS", "80")
    args = [] if command == "evalrun" else command.split()
    done = CliRunner().invoke(app, [*args, "--help"], prog_name="evalrun")
    return "".join(line.rstrip() + "\n" for line in done.stdout.strip("\n").splitlines())


def test_the_help_texts_equal_the_command_line_reference(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = REFERENCE / "cli.md"
    top = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    nested = [f"runs {name}" for name in top["runs"].commands]
    commands = ["evalrun", *top, *nested]
    documented = {example.rest: example for example in read_examples(page) if example.verb == "help"}
    assert sorted(documented) == sorted(commands)
    printed = {command: help_of(command, monkeypatch) for command in commands}
    if request.config.getoption("--update-docs", default=False):
        text = page.read_text(encoding="utf-8")
        for command, output in printed.items():
            old = f"<!-- help: {command} -->\n```text\n{documented[command].text.lstrip() if documented[command].text.strip() else ''}```\n"
            assert old in text
            text = text.replace(old, f"<!-- help: {command} -->\n```text\n{output}```\n")
        page.write_text(text, encoding="utf-8")
        return
    assert {command: example.text for command, example in documented.items()} == printed, (
        "pytest tests/docs --update-docs"
    )


def keys_of(schema: Any) -> Iterator[str]:
    """Every key of a suite, from the schema; options of scorers are on another page."""
    definitions = schema["$defs"]
    yield from schema["properties"]
    for name in ("dataset", "model", "gate"):
        for part in definitions[name].get("anyOf", [definitions[name]]):
            yield from part.get("properties", {})
    yield from schema["properties"]["run"]["properties"]


def test_every_key_of_a_suite_is_in_the_reference() -> None:
    assert missing(keys_of(suite_schema()), "suite.md") == []


def test_every_field_of_a_run_is_in_the_reference(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def answer(input):\n    raise ValueError(input)\n")
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "dataset: {rows: [{input: a, expected: b, output: b}]}\n"
        "targets: [{type: recorded, column: output}, {type: python, function: 'broken.py:answer'}]\n"
        "scorers: [exact_match]\n"
        "gates: [{metric: exact_match, min: 1, target: recorded}]\n"
    )
    done = evalrun(str(suite))
    (run,) = tmp_path.glob("runs/*/*")
    assert done.returncode == 3, done.stderr
    data = json.loads((run / "run.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    target = metrics["targets"]["recorded"]
    for fields in (data, metrics, target, target["usage"], target["metrics"][0], metrics["gates"][0]):
        assert missing(fields, "files.md") == []
    for row in rows:
        inside = (row.get("completion", {}), row.get("failure", {}), row["cells"]["exact_match"])
        assert missing([*row, *(name for fields in inside for name in fields)], "files.md") == []
    with (run / "table.csv").open(newline="") as table:
        columns = next(csv.reader(table))
    own = [name.replace("exact_match/v1", "SCORER/VERSION").replace("sample.output", "sample.NAME") for name in columns]
    assert missing([part for name in own for part in name.split("/")], "files.md") == []


@pytest.mark.parametrize("record", [GateResult, BaselineResult, Metric, EpochVariance, SanityCheckRecord, SideRecord])
def test_every_field_of_a_gate_and_a_metric_is_in_the_reference(record: type) -> None:
    assert missing([item.name for item in dataclasses.fields(record)], "files.md") == []


def test_every_exit_code_is_in_the_reference() -> None:
    text = (REFERENCE / "exit-codes-and-verdicts.md").read_text(encoding="utf-8")
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert listed == sorted(PRECEDENCE)
    assert f"the first of {', '.join(map(str, PRECEDENCE))} counts" in text


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub generates them."""
    names = set()
    for line in page.read_text(encoding="utf-8").splitlines():
        heading = HEADING.fullmatch(line)
        if heading:
            plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"]).lower())
            names.add(plain.strip().replace(" ", "-"))
    return names


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_broken(page: Path) -> None:
    broken = []
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        place, _, anchor = match["to"].partition("#")
        if place.startswith(("https://", "http://")):
            continue
        to = (page.parent / place).resolve() if place else page
        if not to.exists() or (anchor and anchor not in anchors(to)):
            broken.append(match["to"])
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in sorted(pages) if page != "README.md" and f"({page})" not in index] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_of_the_map_exists(page: str) -> None:
    named = re.findall(r"`([\w/.]+(?:\.py|/))`", (ROOT / page).read_text(encoding="utf-8"))
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "evalrunner" / name).exists()] == []


def test_the_changelog_has_an_entry_for_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_page_installs_the_unrelated_evalrun_distribution() -> None:
    pages = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "suites").glob("*.yaml")]
    wrong = re.compile(r"(?:(?:pip|pipx|uv tool) install|uv add|uvx) ['\"]?evalrun\b(?!-)")
    assert [str(page) for page in pages if wrong.search(page.read_text(encoding="utf-8"))] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert os.path.getsize(ROOT / "ARCHITECTURE.md") < 5_000, "one page"
