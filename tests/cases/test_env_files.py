"""Variables of `.env` files: which file wins, what is taken from it, what is wrong with it, and what stays secret."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.suite.loader import load_suite
from tests.cases.suites import command
from tests.fakes.command import command_env, evalrun
from tests.fakes.server import Answer, Recorded, ScriptedServer, Status

SUITE = """name: s
dataset: {rows: [{input: "hi", expected: ok}]}
target: {name: bot, model: m, base_url: "${EVAL_BASE}", api_key: "${EVAL_THING}"}
scorers: [contains]
"""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(autouse=True)
def address(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the server in the environment, and no variable of these tests besides it."""
    monkeypatch.setenv("EVAL_BASE", server.base_url)


def write(files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def keys(requests: list[Recorded]) -> list[str | None]:
    return [request.headers.get("authorization", "").removeprefix("Bearer ") or None for request in requests]


def run_key(server: ScriptedServer, *args: str) -> str | None:
    """The API key that a run sent."""
    done = command(*(args or ("s.yaml",)), "-q")
    assert done.code == 0, done.out + done.err
    return keys(server.requests)[-1]


def test_a_variable_is_read_from_the_file_beside_the_suite_then_from_the_working_folder(server: ScriptedServer) -> None:
    write({"evals/s.yaml": SUITE, "evals/.env": "EVAL_THING=beside-suite\n", ".env": "EVAL_THING=working-folder\n"})
    assert run_key(server, "evals/s.yaml") == "beside-suite"
    Path("evals/.env").unlink()
    assert run_key(server, "evals/s.yaml") == "working-folder"


def test_the_environment_wins_over_every_file(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"s.yaml": SUITE, ".env": "EVAL_THING=of-the-file\n", "other.env": "EVAL_THING=of-another\n"})
    monkeypatch.setenv("EVAL_THING", "of-the-environment")
    assert run_key(server) == "of-the-environment"
    assert run_key(server, "s.yaml", "--env-file", "other.env") == "of-the-environment"
    monkeypatch.setenv("EVAL_THING", "")
    done = command("s.yaml")
    assert (done.code, "EVAL_THING is empty in the environment, which wins over .env" in done.err) == (2, True)


def test_given_files_replace_the_automatic_ones_and_the_last_wins(server: ScriptedServer) -> None:
    write({"s.yaml": SUITE, ".env": "EVAL_THING=automatic\n", "a.env": "EVAL_THING=first-file\nEVAL_A=1\n"})
    write({"b.env": "EVAL_THING=second-file\n", "c.env": "EVAL_B=1\n"})
    assert run_key(server, "s.yaml", "--env-file", "a.env") == "first-file"
    assert run_key(server, "s.yaml", "--env-file", "a.env", "--env-file", "b.env") == "second-file"
    assert run_key(server, "s.yaml", "--env-file", "b.env", "--env-file", "c.env") == "second-file"
    done = command("s.yaml", "--env-file", "c.env")
    assert "the variable EVAL_THING is not set in the environment or c.env;" in done.err


@pytest.mark.parametrize("name", ["run", "plan", "validate"])
def test_commands_that_load_a_suite_read_env_files(name: str) -> None:
    write({"s.yaml": SUITE, ".env": "EVAL_THING=of-the-file\n", "other.env": "EVAL_OTHER=1\n"})
    assert command(name, "s.yaml").code == 0
    assert command(name, "s.yaml", "--no-env-file").code == 2
    assert command(name, "s.yaml", "--env-file", "other.env").code == 2
    assert command(name, "s.yaml", "--env-file", ".env").code == 0


