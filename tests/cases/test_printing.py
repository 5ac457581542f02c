"""What is printed never changes an exit code: streams that are closed, full, gone, or in an encoding without the text."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from evalrunner.cli.main import DefaultToRun
from evalrunner.cli.streams import RawStream, Stream, is_lost
from tests.fakes.command import command_env

ENCODINGS = ("cp1252", "cp437", "gbk", "latin-1", "ascii", "utf-16")
REDIRECTIONS = (
    ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "1</dev/null", "2</dev/null",
)  # fmt: skip
FAIL = """\
name: fail
dataset: {rows: [{id: "é1", input: "Ω → ?", expected: "Ω"}, {id: b, input: "x", expected: "B"}]}
targets: [{name: "m→a", type: python, function: "own.py:greek"}, {name: b, type: python, function: "own.py:latin"}]
scorers: [exact_match, contains]
gates: [{target: b, metric: exact_match, min: 0.9}]
"""
PASS = """\
name: pass
dataset: {rows: [{input: "?", expected: x, output: x}]}
target: {type: recorded, column: output}
scorers: [exact_match]
gates: [exact_match >= 1]
"""
OWN = """\
import codecs, io, logging, sys, warnings

def greek(sample):
    print("printed → Ω")
    logging.warning("logged → Ω")
    warnings.warn("warned → Ω")
    return "→ Ω 👍 \\ud83d"

def latin(sample):
    return "B"

def closes(output):
    print("Ω")
    sys.stdout.close()
    return True

def wraps(output):
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    print("Ω")
    return True

def detaches(output):
    sys.stdout = codecs.getwriter("utf-8")(sys.stdout.detach())
    print("Ω")
    return True
"""
# Commands with the code that they have when everything can be printed, on the runs that `stored_runs` leaves
COMMANDS: Mapping[str, int] = {
    "fail.yaml pass.yaml": 1,
    "fail.yaml --json": 1,
    "pass.yaml -q": 0,
    "score RUN": 1,
    "gate RUN": 1,
    "show RUN": 0,
    "show RUN --failed": 0,
    "report RUN": 0,
    "diff RUN OTHER": 0,
    "compare RUN": 0,
    "runs": 0,
    "plan fail.yaml --show 2": 0,
    "validate missing→.yaml": 2,
    "run fail.yaml --gate→": 2,
    "baseline accept RUN --force": 0,
    "list scorers": 0,
    "--help": 0,
}


def command(line: str) -> list[str]:
    return [sys.executable, "-m", "evalrunner", *line.split()]


def ended(
    line: str, *, redirect: str = "", env: Mapping[str, str] | None = None, python: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    """The finished command, its streams redirected by a shell."""
    program, *args = command(line)
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirect}', program, *python, *args],
        stdin=subprocess.DEVNULL, capture_output=True, env=command_env(env), timeout=120, check=False,
    )  # fmt: skip


def ended_without_reader(line: str, *, stderr_too: bool = False) -> subprocess.CompletedProcess[bytes]:
    """The finished command, its stdout a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            command(line), stdin=subprocess.DEVNULL, stdout=writer,
            stderr=writer if stderr_too else subprocess.PIPE, env=command_env(), timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)


