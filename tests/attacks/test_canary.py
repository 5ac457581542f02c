"""A canary in every place where a key can be, a server that replies with it in every spelling, and a search of all sinks."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sqlite3
import zipfile
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalrunner.cli import main
from evalrunner.cli.main import app
from evalrunner.errors import EvalrunError
from evalrunner.redact import REDACTED
from tests.attacks.counts import Attacks
from tests.attacks.spellings import SPELLINGS, find_canaries, search_folder, texts_of
from tests.cases.suites import Ended
from tests.fakes.server import Action, Answer, ScriptedServer, Status

CANARIES = {
    name: f"{name.replace('_', '')[:10]}/Q7+{place:02d}_zK4x-9mW{place:02d}v"
    for place, name in enumerate(
        ("OPENAI_API_KEY", "OPENAI_API_KEY_2", "PGPASSWORD", "GH_PAT", "SLACK_SIGNING_SECRET", "MLFLOW_TRACKING_TOKEN",
         "dotenv", "header_variable", "query_variable", "webhook", "url_login", "proxy", "query", "literal_key",
         "literal_param", "literal_header", "extra_header", "judge_key", "http_header")
    )
}  # fmt: skip
VARIABLES = {
    **{
        name: CANARIES[name]
        for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_2", "PGPASSWORD", "GH_PAT", "SLACK_SIGNING_SECRET")
    },
    "MLFLOW_TRACKING_TOKEN": CANARIES["MLFLOW_TRACKING_TOKEN"],
    "CANARY_HEADER": CANARIES["header_variable"],
    "CANARY_QUERY": CANARIES["query_variable"],
    "SLACK_WEBHOOK_URL": f"https://hooks.example/services/{CANARIES['webhook']}",
    "DATABASE_URL": f"postgres://me:{CANARIES['url_login'].replace('/', '%2F')}@db/x",
    "ALL_PROXY_OF_OTHERS": f"http://me:{CANARIES['proxy'].replace('/', '%2F')}@127.0.0.1:9",
    "BLOB_ADDRESS": f"https://blob.example/a?sv=1&sig={CANARIES['query'].replace('+', '%2B')}",
}
SUITE = """
name: canary
description: "A suite whose server repeats keys."
dataset: data.jsonl
prompt: "{{ input }}"
targets:
  - {name: plain, model: m, base_url: "BASE/v1", api_key: "${CANARY_DOTENV}", headers: {X-Own: "Bearer ${CANARY_HEADER}"}}
  - {name: literal, model: m, base_url: "BASE/v1", api_key: LITERAL_KEY, headers: {X-Literal: LITERAL_HEADER},
     params: {api_key: LITERAL_PARAM, extra_headers: {X-Extra: EXTRA_HEADER}}}
  - {name: streamed, model: m, base_url: "BASE/v1", api_key: "${CANARY_DOTENV}", stream: true}
  - {name: service, type: http, url: "BASE/ask?key=${CANARY_QUERY}", headers: {X-Service: HTTP_HEADER},
     body: {question: "{{ input }}"}, output: "choices.0.message.content"}
