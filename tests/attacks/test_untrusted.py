"""Suites from strangers with `--untrusted`: what they may not use is refused with its line, before anything happens."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.plugin_table import BUILTIN, Group
from evalrunner.plugins import factory_options, load
from evalrunner.suite.options import options_of
from evalrunner.suite.schema import (
    CacheSpec,
    DatasetSpec,
    GateKeys,
    GateRules,
    ModelSpec,
    PriceSpec,
    RunSpec,
    Suite,
    TargetSpec,
    TransportSpec,
)
from evalrunner.suite.validate import keys_of
from tests.attacks.counts import Attacks
from tests.cases.suites import command
from tests.fakes.action import Runner
from tests.fakes.command import evalrun
from tests.fakes.github import FakeGitHub
from tests.fakes.server import ScriptedServer

TABLE: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "untrusted.yaml").read_text(encoding="utf-8"))
CANARIES = ("CANARY-OF-A-FILE", "CANARY-OF-A-VARIABLE")
BASE = {
    "name": "name: s",
    "dataset": "dataset: d.jsonl",
    "target": "target: {type: recorded, column: output}",
    "scorers": "scorers: [contains]",
}
ROW = '{"id": "a", "input": "q", "expected": "x", "output": "x"}\n'
EVIL = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The suite's folder `evals`, secrets beside it and in the environment, and links that lead out of the folder."""
    evals = tmp_path / "evals"
    for folder in (".git", "sub", "runs/other/20260101T000000Z-abcd", "baselines/s", "model"):
        (evals / folder).mkdir(parents=True)
    secret = ROW.replace("q", CANARIES[0])
    files = {
        "secret.txt": CANARIES[0], "secret.jsonl": secret, "evals/d.jsonl": ROW, "evals/evil.py": EVIL, "evals/ca.pem": "x",
        "evals/.git/config": f"[http]\nextraheader = {CANARIES[0]}\n", "evals/.env": "FROM_FILE=value-of-the-file\n",
        "evals/runs/other/20260101T000000Z-abcd/rows.jsonl": secret, "evals/nested.yaml": "- user: {file: ../secret.txt}\n",
        "evals/nested.json": '[{"user": {"file": "../secret.txt"}}]', "evals/model/MLmodel": "x",
        "evals/variable.yaml": "- user: {file: '${CANARY_PATH}'}\n",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    links = {"link.jsonl": "secret.jsonl", "link.txt": "secret.txt", "linked": ".", "config.csv": "evals/.git/config",
             "baselines/s/linked.jsonl": "secret.jsonl"}  # fmt: skip
    for name, to in links.items():
        (evals / name).symlink_to(tmp_path / to)
    monkeypatch.setenv("CANARY", CANARIES[1])
    monkeypatch.setenv("CANARY_PATH", "../secret.jsonl")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, f"{CANARIES[1]}-{name}")


def write(text: str, name: str = "evals/s.yaml") -> str:
    """The suite with the parts of `BASE` that the text does not set."""
    given = set(re.findall(r"^(\w+?)s?:", text, re.MULTILINE))
    parts = [part for key, part in BASE.items() if key.removesuffix("s") not in given]
    Path(name).write_text("\n".join([*parts, text, ""]), encoding="utf-8")
    return name


