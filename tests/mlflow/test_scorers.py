"""The scorer `mlflow` in whole runs: metrics of MLflow, and a judge on a real socket that only evalrun calls."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, SuiteResult, run_suite
from evalrunner.domain import Completion, Failure
from evalrunner.endpoints.pricing import KnownPrice, Price
from evalrunner.engine.estimate import ModelPrices
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.mlflow.judge_proxy import TOKEN_HEADER, PendingCall, judge_proxy
from evalrunner.mlflow.scorers import mlflow
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES
from tests.engine.test_estimate import estimates
from tests.fakes.pronouncing import write_dictionary
from tests.fakes.server import Action, Answer, Hang, Script, ScriptedServer, Status, always
from tests.scorers.scorer_calls import ScriptedJudge, cell_of, judged

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra 'mlflow' is not installed"),
]

ROOT = Path(__file__).parents[2]
ROWS = [
    {"id": "1", "input": "Capital of France?", "expected": "Paris", "out": "Paris", "passage": "Paris is in France."},
    {"id": "2", "input": "Capital of Peru?", "expected": "Lima", "out": "It is Lima, I believe.", "passage": "Lima."},
    {"id": "3", "input": "Capital of Italy?", "expected": "Rome", "out": "Milan.", "passage": "Rome is old."},
]
MARK = Answer("score: 4\njustification: close enough", input_tokens=100, output_tokens=20)
YES = Answer(json.dumps({"result": "yes", "rationale": "it says so"}))


def write(scorers: str, more: str = "", rows: Any = ROWS) -> Path:
    Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("m.yaml").write_text(
        f"name: m\ndataset: data.jsonl\ntarget: {{type: recorded, column: out}}\nscorers: {scorers}\n{more}"
    )
    return Path("m.yaml")


def run(scorers: str, more: str = "", rows: Any = ROWS, **options: Any) -> SuiteResult:
    return run_suite(write(scorers, more, rows), options=RunOptions(**{"wait_scale": 0.01, **options}))


def run_judged(
    script: Script, scorers: str, more: str = "", rows: Any = ROWS, **options: Any
) -> tuple[SuiteResult, ScriptedServer]:
    with ScriptedServer(script) as server:
        judge = f'judge: {{model: judge-1, base_url: "{server.base_url}", prices: {{input: 1, output: 10}}}}\n'
        return run(scorers, judge + more, rows, **options), server


def cells(result: SuiteResult, name: str) -> list[Any]:
    rows = sorted(read_rows(result.folder), key=lambda row: row.sample.index)
    return [row.cells[name] for row in rows]


def problems(scorers: str, more: str = "", rows: Any = ROWS) -> str:
    with pytest.raises(SuiteError) as refused:
        run(scorers, more, rows)
    assert not Path("runs").exists() or not list(Path("runs").rglob("rows.jsonl"))
    return str(refused.value)


# Metrics without a judge


def test_the_numbers_are_those_of_mlflow_on_the_same_rows() -> None:
    import pandas as pd

    result = run("[{type: mlflow, metric: exact_match}, {type: mlflow, metric: mlflow.metrics.ari_grade_level}]")
    frame = pd.DataFrame(ROWS)
    with quiet_mlflow():
        import mlflow.metrics

        exact = mlflow.metrics.exact_match().eval_fn(frame["out"], frame["expected"], {})
        grade = mlflow.metrics.ari_grade_level().eval_fn(frame["out"], None, {})
    assert result.metrics["exact_match/v1"] == pytest.approx(exact.aggregate_results["exact_match"], abs=1e-9)
    table = result.table
    assert table["exact_match/v1/score"].tolist() == [1.0, 0.0, 0.0]
    assert table["ari_grade_level/v1/score"].tolist() == pytest.approx(grade.scores, abs=1e-9)
    for name in ("mean", "variance", "p90"):
        ours = result.metrics[f"ari_grade_level/v1/{name}"]
        assert ours == pytest.approx(grade.aggregate_results[name], abs=1e-9)


def test_lists_of_document_ids() -> None:
    rows = [{"id": "1", "input": "q", "expected": ["a", "b"], "out": '["a", "x", "b", "c"]'}]
    result = run(
        "[{type: mlflow, metric: precision_at_k, params: {k: 2}}, {type: mlflow, metric: recall_at_k, params: {k: 4}}]",
        rows=rows,
    )
    assert (result.metrics["precision_at_2/mean"], result.metrics["recall_at_4/mean"]) == (0.5, 1.0)
    text = run("[{type: mlflow, metric: ndcg_at_k, params: {k: 2}}]", rows=[{**rows[0], "out": "Paris"}])
    (cell,) = cells(text, "ndcg_at_2")
    assert cell.state == "error"
    assert "needs outputs that are a JSON list of document ids" in cell.message


def test_the_best_of_several_accepted_answers_counts() -> None:
    assert cell_of(mlflow(metric="exact_match"), "b", "a", "b").value == 1.0


def test_a_metric_without_a_score_is_an_error_with_the_warning_of_mlflow() -> None:
    """MLflow logs a warning and omits the metric."""
    scorer = mlflow(metric="precision_at_k", params={"k": 1})
    scorer.function.name = "precision"  # the output is passed to MLflow as text, but it needs a list
    cell = cell_of(scorer, "no list", "a")
    assert (cell.state, cell.value) == ("error", None)
    assert cell.message is not None
    assert cell.message.startswith(
        "function: MLflow's precision returned no score: Cannot calculate metric 'precision_at_k'"
    )


def test_metrics_that_need_a_download_are_refused_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[Any] = []
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: reached.append(to) or connect(self, to))
    message = problems("[{type: mlflow, metric: rouge1}, {type: mlflow, metric: bleu}]")
    assert "metric 'rouge1' needs code that is not found on this machine. MLflow loads it from " in message
    assert "the Hugging Face hub, a host that the suite does not name" in message
    assert reached == []


def evalrun_elsewhere(**environ: str) -> subprocess.CompletedProcess[str]:
    """`evalrun m.yaml --json` in a new process."""
    code = "import sys; from evalrunner.cli.main import main; sys.argv = ['evalrun', 'm.yaml', '--json']; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.skipif(importlib.util.find_spec("textstat") is None, reason="the package textstat is not installed")
def test_grade_levels_equal_those_of_the_built_in_scorer(tmp_path: Path) -> None:
    write("[flesch_kincaid_grade_level, {type: mlflow, metric: flesch_kincaid_grade_level, name: theirs}]")
    ran = evalrun_elsewhere(NLTK_DATA=str(write_dictionary(tmp_path)))
    assert ran.returncode == 0, ran.stderr
    values = {item["name"]: item["value"] for item in json.loads(ran.stdout)["targets"]["recorded"]["metrics"]}
    for name in ("mean", "variance", "p90"):
        assert values[f"theirs/v1/{name}"] == pytest.approx(values[f"flesch_kincaid_grade_level/v1/{name}"], abs=1e-9)


KEPT = """\
import datasets, evaluate

