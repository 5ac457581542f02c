"""`evalrun init`: every template and data of any shape end in a suite that runs at once."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalrunner import RunOptions, run_suite
from evalrunner.starter.start import Wish, plan_start
from tests.fakes.command import command_env, evalrun
from tests.fakes.server import Answer, ScriptedServer

ROOT = Path(__file__).parents[2]
PAIRS = [(f"Wie viel ist {n} plus eins?", str(n + 1)) for n in range(1, 301)]


def init(*args: str, **options: Any) -> list[str]:
    """The lines that `evalrun init` prints."""
    done = evalrun("init", *args, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def command(lines: list[str]) -> list[str]:
    """The arguments of the command that `evalrun init` says to run."""
    (line,) = [line for line in lines if line.startswith("run it: evalrun ")]
    return line.removeprefix("run it: evalrun ").split()


def knows(request: Any, _nth: int) -> Answer:
    """The answer to the last question of PAIRS in the message."""
    text = request["messages"][-1]["content"]
    return Answer(next((answer for question, answer in reversed(PAIRS) if question in text), "?"))


@pytest.mark.parametrize("template", ["qa", "rag", "json", "classification", "compare", "ci"])
def test_each_template_ends_in_a_suite_that_passes_at_once(template: str) -> None:
    lines = init("--template", template)
    assert lines[0].startswith(f"template {template}: ")
    assert command(lines) == [f"{template}.eval.yaml"]
    done = evalrun(*command(lines))
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.startswith(f"PASS  {template} · ")
    assert "note:" not in done.stdout + done.stderr
    assert Path(".gitignore").read_text(encoding="utf-8") == "runs/\n"
    assert evalrun(".", "-q").returncode == 0


@pytest.mark.parametrize("template", ["qa", "rag", "json", "classification", "compare", "ci"])
def test_each_template_asks_a_model(template: str) -> None:
    with ScriptedServer(lambda request, nth: Answer("42")) as server:
        lines = init("--template", template, "--target", "small", "--base-url", server.base_url)
        done = evalrun(*command(lines), "--set", "gates=[]")
    assert done.returncode == 0, done.stderr
    rows = len(list(Path(f"{template}.csv").read_text(encoding="utf-8").splitlines())) - 1
    assert len(server.requests) == rows * (2 if template == "compare" else 1)
    first = server.requests[0].json["messages"]
    assert [message["role"] for message in first] == ["system", "user"]
    assert "{" not in first[1]["content"]


def test_semicolons_umlauts_and_german_names_of_columns() -> None:
    text = "\r\n".join(["Frage;Antwort", *(f"{question};{answer}" for question, answer in PAIRS)])
    Path("paare.csv").write_bytes(text.replace("Wie viel", "Für dich: Wie viel").encode())
    with ScriptedServer(knows) as server:
        lines = init("--from", "paare.csv", "--target", "alpha", "--base-url", server.base_url)
        done = evalrun(*command(lines))
    assert lines[0] == "read paare.csv: 300 rows; columns are separated by semicolons"
    assert lines[1].split()[:2] == ["input", "Frage"]
    assert lines[2].split()[:2] == ["expected", "Antwort"]
    assert lines[-2:] == ["run it: evalrun paare.eval.yaml --limit 20", "all 300 rows: evalrun paare.eval.yaml"]
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS  paare · alpha · 20 samples")
    assert len(server.requests) == 20
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer none"}


def test_latin_1_without_names_is_copied_with_names() -> None:
    rows = "\n".join(f"{n}\tWie heißt Nummer {n} auf Spanisch, señor {n}?\tNúmero {n}" for n in range(1, 31))
    Path("alt.txt").write_bytes(rows.encode("latin-1"))
    lines = init("--from", "alt.txt", "--target", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert lines[0] == (
        "read alt.txt: 30 rows; the file is Windows-1252 (Latin-1); "
        "the first line is data, so the columns have numbers for names; columns are separated by tabs"
    )
    copy = Path("alt-data.csv").read_text(encoding="utf-8").splitlines()
    assert copy[:2] == ["column1,column2,column3", '1,"Wie heißt Nummer 1 auf Spanisch, señor 1?",Número 1']
    suite = yaml.safe_load(Path("alt.eval.yaml").read_text(encoding="utf-8"))
    assert suite["dataset"]["columns"] == {"id": "column1", "input": "column2", "expected": "column3"}
    assert evalrun("validate", "alt.eval.yaml").returncode == 0


def test_a_ragged_file_with_repeated_names_runs_on_recorded_outputs() -> None:
    text = '\ufeff"question text",gold,notes,notes,model output\n'
    text += "".join(f'"What,\nexactly, is {n}?",{n},a,b,{n}\n' for n in range(1, 25)) + "short?,1\n\n,,,,\n"
    Path("odd export (1).csv").write_text(text + "too,many,cells,in,this,row\n", encoding="utf-8")
    lines = init("--from", "odd export (1).csv")
    assert "1 row left out: more cells than the first line" in lines[0]
    assert "1 row with fewer cells filled up" in lines[0]
    assert "target: recorded outputs in 'model output', so no model is called" in lines
    done = evalrun("odd-export-1.eval.yaml")
    assert done.returncode in (0, 3), done.stderr  # one row has no output
    assert "25 samples" in done.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrapped.json", json.dumps({"version": 1, "data": [{"q": f"{n}?", "gold": "x", "out": 1} for n in "abc"]})),
        ("lines.jsonl", "".join(json.dumps({"prompt": f"{n}?", "answers": ["a", n]}) + "\n" for n in "abc")),
        ("pairs.json", json.dumps([["a?", "1"], ["b?", "2"]])),
        ("utf16.csv", "question,answer\nä?,1\n".encode("utf-16")),
        ("excel.csv", "sep=;\nquestion;answer\na?;1\n"),
        ("bars.csv", "question|answer\na, b?|1\n"),
        ("japanese.csv", "質問,回答\n首都は?,東京\n"),
        ("spaces.csv", "customer question,correct answer,retrieved passage\na?,1,text\n"),
    ],
)
def test_other_shapes_are_read(name: str, text: str | bytes) -> None:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with ScriptedServer(lambda request, nth: Answer("1")) as server:
        start = plan_start(Wish(Path(), Path(), Path(name), models=("m",), base_url=server.base_url), {})
        for path, content in start.files.items():
            path.write_text(content, encoding="utf-8")
        (suite,) = Path().glob("*.eval.yaml")
        result = run_suite(suite, options=RunOptions(gates=False))
    assert result.exit_code == 0
    assert len(server.requests) == len(result.table) > 0


def test_a_workbook_is_read() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("Question", "Answer"), ("a?", 1), ("b?", 2)):
        book.active.append(row)
    book.save("book.xlsx")
    lines = init("--from", "book.xlsx", "--target", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert lines[0] == "read book.xlsx: 2 rows"
    assert evalrun("validate", "book.eval.yaml").returncode == 0


def test_labels_select_the_classification_template() -> None:
    rows = "".join(f"text {n},{'spam' if n % 2 else 'ham'}\n" for n in range(20))
    Path("mail.csv").write_text("text,label\n" + rows, encoding="utf-8")
    lines = init("--from", "mail.csv", "--target", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert "template classification: one label out of a few" in lines
    suite = Path("mail.eval.yaml").read_text(encoding="utf-8")
    assert r"pattern: '\A\s*(ham|spam)\W*\Z'" in suite


def test_json_answers_get_a_scorer_for_each_field() -> None:
    rows = [{"text": f"{n} apples", "gold": {"fruit": "apple", "count": n}} for n in range(3)]
    Path("orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with ScriptedServer(lambda request, nth: Answer('{"fruit": "apple", "count": 1}')) as server:
        lines = init("--from", "orders.jsonl", "--target", "m", "--base-url", server.base_url)
        done = evalrun(*command(lines))
    assert (done.returncode, done.stdout.split()[0]) == (0, "PASS"), done.stderr
    suite = yaml.safe_load(Path("orders.eval.yaml").read_text(encoding="utf-8"))
    assert [scorer.get("name") for scorer in suite["scorers"]] == ["one_object", "has_fruit", "has_count"]
    system = server.requests[0].json["messages"][0]["content"]
    assert system == 'Reply with one JSON object and nothing else: {"fruit": …, "count": …}.'


def test_data_without_accepted_answers_gets_a_scorer_that_needs_none() -> None:
    Path("prompts.txt").write_text("prompt\nTell me a joke.\nWrite a poem.\n", encoding="utf-8")
    with ScriptedServer(lambda request, nth: Answer("Here it is.")) as server:
        done = evalrun(*command(init("--from", "prompts.txt", "--target", "m", "--base-url", server.base_url)))
    assert (done.returncode, done.stdout.split()[0]) == (0, "PASS"), done.stderr


def test_without_a_model_a_key_that_is_set_selects_one() -> None:
    Path("d.csv").write_text("question,answer\na?,1\n", encoding="utf-8")
    lines = init("--from", "d.csv", env={"OPENAI_API_KEY": "sk-of-a-test"})
    assert any(line.startswith("target openai/") and "because OPENAI_API_KEY is set" in line for line in lines)
    assert "sk-of-a-test" not in Path("d.eval.yaml").read_text(encoding="utf-8")


def test_ci_writes_the_workflow_at_the_root_of_the_repository() -> None:
    Path(".git").mkdir()
    lines = init("checks", "--template", "qa", "--target", "openai/some", "--ci", "github")
    assert "wrote checks/qa.csv, checks/qa.eval.yaml, .github/workflows/evals.yml, .gitignore" in lines
    job = yaml.safe_load(Path(".github/workflows/evals.yml").read_text(encoding="utf-8"))["jobs"]["evals"]
    assert job["env"] == {"OPENAI_API_KEY": "${{ secrets.OPENAI_API_KEY }}"}
    inputs = job["steps"][1]["with"]
    assert inputs == {
        "suites": "checks/qa.eval.yaml", "fail-on": "fail", "baseline": "main", "artifact": "evals", "comment": True,
    }  # fmt: skip
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert inputs.keys() <= action["inputs"].keys()
    gitlab = init("more", "--template", "qa", "--ci", "gitlab")
    assert any(".gitlab-ci.yml" in line for line in gitlab)
    assert yaml.safe_load(Path(".gitlab-ci.yml").read_text(encoding="utf-8"))["evals"]["script"] == [
        "evalrun more/qa.eval.yaml"
    ]


@pytest.mark.parametrize(
    ("system", "schema", "file"),
    [
        ("github", "vendor.github-workflows", ".github/workflows/evals.yml"),
        ("gitlab", "vendor.gitlab-ci", ".gitlab-ci.yml"),
    ],
)
def test_workflows_are_valid_by_schema_and_name_a_suite_in_a_folder_with_a_space(
    system: str, schema: str, file: str
) -> None:
    Path(".git").mkdir()
    init("our evals", "--template", "qa", "--target", "openai/some", "--ci", system)
    check = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", schema, file]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    job = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    job = job["jobs"]["evals"] if system == "github" else job["evals"]
    words = job["steps"][1]["with"]["suites"] if system == "github" else job["script"][0].removeprefix("evalrun ")
    assert shlex.split(words) == ["our evals/qa.eval.yaml"]


def test_existing_files_are_overwritten_only_with_force() -> None:
    init("first")
    Path("first/qa.csv").write_text("mine", encoding="utf-8")
    done = evalrun("init", "first")
    assert done.returncode == 2
    assert "first/qa.csv, first/qa.eval.yaml already exist" in done.stderr
    assert "--force" in done.stderr
    assert Path("first/qa.csv").read_text(encoding="utf-8") == "mine"
    init("first", "--force")
    assert Path("first/qa.csv").read_text(encoding="utf-8").startswith("id,input")


def test_existing_workflow_is_not_avoided_by_another_folder() -> None:
    init("first", "--ci", "github")
    done = evalrun("init", "second", "--ci", "github")
    assert done.returncode == 2
    assert "evals.yml already exists; add the suite to that workflow, or overwrite with --force" in done.stderr
    assert not Path("second").exists()


def test_gitignore_keeps_its_lines() -> None:
    Path(".gitignore").write_text("*.log", encoding="utf-8")
    init()
    assert Path(".gitignore").read_text(encoding="utf-8") == "*.log\nruns/\n"
    init("--force")
    assert Path(".gitignore").read_text(encoding="utf-8") == "*.log\nruns/\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "emty.csv"], "--from 'emty.csv': file not found; did you mean 'empty.csv'?"),
        (["--from", "."], "--from '.' is a folder; name a file"),
        (["--from", "empty.csv"], "--from 'empty.csv' has no rows"),
        (["--from", "image.png"], "--from 'image.png' is no text"),
        (["--template", "qaa"], "--template 'qaa': unknown template; did you mean 'qa'?"),
        (["--template", "rag", "--from", "d.csv"], "needs a column 'context'; the data has: question, answer"),
        (["--base-url", "http://127.0.0.1:9"], "--base-url needs --target MODEL"),
        (["--api-key-env", "KEY"], "--api-key-env names a variable"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(args: list[str], message: str) -> None:
    Path("empty.csv").write_text("", encoding="utf-8")
    Path("image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0")
    Path("d.csv").write_text("question,answer\na?,1\n", encoding="utf-8")
    before = sorted(Path().iterdir())
    done = evalrun("init", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert sorted(Path().iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_questions_on_a_terminal_have_defaults() -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "evalrunner", "init"], stdin=side, stdout=side, stderr=side, env=command_env()
    )
    os.close(side)
    os.write(main, b"\n\n\n\n")
    shown = b""
    while True:
        try:
            shown += os.read(main, 4096)
        except OSError:  # the other side is closed
            break
    os.close(main)
    assert process.wait(timeout=60) == 0, shown.decode()
    assert b"Data file" in shown
    assert b"run it: evalrun qa.eval.yaml" in shown
    assert evalrun("qa.eval.yaml", "-q").returncode == 0
