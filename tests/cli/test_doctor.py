"""`evalrun doctor`: what is on this machine, without a secret and without the network."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fakes.command import evalrun

KEY = "sk-9d1f7c20aa54e8b3"
ENV = {
    "OPENAI_API_KEY": KEY,
    "MISTRAL_API_KEY": "",
    "HTTPS_PROXY": "http://someone:hunter2-of-a-proxy@127.0.0.1:3128",
    "no_proxy": "localhost",
}


def test_keys_are_listed_by_name_and_proxies_without_logins() -> None:
    Path(".env").write_text(f"ANTHROPIC_API_KEY={KEY}x\n", encoding="utf-8")
    done = evalrun("doctor", env=ENV)
    assert (done.returncode, done.stderr) == (0, "")
    assert KEY not in done.stdout
    assert "hunter2" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("evalrunner ")
    assert "keys set     OPENAI_API_KEY" in lines
    assert ".env files   .env (ANTHROPIC_API_KEY)" in lines
    assert "proxies      HTTPS_PROXY http://127.0.0.1:3128, no_proxy localhost" in lines
    assert "runs         runs (writable)" in lines
    assert not Path("runs").exists()


def test_a_broken_env_file_is_a_problem_without_its_content() -> None:
    Path(".env").write_text(f"OPENAI_API_KEY {KEY}\n", encoding="utf-8")
    done = evalrun("doctor")
    assert done.returncode == 2
    assert "problem: .env:1: should read NAME=value" in done.stdout
    assert KEY not in done.stdout


def test_json_has_the_same_findings() -> None:
    done = evalrun("doctor", "--json", env=ENV)
    found = json.loads(done.stdout)
    assert found["keys"] == ["OPENAI_API_KEY"]
    assert found["proxies"]["HTTPS_PROXY"] == "http://127.0.0.1:3128"
    assert found["folders"]["runs"] == {"path": "runs", "writable": True}
    assert found["terminal"]["is_terminal"] is False
    assert found["problems"] == []
    assert set(found["extras"]) == {
        "hf", "local", "litellm", "mlflow", "parquet", "png", "readability", "text", "toxicity-hf", "xlsx", "zstd"
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_to_is_a_problem() -> None:
    Path("file").write_text("", encoding="utf-8")
    done = evalrun("doctor", env={"EVALRUN_CACHE_DIR": "file/cache"})
    assert done.returncode == 2
    assert "problem: cache: file/cache cannot be written to" in done.stdout
