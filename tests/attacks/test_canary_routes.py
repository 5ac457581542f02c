"""Canaries on the way to a server: proxies with a login that are really used, logins in addresses, options of clouds.

Each server and proxy replies with what it received and with the canaries, in plain text and in base64.
"""

from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from evalrunner.view.server import make_server
from tests.attacks.counts import Attacks
from tests.attacks.spellings import find_canaries, search_folder
from tests.attacks.test_canary import command
from tests.fakes.server import Action, Answer, ScriptedServer, Status

CANARIES = {
    name: f"{name.replace('_', '')[:10]}.Q7{place:02d}_zK4x-9mW{place:02d}v"
    for place, name in enumerate(
        ("http_proxy", "https_proxy", "base_url", "service_url", "path_variable", "query_variable", "azure_key", "azure_token",
         "aws_secret", "aws_session", "aws_param", "vertex_key", "mlflow_login", "mlflow_token", "dataset_login")
    )
}  # fmt: skip
VERTEX = {
    "type": "service_account", "project_id": "p", "client_email": "a@p.example", "token_uri": "http://127.0.0.1:9/token",
    "private_key_id": "1", "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARIES['vertex_key']}\n-----END PRIVATE KEY-----\n",
}  # fmt: skip
ROWS = {
    "rows": [{"id": f"{n}", "input": text, "expected": "ok"} for n, text in enumerate(("answer", "error", "login"))]
}


PROXIES = ("http_proxy", "https_proxy")
CLOUD = ("azure_key", "azure_token", "aws_secret", "aws_session", "aws_param", "vertex_key")


def echo(server: ScriptedServer, *names: str) -> Any:
    """Answers, errors and refused logins with what the request carried, and two canaries in plain text and in base64."""
    order = cycle(CANARIES[name] for name in names)

    def script(request: Any, nth: int) -> Action:
        last = server.requests[-1]
        texts = [
            next(order),
            base64.b64encode(f"me:{next(order)}".encode()).decode(),
            last.path,
            *last.headers.values(),
        ]
        text = " ".join("".join(sign if " " <= sign < "\x7f" else " " for sign in part) for part in texts)
        body = json.dumps(request)
        if last.method == "CONNECT" or "login" in body:
            return Status(407 if last.method == "CONNECT" else 401, f"no {text}", headers={"proxy-authenticate": text})
        return Status(400, {"error": {"message": text}}) if '"error"' in body else Answer(f"ok {text}")

    return script


OUTPUTS = ("t.csv", "j.xml", "m.md", "h.html", "t.xlsx", "t.parquet")


