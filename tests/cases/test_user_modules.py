"""User-defined Python of more than one file: helpers beside the suite or the file, packages, and their fingerprints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from evalrunner import run_suite
from tests.cases.suites import Ended, command
from tests.fakes.command import fresh_evalrun

UP = "def up(text):\n    return text.upper()\n"
IMPORTS = {
    "from import": "from util import up\ndef answer(input):\n    return up(input)\n",
    "import": "import util\ndef answer(input):\n    return util.up(input)\n",
    "import as": "import util as helper\ndef answer(input):\n    return helper.up(input)\n",
    "star": "from util import *\ndef answer(input):\n    return up(input)\n",
    "relative": "from .util import up\ndef answer(input):\n    return up(input)\n",
    "relative module": "from . import util\ndef answer(input):\n    return util.up(input)\n",
    "inside the function": "def answer(input):\n    from util import up\n    return up(input)\n",
    "inside an async function": "async def answer(input):\n    import util\n    return util.up(input)\n",
    "in a thread": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def late(text):\n    from util import up\n    return up(text)\n"
        "def answer(input):\n    with ThreadPoolExecutor(1) as pool:\n        return pool.submit(late, input).result()\n"
    ),
}


def write(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def suite(function: str = "app.py:answer", *, name: str = "s", more: str = "") -> str:
    return (
        f"name: {name}\ndataset: {{rows: [{{id: 1, input: a, expected: A}}]}}\n"
        f"target: {{type: python, function: '{function}'}}\nscorers: [exact_match]\ngates: [exact_match >= 1]\n{more}"
    )


def outputs(name: str = "s") -> list[str | None]:
    """The answers of the last run."""
    last = max(Path("runs", name).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    rows = [json.loads(line) for line in (last / "rows.jsonl").read_text().splitlines()]
    return [(row.get("completion") or {}).get("text") for row in rows]


def code_of(name: str = "s") -> dict[str, list[str]]:
    """The files in the fingerprint of each target and scorer of the last run."""
    last = max(Path("runs", name).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    run = json.loads((last / "run.json").read_text())
    return {part: sorted(item["files"]) for kind in ("targets", "scorers") for part, item in run[kind].items()}


def passed(done: Ended) -> None:
    assert (done.code, done.err) == (0, done.err), done.out + done.err


@pytest.mark.parametrize("how", IMPORTS)
def test_a_helper_beside_the_python_file_is_imported(how: str) -> None:
    write({"s.yaml": suite(), "app.py": IMPORTS[how], "util.py": UP})
    path = list(sys.path)
    passed(command("s.yaml", "-q"))
    assert (sys.path, "util" in sys.modules) == (path, False)


@pytest.mark.parametrize(
    ("function", "app", "helper"),
    [
        ("lib/app.py:answer", "lib/app.py", "lib/util.py"),  # beside the file
        ("lib/app.py:answer", "lib/app.py", "util.py"),  # beside the suite
        ("app:answer", "app.py", "util.py"),
        ("lib.app:answer", "lib/app.py", "util.py"),  # a folder without __init__.py
        ("../shared.py:answer", "../shared.py", "util.py"),
        ("my-app.v2.py:answer", "my-app.v2.py", "util.py"),
        ("app:answer", "../app.py", "../util.py"),  # in the working folder
    ],
)
def test_helpers_are_found_beside_the_file_and_the_suite_and_in_the_working_folder(
    function: str, app: str, helper: str
) -> None:
    write({"evals/s.yaml": suite(function), f"evals/{app}": IMPORTS["from import"], f"evals/{helper}": UP})
    passed(command("evals/s.yaml", "-q"))


PACKAGE = {
    "bot/__init__.py": "from bot.names import NAME\nimport bot.text as text\n",
    "bot/core.py": "from .text import up\nfrom bot.names import NAME\ndef answer(input):\n    return up(input)\n",
    "bot/text.py": "from . import deep\nimport bot.deep.words\ndef up(text):\n    return bot.deep.words.up(text)\n",
    "bot/deep/__init__.py": "",
    "bot/deep/words.py": "from ..names import NAME\n" + UP,
    "bot/names.py": "NAME = 'bot'\n",
}


@pytest.mark.parametrize("function", ["bot/core.py:answer", "bot.core:answer"])
def test_the_modules_of_a_package_import_each_other(function: str) -> None:
    write({"s.yaml": suite(function), **PACKAGE})
    passed(command("s.yaml", "-q"))
    assert {"bot/text.py", "bot/deep/words.py", "bot/names.py"} < set(code_of()["answer"])


def test_scorers_factories_and_readers_import_helpers() -> None:
    write(
        {
            "s.yaml": (
                "name: s\ndataset: {path: q.txt, type: 'parts/reader.py:rows'}\ntarget: {type: 'parts/bot.py:make', mark: '!'}\n"
                "scorers: [{type: python, function: 'parts/score.py:right'}, {type: 'parts.score:factory', name: made}]\n"
                "gates: [right >= 1]\n"
            ),
            "q.txt": "a\nb\n",
            "parts/reader.py": (
                "from pathlib import Path\nfrom shared import up\ndef rows(path):\n"
                "    return ({'input': line, 'expected': up(line)} for line in Path(path).read_text().split())\n"
            ),
            "parts/bot.py": (
                "from evalrunner import Completion\ndef make(*, mark: str):\n    async def answer(sample, epoch):\n"
                "        from shared import up\n        return Completion(up(sample.input) + mark)\n    return answer\n"
            ),
            "parts/score.py": (
                "from shared import up\ndef right(output, expected) -> bool:\n    return output == up(expected) + '!'\n"
                "def factory():\n    return right\n"
            ),
            "shared.py": UP,
        }
    )
    passed(command("s.yaml", "-q"))


@pytest.mark.parametrize(
    "name", ["json", "types", "yaml", "test", "utils", "typing", "numpy", "rich", "asyncio", "evalrunner"]
)
def test_a_file_named_like_a_library_does_not_replace_it(name: str) -> None:
    app = "import json, types, yaml\ndef answer(input):\n    yaml.safe_load(json.dumps({}))\n    return types.SimpleNamespace(a=input.upper()).a\n"
    helper = (
        "import yaml as library\nsafe_load = library.safe_load\n"
        if name == "yaml"
        else "raise SystemExit('imported')\n"
    )
    write({"s.yaml": suite(), "app.py": app, f"{name}.py": helper})
    passed(command("s.yaml", "-q"))


@pytest.mark.parametrize("name", ["types", "test", "utils", "yaml", "calendar", "numpy"])
def test_a_helper_named_like_a_library_is_imported_by_the_names_only_it_has(name: str) -> None:
    write({"s.yaml": suite(), "app.py": IMPORTS["from import"].replace("util", name), f"{name}.py": UP})
    passed(command("s.yaml", "-q"))
    write({"s.yaml": suite(f"{name}:up")})
    passed(command("s.yaml", "-q"))


def test_a_folder_without_modules_does_not_hide_an_installed_package() -> None:
    Path("yaml").mkdir()
    app = "import yaml\ndef answer(input):\n    return yaml.safe_load(input).upper()\n"
    write({"s.yaml": suite(), "app.py": app, "yaml/data.csv": "a\n"})
    passed(command("s.yaml", "-q"))


@pytest.mark.parametrize("function", ["app.py:answer", "util:answer", "../app.py:answer"])
def test_suites_in_two_folders_have_their_own_helpers(function: str) -> None:
    app = "from util import NAME\ndef answer(input):\n    import late\n    return f'{NAME} {late.NAME}'\n"
    for name in ("one", "two"):
        place = "app.py" if function.startswith("..") else f"{name}/app.py"
        helper = f"NAME = '{name}'\ndef answer(input):\n    return f'{{NAME}} {{NAME}}'\n"
        write(
            {
                f"{name}/s.yaml": suite(function, name=name),
                place: app,
                f"{name}/util.py": helper,
                f"{name}/late.py": helper,
            }
        )
    command("one/s.yaml", "two/s.yaml", "-q")
    assert (outputs("one"), outputs("two")) == (["one one"], ["two two"])


def test_target_and_scorer_of_a_suite_share_a_helper() -> None:
    write(
        {
            "s.yaml": suite("parts/app.py:answer").replace("exact_match]\ngates", "{type: python, function: 'score.py:seen'}]\ngates")
            .replace("exact_match >=", "seen >="),
            "parts/app.py": "import state\ndef answer(input):\n    state.calls.append(input)\n    return 'A'\n",
            "score.py": "from state import calls\ndef seen(output) -> bool:\n    return calls == ['a']\n",
            "state.py": "calls = []\n",
        }
    )  # fmt: skip
    passed(command("s.yaml", "-q"))


def test_a_module_that_is_imported_already_is_not_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"s.yaml": suite("our_bot:answer"), "our_bot.py": "REPLY = 'a'\ndef answer(input):\n    return REPLY\n"})
    monkeypatch.syspath_prepend(os.getcwd())
    import our_bot  # type: ignore[import-not-found]

    our_bot.REPLY = "A"
    assert run_suite("s.yaml").exit_code == 0
    monkeypatch.delitem(sys.modules, "our_bot")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_worker_processes_of_user_code_import_helpers(method: str) -> None:
    app = (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\nfrom util import up\n"
        "def late(text):\n    import util\n    return util.up(text)\n"
        "def answer(input):\n"
        f"    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('{method}')) as pool:\n"
        "        assert pool.submit(late, input).result(60) == 'A'\n"
        "        return pool.submit(up, input).result(60)\n"
    )
    write({"s.yaml": suite(), "app.py": app, "util.py": UP})
    done = fresh_evalrun("s.yaml", "-q")
    assert (done.returncode, outputs()) == (0, ["A"]), done.stderr


def test_python_m_evalrunner_imports_no_library_from_the_working_folder() -> None:
    write({"s.yaml": suite(), "app.py": IMPORTS["from import"], "util.py": UP})
    write(
        {f"{name}.py": "raise SystemExit('imported')\n" for name in ("json", "yaml", "typer", "test", "utils", "shlex")}
    )
    done = fresh_evalrun("s.yaml", "-q")
    assert done.returncode == 0, done.stderr


def test_a_module_that_is_not_found_is_reported_with_the_folders_searched() -> None:
    write(
        {"evals/s.yaml": suite("lib/app.py:answer"), "evals/lib/app.py": IMPORTS["from import"], "evals/utill.py": UP}
    )
    done = command("evals/s.yaml")
    assert done.code == 2
    assert (
        "evals/s.yaml:3:9: target: importing 'lib/app.py' failed: ModuleNotFoundError: No module named 'util' in "
        "'evals/lib', 'evals' and '.' or among the installed packages; did you mean 'utill'?" in done.err
    )
    write({"evals/s.yaml": suite("nope.deep:answer")})
    done = command("evals/s.yaml")
    assert "there is no module 'nope.deep' to import in 'evals' and '.' or among the installed packages" in done.err
    write({"evals/s.yaml": suite("app.py:answer"), "evals/app.py": "from utill import down\n"})
    done = command("evals/s.yaml")
    assert "ImportError: cannot import name 'down' from 'utill'" in done.err


def test_a_helper_that_is_missing_at_call_time_fails_the_row_with_the_folders_searched() -> None:
    write({"s.yaml": suite(), "app.py": IMPORTS["inside the function"]})
    command("s.yaml", "-q")
    table = next(Path("runs/s").iterdir()) / "rows.jsonl"
    assert (
        "answer() in app.py:2 raised ModuleNotFoundError: No module named 'util' in '.' or among" in table.read_text()
    )


@pytest.mark.parametrize(
    "text",
    ["raise ValueError('no')\n", "raise SystemExit(3)\n", "def broken(:\n", "import app\nx = app.nothing\n", "\0"],
)
def test_a_helper_that_cannot_be_imported_is_a_usage_error(text: str) -> None:
    write({"s.yaml": suite(), "app.py": IMPORTS["from import"], "util.py": text})
    done = command("s.yaml")
    assert (done.code, "importing 'app.py' failed" in done.err, "user_code" in done.err) == (2, True, False)


def test_a_changed_helper_is_a_change_of_the_code_that_imports_it() -> None:
    scorer = "scorers: [exact_match, {type: python, function: 'score.py:long'}]"
    write(
        {
            "s.yaml": suite().replace("scorers: [exact_match]", scorer),
            "app.py": IMPORTS["from import"],
            "util.py": "from deeper import NOTHING\n" + UP,
            "deeper.py": "NOTHING = 1\n",
            "score.py": "from rules import LIMIT\ndef long(output) -> bool:\n    return len(output) > LIMIT\n",
            "rules.py": "LIMIT = 3\n",
            "unrelated.py": "x = 1\n",
        }
    )
    passed(command("s.yaml", "-q"))
    assert code_of() == {
        "answer": ["app.py", "deeper.py", "util.py"], "exact_match": [], "long": ["rules.py", "score.py"],
    }  # fmt: skip
    write({"unrelated.py": "x = 2\n"})
    passed(command("--resume", "last", "-q"))
    write({"deeper.py": "NOTHING = 2\n"})
    done = command("--resume", "last")
    assert (done.code, "targets 'answer': the code in 'deeper.py' changed" in done.err) == (2, True)