def test_score_gate_and_resume_read_env_files(server: ScriptedServer) -> None:
    write({"s.yaml": SUITE + "gates: [contains >= 1]\n", "prod.env": "EVAL_THING=first-secret\n"})
    server.script = lambda request, nth: Status(500) if nth == 1 else Answer("ok")
    assert command("s.yaml", "-q", "--retries", "0", "--env-file", "prod.env").code == 3
    write({"prod.env": "EVAL_THING=second-secret\n"})
    assert command("--resume", "last", "--retry-errors", "-q").code == 0  # a changed secret is no change of the suite
    assert keys(server.requests) == ["first-secret", "second-secret"]
    assert command("gate", "last", "--env-file", "prod.env").code == 0
    assert command("gate", "last", "--env-file", "none.env").code == 2
    assert command("score", "last", "--env-file", "prod.env").code == 0  # it calls no target
    assert command("score", "last", "--env-file", "none.env").code == 2
    done = command("--resume", "last", "--no-env-file")
    assert (done.code, "EVAL_THING is not set" in done.err) == (2, True)


def test_the_python_api_takes_env_files(server: ScriptedServer) -> None:
    write({"s.yaml": SUITE, ".env": "EVAL_THING=of-the-file\n", "other.env": "EVAL_THING=of-another\n"})
    for files in (("other.env",), [Path("other.env")], "other.env"):
        run_suite("s.yaml", options=RunOptions(env_files=files))
    run_suite("s.yaml")
    assert keys(server.requests) == ["of-another"] * 3 + ["of-the-file"]
    with pytest.raises(SuiteError, match="EVAL_THING is not set"):
        run_suite("s.yaml", options=RunOptions(env_file=False))


