"""Files that the system refuses are one sentence with exit code 2 if nothing was called, for every command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cases import suites
from tests.cases.suites import Ended, command

LONG_NAME = "n" * 300
LONG_PATH = "d/" * 2100 + "data.csv"  # the system allows 4,096 characters
STORED = (
    "show RUN", "show RUN --failed", "show RUN -o out.csv", "report RUN", "gate RUN", "diff RUN OTHER", "compare RUN OTHER",
    "baseline accept RUN --force", "score RUN", "case.yaml --resume RUN",
)  # fmt: skip


def one_sentence(done: Ended) -> str:
    """The message of a command that ended with 2 and printed nothing else."""
    assert (done.code, done.out) == (2, "")
    assert "\n" not in done.err.strip()
    return done.err.strip()


@pytest.fixture
def two_runs() -> Path:
    """The folder of a run, of two that are named RUN and OTHER."""
    for name in ("OTHER", "RUN"):
        assert suites.run(suites.samples((2, "right"), (1, "wrong")), []).code == 0
        made = next(path for path in Path("runs/case").iterdir() if path.is_dir())
        shutil.move(made, Path("runs") / name)
        Path(name).symlink_to(Path("runs") / name)
    return Path("runs/RUN")


@pytest.mark.parametrize("line", STORED)
def test_a_row_log_that_cannot_be_read_is_one_sentence(two_runs: Path, line: str) -> None:
    log = two_runs / "rows.jsonl"
    log.unlink()
    log.mkdir()
    assert "rows.jsonl'" in one_sentence(command(*line.split()))


@pytest.mark.parametrize("line", STORED)
def test_a_broken_line_of_a_row_log_is_one_sentence(two_runs: Path, line: str) -> None:
    log = two_runs / "rows.jsonl"
    first, *others = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([first, b'{"v":2,"id":\n', *others]))
    assert "rows.jsonl" in (message := one_sentence(command(*line.split())))
    assert "wrong checksum" in message


@pytest.mark.parametrize("path", [LONG_NAME, LONG_PATH, "~nobody-of-this-name/data.csv"])
def test_a_dataset_path_that_the_system_refuses_names_its_line(path: str) -> None:
    file = suites.write([], [], dataset={"path": path})
    message = one_sentence(command("validate", file))
    line = next(number for number, text in enumerate(Path(file).read_text().splitlines(), 1) if '"path"' in text)
    assert message.startswith(f"case.yaml:{line}:")
    assert "dataset.path: " in message
    assert one_sentence(command(file)) == message


@pytest.mark.parametrize("line", [
    "PATH", "NAME.yaml", "show PATH", "show NAME", "show RUN -o PATH.csv", "report RUN -o PATH.html", "gate PATH", "gate RUN --suite PATH", "compare PATH RUN", "diff PATH RUN",
    "baseline accept RUN --force --name NAME", "baseline show PATH", "baseline list PATH", "score PATH",
    "runs --output-dir PATH", "init PATH", "case.yaml --resume PATH",
])  # fmt: skip
def test_a_path_that_is_too_long_is_one_sentence(two_runs: Path, line: str) -> None:
    message = one_sentence(command(*line.replace("PATH", LONG_PATH).replace("NAME", LONG_NAME).split()))
    assert "File name too long" in message


def test_a_long_word_that_is_no_file_is_no_command() -> None:
    done = command(LONG_NAME)
    assert (done.code, done.out) == (2, "")
    assert "No such command" in done.err
