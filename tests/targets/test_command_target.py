"""Programs as targets, in whole runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure
from evalrunner.errors import SuiteError
from evalrunner.runs.row_log import read_rows
from tests.fakes.command import command_env, evalrun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups")

ROWS = [{"id": "a", "input": "one $(touch pwned); `id` Ω", "expected": "x", "body": [1, "two"]}]


def run(code: str, *arguments: str, rows: Any = ROWS, run: Any = None, **target: Any) -> dict[str, Any]:
    """The answers of a Python program `app.py` by sample."""
    Path("app.py").write_text(code)
    suite = {
        "name": "app",
        "dataset": {"rows": rows},
        "target": {"type": "command", "command": [sys.executable, "app.py", *arguments], **target},
        "scorers": ["exact_match"],
        "run": run or {},
    }
    Path("app.yaml").write_text(json.dumps(suite))
    result = evalrunner.run_suite("app.yaml")
    return {row.sample.id: row.answer for row in read_rows(result.folder)}


def test_the_input_is_on_stdin_and_the_answer_on_stdout() -> None:
    answer = run("import sys; print(sys.stdin.read().upper(), sys.argv[1:])")["a"]
    assert answer.text == "ONE $(TOUCH PWNED); `ID` Ω []"
    assert answer.finish_reason == "stop" and answer.latency_s > 0
    assert answer.messages == ({"role": "user", "content": ROWS[0]["input"]},)


def test_arguments_are_templates_and_no_shell_reads_them() -> None:
    answer = run("import sys; print(sys.argv[1:], [sys.stdin.read()])", "--ask={{ input }}", "{{ body }}", "*")["a"]
    assert answer.text == f"""{["--ask=" + ROWS[0]["input"], '[1, "two"]', "*"]} ['']"""
    assert not Path("pwned").exists()


def test_stdin_can_be_json_and_so_can_the_answer() -> None:
    code = (
        "import json, sys; q = json.load(sys.stdin)\n"
        "print(json.dumps({'a': [q['ask'][:3], q['all']], 'n': 7, 'c': 0.5, 't': [{'name': 'go', 'arguments': {'x': 1}}]}))"
    )
    paths = {"output": "a.0", "input_tokens": "n", "output_tokens": "n", "cost": "c", "tool_calls": "t"}
    answer = run(code, stdin={"ask": "{{ input }}", "all": "{{ body }}"}, **paths)["a"]
    assert (answer.text, answer.input_tokens, answer.output_tokens, answer.cost_usd) == ("one", 7, 7, 0.5)
    assert answer.tool_calls == ({"type": "function", "function": {"name": "go", "arguments": '{"x": 1}'}},)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("import sys; sys.exit('first\\nlast sk-ant-REDACTED-words')", "function", "exited with 1: first last"),
        ("import os; os.abort()", "function", "was killed by SIGABRT"),
        ("print('x' * 20_000_000)", "malformed", "wrote more than 16 MiB to stdout; killed"),
        ("print('no json')", "malformed", "stdout is not JSON; it begins 'no json'"),
        ("print('{}')", "malformed", "stdout has no 'a', the target's output; it is an empty object"),
    ],
)
def test_what_goes_wrong_is_an_error_of_the_row(code: str, kind: str, message: str) -> None:
    answer = run(code, output="a")["a"]
    assert isinstance(answer, Failure)
    assert answer.kind == kind and message in answer.message


def test_keys_in_the_words_of_a_program_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_API_KEY", "k3y-Zq81xW-55aTr")
    code = "import os, sys; sys.exit('bad key ' + os.environ['APP_API_KEY'])"
    answer = run(code, env={"APP_API_KEY": "${APP_API_KEY}"})["a"]
    assert answer.message.endswith("exited with 1: bad key [redacted]")
    assert "k3y-Zq81xW-55aTr" not in "".join(
        path.read_text() for path in Path("runs").rglob("*") if path.suffix in (".json", ".jsonl", ".html", ".md")
    )


def test_a_program_gets_no_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefghijklmnop")
    monkeypatch.setenv("SOME_SETTING", "1")
    code = "import os; print(sorted(set(os.environ) & {'OPENAI_API_KEY', 'SOME_SETTING', 'MODE', 'PATH'}), os.environ['MODE'])"
    assert run(code, env={"MODE": "test"})["a"].text == "['MODE', 'PATH'] test"


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def ended(pid: int) -> bool:
    return until(lambda: not is_running(pid))


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


SPAWN = """\
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
pathlib.Path("pid.tmp").write_text(str(child.pid))
pathlib.Path("pid.tmp").rename("pid")
"""


def test_the_time_limit_kills_the_process_group() -> None:
    answer = run(SPAWN + "time.sleep(600)", timeout=1.5)["a"]
    assert answer == Failure(
        "timeout", f"{Path(sys.executable).name} did not end within 1.5 s; killed", messages=answer.messages
    )
    assert ended(int(Path("pid").read_text()))


def test_the_limit_of_a_call_is_that_of_the_run() -> None:
    assert run("import time; time.sleep(600)", run={"timeout": 0.5})["a"].kind == "timeout"


def test_a_process_left_by_a_program_is_killed_with_its_end() -> None:
    answer = run(SPAWN + "print('done')")["a"]  # the child holds stdout open
    assert isinstance(answer, Completion) and answer.text == "done"
    assert ended(int(Path("pid").read_text()))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_runs_after_the_end_of_evalrun(sign: signal.Signals) -> None:
    Path("app.py").write_text(SPAWN + "time.sleep(600)")
    target = {"type": "command", "command": [sys.executable, "app.py"]}
    Path("app.yaml").write_text(json.dumps({"dataset": {"rows": ROWS}, "target": target, "scorers": ["exact_match"]}))
    process = subprocess.Popen(
        [sys.executable, "-m", "evalrunner", "app.yaml"],
        env=command_env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert until(Path("pid").exists)
    process.send_signal(sign)
    if sign != signal.SIGKILL:
        time.sleep(0.3)
        process.send_signal(sign)  # the second one does not wait for calls in flight
    process.wait(30)
    assert ended(int(Path("pid").read_text()))


def test_rows_run_at_once_but_no_more_than_the_concurrency() -> None:
    rows = [{"id": str(n), "input": str(n), "expected": "x"} for n in range(12)]
    code = (
        "import os, time, pathlib\nmine = pathlib.Path(f'up-{os.getpid()}'); mine.touch(); time.sleep(0.2)\n"
        "print(len(list(pathlib.Path().glob('up-*')))); mine.unlink()"
    )
    answers = run(code, rows=rows, run={"concurrency": 3})
    assert max(int(answer.text) for answer in answers.values()) in (2, 3)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"command": []}, "command needs a program"),
        ({"command": "python app.py"}, "command: is 'python app.py'; it should be a list"),
        ({"command": ["no-such-program-anywhere"]}, "there is no program 'no-such-program-anywhere' on PATH"),
        ({"command": ["./nope"]}, "'./nope' is not a file in"),
        ({"command": ["plain.txt"]}, "write ./plain.txt for the one beside the suite"),
        ({"command": ["./plain.txt"]}, "'./plain.txt' is not executable"),
        ({"command": ["{{ input }}"]}, "data must not choose it"),
        ({"command": ["sh", "-c", "echo {{ input }}"]}, "argument 2 would be run as code by 'sh'"),
        ({"command": ["env", "bash", "-lc", "echo {{ input }}"]}, "argument 3 would be run as code by 'bash'"),
        ({"command": ["cat", "{{ inptu }}"]}, "inptu"),
        ({"command": ["cat"], "timeout": 0}, "timeout should be more than 0 seconds"),
        ({"command": ["cat"], "env": {"KEY": "${NO_SUCH_VARIABLE}"}}, "NO_SUCH_VARIABLE"),
    ],
)
def test_a_wrong_command_is_reported_before_the_run(target: dict[str, Any], said: str) -> None:
    Path("plain.txt").write_text("x")
    suite = {"dataset": {"rows": ROWS}, "target": {"type": "command", **target}, "scorers": ["exact_match"]}
    Path("app.yaml").write_text(json.dumps(suite))
    with pytest.raises(SuiteError) as error:
        evalrunner.run_suite("app.yaml")
    assert said in str(error.value)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "works"), [(["{{ input }}"], False), (["--", "{{ input }}"], True), (["-n={{ input }}"], True)]
)
def test_data_sets_no_option(arguments: list[str], works: bool) -> None:
    rows = [{"id": "a", "input": "--output=/etc/passwd", "expected": "x"}]
    if works:
        assert "--output=/etc/passwd" in run("import sys; print(sys.argv)", *arguments, rows=rows)["a"].text
    else:
        with pytest.raises(SuiteError, match="argument 2 would begin with '-'"):
            run("", *arguments, rows=rows)


def test_untrusted_suites_run_no_program() -> None:
    run("print(1)")
    done = evalrun("app.yaml", "--untrusted")
    assert done.returncode == 2
    assert "a command runs a program, which --untrusted refuses" in done.stderr


def test_the_program_and_its_files_are_in_the_provenance_and_the_reach() -> None:
    run("print(1)", env={"MODE": "${MODE:-fast}"})
    (file,) = Path("runs").rglob("run.json")
    target = json.loads(file.read_text())["targets"]["command"]
    assert list(target["files"]) == ["app.py"]
    assert target["options"]["env"] == {"MODE": "${MODE:-fast}"}
    assert f"{sys.executable} app.py" in evalrun("plan", "app.yaml", "--endpoints").stdout.replace("\n", "")