judge: {model: j, base_url: "BASE/v1", api_key: JUDGE_KEY}
scorers: [contains, {type: factuality, name: judged}]
slices: [spelling]
run: {retries: 0, row_timeout: 20, concurrency: 8}
"""


def write_suite(server: ScriptedServer) -> None:
    text = SUITE.replace("BASE", server.base_url.removesuffix("/v1"))
    for name in ("LITERAL_KEY", "LITERAL_HEADER", "LITERAL_PARAM", "EXTRA_HEADER", "JUDGE_KEY", "HTTP_HEADER"):
        text = text.replace(name, json.dumps(CANARIES[name.lower()]))
    Path("suite.yaml").write_text(text)
    Path(".env").write_text(f"CANARY_DOTENV={CANARIES['dotenv']}\n")
    rows = [
        {"id": f"{place}-{kind}", "input": f"{kind} {name}", "expected": "Paris", "spelling": name}
        for place, name in enumerate(SPELLINGS)
        for kind in ("answer", "error", "header", "reason")
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def repeats_keys(server: ScriptedServer) -> Any:
    """A script that replies with one of the canaries at a time, in the spelling that the prompt names."""
    order = cycle(CANARIES.values())

    def script(request: Any, nth: int) -> Action:
        prompt = json.dumps(request)
        name = max((name for name in SPELLINGS if name in prompt), key=len, default="as it is")
        kind = next((kind for kind in ("error", "header", "reason") if f"{kind} " in prompt), "answer")
        received = [part for value in server.requests[-1].headers.values() for part in value.split() if len(part) > 16]
        text = " and ".join(SPELLINGS[name](key) for key in (next(order), next(order), *received))
        if request.get("model") == "j":
            return Answer(f"A {text}")
        if kind == "error":
            return Status(400, {"error": {"message": f"the key {text} is odd", "code": "x"}})
        if kind == "header":
            value = "".join(sign if " " <= sign < "\x7f" else " " for sign in text)
            return Status(
                422 if nth % 2 else 400, f"refused {text}", headers={"x-echo": value, "www-authenticate": value}
            )
        if kind == "reason":
            return Answer(
                f"Paris {text}", message={"reasoning_content": text, "refusal": None}, model=f"m {text}"[:200]
            )
        return Answer(f"Paris {text}", extra={"id": text, "system_fingerprint": text})

    return script


def use_variables(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in {**VARIABLES, **more}.items():
        monkeypatch.setenv(name, value)


def command(*args: str) -> Ended:
    """`evalrun ARGS…` in this process, with its errors as they are printed."""
    done = CliRunner().invoke(app, list(args), prog_name="evalrun")
    errors: list[str] = []
    code = done.exit_code
    if isinstance(done.exception, EvalrunError):
        code = done.exception.exit_code
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(main, "report", errors.append)  # it writes to the descriptor, which a runner cannot capture
            main.print_error(done.exception)
        assert errors
    elif done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(code, done.stdout, done.stderr + "\n".join(errors))


def faults_of(done: Ended, where: str) -> list[str]:
    return [f"{where} prints {name}" for name in sorted(find_canaries(done.out + "\n" + done.err, CANARIES))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_key_is_in_any_file_or_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, attacks: Attacks) -> None:
    monkeypatch.setenv("EVALRUN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    use_variables(monkeypatch)
    more = ["-o", "t.csv", "-o", "t.xlsx", "-o", "junit.xml", "-o", "summary.md", "-o", "t.parquet", "--junit-rows"]
    if importlib.util.find_spec("mlflow") is not None:
        more += ["--mlflow", f"sqlite:///{tmp_path}/mlflow.db"]
    with ScriptedServer() as server:
        server.script = repeats_keys(server)
        write_suite(server)
        for args in (
            ["plan", "suite.yaml"],
            ["plan", "suite.yaml", "--endpoints"],
            ["validate", "suite.yaml"],
            ["suite.yaml", "--set", "cache=all", "--debug", *more],
            ["show", "last"],
            ["show", "last", "--failed"],
            ["show", "last", "--json"],
            ["report", "last"],
            ["baseline", "accept", "main"],
            ["diff", "last", "last"],
            ["gate", "last", "--json"],
            ["compare", "last"],
            ["runs"],
        ):
            done = command(*args)
            assert done.code in (0, 1, 2, 3), args
            attacks.add(" ".join(args[:2]), faults_of(done, args[0]))
        received = {
            name for name, key in CANARIES.items() if any(key in str(one.headers) + one.path for one in server.requests)
        }
        assert {"dotenv", "header_variable", "literal_key", "literal_header", "judge_key", "http_header"} <= received
    own = {Path("suite.yaml"), Path(".env")}
    found = {(file, name) for file, name in search_folder(tmp_path, CANARIES) if Path(file) not in own}
    (rows, *_) = list(Path("runs").rglob("rows.jsonl"))
    assert len(rows.read_text().splitlines()) > len(SPELLINGS)
    redacted = [
        path for path in tmp_path.rglob("*") if path.is_file() and any(REDACTED in text for text in texts_of(path))
    ]
    kinds = {path.name for path in redacted}
    assert {"rows.jsonl", "run.json", "report.html", "table.csv", "t.csv", "t.xlsx", "t.parquet"} <= kinds, kinds
    attacks.add("files", [f"{file} has {name}" for file, name in sorted(found)])
    attacks.check()


@pytest.mark.parametrize(
    "slip",
    [
        "api_key: [KEY]",
        "api_key: *KEY",
        "api_key: !KEY",
        "api_key: {KEY: 1}",
        "headers: KEY",
        "headers: {X-Key: [KEY]}",
        "params: {api_key: KEY, temperature: KEY}",
        "base_url: 'http://me:KEY@127.0.0.1:1/v1?x'",
        "base_url: 'me:KEY@127.0.0.1'",
        "base_url: 'http://127.0.0.1:1/v1?api-key=KEY'",
        "api_key: KEY, api_kye: 1",
        "api_key: 'KEY",
    ],
)
def test_problems_of_a_suite_repeat_no_key(slip: str, attacks: Attacks) -> None:
    key = "literal7Canary91xKq"
    for template in (
        "name: s\ndataset: {{rows: [{{input: a, expected: b}}]}}\ntarget: {{model: m, {slip}}}\nscorers: [contains]\n",
        "name: s\ndataset: {{rows: [{{input: a, expected: b}}]}}\ntarget:\n  model: m\n  {slip}\nscorers: [contains\n",
        "name: s\ndataset: {{rows: [{{input: a}}]}}\njudge: {{model: j, {slip}}}\ntarget: {{model: m}}\nscorers: [nope]\n",
    ):
        Path("s.yaml").write_text(template.format(slip=slip.replace("KEY", key)))
        done = command("validate", "s.yaml")
        plan = command("plan", "s.yaml", "--offline")
        found = find_canaries(done.out + done.err + plan.out + plan.err, {"key": key})
        attacks.add(slip, [done.err + plan.err] if found else [])
    attacks.check()


PLANTED = "planted/Q7+canary_81x"


def _plant(folder: Path, kind: str, text: str) -> None:
    file = folder / f"file.{kind}"
    if kind in ("zip", "xlsx"):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner/sheet.xml", f"<t>{text}</t>")
    elif kind == "gz":
        file.write_bytes(gzip.compress(text.encode()))
    elif kind in ("text.db", "blob.db"):
        with sqlite3.connect(file) as database:
            database.execute("create table t (c)")
            database.execute("insert into t values (?)", (text.encode() if kind == "blob.db" else text,))
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        parquet.write_table(pyarrow.table({"c": [text]}), file)
    elif kind == "json":
        file.write_text(json.dumps({"a": ["x", text]}))
    else:
        file.write_bytes(b"before " + text.encode() + b" after")


@pytest.mark.parametrize("kind", ["json", "txt", "csv", "html", "zip", "xlsx", "gz", "text.db", "blob.db", "parquet"])
def test_the_search_finds_a_canary_in_every_spelling_and_kind_of_file(kind: str, tmp_path: Path) -> None:
    canaries: Mapping[str, str] = {"planted": PLANTED, "other": "other/9x_K4zQ7+mW"}
    for place, (name, spelling) in enumerate(SPELLINGS.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        _plant(folder, kind, f"text {spelling(PLANTED)} text")
        assert search_folder(folder, canaries) == {(f"file.{kind}", "planted")}, name
    clean = tmp_path / "clean"
    clean.mkdir()
    _plant(clean, kind, "text without any")
    assert search_folder(clean, canaries) == set()
