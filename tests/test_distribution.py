"""The built wheel: it holds the package and nothing else, and works from an empty environment outside the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fakes.command import ROOT

pytestmark = pytest.mark.slow
SUITE = """\
name: sums
dataset: {rows: [{input: "2+2?", expected: "4", out: "4"}]}
target: {type: recorded, column: out}
scorers: [exact_match]
gates: [exact_match >= 1]
"""
FAILING = SUITE.replace("sums", "failing").replace('expected: "4"', 'expected: "5"')


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """What a finished command printed to stdout; the test fails where the exit code is another."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


def test_the_wheel_holds_the_package_and_its_data_only(dist: Path) -> None:
    (wheel,) = dist.glob("evalrunner-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {re.sub(r"-\S+\.dist-info", "-dist-info", top) for top in tops} == {"evalrunner", "evalrunner-dist-info"}
    source = [path for path in (ROOT / "evalrunner").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {name for name in names if name.startswith("evalrunner/")} == {
        path.relative_to(ROOT).as_posix() for path in source
    }
    assert "evalrunner/py.typed" in names
    assert [suffix for suffix in (".js", ".css", ".html") if not any(name.endswith(suffix) for name in names)] == []


def test_the_source_distribution_holds_package_suites_and_readme_only(dist: Path) -> None:
    (archive,) = dist.glob("evalrunner-*.tar.gz")
    with tarfile.open(archive) as tar:
        tops = {name.split("/")[1] for name in tar.getnames() if "/" in name}
    assert tops == {
        "evalrunner", "suites", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore",
    }  # fmt: skip


def test_a_build_elsewhere_and_later_has_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    (archive,) = dist.glob("evalrunner-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    for path in source.rglob("*"):
        os.utime(path)  # as in a new checkout
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "again", source, cwd=tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == {
        path.name: path.read_bytes() for path in dist.iterdir()
    }


def test_all_three_commands_of_an_installed_wheel_run_a_suite(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("evalrunner-*.whl")
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, "venv", cwd=tmp_path)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", scripts / "python", wheel, cwd=tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sums.yaml").write_text(SUITE, encoding="utf-8")
    (outside / "failing.yaml").write_text(FAILING, encoding="utf-8")
    where = run(scripts / "python", "-c", "import evalrunner; print(evalrunner.__file__)", cwd=outside)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    commands = ((scripts / "evalrun",), (scripts / "evalrunner",), (scripts / "python", "-m", "evalrunner"))
    for count, command in enumerate(commands, start=1):
        assert run(*command, "--version", cwd=outside).split()[0] == "evalrunner"
        assert "exact_match" in run(*command, "sums.yaml", cwd=outside)
        assert len(list((outside / "runs" / "sums").iterdir())) == count
        assert len(run(*command, "runs", cwd=outside).splitlines()) > count
        run(*command, "failing.yaml", cwd=outside, code=1)