def test_suites_of_one_command_do_not_see_the_files_of_each_other(server: ScriptedServer) -> None:
    for name in ("one", "two"):
        write(
            {
                f"{name}/s.yaml": SUITE.replace("name: s", f"name: {name}"),
                f"{name}/.env": f"EVAL_THING=of-suite-{name}\n",
            }
        )
    assert command("one/s.yaml", "two/s.yaml", "-q").code == 0
    assert keys(server.requests) == ["of-suite-one", "of-suite-two"]
    Path("two/.env").unlink()
    done = command("one/s.yaml", "two/s.yaml")
    assert (done.code, done.err.startswith("two/s.yaml:3:")) == (2, True)
    assert "EVAL_THING" not in os.environ


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("EVAL_THING=plain-value", "plain-value"),
        ("export EVAL_THING=plain-value", "plain-value"),
        ("  EVAL_THING = plain-value  ", "plain-value"),
        ("EVAL_THING=plain-value # a comment", "plain-value"),
        ("EVAL_THING=plain#value", "plain#value"),
        ("EVAL_THING='single # quoted'", "single # quoted"),
        ('EVAL_THING="double \\"quoted\\""', 'double "quoted"'),
        ("# comment\n\nEVAL_THING=plain-value", "plain-value"),
        ("EVAL_THING=first-one\nEVAL_THING=second-one", "second-one"),
        ("EVAL_PART=middle\nEVAL_THING=a-${EVAL_PART}-z", "a-middle-z"),
        ('EVAL_PART=middle\nEVAL_THING="a-${EVAL_PART}-z"', "a-middle-z"),
        ("EVAL_PART=middle\nEVAL_THING='a-${EVAL_PART}-z'", "a-${EVAL_PART}-z"),
        ("EVAL_THING=a-${EVAL_NONE:-default}-z", "a-default-z"),
        ("EVAL_THING=a-$EVAL_PART-$$-z", "a-$EVAL_PART-$$-z"),
        ("EVAL_THING=equal=signs==", "equal=signs=="),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_the_forms_of_a_line(line: str, value: str, ending: str, start: str) -> None:
    write({"s.yaml": SUITE, ".env": (start + line.replace("\n", ending) + ending)})
    (target,) = load_suite("s.yaml").targets
    assert target.model is not None
    assert target.model.api_key == value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("EVAL_THING=ok\n\n\nthis is no line\n", ".env:4: should read NAME=value"),
        ("\nsk-0123456789\n", ".env:2: should read NAME=value"),
        ("A=1\r\nEVAL_THING='open\r\nB=2\r\n", ".env:2: should read NAME=value; close every quote"),
        ('EVAL_THING="a" b\n', ".env:1: should read"),
        ("=value\n", ".env:1: should read"),
        ("A=1\n\nB=\xff".encode("latin-1"), ".env:3: is not UTF-8"),
        ("A=1\n".encode("utf-16"), ".env:1: is not UTF-8"),
        ("A=" + "x" * 70_000, ".env: is larger than 64 KiB"),
        ("EVAL_THING=\n", "the variable EVAL_THING is empty in .env:1; give it a value there, or write ${EVAL_THING:-"),
        ("A=1\nEVAL_THING=a-${EVAL_NONE}\n", "the variable EVAL_THING of .env:2 needs EVAL_NONE, which is not set"),
        (
            "EVAL_THINGS=1\n",
            "the variable EVAL_THING is not set in the environment or .env; did you mean 'EVAL_THINGS'?",
        ),
        ("", "the variable EVAL_THING is not set in the environment or .env;"),
    ],
)
def test_what_is_wrong_with_a_file_is_reported_with_its_line(content: str | bytes, problem: str) -> None:
    write({"s.yaml": SUITE, ".env": content})
    done = command("s.yaml")
    assert (done.code, problem in done.err, "sk-0123456789" in done.err) == (2, True, False), done.err


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    write({"s.yaml": SUITE, "prod.env": "EVAL_THING=a\n"})
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name, problem in (
        ("pord.env", "pord.env: file not found; did you mean 'prod.env'?"),
        ("folder", "folder: is a folder"),
        ("pipe", "pipe: is not a regular file"),
        ("s.yaml/x", "s.yaml/x: file not found"),
    ):
        for suites in (("s.yaml",), ("s.yaml", "s.yaml")):
            done = command(*suites, "--env-file", name)
            assert (done.code, done.err.count(problem)) == (2, 1), done.err
    done = command("s.yaml", "--env-file", "prod.env", "--no-env-file")
    assert (done.code, "cannot be combined" in done.err) == (2, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_automatic_file_without_permission_names_the_way_out() -> None:
    write({"s.yaml": SUITE, ".env": "EVAL_THING=a\n"})
    Path(".env").chmod(0)
    done = command("s.yaml")
    assert (done.code, "pass --no-env-file" in done.err) == (2, True)


def test_an_unset_variable_names_the_files_that_do_not_exist() -> None:
    write({"evals/s.yaml": SUITE})
    done = command("evals/s.yaml")
    assert (
        "the variable EVAL_THING is not set in the environment, and there is no file evals/.env or .env; export"
        in done.err
    )
    Path(".env").mkdir()  # a virtual environment
    done = command("evals/s.yaml")
    assert done.code == 2


LEAKY = """name: s
dataset: {rows: [{id: 1, input: a}]}
target: {type: python, function: "leak.py:answer"}
scorers: [{type: regex, pattern: x}]
"""


def everything(folder: str = "runs") -> str:
    return "\n".join(path.read_text(errors="replace") for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["EVAL_PLAIN_NAME", "color", "GREETING_7"])
def test_values_are_redacted_whatever_the_variable_is_called(name: str) -> None:
    secret = f"violet-{len(name)}-horse"
    write(
        {
            "s.yaml": LEAKY,
            ".env": f"{name}='{secret}'\n",
            "leak.py": f"def answer(input):\n    return 'it is {secret}'\n",
        }
    )
    done = command("s.yaml")
    shown = command("show", "--failed")
    texts = done.out + done.err + shown.out + everything()
    assert (secret in texts, "it is [redacted]" in texts) == (False, True)


def test_errors_redact_values() -> None:
    secret = "crimson-99-horse"
    write({"s.yaml": SUITE.replace("contains", secret), ".env": f"EVAL_THING={secret}\n"})
    done = evalrun("s.yaml")
    assert (done.returncode, secret in done.stderr, "[redacted]" in done.stderr) == (2, False, True)


def test_short_values_ordinary_words_and_public_names_are_not_redacted(server: ScriptedServer) -> None:
    words = "eu 1 true production localhost m-large in/the/file"
    server.script = lambda request, nth: Answer(f"ok {words} {server.base_url}")
    write(
        {
            "s.yaml": SUITE.replace("model: m,", 'model: "${EVAL_MODEL}",').replace("hi", "question"),
            ".env": (
                "EVAL_REGION=eu\nEVAL_ON=1\nEVAL_FLAG=true\nEVAL_STAGE=production\nEVAL_HOST=localhost\n"
                "EVAL_MODEL=m-large\nEVAL_THING=amber-12-horse\nEVAL_SAME=bot\n"
            ),
        }
    )
    done = command("s.yaml")
    (folder,) = Path("runs/s").iterdir()
    run = json.loads((folder / "run.json").read_text())
    assert (run["targets"]["bot"]["model"], run["targets"]["bot"]["host"]) == ("m-large", server.base_url)
    assert (done.code, words in (folder / "table.csv").read_text(), "amber-12" in everything()) == (0, True, False)
    assert server.requests[0].json["model"] == "m-large"


def test_a_file_cannot_reveal_a_secret_of_the_environment_as_a_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_API_KEY", "umber-44-horse")
    suite = SUITE.replace("model: m,", 'model: "${EVAL_COPY}",').replace("name: bot, ", "")
    write({"s.yaml": suite, ".env": "EVAL_COPY=${EVAL_API_KEY}\nEVAL_THING=a\n"})
    done = command("s.yaml")
    plan = command("plan", "s.yaml", "--offline")
    assert "umber-44" not in done.out + done.err + plan.out + plan.err + everything()


OPENAI = "name: s\ndataset: {rows: [{input: hi, expected: ok}]}\ntarget: openai/gpt-5-mini\nscorers: [contains]\n"


def test_the_api_key_of_a_provider_is_found_without_being_named(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    write(
        {
            "s.yaml": OPENAI,
            ".env": "OPENAI_API_KEY=sk-of-the-file\nHTTP_PROXY=http://127.0.0.1:1\nLITELLM_LOG=DEBUG\n",
        }
    )
    assert run_key(server) == "sk-of-the-file"
    assert [name for name in ("OPENAI_API_KEY", "HTTP_PROXY", "LITELLM_LOG") if name in os.environ] == []
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    assert run_key(server) == "sk-of-the-environment"


def test_a_model_with_base_url_gets_no_key_that_the_suite_does_not_name(server: ScriptedServer) -> None:
    write(
        {
            "s.yaml": SUITE.replace(', api_key: "${EVAL_THING}"', ""),
            ".env": "OPENAI_API_KEY=sk-of-the-file\nM_API_KEY=x\n",
        }
    )
    assert run_key(server) is None


@pytest.mark.parametrize(
    ("model", "line", "key"),
    [
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY=k-anthropic", "k-anthropic"),
        ("claude-sonnet-4-5", "ANTHROPIC_API_KEY=k-anthropic", "k-anthropic"),
        ("gpt-5-mini", "OPENAI_API_KEY=k-openai", "k-openai"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY=k-gemini", "k-gemini"),
        ("gemini/gemini-2.5-flash", "GOOGLE_API_KEY=k-google", "k-google"),
        ("groq/llama-3.1-8b-instant", "GROQ_API_KEY=k-groq", "k-groq"),
        ("openrouter/openai/gpt-5", "OPENROUTER_API_KEY=k-openrouter", "k-openrouter"),
        ("openrouter/openai/gpt-5", "OPENAI_API_KEY=k-openai", None),
        ("together_ai/x/y", "TOGETHERAI_API_KEY=k-together", "k-together"),
        ("huggingface/x/y", "HF_TOKEN=k-hf", "k-hf"),
        ("text-completion-openai/babbage", "OPENAI_API_KEY=k-openai", "k-openai"),
        ("some-new_provider/m", "SOME_NEW_PROVIDER_API_KEY=k-new", "k-new"),
        ("mistral/m", "MISTRAL_API_KEY=", None),
        ("unknown-model", "UNKNOWN_MODEL_API_KEY=k", None),
    ],
)
@pytest.mark.parametrize("form", ["{model}", "{{model: {model}}}"])
def test_the_key_variables_of_providers(model: str, line: str, key: str | None, form: str) -> None:
    write({"s.yaml": OPENAI.replace("openai/gpt-5-mini", form.format(model=model)), ".env": line + "\n"})
    (target,) = load_suite("s.yaml").targets
    assert target.model is not None
    assert (target.model.api_key, "api_key" in target.model.public) == (key, False)


@pytest.mark.parametrize(
    ("model", "line", "problem"),
    [
        (
            "openai/gpt-5-mini",
            "OPENAI_BASE_URL=http://gateway.example/v1",
            "set base_url: ${OPENAI_BASE_URL}, or export",
        ),
        (
            "anthropic/claude",
            "ANTHROPIC_API_BASE=http://gateway.example",
            "set base_url: ${ANTHROPIC_API_BASE}, or export",
        ),
        ("azure/gpt-5", "AZURE_API_VERSION=2024-10-21", "files; export AZURE_API_VERSION"),
        ("bedrock/x", "AWS_ACCESS_KEY_ID=AKIA0123456789", "files; export AWS_ACCESS_KEY_ID"),
        ("vertex_ai/gemini", "VERTEXAI_PROJECT=ours", "files; export VERTEXAI_PROJECT"),
    ],
)
def test_settings_of_a_provider_that_are_not_taken_are_reported(model: str, line: str, problem: str) -> None:
    write({"s.yaml": OPENAI.replace("openai/gpt-5-mini", model), ".env": f"OPENAI_API_KEY=sk-0\n{line}\n"})
    done = command("validate", "s.yaml")
    name = line.partition("=")[0]
    assert done.code == 2
    assert f"s.yaml:3:9: target: .env:2 sets {name}, and of a provider only the API key is read from .env" in done.err
    assert problem in done.err
    assert name not in command("validate", "s.yaml", "--no-env-file").err


def test_the_public_address_of_openai_may_be_in_the_file() -> None:
    write({"s.yaml": OPENAI, ".env": "OPENAI_API_KEY=sk-0\nOPENAI_BASE_URL=https://api.openai.com/v1/\n"})
    assert command("validate", "s.yaml").code == 0


def test_python_targets_and_processes_do_not_get_the_variables() -> None:
    app = (
        "import os, subprocess, sys\ndef answer(input):\n"
        "    code = 'import os; print(os.environ.get(\"EVAL_PRIVATE\"))'\n"
        "    inner = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()\n"
        "    return f'x {os.environ.get(\"EVAL_PRIVATE\")} {inner}'\n"
    )
    write({"s.yaml": LEAKY, ".env": "EVAL_PRIVATE=indigo-31-horse\n", "leak.py": app})
    assert command("s.yaml", "-q").code == 0
    assert "x None None" in everything()


def test_dotenv_is_imported_only_if_a_file_exists() -> None:
    write({"s.yaml": LEAKY, "leak.py": "def answer(input):\n    return 'x'\n"})
    code = "from evalrunner.cli.main import app\nimport sys\ntry:\n    app(['s.yaml', '-q'])\nfinally:\n    print('dotenv' in sys.modules)"
    for expected in ("False", "True"):
        done = subprocess.run(
            [sys.executable, "-c", code], env=command_env(), capture_output=True, text=True, check=False
        )
        assert done.stdout.split()[-1] == expected, done.stderr
        write({".env": "A=1\n"})


@pytest.mark.litellm
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="the extra 'litellm' is not installed")
def test_litellm_gets_the_key_of_its_provider_and_the_environment_stays_clean(server: ScriptedServer) -> None:
    write(
        {
            "s.yaml": OPENAI.replace("openai/gpt-5-mini", "deepseek/deepseek-chat"),
            ".env": "DEEPSEEK_API_KEY=gsk-of-the-file\n",
        }
    )
    done = evalrun("s.yaml", "-q", "--retries", "0", env={"DEEPSEEK_API_BASE": server.base_url})
    assert (done.returncode, set(keys(server.requests))) == (0, {"gsk-of-the-file"}), everything()
    assert "gsk-of-the-file" not in everything()