def written_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files below a folder that the world of these tests did not have."""
    known = re.compile(r"(^|/)(secret\.|\.git/|20260101T000000Z-abcd/)")
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and not known.search(str(path.relative_to(folder))):
            yield path, path.read_bytes().decode("utf-8", "replace")


def leaks(server: ScriptedServer, *texts: str) -> list[str]:
    """Where a canary is: in what reached the server, in files, or in texts."""
    places = {
        f"request {request.path}": f"{request.path} {request.headers} {request.json}" for request in server.requests
    }
    places |= {str(path): content for path, content in written_files(Path.cwd())}
    places |= {f"output {number}": text for number, text in enumerate(texts)}
    return [f"a canary is in {place}" for place, text in places.items() if any(each in text for each in CANARIES)]


def faults_of(attack: Mapping[str, Any], server: ScriptedServer, *start: str) -> list[str]:
    """What is wrong after a command with `--untrusted` on the suite of an attack."""
    text = attack["suite"].replace("SERVER", server.base_url)
    path = write(text.replace("HERE ", ""))
    line = next(number for number, each in enumerate(_lines(text, path), 1) if "HERE" in each)
    done = command(*start, path, "--untrusted", *attack.get("args", ()))
    where = attack.get("where", f"{path}:{line}:")
    told = [each for each in done.err.splitlines() if each.removeprefix("evalrun: ").startswith(where)]
    faults = [] if done.code == 2 else [f"exit code {done.code}"]
    if not any(attack["says"] in each for each in told):
        faults.append(f"{attack['says']!r} is not said at {where}\n{done.err}")
    faults += [f"the server got {len(server.requests)} requests"] if server.requests else []
    faults += ["Python was imported"] if Path("evals/imported").exists() else []
    return faults + leaks(server, done.out, done.err)


def _lines(text: str, path: str) -> list[str]:
    """The lines of the written suite, with the mark."""
    return [*Path(path).read_text(encoding="utf-8").splitlines()[: -len(text.splitlines())], *text.splitlines()]


@pytest.mark.parametrize(
    "start", ["run", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plan", "validate"))]
)
def test_suites_of_strangers_are_refused_with_their_line(start: str, server: ScriptedServer, attacks: Attacks) -> None:
    for attack in TABLE:
        if not (start == "validate" and "--max-cost" in attack.get("args", ())):
            attacks.add(attack["name"], faults_of(attack, server, start))
    assert len(TABLE) >= 60
    attacks.check()
    assert not list(Path().glob("runs/*")), "a run was started"


LEAK = """
prompt: [{user: {file: ../secret.txt}}]
target:
  model: m
  base_url: SERVER
  headers: {X-Steal: "${CANARY}"}
"""


def test_without_untrusted_a_suite_sends_any_file_and_variable_to_any_host(server: ScriptedServer) -> None:
    """What the documentation warns of, and that the search of these tests finds it."""
    done = command(write(LEAK.replace("SERVER", server.base_url)), "-q")
    assert done.code == 0
    (request,) = server.requests
    assert CANARIES[0] in str(request.json)
    assert CANARIES[1] in request.headers["x-steal"]
    assert len(leaks(server)) > 2


GOOD = """
prompt: {file: sub/prompt.yaml}
targets:
  - {name: model, model: m, base_url: SERVER, api_key: "${LENT}"}
  - {name: service, type: http, url: "SERVER/chat/completions", body: {messages: []}, headers: {X: "${LENT}"}}
  - {name: recorded, type: recorded, column: output}