def quiet(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether neither a traceback nor the interpreter's own complaint was printed."""
    printed = (done.stdout or b"") + (done.stderr or b"")
    text = printed.replace(b"\0", b"")  # of UTF-16
    return not any(word in text for word in (b"Traceback", b"Exception ignored", b"bug in evalrun", b"lost sys"))


@pytest.fixture
def suites() -> None:
    for name, text in (("fail.yaml", FAIL), ("pass.yaml", PASS), ("own.py", OWN)):
        Path(name).write_text(text, encoding="utf-8")


def newest(suite: str) -> Path:
    return max(Path("runs", suite).iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_a_run_of_two_suites_prints_stand_ins_for_what_its_encoding_lacks(suites: None) -> None:
    done = ended("fail.yaml pass.yaml", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert quiet(done)
    out = done.stdout.decode("ascii")
    assert "FAIL  fail | 2 targets x 2 samples in " in out
    assert "PASS  pass | " in out and "1 sample in" in out
    assert "m->a" in out
    assert "\\u03a9" in out
    assert "95% CI 0.207-1.000" in out
    err = done.stderr.decode("ascii")
    assert "printed -> \\u03a9" in err
    assert "logged -> \\u03a9" in err
    assert "warned -> \\u03a9" in err


@pytest.mark.parametrize("redirect", [">&- 2>&-", ">/dev/full", "2>&-"])
def test_a_run_without_usable_streams_has_the_code_of_its_verdict(suites: None, redirect: str) -> None:
    done = ended("fail.yaml pass.yaml", redirect=redirect)
    assert done.returncode == 1
    assert quiet(done)
    assert newest("pass").joinpath("metrics.json").is_file()
    if redirect == ">/dev/full":
        last = done.stderr.decode().splitlines()[-1]
        assert last == (
            "evalrun: stdout could not be written in full (No space left on device); the exit code is not affected"
        )


def test_a_pipe_without_reader_does_not_fail_a_run_that_passes(suites: None) -> None:
    done = ended_without_reader("pass.yaml")
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_is_printed_on_stdout_where_stderr_is_closed() -> None:
    done = ended("validate missing.yaml", redirect="2>&-")
    assert (done.returncode, done.stdout) == (2, b"evalrun: missing.yaml: file not found\n")


def test_functions_that_close_wrap_or_detach_stdout_do_not_change_the_code(suites: None) -> None:
    Path("streams.yaml").write_text(
        PASS.replace("name: pass", "name: streams").replace(
            "[exact_match]",
            "[exact_match, " + ", ".join(f'{{type: python, function: "own.py:{name}"}}'
                                         for name in ("closes", "wraps", "detaches")) + "]",
        )
    )  # fmt: skip
    done = ended("streams.yaml pass.yaml")
    assert done.returncode == 0
    assert "PASS  pass" in done.stdout.decode()
    assert done.stderr.decode() == "Ω\nΩ\nΩ\n"


def test_a_function_that_replaces_stderr_does_not_change_the_code() -> None:
    Path("own.py").write_text(
        "import sys\n\ndef replaces(output):\n    sys.stdout = sys.stderr = open('log.txt', 'a')\n    sys.stderr.close()\n"
        "    return True\n"
    )
    text = PASS.replace("exact_match]", 'exact_match, {type: python, function: "own.py:replaces"}]')
    Path("replaced.yaml").write_text(text.replace("output: x}", "output: y}"))
    done = ended("replaced.yaml --json", env={"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(Path.cwd())})
    assert done.returncode == 1
    assert json.loads(done.stdout)["gates"][0]["verdict"] == "fail"
    assert done.stderr.startswith(b"::error ")


def test_a_process_pool_of_a_function_does_not_interrupt_the_run() -> None:
    Path("own.py").write_text(
        "import multiprocessing\n\ndef same(value):\n    print('→ child')\n    return value\n\n"
        "def pooled(output):\n    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        return pool.map(same, [True])[0]\n"
    )
    rows = "".join(f"{number},x,x,x\n" for number in range(4))
    Path("pool.csv").write_text(f"id,input,expected,output\n{rows}")
    Path("pool.yaml").write_text(
        "name: pool\ndataset: pool.csv\ntarget: {type: recorded, column: output}\n"
        'scorers: [{type: python, function: "own.py:pooled"}]\nrun: {concurrency: 1}\n'
    )
    done = ended("pool.yaml -q", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, 4 * b"-> child\n")
    assert done.stdout.startswith(b"DONE pool: ") and b"4 samples in" in done.stdout


def test_a_closed_descriptor_is_never_that_of_a_run_file(suites: None) -> None:
    Path("own.py").write_text(
        OWN + "\nimport os\ndef latin(sample):\n    os.write(1, b'noise'); os.write(2, b'noise')\n    return 'B'\n"
    )
    assert ended("fail.yaml", redirect="<&- >&- 2>&-").returncode == 1
    assert [path.name for path in newest("fail").iterdir() if b"noise" in path.read_bytes()] == []


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        command("schema"), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, env=command_env()
    ) as process:
        os.close(writer)
        with open(reader, "rb") as pipe:
            text = pipe.read(100)
            time.sleep(0.5)  # until the pipe, which holds less than the schema, is full
            text += pipe.read()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert len(text) > 1 << 16
    assert json.loads(text)["type"] == "object"


@contextlib.contextmanager
def protected(path: str, encoding: str = "utf-8") -> Iterator[Stream]:
    with io.FileIO(path, "w") as raw:
        yield Stream(RawStream(raw, "stdout"), encoding)


def test_a_stream_that_fails_halfway_drops_the_rest_and_says_why(tmp_path: Path) -> None:
    with protected(str(tmp_path / "out.txt")) as out:
        print("whole", file=out)
        with open("/dev/full", "wb", buffering=0) as full:
            os.dup2(full.fileno(), out.fileno())
        print("lost", file=out)
        print("lost", file=out)
        assert out.isatty() is False
    assert (tmp_path / "out.txt").read_text() == "whole\n"
    assert (is_lost(out), out.state.problem, out.state.reader_left) == (True, "No space left on device", False)


@pytest.mark.parametrize(("encoding", "printed"), [
    ("utf-8", "≈ → · – … é Ω \\udcff\u200b"), ("cp1252", "~ -> · – … é \\u03a9 \\udcff\\u200b"),
    ("latin-1", "~ -> · - ... é \\u03a9 \\udcff\\u200b"), ("gbk", "≈ → · – … é Ω \\udcff\\u200b"),
    ("evalrun-ascii", "~ -> | - ... \\xe9 \\u03a9 \\udcff\\u200b"),
    ("utf-16", "≈ → · – … é Ω \\udcff\u200b"),
])  # fmt: skip
def test_characters_that_an_encoding_lacks_have_stand_ins(tmp_path: Path, encoding: str, printed: str) -> None:
    with protected(str(tmp_path / "out.txt"), encoding) as out:
        print("≈ → · – … é Ω \udcff\u200b", file=out)
    assert (tmp_path / "out.txt").read_bytes().decode(encoding).rstrip() == printed


@pytest.mark.parametrize("raised", [SystemExit(0), EOFError(), BrokenPipeError(32, "no reader")])
def test_exceptions_that_end_a_command_do_not_have_the_code_of_a_verdict(raised: BaseException) -> None:
    app = typer.Typer(cls=DefaultToRun)

    @app.command("run")
    def run() -> None:
        raise raised

    app.callback()(lambda: None)
    assert isinstance(CliRunner().invoke(app, ["run"]).exception, RuntimeError)


@pytest.fixture(scope="module")
def stored_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suites, and two runs of the one that fails."""
    folder = tmp_path_factory.mktemp("stored")
    for name, text in (("fail.yaml", FAIL), ("pass.yaml", PASS), ("own.py", OWN)):
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("RUN", "OTHER"):
        subprocess.run(
            command("fail.yaml --output-dir made"), cwd=folder, env=command_env(), capture_output=True, check=False
        )
        made = next((folder / "made/fail").iterdir())
        made.rename(folder / name)
    return folder


@pytest.fixture
def in_stored_runs(stored_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stored_runs)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_its_code_in_every_encoding(in_stored_runs: None, line: str) -> None:
    for encoding in ENCODINGS:
        done = ended(line, env={"PYTHONIOENCODING": encoding})
        assert (encoding, done.returncode) == (encoding, COMMANDS[line])
        assert quiet(done)
        assert done.stdout.decode(encoding) + done.stderr.decode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_its_code_with_every_broken_stream(in_stored_runs: None, line: str) -> None:
    code = COMMANDS[line]
    for redirect in REDIRECTIONS:
        done = ended(line, redirect=redirect, python=["-u", "-X", "dev", "-X", "faulthandler"])
        assert (redirect, done.returncode) == (redirect, code)
        assert quiet(done)
    for stderr_too in (False, True):
        done = ended_without_reader(line, stderr_too=stderr_too)
        assert done.returncode == code
        assert quiet(done)


@pytest.mark.slow
@pytest.mark.parametrize("env", [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    {"LANG": "C"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"COLUMNS": "1"},
])  # fmt: skip
def test_every_command_has_its_code_in_every_environment(in_stored_runs: None, env: Mapping[str, str]) -> None:
    for line, code in COMMANDS.items():
        done = ended(line, env=env)
        assert (line, done.returncode) == (line, code)
        assert quiet(done)


@pytest.mark.slow
def test_file_names_that_are_not_utf_8_are_printed(suites: None) -> None:
    name = os.fsdecode(b"b\xff.yaml")
    Path(name).write_text(PASS)
    done = ended(f"validate {name}")
    assert (done.returncode, done.stdout) == (0, b"b\\udcff.yaml: ok (1 sample, 1 target, 1 scorer, 1 gate)\n")
    folder = os.fsdecode(b"r\xff")
    assert ended(f"{name} --output-dir {folder}").returncode == 0
