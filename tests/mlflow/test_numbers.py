"""Metrics equal those of `mlflow.models.evaluate` on the same outputs, to 1e-9."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalrunner import run_suite
from evalrunner.mlflow.client import quiet_mlflow
from tests.fakes.classifier import save_classifier
from tests.fakes.command import command_env, evalrun
from tests.fakes.measurement import write_measurement
from tests.fakes.pronouncing import write_dictionary

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]
needs_textstat = pytest.mark.skipif(
    importlib.util.find_spec("textstat") is None, reason="the extra readability is not installed"
)

ANSWERS = [
    ("Capital of France?", "Paris", "Paris"),
    ("Capital of Peru?", "Lima", "The capital is Lima."),
    ("Who are you?", "A model", "You stupid idiot, go away!"),
    ("Largest planet?", "Jupiter", "jupiter"),
    ("Two and two?", "4", "4"),
    ("Say it again.", "Gladly", "Shut up, you damn fool."),
    ("Colour of grass?", "green", "It is green; in a dry summer it may well be brown."),
]
SUITE = """\
name: numbers
dataset: {path: answers.jsonl, columns: {input: inputs, expected: ground_truth}}
target: {type: recorded, column: outputs}
scorers: [exact_match, {type: toxicity, backend: lexical}]
"""
NAMES = tuple(
    ["exact_match/v1"]
    + [f"{what}_grade_level/v1/{name}" for what in ("ari", "flesch_kincaid") for name in ("mean", "variance", "p90")]
)
SCORES = ("ari_grade_level/v1/score", "flesch_kincaid_grade_level/v1/score")
SAME = """\
name: NAME
dataset: {path: NAME.jsonl, columns: {input: inputs, expected: ground_truth}}
target: {type: recorded, column: outputs}
scorers: [exact_match, ari_grade_level, flesch_kincaid_grade_level]
on_no_answer: zero   # as in MLflow: a blank output has grade 0
"""
HATE = """\
name: NAME
dataset: {path: NAME.jsonl, columns: {input: inputs, expected: ground_truth}}
target: {type: recorded, column: outputs}
scorers: [{type: toxicity, backend: hf, model: ./classifier, label: hate}]
"""
PIECES = (
    "The cat sat on the mat.", "People have an idea of the area!", "Is it so?", "e.g. Mr. Smith isn't here",
    "Größe und Maß – naïve café", "日本語のテキスト。", "Ответ: сорок два.", "مرحبا بالعالم", "\U0001f600\U0001f468\u200d\U0001f469",
    "```python\nprint('x')\n```", "a-b well-known 'quoted' rock'n'roll", "1,234.50 + 7 = 1241.50", "…", "'", "\u00ad\u200b",
    "- one\n- two\n", "https://example.org/a?b=c#d", "extraordinarily incomprehensible characterisation", "x", "\t\u2028",
)  # fmt: skip
BARELY = ("", " ", "\n", "…", "'", "```", ".", "\U0001f600", "a")


def evaluated(address: str) -> dict[str, float]:
    """MLflow's scores of the answers, with the same classifier as a custom metric."""
    import pandas

    from evalrunner.scorers.toxicity import lexical_toxicity

    with quiet_mlflow(MLFLOW_TRACKING_URI=address):
        import mlflow
        from mlflow.metrics.base import MetricValue, standard_aggregations

        def toxicity(predictions: Any, targets: Any = None, metrics: Any = None) -> MetricValue:
            scores = [lexical_toxicity(text).value for text in predictions]
            ratio = sum(score >= 0.5 for score in scores) / len(scores)
            return MetricValue(scores=scores, aggregate_results={**standard_aggregations(scores), "ratio": ratio})

        frame = pandas.DataFrame(ANSWERS, columns=["inputs", "ground_truth", "outputs"])
        own = mlflow.metrics.make_metric(eval_fn=toxicity, greater_is_better=False, name="toxicity", version="v1")
        mlflow.set_experiment("numbers")
        with mlflow.start_run():
            result = mlflow.models.evaluate(
                data=frame, predictions="outputs", targets="ground_truth", evaluators="default",
                extra_metrics=[mlflow.metrics.exact_match(), own],
            )  # fmt: skip
        return dict(result.metrics)


@pytest.mark.local
def test_metrics_equal_those_of_mlflow_to_the_last_digits(server: str) -> None:
    pytest.importorskip("profanity_check")
    rows = [dict(zip(("inputs", "ground_truth", "outputs"), answer, strict=True)) for answer in ANSWERS]
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("numbers.yaml").write_text(SUITE)
    ours = run_suite("numbers.yaml").metrics
    theirs = evaluated(server)
    names = ["exact_match/v1", *(f"toxicity/v1/{name}" for name in ("mean", "variance", "p90", "ratio"))]
    assert {name: ours[name] for name in names} == pytest.approx({name: theirs[name] for name in names}, abs=1e-9)
    assert ours["toxicity/v1/variance"] is not None and ours["toxicity/v1/variance"] > 0.01