judge: {model: j, base_url: SERVER}
scorers: [contains, {type: regex, pattern: "o(k)"}, factuality]
judge_check: "off"
gates: [contains >= 0, {metric: contains, max_drop: 1, baseline: main}]
dataset: {path: "sub/*.jsonl", columns: {id: id}}
"""


def write_good(server: ScriptedServer) -> str:
    Path("evals/sub/one.jsonl").write_text(ROW, encoding="utf-8")
    Path("evals/sub/text.txt").write_text("Question: {{ input }}", encoding="utf-8")
    Path("evals/sub/prompt.yaml").write_text("- user: {file: text.txt}\n", encoding="utf-8")
    return write(GOOD.replace("SERVER", server.base_url))


def allowances(server: ScriptedServer) -> list[str]:
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    free = "{input: 0, output: 0}"
    return ["--untrusted", "--allow-host", host, "--allow-env", "LENT", "--max-cost", "1", "--set",
            f"prices={{m: {free}, j: {free}}}"]  # fmt: skip


def test_a_suite_of_a_stranger_works_with_what_it_is_allowed(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENT", "lent-key-0123")
    path = write_good(server)
    for start in ([], ["plan"]):
        done = command(*start, path, *allowances(server))
        assert done.code == 0, done.err
    sent = {request.headers.get("authorization") or request.headers.get("x") for request in server.requests}
    assert {"Bearer lent-key-0123", "lent-key-0123"} <= sent
    assert "Question: q" in str([request.json for request in server.requests])
    assert leaks(server, done.out, done.err) == []


def test_values_of_the_command_line_may_be_anything(server: ScriptedServer) -> None:
    path = write('target: {type: python, function: "evil.py:answer"}\ndataset: /etc/passwd')
    own = Path("own.jsonl").resolve()
    own.write_text(ROW, encoding="utf-8")
    target = "{type: recorded, column: output}"
    done = command(path, "--untrusted", "--set", f"dataset={own}", "--set", f"target={target}", "-q")
    assert done.code == 0, done.err
    assert not Path("evals/imported").exists()
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    settings = [f"target.model=m\0target.base_url={server.base_url}\0target.api_key=${{CANARY}}".split("\0")]
    args = [each for setting in settings[0] for each in ("--set", setting)]
    done = command(write("target: {model: x}"), "--untrusted", "--allow-host", host, "-q", *args)
    assert done.code == 0, done.err
    assert CANARIES[1] in server.requests[-1].headers["authorization"]


def test_selected_targets_of_a_suite_are_still_those_of_a_stranger(server: ScriptedServer) -> None:
    path = write(f"targets:\n  - {{name: bot, model: m, base_url: '{server.base_url}', api_key: '${{CANARY}}'}}")
    done = command(path, "--untrusted", "--target", "bot")
    assert done.code == 2
    assert "--allow-env CANARY" in done.err
    assert "--allow-host" in done.err


def test_a_base_url_of_the_command_line_does_not_make_other_keys_trusted(server: ScriptedServer) -> None:
    path = write("target: {model: m, headers: {X: '${CANARY}'}}")
    done = command(path, "--untrusted", "--base-url", server.base_url)
    assert done.code == 2
    assert "--allow-env CANARY" in done.err
    assert server.requests == []


def test_env_files_beside_an_untrusted_suite_and_in_the_working_folder_are_not_read(server: ScriptedServer) -> None:
    Path(".env").write_text("FROM_FILE=of-the-working-folder\nMISTRAL_API_KEY=x\n", encoding="utf-8")
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    path = write(f"target: {{model: m, base_url: '{server.base_url}', api_key: '${{FROM_FILE}}'}}")
    args = ["--untrusted", "--allow-host", host, "--allow-env", "FROM_FILE", "--max-cost", "1", "--set",
            "prices={m: {input: 0, output: 0}}", "-q"]  # fmt: skip
    done = command(path, *args)
    assert (done.code, "FROM_FILE is not set" in done.err) == (2, True), done.err
    Path("own.env").write_text("FROM_FILE=of-the-user\n", encoding="utf-8")
    assert command(path, *args, "--env-file", "own.env").code == 0
    assert server.requests[-1].headers["authorization"] == "Bearer of-the-user"


@pytest.mark.parametrize("value", ["1", "true", "yes", "anything"])
def test_the_environment_makes_every_suite_untrusted(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("target: {type: python, function: 'evil.py:answer'}")
    monkeypatch.setenv("EVALRUN_UNTRUSTED", value)
    assert "runs Python" in command(path).err
    with pytest.raises(SuiteError, match="runs Python"):
        run_suite(path)


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_the_environment_can_say_that_suites_are_trusted(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALRUN_UNTRUSTED", value)
    assert not RunOptions().untrusted


def test_untrusted_is_an_option_of_python() -> None:
    path = write("dataset: ../secret.jsonl")
    with pytest.raises(SuiteError, match=r"s\.yaml:4:10: dataset: .* leads out of the suite's folder"):
        run_suite(path, options=RunOptions(untrusted=True))


@pytest.mark.parametrize("name", ["run", "plan", "validate", "score", "gate"])
def test_every_command_that_loads_a_suite_has_the_options(name: str) -> None:
    assert {"untrusted", "allow_env"} <= {item.name for item in options_of(name)}


def test_the_suite_itself_may_not_be_a_link_out_of_its_folder() -> None:
    Path("other").mkdir()
    Path("other/s.yaml").symlink_to(Path(write("description: x")).resolve())
    done = command("other/s.yaml", "--untrusted")
    assert (done.code, "other/s.yaml: leads out of the suite's folder" in done.err) == (2, True), done.err


def test_a_lent_key_needs_a_limit_of_the_cost() -> None:
    path = write("description: x")
    done = command(path, "--untrusted", "--allow-env", "CANARY")
    assert (done.code, "needs --max-cost USD" in done.err) == (2, True)
    assert command("plan", path, "--untrusted", "--allow-env", "CANARY").code == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--allow-env", "CANARY"], "has no effect without --untrusted"),
        (["--untrusted", "--max-cost", "1", "--allow-env", "CAN*"], "should be the name of one variable"),
        (["--untrusted", "--allow-host", "*"], "should be a host"),
        (["--untrusted", "--allow-host", "a b"], "should be a host"),
    ],
)
def test_allowances_are_checked(args: list[str], says: str) -> None:
    done = command(write("description: x"), *args)
    assert (done.code, says in done.err) == (2, True), done.err


def test_allowed_hosts_of_the_command_line_limit_trusted_suites_too(server: ScriptedServer) -> None:
    path = write(f"target: {{model: m, base_url: '{server.base_url}'}}\nrun: {{allow_hosts: [127.0.0.1]}}")
    done = command(path, "--allow-host", "good.example")
    assert (done.code, "--allow-host allows (good.example)" in done.err) == (2, True), done.err
    assert command(path, "--allow-host", "127.0.0.1", "-q").code == 0
    narrower = write(f"target: {{model: m, base_url: '{server.base_url}'}}\nrun: {{allow_hosts: [good.example]}}")
    done = command(narrower, "--allow-host", "127.0.0.1")
    assert (done.code, "run.allow_hosts allows (good.example)" in done.err) == (2, True), done.err


def test_cached_answers_are_not_shown_to_a_stranger(server: ScriptedServer) -> None:
    path = write(f"target: {{model: m, base_url: '{server.base_url}'}}\ncache: all")
    assert command(path, "-q").code == 0
    host = ["--allow-host", "127.0.0.1"]
    assert command(path, "-q", "--untrusted", *host).code == 0
    assert command(path, "-q", "--untrusted", *host).code == 0
    assert len(server.requests) == 3
    assert command(path, "-q", "--untrusted", *host, "--cache").code == 0
    assert len(server.requests) == 3


def test_commands_on_the_run_of_an_untrusted_suite_do_not_trust_it_either(server: ScriptedServer) -> None:
    path = write("gates: [contains >= 0.5]")
    assert command(path, "-q", "--untrusted").code == 0
    write("gates: [{metric: contains, max_drop: 0.1, baseline: ../secret.jsonl}]")
    assert "leads out of the suite's folder" in command("gate").err
    write(f"judge: {{model: m, base_url: '{server.base_url}', api_key: '${{CANARY}}'}}\nscorers: [factuality]")
    done = command("score")
    assert (done.code, "--allow-env CANARY" in done.err) == (2, True), done.err
    write("target: {type: python, function: 'evil.py:answer'}")
    done = command("--resume", "last")
    assert (done.code, "runs Python" in done.err) == (2, True), done.err
    assert not Path("evals/imported").exists()
    assert leaks(server) == []


def test_options_in_the_folder_of_a_run_widen_nothing_with_untrusted() -> None:
    path = write("description: x")
    target = "target={type: recorded, column: output}"
    assert command(path, "-q", "--set", target).code == 0
    done = command("--resume", "last", "--untrusted")
    assert (done.code, "was started with --set; with --untrusted" in done.err) == (2, True), done.err
    assert command("--resume", "last", "--untrusted", "--set", target, "-q").code == 0


def test_the_baseline_of_an_untrusted_suite_is_not_written_through_a_link() -> None:
    path = write("name: t")
    Path("evals/baselines/t").symlink_to(Path("out").resolve())
    Path("out").mkdir()
    assert command(path, "-q", "--untrusted").code == 0
    done = command("baseline", "accept")
    assert (done.code, "leads out of its folder" in done.err) == (2, True), done.err
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize("args", [["--resume", "last"], ["gate"], ["score"]])
def test_the_folder_of_a_run_does_not_choose_a_suite_elsewhere(
    args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(Path(write("description: x")).resolve())
    Path("job").mkdir()
    monkeypatch.chdir("job")
    assert command(path, "-q").code == 0
    done = command(*args, "--untrusted")
    assert (done.code, "outside the working folder; name the file yourself" in done.err) == (2, True), done.err


def test_a_run_does_not_choose_where_it_is_sent_if_the_environment_trusts_no_suite(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(f"tracking: {{mlflow: {{uri: '{server.base_url}'}}}}")
    assert command("plan", path, "--offline").code == 0
    assert command(path, "-q", "--set", "tracking=null").code == 0
    (record,) = Path("runs").glob("s/*/run.json")
    data = json.loads(record.read_text(encoding="utf-8"))
    data["resolved"]["tracking"] = {"mlflow": {"uri": server.base_url}}
    record.write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setenv("EVALRUN_UNTRUSTED", "1")
    done = command("track", "last")
    assert (done.code, "pass --mlflow URI" in done.err) == (2, True), done.err
    assert server.requests == []


def test_templates_have_tight_limits() -> None:
    path = write(
        "prompt: \"{% for i in range(30000) %}x{% endfor %}\"\ntarget: {model: m, base_url: 'http://127.0.0.1:9/v1'}"
    )
    assert command("plan", path, "--offline").code == 0
    done = command("plan", path, "--offline", "--untrusted", "--allow-host", "127.0.0.1")
    assert (done.code, "20,000 steps" in done.err) == (2, True), done.err


@pytest.mark.parametrize(("untrusted", "code"), [("true", 2), ("false", 0), ("yes", 2)])
def test_the_action_restricts_suites(untrusted: str, code: int, tmp_path: Path) -> None:
    path = write("target: {type: python, function: 'evil.py:answer'}")
    Path("evals/evil.py").write_text(EVIL + "\ndef answer(input):\n    return 'x'\n", encoding="utf-8")
    with FakeGitHub() as github:
        job = Runner(Path.cwd(), tmp_path / "jobs", github).run(
            suites=path, args="-q", untrusted=untrusted, cache="false"
        )
    assert job.code == code, job.log
    assert Path("evals/imported").exists() == (code == 0)
    if untrusted == "yes":
        assert "untrusted should be true or false" in job.log


def test_the_list_of_options_of_a_run_names_what_was_allowed(server: ScriptedServer) -> None:
    assert command(write("description: x"), "-q", "--untrusted", "--allow-host", "good.example").code == 0
    (record,) = Path("runs").glob("s/*/run.json")
    options = json.loads(record.read_text(encoding="utf-8"))["options"]
    assert options["untrusted"] is True
    assert options["allow_hosts"] == ["good.example"]


@pytest.mark.parametrize(("link", "args"), [("runs", []), ("runs/s", []), ("results", ["-o", "results/a.md"])])
def test_nothing_is_written_through_links_of_a_checkout(link: str, args: list[str]) -> None:
    path = write("description: x")
    Path("out").mkdir()
    Path(link).parent.mkdir(exist_ok=True)
    Path(link).symlink_to(Path("out").resolve())
    done = command(path, "--untrusted", "-q", *args)
    assert (done.code, "a link" in done.err) == (2, True), done.err
    assert list(Path("out").iterdir()) == []
    assert command(path, "--untrusted", "-q", "--output-dir", str(Path("out").resolve())).code == 0


@pytest.mark.parametrize(
    ("allowed", "host"), [("strasse.example", "straße.example"), ("good.example", "ｇood.example"), ("a.b", "a。b")]
)
def test_hosts_that_programs_read_differently_are_refused(allowed: str, host: str) -> None:
    path = write(f"target: {{model: m, base_url: 'http://{host}/v1'}}")
    done = command("validate", path, "--untrusted", "--allow-host", allowed)
    assert (done.code, "mean different hosts" in done.err) == (2, True), done.err


@pytest.fixture
def litellm(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options for models of LiteLLM whose addresses lead to the server."""
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("needs litellm")
    for name in ("DEEPSEEK", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_BASE", server.base_url)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "lent-key-0123")
    return ["--untrusted", "--allow-host", server.base_url.removeprefix("http://").removesuffix("/v1")]


@pytest.mark.slow
def test_litellm_gets_the_key_that_is_allowed_and_no_other(server: ScriptedServer, litellm: list[str]) -> None:
    path = str(write("target: deepseek/deepseek-chat\nparams: {temperature: 0}"))
    args = [*litellm, "--max-cost", "1", "--set", "prices={deepseek/deepseek-chat: {input: 0, output: 0}}"]
    assert "allow it with --allow-env DEEPSEEK_API_KEY" in " ".join(evalrun(path, *args).stderr.split())
    done = evalrun(path, *args, "--allow-env", "DEEPSEEK_API_KEY", "-q")  # a new process: LiteLLM caches its clients
    assert done.returncode == 0, (done.stderr, [log.read_text() for log in Path("runs").rglob("rows.jsonl")])
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer lent-key-0123"}
    assert leaks(server, done.stdout, done.stderr) == []


@pytest.mark.slow
def test_images_in_the_cells_of_a_dataset_are_not_fetched_from_other_hosts(litellm: list[str]) -> None:
    with ScriptedServer() as other:
        part = {"type": "image_url", "image_url": {"url": f"{other.base_url}/x.png"}}
        row = {"id": "a", "input": "x", "talk": [{"role": "user", "content": [part]}]}
        Path("evals/d.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        target = (
            "{model: anthropic/claude-3-5-haiku-latest, api_key: of-the-suite}"  # its images LiteLLM downloads itself
        )
        scorers = "[{type: contains, values: [ok]}]"
        path = write(f"target: {target}\nprompt: [{{messages: talk}}]\nscorers: {scorers}\nrun: {{retries: 0}}")
        done = command(path, *litellm, "-q")
        assert done.code == 2 and "evals/d.jsonl:1: the image" in done.err, done.err  # before anything is called
        assert other.requests == []


PAYLOADS = ("../secret.txt", "../secret.jsonl", "${CANARY}", "${CANARY_PATH}", "evil.py:score", "evil:score", "run:last",
            "http://127.0.0.1:PORT/v1", {"file": "../secret.txt"}, {"type": "python", "function": "evil.py:score"})  # fmt: skip
REQUIRED: Mapping[str, Any] = {
    "backend": "lexical", "function": "f", "metric": "rouge1", "model_uri": "models:/x/1", "pattern": "x",
    "url": "http://127.0.0.1:ALLOWED/v1", "body": {},
}  # fmt: skip


def suites_with(payload: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A suite for each key of each section, and for each option of each built-in plug-in, with the payload there."""
    small = {
        "name": "s",
        "dataset": "d.jsonl",
        "target": {"type": "recorded", "column": "output"},
        "scorers": ["contains"],
    }
    model = {"model": "m", "base_url": "http://127.0.0.1:ALLOWED/v1"}
    gate = {"metric": "contains", "min": 0}
    for key in keys_of(Suite):
        yield (
            key,
            {**{name: item for name, item in small.items() if {name, key} != {"target", "targets"}}, key: payload},
        )
    kind: Any
    for kind, section in ((ModelSpec, "judge"), (TargetSpec, "target")):
        for key in keys_of(kind):
            yield (
                f"{section}.{key}",
                {**small, "scorers": ["factuality"], "target": model, section: {**model, key: payload}},
            )
    for kind, section in ((TransportSpec, "transport"), (PriceSpec, "prices")):
        for key in keys_of(kind):
            yield f"target.{section}.{key}", {**small, "target": {**model, section: {key: payload}}}
    for name in ("api_base", "tools", "user", "temperature"):
        yield f"params.{name}", {**small, "target": model, "params": {name: payload}}
    for kind, section in ((RunSpec, "run"), (CacheSpec, "cache"), (GateRules, "gate_defaults")):
        for key in keys_of(kind):
            yield f"{section}.{key}", {**small, section: {key: payload}, "gates": [gate]}
    for kind in (GateKeys, GateRules):
        for key in keys_of(kind):
            yield f"gates.{key}", {**small, "gates": [{**gate, key: payload}]}
    for key in (*keys_of(DatasetSpec), *BUILTIN["dataset_sources"]):
        yield f"dataset.{key}", {**small, "dataset": {"path": "d.jsonl", key: payload}}
    for tracker in BUILTIN["exporters"]:
        for key in ("uri", "experiment", "run_name", "tags", "log"):
            yield f"tracking.{key}", {**small, "tracking": {tracker: {key: payload}}}
    groups: tuple[Group, ...] = ("scorers", "targets", "datasets")
    for group in groups:
        for name in BUILTIN[group]:
            options = factory_options(load(group, name))
            for option in (*options, "args", "name", "version"):
                given = {key: item for key, item in REQUIRED.items() if key in options}
                entry = {"type": name, **given, option: payload}
                parts = {"scorers": [entry], "targets": [entry], "datasets": {"path": f"d.{name}", **entry}}
                rest = {key: item for key, item in small.items() if key != "target" or group != "targets"}
                yield f"{name}.{option}", {**rest, "dataset" if group == "datasets" else group: parts[group]}


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
def test_no_key_and_no_option_takes_what_is_not_allowed(payload: Any, server: ScriptedServer, attacks: Attacks) -> None:
    with ScriptedServer() as allowed:
        for name, suite in suites_with(payload):
            text = json.dumps(suite).replace("PORT", str(server.port)).replace("ALLOWED", str(allowed.port))
            Path("evals/s.yaml").write_text(text, encoding="utf-8")
            done = command("evals/s.yaml", "--untrusted", "--allow-host", f"127.0.0.1:{allowed.port}", "-q")
            faults = leaks(allowed, done.out, done.err) + leaks(server)
            faults += [f"exit code {done.code}"] if done.code not in (0, 1, 2, 3, 4) else []
            faults += ["the server got a request"] if server.requests else []
            faults += ["Python was imported"] if Path("evals/imported").exists() else []
            attacks.add(name, faults)
            allowed.requests.clear()
            server.requests.clear()
            shutil.rmtree("runs", ignore_errors=True)
    attacks.check()
