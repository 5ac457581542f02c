"""Fixtures of the endpoint tests: the embedded model, litellm, and its proxy, each started once and on demand."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalrunner.endpoints.local import LocalEndpoint
from evalrunner.errors import EvalrunError

PROXY_CONFIG = """\
model_list:
  - model_name: small
    litellm_params: {{model: openai/local, api_base: "{base_url}", api_key: "{key}"}}
  - model_name: dead
    litellm_params: {{model: openai/local, api_base: "http://127.0.0.1:1/v1", api_key: none}}
  - model_name: busy
    litellm_params: {{model: openai/local, api_base: "http://127.0.0.1:1/v1", api_key: none, \
mock_response: litellm.RateLimitError}}
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_key: none, mock_response: Paris}}
general_settings: {{master_key: sk-proxy-key-1}}
litellm_settings: {{num_retries: 0, telemetry: false}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
"""
UP_WITHIN_S = 120.0


@dataclass(frozen=True)
class Proxy:
    base_url: str
    key: str = "sk-proxy-key-1"


@pytest.fixture(scope="session")
def embedded() -> Iterator[LocalEndpoint]:
    """The embedded model, loaded; skips the test if it is not available."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra 'local' is not installed")
    endpoint = LocalEndpoint()
    try:
        asyncio.run(endpoint.prepare())
    except EvalrunError as missing:
        pytest.skip(str(missing))
    yield endpoint
    asyncio.run(endpoint.aclose())


@pytest.fixture(scope="session")
def litellm() -> Any:
    """The package, imported as the endpoint does; skips the test if it is missing."""
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("the extra 'litellm' is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of its import are not ours
        from evalrunner.endpoints.litellm import import_litellm

        return import_litellm()


@pytest.fixture(scope="session")
def proxy(embedded: LocalEndpoint) -> Iterator[Proxy]:
    """A LiteLLM proxy in its own process, in front of the embedded model's server."""
    command = Path(sys.executable).with_name("litellm")
    if not command.exists() or importlib.util.find_spec("fastapi") is None:
        pytest.skip("litellm[proxy] is not installed")
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        config = Path(folder) / "proxy.yaml"
        config.write_text(PROXY_CONFIG.format(base_url=embedded.base_url, key=embedded.server_key))
        port = free_port()
        env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
        env = {name: value for name, value in env.items() if name not in ("DATABASE_URL", "LITELLM_MASTER_KEY")}
        process = subprocess.Popen(
            [command, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log, env=env, cwd=folder,
        )  # fmt: skip
        try:
            wait_until_up(f"http://127.0.0.1:{port}/health/liveliness", process, log)
            yield Proxy(f"http://127.0.0.1:{port}/v1")
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as result:
        result.bind(("127.0.0.1", 0))
        return int(result.getsockname()[1])


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Any) -> None:
    until = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.3)
    log.seek(0)
    pytest.fail(f"the proxy did not come up: {log.read()[-2000:]}")
