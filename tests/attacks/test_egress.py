"""What leaves goes to named hosts only: the policy, each kind of client, and what `plan --endpoints` lists."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.egress import EgressPolicy, HostPattern
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.errors import SuiteError
from evalrunner.suite.schema import ModelSpec
from tests.cases.suites import command
from tests.fakes.server import Raw, ScriptedServer, always

ROWS = {"rows": [{"id": "a", "input": "CONFIDENTIAL", "expected": "x"}]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def litellm() -> None:
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("the extra 'litellm' is not installed")


def write(**keys: Any) -> str:
    """A suite of one sample; keys are added at its top."""
    Path("s.yaml").write_text(json.dumps({"name": "s", "dataset": ROWS, "scorers": ["contains"], **keys}, indent=1))
    return "s.yaml"


ALLOWED = [
    ("api.openai.com", "https://api.openai.com/v1"),
    ("api.openai.com", "https://API.OpenAI.com.:8443/v1"),
    ("API.OPENAI.COM", "http://user:secret@api.openai.com/v1"),
    ("*.openai.azure.com", "https://a.b.openai.azure.com/openai"),
    ("localhost", "http://localhost:4000/v1"),
    ("127.0.0.1:4000", "http://127.0.0.1:4000/v1"),
    ("https://models.example", "https://models.example:8443/v1"),
    ("models.example:443", "https://models.example/v1"),
    ("http://models.example:80", "http://models.example/v1"),
    ("[::1]:4000", "http://[0:0:0:0:0:0:0:1]:4000/v1"),
    ("[::1]", "http://[::1]/v1"),
    ("bücher.example", "https://xn--bcher-kva.example/v1"),
    ("db.example", "postgresql+psycopg2://u:p@db.example/mlflow"),
]
REFUSED = [
    ("api.openai.com", "https://api.openai.com.evil.example/v1"),
    ("api.openai.com", "https://evil.example/api.openai.com"),
    ("api.openai.com", "https://api.openai.com@evil.example/v1"),
    ("api.openai.com", "https://evil.example\\@api.openai.com/v1"),
    ("api.openai.com", "https://evil.example#@api.openai.com/v1"),
    ("api.openai.com", "https://evil.example?@api.openai.com/v1"),
    ("api.openai.com", "https://xapi.openai.com/v1"),
    ("*.openai.azure.com", "https://openai.azure.com/v1"),
    ("*.openai.azure.com", "https://evilopenai.azure.com/v1"),
    ("*.openai.azure.com", "https://evil.example%2f.openai.azure.com/v1"),
    ("127.0.0.1:4000", "http://127.0.0.1:4001/v1"),
    ("127.0.0.1", "http://localhost:4000/v1"),
    ("127.0.0.1", "http://2130706433/v1"),
    ("127.0.0.1", "http://0x7f.1/v1"),
    ("https://models.example", "http://models.example/v1"),
    ("models.example:443", "http://models.example/v1"),
    ("models.example", "models.example/v1"),
    ("models.example", "http:///models.example"),
    ("models.example", ""),
    ("models.example", "http://[::1"),
]


@pytest.mark.parametrize(("entry", "url"), ALLOWED)
def test_an_entry_of_allow_hosts_allows_its_host(entry: str, url: str) -> None:
    assert EgressPolicy.of([entry]).refusal(url) is None


@pytest.mark.parametrize(("entry", "url"), REFUSED)
def test_an_entry_of_allow_hosts_refuses_every_other_host(entry: str, url: str) -> None:
    refusal = EgressPolicy.of([entry]).refusal(url)
    assert refusal is not None and "run.allow_hosts" in refusal
    assert "secret" not in refusal


def test_an_empty_list_allows_no_host_and_no_list_every_one() -> None:
    assert EgressPolicy.of([]).refusal("http://localhost/") is not None
    assert EgressPolicy.of(None).refusal("http://localhost/") is None


@pytest.mark.parametrize(
    "entry",
    ["", " ", "*", "*.", "a.*.example", "*example.com", "http://", "ftp://a.example", "a.example/v1", "u@a.example",
     "a.example?x", "a example", "a.example:0", "a.example:99999", "a.example:x", "[::1", "..", "a..b"],
)  # fmt: skip
def test_an_entry_that_is_no_host_is_a_problem_with_its_line(entry: str) -> None:
    with pytest.raises(ValueError, match="should be"):
        HostPattern.parse(entry)
    done = command(
        "validate", write(target={"model": "m", "base_url": "http://a.example"}, run={"allow_hosts": [entry]})
    )
    assert done.code == 2
    assert "s.yaml:21:4: run.allow_hosts[0]: " in done.err
    assert "should be a host such as api.openai.com" in done.err or "from 1 to 65535" in done.err


FORMS: dict[str, dict[str, Any]] = {
    "pyreqwest": {"model": "m", "transport": "pyreqwest"},
    "httpx": {"model": "m", "transport": "httpx"},
    "http": {"type": "http", "body": {"q": "{{ input }}"}},
}


def suite_for(form: str, server: ScriptedServer, **keys: Any) -> str:
    address = {"url": f"{server.base_url}/ask"} if form == "http" else {"base_url": server.base_url}
    return write(target={"name": "bot", **FORMS[form], **address}, **keys)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("allowed", [True, False])
def test_a_target_outside_of_allow_hosts_ends_with_code_2_before_the_first_call(form: str, allowed: bool) -> None:
    with ScriptedServer() as server:
        hosts = [f"127.0.0.1:{server.port}"] if allowed else ["api.openai.com", "localhost"]
        done = command(suite_for(form, server, run={"allow_hosts": hosts}), "-q")
        if allowed:
            assert (done.code, server.calls) == (0, 1), done.err
            return
        assert (done.code, server.connections) == (2, 0)
        assert f"http://127.0.0.1:{server.port} is not among the hosts that run.allow_hosts allows" in done.err
        assert "s.yaml:" in done.err and "(api.openai.com, localhost)" in done.err
        plan = command("plan", "s.yaml")
        assert (plan.code, server.connections) == (2, 0)


def test_a_judge_outside_of_allow_hosts_ends_with_code_2() -> None:
    with ScriptedServer() as server:
        target = {"type": "recorded", "column": "expected"}
        judge = {"model": "m", "base_url": server.base_url}
        done = command(write(target=target, judge=judge, scorers=["factuality"], run={"allow_hosts": []}))
        assert (done.code, server.connections) == (2, 0)
        assert "allows (none)" in done.err


def test_recorded_answers_need_no_host() -> None:
    done = command(write(target={"type": "recorded", "column": "expected"}, run={"allow_hosts": []}), "-q")
    assert done.code == 0, done.err


def test_a_setting_of_the_command_line_replaces_the_hosts_of_the_suite() -> None:
    with ScriptedServer() as server:
        suite = suite_for("pyreqwest", server, run={"allow_hosts": ["a.example"]})
        assert command(suite, "-q", "--set", "run.allow_hosts=[127.0.0.1]").code == 0
        refused = command(suite, "-q", "--set", "run.allow_hosts=[]")
        assert (refused.code, server.calls) == (2, 1)
        assert "--set 'run.allow_hosts=[]' allows" in refused.err


def test_hosts_may_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY", "127.0.0.1")
    with ScriptedServer() as server:
        done = command(suite_for("httpx", server, run={"allow_hosts": "${GATEWAY}"}), "-q")
        assert (done.code, server.calls) == (0, 1), done.err


def ask_litellm(
    model: str, params: dict[str, Any], hosts: list[str] | None = None, environ: dict[str, str] | None = None
) -> Completion | Failure:
    async def go() -> Completion | Failure:
        async with EndpointPool(environ=environ) as pool:
            spec = ModelSpec(model, api_key="sk-geheim-1", headers={"x-secret": "1"}, params=params)
            handle = pool.open(spec, timeout_s=10, egress=EgressPolicy.of(hosts))
            return await handle.endpoint(Request(handle.model, ({"role": "user", "content": "CONFIDENTIAL"},), params))

    return asyncio.run(go())


MODELS = ["anthropic/claude-3-5-haiku-latest", "deepseek/m", "groq/m", "hosted_vllm/m", "ollama_chat/m", "nlp_cloud/m"]


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("limited", [True, False])
def test_litellm_calls_the_host_that_params_name(model: str, limited: bool) -> None:
    with ScriptedServer() as server:
        ask_litellm(model, {"api_base": server.base_url}, [f"127.0.0.1:{server.port}"] if limited else None)
        assert server.calls == 1


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.parametrize("model", MODELS[:5])
def test_litellm_calls_the_host_that_variables_of_the_provider_name(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as server:
        monkeypatch.setenv(f"{model.partition('/')[0].upper().removesuffix('_CHAT')}_API_BASE", server.base_url)
        ask_litellm(model, {})
        assert server.calls >= 1  # Ollama's client also asks what the model can do


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.parametrize("model", MODELS[:5])
def test_litellm_sends_nothing_to_a_host_that_nothing_names(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that evalrun was not started with stands for an address that LiteLLM takes from anywhere."""
    with ScriptedServer() as server:
        monkeypatch.setenv(f"{model.partition('/')[0].upper().removesuffix('_CHAT')}_API_BASE", server.base_url)
        answer = ask_litellm(model, {}, environ={})
        assert isinstance(answer, Failure) and answer.fatal, answer
        assert (
            f"http://127.0.0.1:{server.port} is not among the hosts that the model {model!r} allows" in answer.message
        )
        assert server.connections == 0


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.parametrize("model", MODELS[:5])
def test_litellm_sends_nothing_to_a_host_outside_of_allow_hosts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer() as server:
        monkeypatch.setenv(f"{model.partition('/')[0].upper().removesuffix('_CHAT')}_API_BASE", server.base_url)
        with pytest.raises(SuiteError, match="not among the hosts that run.allow_hosts allows"):
            ask_litellm(model, {"api_base": server.base_url}, ["api.openai.com"])
        default = {"anthropic": "api.anthropic.com", "deepseek": "api.deepseek.com", "groq": "api.groq.com"}
        allowed = default.get(model.partition("/")[0], "localhost")
        answer = ask_litellm(model, {}, [allowed], environ={})
        assert isinstance(answer, Failure) and "run.allow_hosts" in answer.message
        assert server.connections == 0


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.parametrize("name", ["fallbacks", "success_callback", "callbacks"])
def test_params_that_send_prompts_elsewhere_are_refused(name: str) -> None:
    done = command("validate", write(target={"model": "groq/m", "params": {name: ["langfuse"]}}))
    assert done.code == 2
    assert f"params.{name} would send prompts to other services" in done.err


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["requests", "urllib3", "httpx"])
def test_libraries_below_litellm_obey_the_policy_of_its_call(library: str) -> None:
    """Logins of clouds are fetched through them. A custom provider stands for the code of LiteLLM that does so."""
    import httpx
    import litellm
    import requests
    import urllib3

    clients = {
        "requests": lambda url: requests.post(url, json={}, timeout=10),
        "urllib3": lambda url: urllib3.PoolManager().request("POST", url, body=b"{}"),
        "httpx": lambda url: httpx.post(url, json={}, follow_redirects=True),
    }

    class Provider(litellm.CustomLLM):
        async def acompletion(self, *args: Any, **options: Any) -> Any:
            clients[library](options["optional_params"]["login"])
            raise AssertionError("the request was answered")

    before = litellm.custom_provider_map
    litellm.custom_provider_map = [{"provider": "own_provider", "custom_handler": Provider()}]
    try:
        with redirecting(307) as (server, other):
            allowed = [f"127.0.0.1:{server.port}"]
            params = {"api_base": server.base_url, "login": f"http://127.0.0.1:{other.port}/login"}
            answer = ask_litellm("own_provider/m", params, allowed)
            assert isinstance(answer, Failure) and answer.fatal
            assert f"http://127.0.0.1:{other.port} is not among the hosts that run.allow_hosts allows" in answer.message
            answer = ask_litellm("own_provider/m", {**params, "login": f"{server.base_url}/login"}, allowed)
            assert isinstance(answer, Failure) and answer.fatal
            assert "redirects to another address are not followed" in answer.message
            assert (server.calls, other.connections) == (1, 0)
    finally:
        litellm.custom_provider_map = before


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
def test_requests_of_others_in_this_process_are_not_covered() -> None:
    import requests

    with ScriptedServer() as server, ScriptedServer() as other:
        ask_litellm("groq/m", {"api_base": server.base_url}, [f"127.0.0.1:{server.port}"])
        assert requests.post(f"{other.base_url}/chat/completions", json={}, timeout=10).status_code == 200


