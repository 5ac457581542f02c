"""Rules about the source code: sizes, imports, circles, words."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import evalrunner
from benchmarks.house import Module, find_circles, functions_in, import_graph, read_modules, run_file_readers
from tests.docs.examples import PAGES
from tests.fakes.command import ROOT, command_env
from tests.fakes.server import ScriptedServer

MODULES = sorted((ROOT / "evalrunner").rglob("*.py"))
HEAVY = (
    "pandas", "scipy", "sklearn", "mlflow", "litellm", "openai", "autoevals", "xllamacpp", "pyarrow", "numpy", "nltk", "textstat",
    "torch", "transformers", "httpx", "pyreqwest", "tenacity", "jsonschema", "rapidfuzz", "rouge_score", "sacrebleu",
)  # fmt: skip


# The glossary has the terms to use instead. Brackets keep a plain search for the phrases from finding this file.
BANNED_NAME = re.compile(
    r"(^|_)(said|told|shown|kept|made|heard|gone|asked|tried)(_|$)|^_?(found|given|wanted|seen|held|Found)$"
)
BANNED_PHRASE = re.compile(
    r"gone[ ]on|going[ ]on[ ]with|told[ ]apart|outd[o]ne|tried[ ]again|kept[ ]answers|in[ ]passing|\bm[e]nd(s|ed)?\b"
    r"|people's own|of one's own|beforehand|\bdear(er|est)\b|\bwhoever\b|all the same|at the most\b|\bso many (rows|calls|samples)\b",
    re.IGNORECASE,
)


def test_public_names_are_sorted_and_importable() -> None:
    assert evalrunner.__all__ == sorted(evalrunner.__all__)
    assert [name for name in evalrunner.__all__ if getattr(evalrunner, name) is None] == []
    assert dir(evalrunner) == evalrunner.__all__


def test_files_and_functions_are_small() -> None:
    modules = read_modules(ROOT, "evalrunner")
    too_long = [f"{module.name} has {module.lines} lines" for module in modules if module.lines > 600]
    too_long += [
        f"{name} has {lines} lines"
        for module in modules
        for name, lines in functions_in(module)
        if lines > 50 and module.room != "cli"  # a Typer command declares all its options as parameters
    ]
    assert too_long == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert find_circles(import_graph(read_modules(ROOT, "evalrunner"), "evalrunner")) == []


def test_the_circle_finder_sees_imports_inside_functions() -> None:
    sources = {
        "a/one.py": "from evalrunner.a import two\n",
        "a/two.py": "def late():\n    from evalrunner.a.three import name\n",
        "a/three.py": "if TYPE_CHECKING:\n    from evalrunner.a.four import name\nimport evalrunner.a.one\n",
        "a/four.py": "from evalrunner.a.three import name\n",
    }
    modules = [Module(name, Path(name), text, ast.parse(text)) for name, text in sources.items()]
    assert find_circles(import_graph(modules, "evalrunner")) == [["a/one.py", "a/three.py", "a/two.py"]]


def test_one_file_reads_stored_runs() -> None:
    places = [place for module in read_modules(ROOT, "evalrunner") for place in run_file_readers(module)]
    assert {place.partition(":")[0] for place in places} == {"runs/record.py"}


def test_the_package_has_at_most_380_files() -> None:
    """294 before imports from other tools and labels: each format that is read is a file of its own."""
    assert len(MODULES) <= 380


def declared_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every module-level constant, function, class, method, field and attribute of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        if isinstance(node, ast.Module | ast.ClassDef):
            for statement in node.body:
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
                )
                yield from ((statement.lineno, target.id) for target in targets if isinstance(target, ast.Name))


def test_no_name_is_a_participle() -> None:
    names = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in MODULES
        for line, name in declared_names(ast.parse(path.read_text(encoding="utf-8")))
        if BANNED_NAME.search(name)
    ]
    assert names == []


def texts() -> Iterator[tuple[str, str]]:
    """Docs, source, suites, tests and help texts, each with its name."""
    listed = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "suites").glob("*.yaml"), *(ROOT / "evalrunner").rglob("*.*")]
    for path in [*listed, *(ROOT / "tests").rglob("*.py")]:
        if path.suffix in (".md", ".py", ".yaml", ".js", ".html", ".css") and path != Path(__file__):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_the_banned_phrases_do_not_come_back() -> None:
    phrases = [
        f"{name}:{number} {match[0]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        for match in BANNED_PHRASE.finditer(line)
    ]
    assert phrases == []


def heavy_after(code: str, tmp: Path) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after `code`."""
    watched = f"{code}\nimport sys\nprint('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", watched], cwd=tmp, env=command_env(), capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("HEAVY")[2].split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    assert heavy_after("from evalrunner.cli.main import app\napp(['--help'], standalone_mode=False)", tmp_path) == set()


def test_a_run_without_judges_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "dataset: {rows: [{input: a, expected: b, out: b}]}\ntarget: {type: recorded, column: out}\n"
        "prompt: '{{ input }}'\nscorers: [exact_match, contains, token_f1, {type: regex, pattern: b}]\ngates: [exact_match >= 1]\n"
    )
    code = "from evalrunner.cli.main import app\napp(['s.yaml'], standalone_mode=False)"
    assert heavy_after(code, tmp_path) == set()


@pytest.mark.parametrize(("transport", "other"), [("pyreqwest", "httpx"), ("httpx", "pyreqwest")])
def test_a_run_imports_only_the_http_library_it_uses(tmp_path: Path, transport: str, other: str) -> None:
    with ScriptedServer() as server:
        (tmp_path / "s.yaml").write_text(
            "dataset: {rows: [{input: a, expected: ok}]}\nscorers: [contains]\n"
            f"target: {{model: m, base_url: '{server.base_url}', transport: {transport}}}\n"
        )
        result = heavy_after("from evalrunner.cli.main import app\napp(['s.yaml'], standalone_mode=False)", tmp_path)
        assert server.calls == 1
    assert transport in result
    assert other not in result


@pytest.mark.slow
def test_each_module_can_be_imported_alone_without_warnings() -> None:
    code = (
        "import importlib, sys, subprocess\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [key for key in sys.modules if key.split('.')[0] == 'evalrunner']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if path.stem != "__main__"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *[name.removesuffix(".__init__") for name in names]],
        env=command_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_file_contains_a_local_path() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    parent = str(ROOT.parent) + os.sep
    named = [name for name in listed if (ROOT / name).is_file() and parent.encode() in (ROOT / name).read_bytes()]
    assert named == []