class Rouge(evaluate.Metric):
    def _info(self):
        texts = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(description="kept", citation="", features=datasets.Features(texts))

    def _compute(self, predictions, references, rouge_types, use_aggregator):
        return {name: [float(len(text)) / 100 for text in predictions] for name in rouge_types}
"""


@pytest.mark.skipif(importlib.util.find_spec("evaluate") is None, reason="the package evaluate is not installed")
def test_a_cached_metric_works_for_concurrent_rows() -> None:
    folder = Path("modules/evaluate_modules/metrics/evaluate-metric--rouge", "a" * 64)
    folder.mkdir(parents=True)
    for place in (folder, *folder.parents[:4]):
        (place / "__init__.py").touch()
    (folder / "rouge.py").write_text(KEPT)
    rows = [{"id": str(i), "input": "q", "expected": "x", "out": "y" * (i + 1)} for i in range(20)]
    write("[{type: mlflow, metric: rouge1}, {type: mlflow, metric: rougeL}]", "run: {concurrency: 10}\n", rows)
    home = Path("home").absolute()
    ran = evalrun_elsewhere(HF_MODULES_CACHE=str(Path("modules").absolute()), HF_HOME=str(home))
    assert ran.returncode == 0, ran.stderr
    values = {item["name"]: item["value"] for item in json.loads(ran.stdout)["targets"]["recorded"]["metrics"]}
    assert values["rouge1/v1/mean"] == values["rougeL/v1/mean"] == pytest.approx(0.105)
    assert "latest cached version" not in ran.stderr


def test_a_script_of_the_working_folder_is_not_run_as_a_metric() -> None:
    Path("rouge").mkdir()
    Path("rouge/rouge.py").write_text("open('was-run', 'w')")
    assert "the working folder has rouge/rouge.py" in problems("[{type: mlflow, metric: rouge1}]")
    assert not Path("was-run").exists()


def test_rules_of_mlflow_need_no_judge() -> None:
    result = run(
        "[{type: mlflow, metric: ResponseLength, params: {max_length: 6}}, {type: mlflow, metric: PIIDetection}]"
    )
    assert result.metrics["response_length"] == pytest.approx(2 / 3)
    assert result.metrics["pii_detection"] == 1.0
    assert cells(result, "response_length")[1].detail == {
        "explanation": "Output length (22 chars) exceeds the maximum (6 chars)"
    }


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ("metric: answer_similarty", "MLflow has no metric 'answer_similarty'; did you mean 'answer_similarity'?"),
        ("metric: precision_at_k, params: {kk: 3}", "does not accept; did you mean 'k'?; it accepts k"),
        ("metric: precision_at_k", "metric 'precision_at_k' needs params: {k: …}"),
        ("metric: precision_at_k, params: {k: 0}", "'k' should be a positive integer; found: 0"),
        ("metric: Guidelines, params: {guidelines: 3}", "metric 'Guidelines': guidelines: "),
        (
            "metric: answer_similarity, params: {model: 'openai:/gpt-4'}",
            "has 'model', which the suite decides: with its judge (and the judge's params), run.timeout and",
        ),
        (
            "metric: Correctness, params: {inference_params: {temperature: 0.5}}",
            "has 'inference_params', which the suite",
        ),
        ("metric: Safety, params: {timeout: 3}", "has 'timeout', which the suite decides"),
        ("metric: make_genai_metric_from_prompt, params: {name: fun}", "needs params: {judge_prompt: …}"),
        ("metric: mae", "is one number for a whole dataset"),
        ("metric: latency", "is measured in every run"),
        ("metric: token_count", "from a host that the suite does not name"),
        ("metric: toxicity", "use {type: toxicity"),
        ("metric: RetrievalGroundedness", "needs MLflow's trace"),
        ("metric: UserFrustration", "judges a whole conversation"),
        ("metric: exact_match, columns: {context: x}", "'columns' has 'context', which the metric does not need"),
        ("metric: faithfulness, judge: {model: x, base_url: 'http://127.0.0.1:9/v1'}", "there is no column 'context'"),
        ("metric: Correctness", "'correctness' needs a judge"),
    ],
)
def test_unusable_metrics_are_errors_before_the_first_call(scorer: str, said: str) -> None:
    assert said in problems(f"[{{type: mlflow, {scorer}}}]")


# Metrics with a judge


def test_marks_come_only_from_the_judge_of_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[Any] = set()
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: reached.add(to[:2]) or connect(self, to))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # a proxy that would see the answers
    before = dict(os.environ)
    result, server = run_judged(always(MARK), "[{type: mlflow, metric: genai.answer_similarity}]")
    assert {str(port) for _, port in reached} <= {
        server.base_url.split(":")[2].split("/")[0],
        judge_proxy().address.split(":")[2],
    }
    (first, *_) = cells(result, "answer_similarity")
    assert (first.value, first.detail) == (4.0, {"explanation": "close enough"})
    assert result.metrics["answer_similarity/v1/mean"] == 4.0
    assert server.calls == 3 == sum(len(cell.calls) for cell in cells(result, "answer_similarity"))
    requested = server.requests[0].json
    assert (requested["model"], requested["temperature"], requested["max_tokens"]) == ("judge-1", 0.0, 200)
    message = json.loads((result.folder / "run.json").read_text())["judges"]["answer_similarity"]
    assert message["usage"]["calls"] == 3
    assert message["usage"]["cost_usd"] == pytest.approx(3 * (100 * 1e-6 + 20 * 1e-5))
    assert {name: os.environ.get(name) for name in before} == before
    assert "MLFLOW_GATEWAY_URI" not in os.environ
    again, server = run_judged(always(MARK), "[{type: mlflow, metric: genai.answer_similarity}]")
    assert again.metrics["answer_similarity/v1/mean"] == 4.0
    assert not list(Path().glob("mlflow*"))


def test_the_plan_estimates_the_tokens_of_mlflow_judge_calls() -> None:
    """The estimate is within 10% of the tokens sent, and its upper end works as a cost cap."""
    metrics = ("Completeness", "Equivalence", "answer_relevance")

    def both(request: Any, nth: int) -> Action:
        sent.append(len("".join(message["content"] for message in request["messages"]).encode()))
        return MARK if "justification" in str(request["messages"]) else YES

    sent: list[int] = []
    with ScriptedServer(both) as server:
        suite = write(
            "[" + ", ".join(f"{{type: mlflow, metric: {metric}}}" for metric in metrics) + "]",
            f'judge: {{model: j, base_url: "{server.base_url}", params: {{max_tokens: 50}}, prices: {{input: 1, output: 1}}}}\n',
        )
        price = KnownPrice(Price(1e-6, 1e-6), "suite")
        names = ("completeness", "equivalence", "answer_relevance")
        _, *judges = estimates(str(suite), ModelPrices({}, dict.fromkeys(names, price)))
        assert (server.calls, [item.calls for item in judges]) == (0, [3, 3, 3])
        high = sum(item.high_usd or 0 for item in judges)
        result = run_suite(suite, options=RunOptions(max_cost=high))
    assert result.details.stopped is None
    assert sum(item.prompt_tokens for item in judges) == pytest.approx(sum(sent) / 4, rel=0.1)


def test_judge_calls_are_cached() -> None:
    with ScriptedServer(always(MARK)) as server:
        judge = f'judge: {{model: judge-1, base_url: "{server.base_url}"}}\n'
        for _ in range(2):
            result = run("[{type: mlflow, metric: answer_relevance}]", judge)
            assert result.metrics["answer_relevance/v1/mean"] == 4.0
        assert server.calls == 3
    assert all(call.cached for cell in cells(result, "answer_relevance") for call in cell.calls)


def test_columns_reach_the_judge_under_mlflow_names() -> None:
    result, server = run_judged(
        always(MARK), "[{type: mlflow, metric: faithfulness, columns: {context: passage}}]", rows=ROWS[:1]
    )
    assert result.metrics["faithfulness/v1/mean"] == 4.0
    text = server.requests[0].json["messages"][0]["content"]
    assert "key: context\nvalue:\nParis is in France." in text


def test_a_column_without_a_value_skips_its_row() -> None:
    rows = [ROWS[0], {**ROWS[1], "passage": None}, {**ROWS[2], "passage": " "}]
    result, server = run_judged(
        always(MARK), "[{type: mlflow, metric: faithfulness, columns: {context: passage}}]", rows=rows
    )
    assert [cell.state for cell in cells(result, "faithfulness")] == ["scored", "skipped", "skipped"]
    assert cells(result, "faithfulness")[1].reason == "no context"
    assert server.calls == 1


def test_a_user_defined_metric() -> None:
    scorer = """
  - type: mlflow
    metric: make_genai_metric_from_prompt
    params: {name: brevity, judge_prompt: "Rate {output} as an answer to {input}, from 0 to 10.", greater_is_better: false}
