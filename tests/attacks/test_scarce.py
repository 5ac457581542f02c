"""Few descriptors and little address space for every kind of target, scorer and output: a verdict or a sentence."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.counts import Attacks
from tests.attacks.test_machines import SUITE, finish, limited, logged, resumed, start, told, write_suite
from tests.fakes.server import Answer, ScriptedServer, Slow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux"),
]

OWN = "import time\n\n\ndef answer(input):\n    time.sleep(0.05)\n    return 'Paris'\n"
MANY = {"concurrency": 100}
KINDS: dict[str, tuple[dict[str, Any], list[str], str | None]] = {
    "auto": ({}, [], None),
    "httpx": ({"target": {"model": "m", "base_url": "BASE", "transport": "httpx"}, "run": MANY}, [], None),
    "litellm": (
        {"target": {"model": "hosted_vllm/m", "api_key": "sk-1234567", "params": {"api_base": "BASE"}}, "run": MANY}, [], "litellm",
    ),
    "function": ({"target": {"type": "python", "function": "own.py:answer"}, "run": MANY}, [], None),
    "regex": ({"scorers": ["contains", {"type": "regex", "pattern": "P.*r.*i.*s.*"}], "run": MANY}, [], None),
    "judge": ({"scorers": ["contains", "factuality"], "judge": {"model": "j", "base_url": "BASE"}, "run": MANY}, [], "autoevals"),
    "outputs": ({}, [word for name in ("csv", "xlsx", "parquet", "html", "xml", "md") for word in ("-o", f"out.{name}")], None),
    "mlflow": ({}, ["--mlflow", "sqlite:///mlflow.db"], "mlflow"),
}  # fmt: skip
LIMITS: dict[str, dict[str, int]] = {"64 files": {"files": 64}, "256 files": {"files": 256}, "1 GiB": {"mib": 1024}}
LITELLM_MIB = 1280
COMMANDS = (
    "show last", "report last -o x.html", "report last -o x.xlsx", "runs", "gate last", f"plan {SUITE} --offline", f"validate {SUITE}",
    "list scorers", "compare last", "diff last",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _request, _nth: Slow(0.05, Answer("Paris"))) as running:
        yield running


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_work_ends_with_a_verdict_or_a_sentence(server: ScriptedServer, kind: str, limit: str) -> None:
    keys, args, package = KINDS[kind]
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    Path("own.py").write_text(OWN)
    write_suite(server.base_url, 150, **json.loads(json.dumps(keys).replace("BASE", server.base_url)))
    # LiteLLM alone takes about 1 GiB, and extensions of it abort where memory runs out, which Python cannot catch
    spare = {"mib": LITELLM_MIB} if kind == "litellm" and "mib" in LIMITS[limit] else {}
    done = limited(SUITE, "--quiet", *args, **(LIMITS[limit] | spare))
    assert told(done) == []
    assert done.code in (0, 3)
    if done.code == 3 and logged() and "Resume" in done.out + done.err:
        assert resumed(server, 150) == []


@pytest.mark.parametrize("limit", LIMITS)
def test_commands_that_call_nothing_end_with_their_code(server: ScriptedServer, limit: str, attacks: Attacks) -> None:
    write_suite(server.base_url, 20)
    assert finish(start(SUITE, "--quiet")).code == 0
    for line in COMMANDS:
        done = limited(*line.split(), **LIMITS[limit])
        attacks.add(line, told(done) + ([] if done.code in (0, 2) else [f"code {done.code}"]))
    attacks.check()
