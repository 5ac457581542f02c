"""Every connection of the process, as the kernel sees it: shipped suites and all kinds of targets reach named hosts only."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalrunner.endpoints.local import weights_path
from tests.fakes.command import ROOT, command_env
from tests.fakes.server import ScriptedServer
from tests.suites.knowing import knows

INET = re.compile(
    r"(?:connect|sendto|sendmsg|sendmmsg)\(.*?sin6?_port=htons\((?P<port>\d+)\).*?"
    r"(?:inet_addr\(\"(?P<v4>[^\"]+)\"\)|inet_pton\(AF_INET6, \"(?P<v6>[^\"]+)\")"
)
SUITES = sorted(path.name for path in (ROOT / "suites").glob("*.yaml") if path.name != "proxy_config.yaml")
GUARD = """
import os, sys
leave = os._exit  # which nothing can catch, before evalrun replaces it for user-defined code
def guard(event, args):
    client = event == "import" and args[0] in ("pyreqwest", "httpx", "mlflow", "litellm")
    code = event == "exec" and getattr(args[0], "co_filename", "").endswith("own.py")
    if client or code or (event.startswith("socket.") and event != "socket.__new__"):
        os.write(2, f"GUARD: {event} {args[:1]}".encode())
        leave(97)
sys.addaudithook(guard)
sys.argv[0] = "evalrun"
from evalrunner.cli.main import main
main()
"""
ROWS = {"rows": [{"id": "a", "input": "What is the capital of France?", "expected": "Paris"}]}


def can_trace() -> bool:
    """Whether strace is installed and allowed here."""
    done = (
        subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False) if shutil.which("strace") else None
    )
    return done is not None and done.returncode == 0


needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or not allowed here")


def connections(*args: str, **environ: str) -> tuple[subprocess.CompletedProcess[str], set[tuple[str, int]]]:
    """The finished command, and the addresses that it or a process of it has connected or sent to, DNS included."""
    trace = Path("trace")
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", trace, sys.executable, "-m", "evalrunner", *args],
        env={**command_env(), "PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = INET.finditer(trace.read_text(errors="replace"))
    return done, {(match["v4"] or match["v6"], int(match["port"])) for match in found}


def write(**keys: Any) -> str:
    Path("s.yaml").write_text(json.dumps({"name": "s", "dataset": ROWS, "scorers": ["contains"], **keys}, indent=1))
    return "s.yaml"


@needs_strace
def test_the_trace_sees_connections_and_names_that_are_looked_up() -> None:
    with ScriptedServer() as server:
        target = {"model": "m", "base_url": server.base_url}
        assert connections(write(target=target), "-q")[1] == {("127.0.0.1", server.port)}
    lookup = {"model": "m", "base_url": "http://no-such-host.example/v1"}
    done, reached = connections(write(target=lookup, run={"retries": 0}), "-q")
    assert done.returncode == 3
    assert 53 in {port for _, port in reached} or reached == set()  # a machine without a name server asks none


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SUITES)
def test_a_shipped_suite_reaches_named_hosts_only(name: str) -> None:
    shutil.copytree(ROOT / "suites", "suites")
    text = Path("suites", name).read_text()
    if "local/" in text and (importlib.util.find_spec("xllamacpp") is None or not weights_path().is_file()):
        pytest.skip("the embedded model is not available")
    if "mlflow" in name and importlib.util.find_spec("mlflow") is None:
        pytest.skip("the extra 'mlflow' is not installed")
    with ScriptedServer(knows) as server:
        environ = {"LITELLM_BASE_URL": server.base_url, "LITELLM_API_KEY": "sk-1234567"}
        environ |= {"EVALRUN_JUDGE": "openai/judge", "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-1234567"}
        done, reached = connections(f"suites/{name}", "--limit", "2", "--no-gates", "-q", **environ)
        assert done.returncode in (0, 3), done.stderr  # 3: the judge knows nothing
        allowed = {("127.0.0.1", server.port)} if "LITELLM_BASE_URL" in text or "EVALRUN_JUDGE" in text else set()
        if "local/" in text:  # llama.cpp's own server on the loopback
            reached = {(host, port) for host, port in reached if host not in ("127.0.0.1", "::1")}
        assert reached <= allowed


TARGETS: dict[str, dict[str, Any]] = {
    "pyreqwest": {"model": "m", "base_url": "BASE", "transport": "pyreqwest"},
    "httpx": {"model": "m", "base_url": "BASE", "transport": "httpx"},
    "http": {"type": "http", "url": "BASE/ask", "body": {"q": "{{ input }}"}},
    "litellm": {"model": "groq/m", "api_key": "sk-1234567", "params": {"api_base": "BASE"}},
    "openai": {"model": "openai/m", "api_key": "sk-1234567"},
    "recorded": {"type": "recorded", "column": "expected"},
    "python": {"type": "python", "function": "own.py:answer"},
}


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
def test_a_kind_of_target_reaches_named_hosts_only(kind: str) -> None:
    if kind == "litellm" and importlib.util.find_spec("litellm") is None:
        pytest.skip("the extra 'litellm' is not installed")
    Path("own.py").write_text("def answer(input):\n    return 'Paris'\n")
    with ScriptedServer() as server:
        target = json.loads(json.dumps(TARGETS[kind]).replace("BASE", server.base_url))
        judge = target if kind == "litellm" else {"model": "j", "base_url": server.base_url}
        suite = write(target=target, judge=judge, scorers=["contains", "factuality"], judge_check="warn")
        done, reached = connections(suite, "-q", OPENAI_BASE_URL=server.base_url)
        assert done.returncode in (0, 3), done.stderr
        assert reached == {("127.0.0.1", server.port)}  # the judge is asked in each of them


@needs_strace
@pytest.mark.slow
@pytest.mark.mlflow
def test_tracking_reaches_the_tracking_server_only(mlflow_address: str) -> None:
    recorded = {"type": "recorded", "column": "expected"}
    log = ["metrics", "table", "report", "dataset", "traces"]
    done, reached = connections(write(target=recorded, tracking={"mlflow": {"uri": mlflow_address, "log": log}}), "-q")
    assert done.returncode == 0, done.stderr
    assert reached == {("127.0.0.1", int(mlflow_address.rpartition(":")[2]))}


EVERYTHING = {
    "dataset": "/data/elsewhere.jsonl",
    "prompt": [{"user": {"file": "/etc/hostname"}}],
    "targets": [
        {"name": "evil", "model": "m", "base_url": "https://evil.example/v1/${TEAM}", "api_key": "${KEY_A}",
         "headers": {"X": "${OPENAI_API_KEY}", "Y": "literal"}},
        "openai/gpt-5-mini",
        "anthropic/claude-3-5-haiku-latest",
        {"name": "cloud", "model": "bedrock/anthropic.x", "params": {
            "api_key": "abcdefgh", "aws_session_token": "os.environ/OTHER", "extra_headers": {"X": "abc"}}},
        "nlp_cloud/m",
        {"name": "gateway", "model": "groq/m", "params": {"api_base": "http://gateway.example:4000"}},
        {"name": "service", "type": "http", "url": "http://service.example:8000/x?k=${SERVICE_KEY}", "body": "a"},
        {"name": "code", "type": "python", "function": "../own.py:answer"},
        {"name": "plugin", "type": "own:answer"},
        {"name": "champion", "type": "mlflow", "model_uri": "models:/qa@champion"},
        {"name": "client", "model": "m", "base_url": "http://client.example", "transport": {"client": "own:client"}},
    ],
    "judge": {"model": "j", "base_url": "https://user:literal@judge.example"},
    "scorers": ["factuality", {"type": "own.x:score", "name": "score"}],
    "gates": [{"metric": "factuality", "baseline": "../base.jsonl", "max_drop": 0.1}],
    "tracking": {"mlflow": {"uri": "https://me:${MLFLOW_PASSWORD}@tracking.example"}},
    "run": {"allow_hosts": ["*.example"]},
}  # fmt: skip


def endpoints(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`evalrun plan --endpoints` in a process that ends at the first socket or import of user-defined code."""
    return subprocess.run(
        [sys.executable, "-c", GUARD, "plan", "s.yaml", "--endpoints", *args],
        env={**command_env(), "PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_list_of_endpoints_names_every_host_secret_and_file_and_asks_nobody() -> None:
    Path("own.py").write_text("raise SystemExit('imported')\n")
    write(**EVERYTHING)
    done = endpoints(
        "--json", HTTPS_PROXY="http://me:secret@proxy.example:3128", KEY_A="canary-aaaa", TEAM="canary-team"
    )
    assert (done.returncode, done.stderr) == (0, "")
    (data,) = json.loads(done.stdout)
    hosts = {item["address"]: item for item in data["hosts"]}
    secrets = {address: item["secrets"] for address, item in hosts.items()}
    assert secrets["https://evil.example"] == [
        "KEY_A (api_key)", "OPENAI_API_KEY (header X)", "literal value in the suite (header Y)", "TEAM (base_url)",
    ]  # fmt: skip
    assert secrets["https://api.openai.com"] == ["OPENAI_API_KEY (not set)"]
    assert secrets["https://api.anthropic.com"] == ["ANTHROPIC_API_KEY (not set)"]
    assert secrets["https://*.amazonaws.com"][-3:] == [
        "literal value in the suite (params.api_key)", "OTHER (params.aws_session_token)",
        "literal value in the suite (params.extra_headers.X)",
    ]  # fmt: skip
    assert secrets["http://gateway.example:4000"] == ["GROQ_API_KEY (not set)"]
    assert secrets["http://service.example:8000"] == ["SERVICE_KEY (url)"]
    assert secrets["https://judge.example"] == ["literal value in the suite (login of base_url)"]
    assert secrets["https://tracking.example"] == ["MLFLOW_PASSWORD"]
    assert (hosts[None]["for"], hosts[None]["secrets"]) == (["target nlp_cloud/m"], ["NLP_CLOUD_API_KEY (not set)"])
    assert hosts["https://tracking.example"]["for"] == ["sending the run to MLflow", "model of target champion"]
    assert hosts["https://evil.example"]["refusal"] is None
    assert "run.allow_hosts" in hosts["https://api.openai.com"]["refusal"]
    assert {"variable": "HTTPS_PROXY", "address": "http://proxy.example:3128 with a login"} in data["proxies"]
    files = {item["path"]: item["for"] for item in data["files"]}
    home = Path.cwd().parent
    assert files["/data/elsewhere.jsonl"] == ["dataset"]
    assert files[str(Path("/etc/hostname").resolve())] == ["prompt"]
    assert files[str(home / "base.jsonl")] == ["baseline"]
    assert files[str(home / "own.py")] == ["code of target code"]
    assert [item["reference"] for item in data["code"]] == [
        "../own.py:answer", "own:answer", "models:/qa@champion", "own.x:score", "own:client",
    ]  # fmt: skip
    assert "canary" not in done.stdout and "me:secret" not in done.stdout
    told = endpoints(KEY_A="canary-aaaa")
    assert told.returncode == 0 and "canary" not in told.stdout
    for address in filter(None, hosts):
        assert f"  {address}\n" in told.stdout


@pytest.mark.parametrize("kind", ["python", "pyreqwest"])
def test_the_guard_of_these_tests_ends_a_plan_that_imports_code_or_clients(kind: str) -> None:
    Path("own.py").write_text("def answer(input):\n    return 'Paris'\n")
    write(target=json.loads(json.dumps(TARGETS[kind]).replace("BASE", "http://127.0.0.1:1/v1")))
    done = subprocess.run(
        [sys.executable, "-c", GUARD, "plan", "s.yaml"],
        env={**command_env(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 97
    assert "GUARD: " in done.stderr


def test_files_inside_of_the_folder_are_not_listed_and_links_out_of_it_are() -> None:
    Path("inside.jsonl").write_text('{"input": "a", "expected": "a"}\n')
    outside = Path.cwd().parent / "outside.jsonl"
    outside.write_text('{"input": "a", "expected": "a"}\n')
    Path("link.jsonl").symlink_to(outside)
    recorded = {"type": "recorded", "column": "expected"}
    for name, listed in {
        "inside.jsonl": [],
        "./inside.jsonl": [],
        "link.jsonl": [str(outside)],
        "*.jsonl": [str(outside)],
    }.items():
        write(dataset=name, target=recorded)
        (data,) = json.loads(endpoints("--json", SSL_CERT_FILE="", REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="").stdout)
        assert ([item["path"] for item in data["files"]], data["hosts"], data["code"]) == (listed, [], [])


def test_json_of_a_plan_is_the_list_of_endpoints() -> None:
    write(target={"type": "recorded", "column": "expected"})
    done = subprocess.run(
        [sys.executable, "-m", "evalrunner", "plan", "s.yaml", "--json"],
        env={**command_env(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--json needs --endpoints" in done.stderr