CANARY = "canary-9f3c21d7aa"


@pytest.mark.parametrize(
    ("form", "place"),
    [("pyreqwest", "path"), ("httpx", "path"), ("http", "path"), ("pyreqwest", "login"), ("httpx", "login"), ("http", "query")],
)  # fmt: skip
@pytest.mark.parametrize("source", ["process", "file"])
def test_variables_of_an_address_keep_their_name_in_every_file(
    form: str, place: str, source: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also in the plan, messages of failures, and what is printed."""
    with ScriptedServer() as server:
        key = "url" if form == "http" else "base_url"
        host = f"127.0.0.1:{server.port}"
        address = {
            "path": f"http://{host}/team/${{WORD}}/v1",
            "login": f"http://me:${{WORD}}@{host}/v1",
            "query": f"http://{host}/v1?k=${{WORD}}",
        }[place]
        if source == "process":
            monkeypatch.setenv("WORD", CANARY)
        else:
            Path(".env").write_text(f"WORD={CANARY}\n")
        suite = write(target={"name": "bot", **FORMS[form], key: address}, gates=["contains >= 0"])
        plan = command("plan", suite, "--offline")
        done = command(suite, "-o", "x.html", "-o", "x.json", "-o", "x.xml", "-o", "x.md")
        assert (plan.code, done.code, server.calls) == (0, 0, 1), plan.err + done.err
        sent = server.requests[-1]
        expected = CANARY if place != "login" else "Basic"
        assert expected in f"{sent.path} {sent.headers}"
    texts = {str(path): path.read_text(errors="replace") for path in Path().rglob("*") if path.is_file()}
    texts.pop(".env", None)
    texts |= {"plan": plan.out + plan.err, "run": done.out + done.err, "terminal": "".join(capfd.readouterr())}
    assert [name for name, text in texts.items() if CANARY in text] == []
    (folder,) = Path("runs/s").iterdir()
    written = json.loads((folder / "run.json").read_text())["resolved"]["targets"][0][key]
    assert "${WORD}" in written or place == "login"


def test_a_variable_for_the_host_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer() as server:
        for text, address in {
            "${WHERE}": server.base_url,
            "${WHERE}/${TEAM}": server.base_url,
            f"http://${{WHERE}}:{server.port}/v1": "127.0.0.1",
        }.items():
            monkeypatch.setenv("WHERE", address)
            monkeypatch.setenv("TEAM", "research")
            plan = command("plan", write(target={"model": "m", "base_url": text}), "--offline")
            assert plan.code == 0, plan.err
            assert f"at {server.base_url}" in plan.out
            assert "research" not in plan.out


needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="the extra 'mlflow' is not installed"
)
RUN_ID = "0" * 32


@contextmanager
def redirecting(status: int) -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    """A server that redirects every request to another one, which must get nothing."""
    with ScriptedServer() as other, ScriptedServer() as server:
        head = f"HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{other.port}/elsewhere?a=1\r\ncontent-length: 0\r\n\r\n"
        server.script = always(Raw(head.encode()))
        yield server, other


@pytest.mark.mlflow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # those of MLflow's import
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_mlflow_sends_nothing_to_the_address_of_a_redirect(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither runs with their login, nor reads of datasets, models and baselines."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-canary-77")
    recorded = {"type": "recorded", "column": "expected"}
    with redirecting(status) as (server, other):
        address = f"http://127.0.0.1:{server.port}"
        said = (
            f"redirects to another address are not followed (HTTP {status} to http://127.0.0.1:{other.port}/elsewhere)"
        )
        sent = command(write(target=recorded, tracking={"mlflow": {"uri": address}}), "-q")
        assert sent.code == 0
        assert said in " ".join((sent.out + sent.err).split())
        tracked = command("track", "last", "--mlflow", address)
        assert said in " ".join((tracked.out + tracked.err).split())
        for keys in (
            {"target": recorded, "dataset": {"mlflow": RUN_ID}},
            {"target": {"type": "mlflow", "model_uri": "models:/qa@champion"}},
            {
                "target": recorded,
                "gates": [{"metric": "contains", "baseline": f"mlflow:run/{RUN_ID}", "max_drop": 0.1}],
            },
        ):
            done = command(write(**keys, tracking={"mlflow": {"uri": address}}), "-q")
            assert done.code == 2, done.out
            assert said in " ".join(done.err.split()), done.err
        assert server.calls > 3
        assert other.connections == 0


@pytest.mark.mlflow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_of_others_in_this_process_follows_redirects_as_before() -> None:
    from evalrunner.mlflow.client import quiet_mlflow

    with redirecting(307) as (server, other), quiet_mlflow():
        from mlflow.utils.request_utils import cloud_storage_http_request

        address = f"http://127.0.0.1:{server.port}/file"
        with pytest.raises(OSError, match="redirects to another address are not followed"):
            cloud_storage_http_request("put", address, data=b"CONFIDENTIAL")
        assert other.calls == 0
    with redirecting(307) as (server, other):
        cloud_storage_http_request("put", f"http://127.0.0.1:{server.port}/file", data=b"x")
        assert other.calls == 1


@pytest.mark.mlflow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheme", ["http", "mlflow-artifacts"])
def test_artifacts_go_to_no_other_host_that_the_tracking_server_names(scheme: str) -> None:
    """The server answers everything with a run whose artifacts are elsewhere."""
    with ScriptedServer() as other, ScriptedServer() as server:
        place = f"{scheme}://127.0.0.1:{other.port}/x"
        info = {
            "run_id": RUN_ID,
            "run_uuid": RUN_ID,
            "experiment_id": "1",
            "status": "FINISHED",
            "artifact_uri": place,
            "lifecycle_stage": "active",
        }
        run = json.dumps(
            {
                "run": {"info": info, "data": {}},
                "experiment": {
                    "experiment_id": "1",
                    "name": "s",
                    "artifact_location": place,
                    "lifecycle_stage": "active",
                },
            }
        )
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(run)}\r\n\r\n"
        server.script = always(Raw((head + run).encode()))
        recorded, tracking = {"type": "recorded", "column": "expected"}, {"mlflow": {"uri": server.base_url[:-3]}}
        refused = f"artifacts at {scheme}://127.0.0.1:{other.port}, which MLflow's server names, are refused"
        read = command(write(target=recorded, tracking=tracking, dataset={"mlflow": f"runs:/{RUN_ID}/x.jsonl"}), "-q")
        assert read.code == 2
        assert refused in " ".join(read.err.split())
        sent = command(write(target=recorded, tracking=tracking), "-q")
        assert sent.code == 0
        assert refused in " ".join((sent.out + sent.err).split())
        assert server.calls > 1
        assert other.connections == 0


@pytest.mark.mlflow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("place", "hosts", "refused"),
    [
        ("s3://bucket/x", None, False),
        ("s3://bucket/x", ["*.amazonaws.com"], False),
        ("s3://bucket/x", ["tracking.example"], True),
        ("gs://bucket/x", ["tracking.example"], True),
        ("wasbs://c@account.blob.core.windows.net/x", ["*.blob.core.windows.net"], False),
        ("abfss://c@account.dfs.core.windows.net/x", [], True),
        ("mlflow-artifacts:/0/x", [], False),
        ("mlflow-artifacts://tracking.example:5000/0/x", [], False),
        ("mlflow-artifacts://evil.example:5000/0/x", None, True),
        ("http://me:secret@evil.example/x", None, True),
        ("ftp://evil.example/x", None, True),
        ("hdfs://evil.example/x", None, True),
        ("file:///data/x", None, False),
        ("runs:/0/x", None, False),
    ],
)
def test_storage_that_the_tracking_server_names_is_refused_on_hosts_that_are_not_allowed(
    place: str, hosts: list[str] | None, refused: bool
) -> None:
    from evalrunner.mlflow.client import refuse_artifacts

    refusal = refuse_artifacts(place, "http://tracking.example:5000", EgressPolicy.of(hosts))
    assert (refusal is not None) is refused
    assert "secret" not in (refusal or "")


@pytest.mark.mlflow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_a_tracking_server_outside_of_allow_hosts_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = {"type": "recorded", "column": "expected"}
    with ScriptedServer() as server:
        address = f"http://127.0.0.1:{server.port}"
        run = {"allow_hosts": ["models.example"]}
        said = f"{address} is not among the hosts that run.allow_hosts allows (models.example)"
        for keys, args in (
            ({"tracking": {"mlflow": {"uri": address}}}, ()),
            ({}, ("--mlflow", address)),
            ({"tracking": {"mlflow": {"uri": address}}, "dataset": {"mlflow": RUN_ID}}, ()),
            ({"target": {"type": "mlflow", "model_uri": "models:/qa@champion", "uri": address}}, ()),
        ):
            done = command(write(**{"target": recorded, "run": run, **keys}), "-q", *args)
            assert (done.code, server.connections) == (2, 0), done.err
            assert said in done.err
        assert command(write(target=recorded, run=run), "-q").code == 0
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        tracked = command("track", "last")
        assert (tracked.code, server.connections) == (2, 0), tracked.out + tracked.err
        assert said in tracked.err
        assert command(write(target=recorded, run=run, tracking={"mlflow": {}}), "-q").code == 2
        assert server.connections == 0


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.parametrize("model", ["nlp_cloud/m", "volcengine/m", "gigachat/m"])
def test_a_provider_with_unknown_hosts_is_listed_as_such_and_refused_for_a_stranger(model: str) -> None:
    """Its host is LiteLLM's decision: a trusted suite may leave it so, or limit it; an untrusted one may not name it."""
    suite = write(target={"model": model, "api_key": "key-canary-1"})
    plan = command("plan", suite, "--endpoints")
    assert plan.code == 0, plan.err
    assert "unknown host: LiteLLM decides (allow_hosts limits it)" in plan.out
    assert "literal value in the suite (api_key)" in plan.out
    for args in (["--untrusted"], ["--untrusted", "--allow-host", "*.example"]):
        done = command(suite, *args)
        assert done.code == 2
        assert "goes to hosts that only LiteLLM knows, which --untrusted refuses" in done.err


@pytest.mark.litellm
@pytest.mark.usefixtures("litellm")
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
def test_a_provider_with_unknown_hosts_obeys_a_list_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask_litellm("nlp_cloud/m", {}, ["models.example"], environ={})
    assert isinstance(answer, Failure) and answer.fatal, answer
    assert "is not among the hosts that run.allow_hosts allows (models.example)" in answer.message
