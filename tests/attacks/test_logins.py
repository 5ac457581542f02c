"""Logins and side requests below LiteLLM go to allowed hosts only: every library, threads without context, every cloud."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.egress import EgressPolicy
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.errors import SuiteError
from evalrunner.suite.schema import ModelSpec
from tests.attacks.test_egress import ask_litellm
from tests.fakes.server import ScriptedServer

pytestmark = [
    pytest.mark.litellm,
    pytest.mark.filterwarnings("ignore"),  # those of LiteLLM and of what it imports
    pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="the extra 'litellm' is not installed"),
]

Fetch = Callable[[str], Any]


def fetch_urllib(url: str) -> Any:
    from urllib.request import urlopen

    return urlopen(url, b"{}", timeout=5)


def fetch_http_client(url: str) -> Any:
    """As google-auth asks the metadata server of a machine."""
    from http.client import HTTPConnection

    connection = HTTPConnection(url.split("/")[2], timeout=5)
    connection.request("GET", "/computeMetadata/v1/")
    return connection.getresponse()


def fetch_requests(url: str) -> Any:
    import requests

    return requests.post(url, json={}, timeout=5)


def fetch_httpx(url: str) -> Any:
    import httpx

    return httpx.post(url, json={})


def fetch_httpx2(url: str) -> Any:
    httpx2 = pytest.importorskip("httpx2")
    return httpx2.post(url, json={})


FETCHES = [fetch_urllib, fetch_http_client, fetch_requests, fetch_httpx, fetch_httpx2]


@pytest.fixture
def provider() -> Iterator[Callable[[Fetch, bool], None]]:
    """Registers a provider that fetches `params.login`, here or in a thread that does not inherit the context."""
    import litellm

    before = litellm.custom_provider_map

    def register(fetch: Fetch, in_thread: bool) -> None:
        class Provider(litellm.CustomLLM):
            async def acompletion(self, *args: Any, **options: Any) -> Any:
                login = options["optional_params"]["login"]
                errors: list[BaseException] = []
                if not in_thread:
                    fetch(login)
                    raise AssertionError("the request was answered")
                worker = threading.Thread(target=function_of_litellm(fetch, errors), args=(login,))
                worker.start()
                worker.join()
                raise errors[0] if errors else AssertionError("the request was answered")

        litellm.custom_provider_map = [{"provider": "own_provider", "custom_handler": Provider()}]

    yield register
    litellm.custom_provider_map = before


def function_of_litellm(fetch: Fetch, errors: list[BaseException]) -> Callable[[str], None]:
    """A function that belongs to the package, as those of its threads for tokens do."""
    scope: dict[str, Any] = {"__name__": "litellm.background", "fetch": fetch, "errors": errors}
    exec(
        "def work(url):\n    try:\n        fetch(url)\n    except BaseException as error:\n        errors.append(error)",
        scope,
    )
    work: Callable[[str], None] = scope["work"]
    return work


def test_a_thread_of_a_user_that_calls_litellm_is_not_covered() -> None:
    errors: list[BaseException] = []
    with ScriptedServer() as server, ScriptedServer() as other:
        ask_litellm("groq/m", {"api_base": server.base_url}, [f"127.0.0.1:{server.port}"])
        work = function_of_litellm(fetch_requests, errors)
        worker = threading.Thread(target=lambda: work(f"{other.base_url}/chat/completions"))
        worker.start()
        worker.join()
        assert (other.calls, errors) == (1, [])


@pytest.mark.parametrize("in_thread", [False, True], ids=["call", "thread"])
@pytest.mark.parametrize("fetch", FETCHES, ids=lambda fetch: fetch.__name__.removeprefix("fetch_"))
def test_no_library_below_litellm_reaches_a_host_that_is_not_allowed(
    fetch: Fetch, in_thread: bool, provider: Callable[[Fetch, bool], None]
) -> None:
    provider(fetch, in_thread)
    with ScriptedServer() as server, ScriptedServer() as other:
        allowed = [f"127.0.0.1:{server.port}"]
        params = {"api_base": server.base_url, "login": f"http://127.0.0.1:{other.port}/login"}
        answer = ask_litellm("own_provider/m", params, allowed)
        assert isinstance(answer, Failure) and answer.fatal, answer
        assert f"http://127.0.0.1:{other.port} is not among the hosts that run.allow_hosts allows" in answer.message
        assert (other.connections, server.connections) == (0, 0)
        answer = ask_litellm(
            "own_provider/m", {**params, "login": f"{server.base_url}/login?next=https://x.example/"}, allowed
        )
        assert server.connections == 1, answer


def google_account(url: str) -> str:
    """Credentials of Google whose subject token and access token both come from `url`."""
    return json.dumps({
        "type": "external_account", "audience": "//iam.googleapis.com/x", "token_url": f"{url}/token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": {"url": f"{url}/subject"},
    })  # fmt: skip


CLOUDS: dict[str, tuple[str, Callable[[str], dict[str, str]], Callable[[str], dict[str, Any]]]] = {
    "databricks": (
        "databricks/m",
        lambda url: {"DATABRICKS_CLIENT_ID": "a", "DATABRICKS_CLIENT_SECRET": "b", "DATABRICKS_API_BASE": url},
        lambda url: {},
    ),
    "vertex": (
        "vertex_ai/gemini-2.0-flash",
        lambda url: {},
        lambda url: {"vertex_credentials": google_account(url), "vertex_project": "p", "vertex_location": "us-east1"},
    ),
    "vertex metadata": (
        "vertex_ai/gemini-2.0-flash",
        lambda url: {"GCE_METADATA_HOST": url.split("/")[2], "GCE_METADATA_IP": url.split("/")[2]},
        lambda url: {},
    ),
    "bedrock": (
        "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
        lambda url: {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url.removesuffix("/v1"), "AWS_REGION": "us-east-1"},
        lambda url: {},
    ),
    "bedrock role": (
        "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
        lambda url: {"AWS_ENDPOINT_URL_STS": url},
        lambda url: {
            "aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_role_name": "arn:aws:iam::1:role/r",
            "aws_session_name": "session", "aws_region_name": "us-east-1",
        },
    ),
    "sagemaker": (
        "sagemaker/m",
        lambda url: {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url.removesuffix("/v1"), "AWS_REGION": "us-east-1"},
        lambda url: {},
    ),
    "watsonx": (
        "watsonx/m",
        lambda url: {"WATSONX_IAM_URL": f"{url}/token", "WATSONX_URL": url, "WATSONX_API_KEY": "w"}, lambda url: {"project_id": "p"},
    ),
    "github_copilot": (
        "github_copilot/gpt-4o",
        lambda url: {"GITHUB_COPILOT_DEVICE_CODE_URL": url, "GITHUB_COPILOT_API_KEY_URL": url, "GITHUB_COPILOT_ACCESS_TOKEN_URL": url},
        lambda url: {},
    ),
}  # fmt: skip
"""How a login of each provider can be led to another address: the model, variables and params."""


def ask_without_key(model: str, params: dict[str, Any], hosts: list[str] | None) -> Completion | Failure:
    """The answer of a model that is not given a key, so that LiteLLM has to log in."""

    async def go() -> Completion | Failure:
        async with EndpointPool(environ={}) as pool:
            handle = pool.open(ModelSpec(model, params=params), timeout_s=10, egress=EgressPolicy.of(hosts))
            return await handle.endpoint(Request(handle.model, ({"role": "user", "content": "CONFIDENTIAL"},), params))

    return asyncio.run(go())


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("limited", [False, True], ids=["hosts of the provider", "allow_hosts"])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_login_of_a_cloud_goes_to_no_host_that_is_not_allowed(
    cloud: str, limited: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The variables stand for an address that LiteLLM, or a library below it, takes from anywhere."""
    model, environ, params = CLOUDS[cloud]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GITHUB_COPILOT_TOKEN_DIR", str(tmp_path))
    with ScriptedServer() as other:
        for name, value in environ(other.base_url).items():
            monkeypatch.setenv(name, value)
        try:
            answer = ask_without_key(model, params(other.base_url), ["allowed.example"] if limited else None)
        except SuiteError as refused:  # before the first call
            assert "run.allow_hosts" in str(refused)  # noqa: PT017
        else:
            assert isinstance(answer, Failure), answer
        assert other.connections == 0
