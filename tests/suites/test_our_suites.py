"""The suites in `suites/` run and produce what their comments say."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalrunner import SuiteResult, run_suite
from evalrunner.domain import Sample
from evalrunner.scorers.text import contains, exact_match
from tests.fakes.command import evalrun
from tests.fakes.server import ScriptedServer
from tests.suites.knowing import knows

SUITES = Path(__file__).parents[2] / "suites"
PROXY_KEY = f"sk-{'5e0a' * 16}"
PROXY_S = 120  # a LiteLLM proxy is up in 20 s on an idle machine


def questions(name: str) -> list[dict[str, str]]:
    with (SUITES / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics_of(folder: Path) -> dict[str, Any]:
    (run,) = folder.glob("runs/*/*")
    data = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {metric["name"]: metric for target in data["targets"].values() for metric in target["metrics"]}


def test_every_question_has_a_topic_id_and_accepted_answers_that_score() -> None:
    rows = questions("qa.csv")
    exact, inside = exact_match(normalize="squad").function, contains(normalize="squad", whole_words=True).function
    assert len(rows) == 52
    for row in rows:
        answers = tuple(row["expected"].split("|"))
        sample = Sample(row["id"], row["input"], answers)
        assert row["id"].startswith(row["topic"] + "-")
        assert answers == tuple(answer.strip() for answer in answers if answer.strip())
        assert [exact(answer, sample) for answer in answers] == [1] * len(answers)
        assert inside(f"I think it is {answers[0]}.", sample) == 1
        assert inside(row["input"], sample) == 0, "the question gives its answer away"
    assert max(Counter(row["id"] for row in rows).values()) == 1


def test_recorded_answers_are_scored_without_a_model() -> None:
    done = evalrun(str(SUITES / "recorded.yaml"))
    assert done.returncode == 0, done.stderr
    result = {
        name: (round(metric["value"], 3), metric["n"], metric["skipped"], metric["unscored"], metric["errors"])
        for name, metric in metrics_of(Path()).items()
        if metric["scorer"] in ("contains", "no_promise")
    }
    # of 25 rows two have no expected answer and one has no output
    assert result == {"contains/v1": (0.909, 22, 2, 1, 0), "no_promise/v1": (0.958, 24, 0, 1, 0)}


def test_the_proxy_suite_sends_requests_to_its_base_url() -> None:
    with ScriptedServer(knows) as server:
        env = {"LITELLM_BASE_URL": server.base_url, "LITELLM_API_KEY": "sk-of-the-proxy"}
        done = evalrun(str(SUITES / "proxy.yaml"), env=env)
    assert done.returncode == 0, done.stderr
    assert metrics_of(Path())["exact_match/v1"]["value"] == 1.0
    assert len(server.requests) == 52
    bodies = [request.json for request in server.requests]
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in bodies} == {("gateway-chat", 0, 256)}
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-of-the-proxy"}


def test_the_proxy_config_serves_the_model_of_the_proxy_suite() -> None:
    config = yaml.safe_load((SUITES / "proxy_config.yaml").read_text(encoding="utf-8"))
    suite = yaml.safe_load((SUITES / "proxy.yaml").read_text(encoding="utf-8"))
    assert [model["model_name"] for model in config["model_list"]] == [suite["target"]["model"]]


@pytest.mark.slow
@pytest.mark.litellm
def test_the_proxy_suite_runs_through_a_litellm_proxy(tmp_path: Path) -> None:
    with ScriptedServer(knows) as upstream, litellm_proxy(upstream.base_url, tmp_path) as base_url:
        env = {"LITELLM_BASE_URL": base_url, "LITELLM_API_KEY": PROXY_KEY}
        done = evalrun(str(SUITES / "proxy.yaml"), env=env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert metrics_of(Path())["exact_match/v1"]["value"] == 1.0
    chats = [request.json for request in upstream.requests if request.path == "/v1/chat/completions"]
    assert [body["model"] for body in chats] == ["llama3.2"] * 52


@contextmanager
def litellm_proxy(upstream: str, folder: Path) -> Iterator[str]:
    """The base URL of a LiteLLM proxy started with `proxy_config.yaml`."""
    program = shutil.which("litellm", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip("the proxy of LiteLLM is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--config", str(SUITES / "proxy_config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    ours = {"UPSTREAM_BASE_URL": upstream, "LITELLM_MASTER_KEY": PROXY_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    env = {**os.environ, **ours}
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "proxy.log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PROXY_S
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"no proxy after {PROXY_S} s:\n{log.read_text(errors='replace')[-4000:]}")


def ends(result: SuiteResult) -> Counter[str]:
    return Counter(result.table["finish_reason"])


@pytest.mark.model
@pytest.mark.local
@pytest.mark.slow
@pytest.mark.timeout(900)  # the embedded model has one thread, and this machine may be busy
def test_the_demo_passes_as_the_readme_says() -> None:
    result = run_suite(SUITES / "qa.yaml")
    assert result.exit_code == 0
    assert ends(result) == {"stop": 40}, "an answer was truncated: raise max_tokens"
    actual = {metric.name: metric for metric in result.details.targets["assistant"].metrics}
    metric = actual["contains/v1"]
    assert (metric.n, metric.unscored) == (40, 0)
    assert metric.low is not None
    assert metric.low > 0.7, "the threshold must be outside the 95% CI"
    # exact on the same processor, a few answers apart on another
    assert metric.value == pytest.approx(readme_value(), abs=0.08)


def readme_value() -> float:
    """The value of the first gate in README.md."""
    found = re.search(
        r"^PASS  contains >= 0.7   ([\d.]+) ", (SUITES.parent / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert found is not None
    return float(found[1])


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_prompt_without_the_text_fails_the_gate() -> None:
    result = run_suite(SUITES / "regression.yaml")
    assert result.exit_code == 1
    (gate,) = result.details.gates
    assert gate.baseline is not None
    assert gate.baseline.worse is not None
    assert gate.baseline.worse >= 15
    assert f"{gate.baseline.worse} samples got worse, 0 got better" in gate.reason
    assert result.metrics["contains/v1"] < 0.1


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_prompts_are_compared() -> None:
    result = run_suite(SUITES / "compare.yaml")
    assert result.exit_code == 0
    assert ends(result) == {"stop": 40}
    metrics = result.metrics
    assert metrics["short/exact_match/v1"] > metrics["sentence/exact_match/v1"]
    comparison = result.details.comparison
    assert comparison is not None
    assert comparison.family == 2
    assert {pair.n for metric in comparison.metrics for pair in metric.pairs} == {20}


def test_the_baseline_is_one_of_the_questions() -> None:
    head, *rows = (SUITES / "baselines/qa/main.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(head)["targets"]["assistant"]["host"] == "this machine"
    assert {json.loads(row)["id"] for row in rows} == {row["id"] for row in questions("reading.csv")}


def test_reading_questions_have_their_answer_in_the_text() -> None:
    inside = contains(normalize="squad", whole_words=True).function
    rows = questions("reading.csv")
    assert len(rows) == 40
    for row in rows:
        sample = Sample(row["id"], row["input"], tuple(row["expected"].split("|")))
        assert inside(row["passage"], sample) == 1, row
        assert inside(row["input"], sample) == 0, row


def test_the_factuality_suite_names_the_variable_of_its_judge() -> None:
    done = evalrun("validate", str(SUITES / "factuality.yaml"))
    assert done.returncode == 2
    assert "EVALRUN_JUDGE" in done.stderr