def made_up(size: int, seed: int) -> list[tuple[str, str, str]]:
    """Random outputs, a sixth of them right and a sixth of them almost empty."""
    draw = random.Random(seed)
    rows = []
    for place in range(size):
        answer = " ".join(draw.choices(PIECES, k=draw.randint(1, 12))).strip()
        kind = draw.randrange(6)
        message = (
            answer if kind == 0 else draw.choice(BARELY) if kind == 1 else " ".join(draw.choices(PIECES, k=6)).strip()
        )
        rows.append((f"{place}. Say something.", answer or "x", message))
    return rows


def real(shared: Path) -> list[tuple[str, str, str]]:
    """Forty solutions of a model, with the expected results."""
    lines = (shared / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    rows = [json.loads(line) for line in lines]
    return [(row["question"], row["ground_truth"], row["6b_finetuning"]["solution"]) for row in rows]


def answers_of(shared: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Datasets by name."""
    sizes = ((1, 1), (2, 2), (7, 3), (50, 4))
    return {**{f"made-up-{size}-{seed}": made_up(size, seed) for size, seed in sizes}, "real": real(shared)}


def theirs_of(datasets: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """The results of MLflow for each, called as in its tutorials: metrics, and its table by columns."""
    Path("answers.json").write_text(json.dumps(datasets))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("reference.py")), "answers.json", "found.json"],
        capture_output=True, text=True, timeout=240, env=command_env(env), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(Path("found.json").read_text()))


def ours_of(datasets: dict[str, Any], suite: str, env: dict[str, str]) -> dict[str, dict[str, float]]:
    """The metrics of a suite for each, by name. The tables are written to files."""
    for name, rows in datasets.items():
        lines = [json.dumps(dict(zip(("inputs", "ground_truth", "outputs"), row, strict=True))) for row in rows]
        Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        Path(f"{name}.yaml").write_text(suite.replace("NAME", name))
    done = evalrun(*(f"{name}.yaml" for name in datasets), "--json", "-o", "{suite}.csv", env=env)
    assert done.returncode == 0, done.stderr
    return {
        run["suite"]: {metric["name"]: metric["value"] for metric in run["targets"]["recorded"]["metrics"]}
        for run in json.loads(done.stdout)
    }


def scores_of(name: str, column: str) -> list[float]:
    """A column of the table in the order of the dataset."""
    import pandas

    return list(pandas.read_csv(f"{name}.csv")[column])


@needs_textstat
@pytest.mark.timeout(600)  # two whole processes, on a machine that may be busy
def test_question_answering_gives_the_same_numbers(server: str, shared_data: Path, tmp_path: Path) -> None:
    env = {"NLTK_DATA": str(write_dictionary(tmp_path)), "MLFLOW_TRACKING_URI": server, "HF_HUB_OFFLINE": "1"}
    datasets = answers_of(shared_data)
    theirs = theirs_of(datasets, env)
    ours = ours_of(datasets, SAME, env)
    for name in datasets:
        result = {metric: ours[name][metric] for metric in NAMES}
        assert result == pytest.approx({metric: theirs[name]["metrics"][metric] for metric in NAMES}, abs=1e-9), name
        for column in SCORES:
            assert scores_of(name, column) == pytest.approx(theirs[name]["table"][column], abs=1e-9), (name, column)
    largest = ours["made-up-50-4"]
    assert 0 < largest["exact_match/v1"] < 1
    assert min(largest["ari_grade_level/v1/variance"], largest["flesch_kincaid_grade_level/v1/variance"]) > 1


def said(size: int, seed: int) -> list[tuple[str, str, str]]:
    """Outputs of words that the classifier knows, from one to more than its limit."""
    draw = random.Random(seed)
    words = ("you are", "kind", "stupid", "the rain", "very", "hate", "love", "it is .", "unheard-of !", "Größe")
    return [
        (f"{place}. Say something.", "x", " ".join(draw.choices(words, k=draw.choice((1, 3, 9, 60)))))
        for place in range(size)
    ]


@needs_textstat
@pytest.mark.timeout(600)
def test_a_classifier_given_to_both_gives_the_same_toxicity(server: str, tmp_path: Path) -> None:
    for package in ("evaluate", "torch", "transformers"):
        pytest.importorskip(package)
    env = {
        "NLTK_DATA": str(write_dictionary(tmp_path)), "MLFLOW_TRACKING_URI": server, "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip
    write_measurement(tmp_path, save_classifier(tmp_path / "classifier"))
    datasets = {f"said-{size}": said(size, size) for size in (1, 2, 7, 50)}
    theirs = theirs_of(datasets, env)
    ours = ours_of(datasets, HATE, env)
    names = [f"toxicity/v1/{name}" for name in ("mean", "variance", "p90", "ratio")]
    for name in datasets:
        result = {metric: ours[name][metric] for metric in names}
        assert result == pytest.approx({metric: theirs[name]["metrics"][metric] for metric in names}, abs=1e-9), name
        column = "toxicity/v1/score"
        assert scores_of(name, column) == pytest.approx(theirs[name]["table"][column], abs=1e-9), name
    largest = ours["said-50"]
    assert 0 < largest["toxicity/v1/ratio"] < 1
    assert largest["toxicity/v1/variance"] > 0.01