def pages_of_view() -> Iterator[tuple[str, str]]:
    """The pages that `evalrun view` has of the newest run, with their headers."""
    run = max(Path("runs/s").iterdir())
    server = make_server(Path("runs"), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for page in (
            "/",
            "/suites/s",
            f"/runs/s/{run.name}",
            f"/runs/s/{run.name}/report.html",
            f"/runs/s/{run.name}/run.json",
        ):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
            connection.request("GET", page)
            answer = connection.getresponse()
            yield (
                page.replace(run.name, "RUN"),
                f"{answer.status} {answer.headers}\n{answer.read().decode(errors='replace')}",
            )
            connection.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_and_search(suite: dict[str, Any], folder: Path, attacks: Attacks, name: str, *more: str) -> None:
    """Every command on a suite, with the canaries that its output or a file has."""
    Path("s.yaml").write_text(json.dumps({"name": "s", "dataset": ROWS, "scorers": ["contains"], **suite}))
    outputs = [part for file in OUTPUTS for part in ("-o", file)]
    for args in (
        ["validate", "s.yaml"],
        ["plan", "s.yaml", "--offline"],
        ["plan", "s.yaml", "--offline", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["plan", "s.yaml", "--endpoints"],
        ["plan", "s.yaml", "--endpoints", "--json"],
        ["s.yaml", "--debug", "--set", "cache=all", "--verbose", "--junit-rows", *outputs, *more],
        ["show", "last", "--failed"],
        ["show", "last", "--json"],
        ["comment", "last"],
        ["runs"],
    ):
        done = command(*args)
        assert done.code in (0, 1, 2, 3), args
        found = sorted(find_canaries(f"{done.out}\n{done.err}", CANARIES))
        attacks.add(f"{name}: {' '.join(args[:3])}", [f"prints {canary}" for canary in found])
    for page, text in pages_of_view():
        attacks.add(f"{name}: {page}", [f"shows {canary}" for canary in sorted(find_canaries(text, CANARIES))])
    own = {"s.yaml", ".env"}
    files = [(file, canary) for file, canary in sorted(search_folder(folder, CANARIES)) if file not in own]
    attacks.add(f"{name}: files", [f"{file} has {canary}" for file, canary in files])


def of_targets(*targets: dict[str, Any]) -> dict[str, Any]:
    return {
        "targets": [{"name": f"t{place}", **target} for place, target in enumerate(targets)],
        "run": {"retries": 0, "row_timeout": 30},
    }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALRUN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def models(host: str, scheme: str = "http") -> list[dict[str, Any]]:
    """A target of each transport at an address."""
    return [
        {"model": "m", "base_url": f"{scheme}://{host}/v1", "transport": "pyreqwest"},
        {"model": "m", "base_url": f"{scheme}://{host}/v1", "transport": "httpx"},
        {"type": "http", "url": f"{scheme}://{host}/ask", "body": {"q": "{{ input }}"}},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_login_of_a_proxy_in_use_is_shown(
    scheme: str, folder: Path, monkeypatch: pytest.MonkeyPatch, attacks: Attacks
) -> None:
    """The hosts do not exist: every request goes through the proxy, with its login."""
    with ScriptedServer() as proxy:
        proxy.script = echo(proxy, *PROXIES)
        for variable in ("http_proxy", "https_proxy"):
            address = f"http://me:{CANARIES[variable]}@127.0.0.1:{proxy.port}"
            monkeypatch.setenv(variable, address)
            monkeypatch.setenv(variable.upper(), address)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        run_and_search(of_targets(*models("models.example", scheme)), folder, attacks, scheme)
        login = base64.b64encode(f"me:{CANARIES[f'{scheme}_proxy']}".encode()).decode()
        sent = [one for one in proxy.requests if login in one.headers.get("proxy-authorization", "")]
        assert len(sent) >= 3  # a refused login ends a target
    attacks.check()


@pytest.mark.slow
@pytest.mark.litellm
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
def test_no_login_of_a_proxy_that_litellm_uses_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, attacks: Attacks
) -> None:
    pytest.importorskip("litellm")
    with ScriptedServer() as proxy:
        proxy.script = echo(proxy, *PROXIES, "azure_key")
        for variable in PROXIES:
            for name in (variable, variable.upper()):
                monkeypatch.setenv(name, f"http://me:{CANARIES[variable]}@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("DEEPSEEK_API_KEY", CANARIES["azure_key"])
        target = {"model": "deepseek/m", "params": {"api_base": "http://models.example/v1"}}
        run_and_search(of_targets(target), folder, attacks, "litellm")
        assert any("proxy-authorization" in one.headers for one in proxy.requests)
    attacks.check()


@pytest.mark.slow
def test_no_login_or_variable_of_an_address_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, attacks: Attacks
) -> None:
    monkeypatch.setenv("TEAM", CANARIES["path_variable"])
    monkeypatch.setenv("QUERY", CANARIES["query_variable"])
    with ScriptedServer() as server:
        server.script = echo(server, "base_url", "path_variable", "query_variable")
        host = f"127.0.0.1:{server.port}"
        logins = [{**target, "base_url": f"http://me:{CANARIES['base_url']}@{host}/v1"} for target in models(host)[:2]]
        variables = [{**target, "base_url": f"http://{host}/${{TEAM}}/v1"} for target in models(host)[:2]]
        variables += [{**models(host)[2], "url": f"http://{host}/${{TEAM}}/ask?k=${{QUERY}}"}]
        run_and_search(of_targets(*logins, *variables), folder, attacks, "address")
        seen = " ".join(f"{one.path} {one.headers}" for one in server.requests)
        assert CANARIES["path_variable"] in seen and CANARIES["query_variable"] in seen
        assert base64.b64encode(f"me:{CANARIES['base_url']}".encode()).decode() in seen
        for target, place, url in (
            (models(host)[2], "url", f"http://me:{CANARIES['service_url']}@{host}/ask"),
            (models(host)[0], "base_url", f"http://{host}/${{TEAM}}/v1?k=${{QUERY}}"),
            (models(host)[0], "base_url", f"http://{host}/${{TEAM}}/v1#${{QUERY}}"),
            (models(host)[0], "base_url", f"ftp://{host}/${{TEAM}}"),
            (models(host)[0], "base_url", f"http://[{host}/${{TEAM}}"),
            (models(host)[0], "base_url", f"http://{host}:${{TEAM}}/v1"),
            (models(host)[2], "url", f"http://[{host}/${{TEAM}}"),
        ):
            Path("w.yaml").write_text(
                json.dumps({"name": "w", "dataset": ROWS, "target": {**target, place: url}, "scorers": ["contains"]})
            )
            done = command("validate", "w.yaml")
            assert done.code == 2, url
            attacks.add(f"refused {url}", [done.err] if find_canaries(done.out + done.err, CANARIES) else [])
        dataset = f"https://me:{CANARIES['dataset_login']}@{host}/d.csv"
        Path("d.yaml").write_text(
            json.dumps({"name": "d", "dataset": dataset, "target": models(host)[0], "scorers": ["contains"]})
        )
        done = command("validate", "d.yaml")
        attacks.add("address of a dataset", [done.err] if find_canaries(done.out + done.err, CANARIES) else [])
    attacks.check()


@pytest.mark.slow
@pytest.mark.litellm
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_no_key_of_a_cloud_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch, attacks: Attacks) -> None:
    pytest.importorskip("litellm")
    with ScriptedServer() as server:
        server.script = echo(server, *CLOUD)
        address = f"http://127.0.0.1:{server.port}"
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": CANARIES["aws_secret"], "AWS_REGION": "us-east-1",
            "AWS_SESSION_TOKEN": CANARIES["aws_session"], "AZURE_API_KEY": CANARIES["azure_key"], "AZURE_API_BASE": address,
            "AWS_BEDROCK_RUNTIME_ENDPOINT": address, "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        version = {"api_version": "2024-10-21"}
        cloud = [
            {"model": "azure/deployment", "params": version},
            {"model": "azure/deployment", "params": {**version, "azure_ad_token": CANARIES["azure_token"]}},
            {"model": "bedrock/anthropic.claude-3-haiku-20240307-v1:0"},
            {
                "model": "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
                "params": {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": CANARIES["aws_param"], "aws_region_name": "us-east-1"},
            },
            {"model": "vertex_ai/gemini-2.0-flash", "params": {"vertex_credentials": json.dumps(VERTEX), "vertex_project": "p"}},
        ]  # fmt: skip
        run_and_search(of_targets(*cloud), folder, attacks, "cloud")
        seen = " ".join(f"{one.path} {one.headers}" for one in server.requests)
        assert CANARIES["azure_key"] in seen or CANARIES["azure_token"] in seen, seen[:500]
    attacks.check()


@pytest.mark.slow
@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # those of MLflow's import
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra 'mlflow' is not installed")
def test_no_login_of_a_tracking_server_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, attacks: Attacks
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", CANARIES["mlflow_token"])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ScriptedServer() as server:
        server.script = echo(server, "mlflow_login", "mlflow_token")
        suite = {"target": {"type": "recorded", "column": "expected"}}
        address = f"http://me:{CANARIES['mlflow_login']}@127.0.0.1:{server.port}"
        run_and_search({**suite, "tracking": {"mlflow": {"uri": address}}}, folder, attacks, "suite")
        run_and_search(suite, folder, attacks, "option", "--mlflow", address)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        done = command("track", "last", "--mlflow")
        attacks.add("track", sorted(find_canaries(done.out + done.err, CANARIES)))
        assert server.calls > 0
    attacks.check()


@pytest.mark.slow
def test_the_search_finds_in_every_sink_what_is_no_key_of_the_process(folder: Path, attacks: Attacks) -> None:
    """The counterpart of the tests above: their server, but its canaries are nobody's keys."""
    with ScriptedServer() as server:
        server.script = echo(server, "http_proxy", "aws_secret")
        counter = Attacks()
        run_and_search(of_targets(*models(f"127.0.0.1:{server.port}")), folder, counter, "nobody's")
    for place in ("s.yaml --debug", "show last --failed", "/runs/s/RUN/report.html", "files"):
        found = [line for line in counter.lines if place in line]
        attacks.add(place, [] if found else ["no canary was found"])
    for file in (*OUTPUTS, "rows.jsonl", "table.csv", "report.html"):
        found = [line for line in counter.lines if f"{file} has" in line]
        attacks.add(file, [] if found else ["no canary was found"])
    attacks.check()