"""
    result, server = run_judged(always(Answer("score: 9\njustification: short")), scorer, rows=ROWS[:1])
    assert result.metrics["brevity/mean"] == 9.0
    assert "Rate Paris as an answer to Capital of France?" in server.requests[0].json["messages"][0]["content"]


def wise(request: Any, nth: int) -> Action:
    """Knows the calibration examples, and accepts outputs that contain the expected answer."""
    text = request["messages"][-1]["content"]
    good = next(
        (pair.good for pair in CALIBRATION_EXAMPLES if pair.output in text and pair.input in text), "Milan" not in text
    )
    return Answer(json.dumps({"result": "yes" if good else "no", "rationale": "so it is"}))


def test_yes_and_no_become_1_and_0_after_the_sanity_check() -> None:
    result, server = run_judged(wise, "[{type: mlflow, metric: Correctness}]")
    assert [cell.value for cell in cells(result, "correctness")] == [1.0, 1.0, 0.0]
    assert cells(result, "correctness")[0].detail == {"explanation": "so it is"}
    assert server.calls == 12 + 3
    message = json.loads((result.folder / "run.json").read_text())["judges"]["correctness"]
    assert message["sanity_check"]["passed"]
    assert "json_schema" in str(server.requests[0].json["response_format"])


def test_concurrent_rows_get_their_own_verdicts() -> None:
    rows = [{"id": str(i), "input": f"q{i}?", "out": f"answer {i}"} for i in range(60)]

    def script(request: Any, nth: int) -> Action:
        message = request["messages"][-1]["content"]
        number = int(message.split("answer ")[1].split('"')[0].split("<")[0].split("\n")[0])
        return Answer(json.dumps({"result": "yes" if number % 2 else "no", "rationale": str(number)}))

    result, server = run_judged(script, "[{type: mlflow, metric: Fluency}]", "run: {concurrency: 30}\n", rows=rows)
    actual = cells(result, "fluency")
    assert [cell.value for cell in actual] == [float(i % 2) for i in range(60)]
    assert [cell.detail["explanation"] for cell in actual] == [str(i) for i in range(60)]
    assert server.calls == 60


def test_guidelines_of_the_suite_and_of_each_row() -> None:
    rows = [{**row, "guidelines": ["Name one city."]} for row in ROWS]
    result, server = run_judged(
        always(YES),
        "[{type: mlflow, metric: Guidelines, params: {guidelines: Be brief.}}, {type: mlflow, metric: ExpectationsGuidelines}]",
        rows=rows,
    )
    assert (result.metrics["guidelines"], result.metrics["expectations_guidelines"]) == (1.0, 1.0)
    requested = " ".join(str(item.json) for item in server.requests)
    assert "Be brief." in requested
    assert "Name one city." in requested


@pytest.mark.parametrize("metric", ["answer_relevance", "RelevanceToQuery", "Completeness"])
def test_a_failed_judge_call_is_an_error_and_not_retried_by_mlflow(metric: str) -> None:
    result, server = run_judged(
        always(Status(500, {"error": {"message": "out of order"}})),
        f"[{{type: mlflow, metric: {metric}, name: judged}}]",
        "run: {retries: 1}\n",
        rows=ROWS[:1],
    )
    (cell,) = cells(result, "judged")
    assert cell.state == "error"
    assert cell.message.startswith("server: ")
    assert "out of order" in cell.message
    assert server.calls == 2


@pytest.mark.parametrize("metric", ["answer_relevance", "RelevanceToQuery", "Completeness"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("I cannot say"), "judge: unreadable verdict: 'I cannot say'"),
        (Answer("score: 4\njust", "length"), "judge: the judge's reply was truncated"),
        (Answer(""), "judge: the judge's reply was empty"),
        (Answer(None, "content_filter"), "judge: the judge's reply was filtered"),
    ],
)
def test_an_unreadable_verdict_is_unscored(metric: str, answer: Answer, reason: str) -> None:
    result, _ = run_judged(always(answer), f"[{{type: mlflow, metric: {metric}, name: judged}}]", rows=ROWS[:1])
    (cell,) = cells(result, "judged")
    assert (cell.state, cell.message) == ("unscored", reason)


@pytest.mark.parametrize(
    ("metric", "reply"),
    [
        ("answer_relevance", "score: 7\njustification: more than five"),
        ("RelevanceToQuery", '{"result": "perhaps", "rationale": "hm"}'),
        ("RelevanceToQuery", '{"rationale": "nothing else"}'),
        ("Completeness", '{"result": null, "rationale": "hm"}'),
    ],
)
def test_a_missing_verdict_is_unscored(metric: str, reply: str) -> None:
    cell = judged(mlflow(metric=metric), ScriptedJudge(lambda text: Completion(reply)), "an answer")
    assert (cell.state, cell.value) == ("unscored", None)
    assert cell.message is not None
    assert cell.message.startswith("judge: ")


def test_a_judge_without_response_format_is_called_without_it() -> None:
    requested: list[bool] = []

    def script(request: Any, nth: int) -> Action:
        requested.append("response_format" in request)
        if "response_format" in request:
            return Status(400, {"error": {"message": "response_format is not supported"}})
        return YES

    result, _ = run_judged(script, "[{type: mlflow, metric: RelevanceToQuery}]", rows=ROWS[:1])
    assert result.metrics["relevance_to_query"] == 1.0
    assert requested == [True, False]


def test_a_row_timeout_cancels_its_judge_call() -> None:
    result, server = run_judged(
        always(Hang()),
        "[{type: mlflow, metric: RelevanceToQuery}]",
        "run: {timeout: 60, row_timeout: 2}\n",
        rows=ROWS[:1],
        wait_scale=1.0,
    )
    (cell,) = cells(result, "relevance_to_query")
    assert (cell.state, cell.message) == ("error", "timeout: not done within the row timeout of 2 s")
    assert len(server.requests) == 1


@pytest.mark.parametrize("metric", ["Safety", "answer_relevance"])
def test_a_judge_call_dropped_by_a_stop_request_drops_its_row(metric: str) -> None:
    def stopping(text: str) -> Completion:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        judged(mlflow(metric=metric), ScriptedJudge(stopping), "Paris", "Paris")


def test_the_judge_proxy_refuses_callers_without_a_token() -> None:
    import requests

    url = f"{judge_proxy().address}/gateway/mlflow/v1/chat/completions"
    for headers in ({}, {TOKEN_HEADER: "guessed"}):
        reply = requests.post(url, json={"messages": []}, headers=headers, timeout=5)
        assert (reply.status_code, reply.json()) == (404, {"error": {"message": "unknown token"}})


def test_a_closed_cell_makes_no_judge_calls() -> None:
    judge = ScriptedJudge(lambda text: Failure("server", "never"))
    pending = PendingCall(judge, loop=None)  # type: ignore[arg-type]
    pending.end()
    with pytest.raises(Exception, match=r"^$"):
        pending.ask({"messages": []})
    assert judge.asked == []
