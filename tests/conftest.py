"""Fixtures of every test: no API keys, no network except loopback, its own working folder."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrunner import redact
from evalrunner.storage import cache_folder
from tests.attacks.counts import attacks, pytest_terminal_summary  # noqa: F401 - a fixture and a hook of all tests
from tests.fakes.command import stop_server
from tests.fakes.forked import OWN_VARIABLE

MODELS = cache_folder() / "models"  # weights are downloaded once for all tests
SHARED = Path(__file__).parents[2] / "shared" / "data"
_connect = socket.socket.connect
os.environ.setdefault(OWN_VARIABLE, "True")


def pytest_sessionfinish() -> None:
    stop_server()


def _only_loopback(self: socket.socket, address: object) -> object:
    """Refuse connections that leave the machine."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
        host = str(address[0])
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
        if not local:
            raise AssertionError(f"a test tried to reach {host}")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No API keys, no CI, an empty cache, sockets to loopback only, and `tmp_path` as the working folder."""
    for name in list(os.environ):
        if (
            name.endswith(("_API_KEY", "_TOKEN", "_BASE_URL"))
            or name.startswith(("EVALRUN_", "MLFLOW_", "GITHUB_"))
            or name == "CI"
        ):
            monkeypatch.delenv(name)
    cache = tmp_path_factory.mktemp("cache")
    MODELS.mkdir(parents=True, exist_ok=True)
    (cache / "models").symlink_to(MODELS)
    monkeypatch.setenv("EVALRUN_CACHE_DIR", str(cache))
    monkeypatch.setattr(socket.socket, "connect", _only_loopback)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> Iterator[None]:
    """A process redacts what it has once known as a secret; a test knows its own only."""
    before = dict(redact._secrets)
    yield
    redact._secrets.clear()
    redact._secrets.update(before)
    redact._finder = None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets next to the checkout; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the real datasets are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server, shared by all tests; they are skipped without MLflow."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("the extra 'mlflow' is not installed")
    from tests.endpoints.conftest import free_port
    from tests.fakes.mlflow_server import mlflow_server

    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_port()) as address:
        yield address
