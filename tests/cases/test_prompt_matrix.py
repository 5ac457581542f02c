"""Prompts × targets: every model is asked with every prompt, and both are compared over the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, command
from tests.fakes.server import Action, Answer, ScriptedServer, Status

MODELS = ("alpha", "beta", "gamma")
PROMPTS: dict[str, Any] = {
    "short": "short: {{ input }}",
    "long": [{"system": "Explain."}, {"user": "long: {{ input }}"}],
    "steps": {"file": "steps.json"},
}
CELLS = [f"{model}/{prompt}" for model in MODELS for prompt in PROMPTS]
SHARES = {"alpha": 90, "beta": 60, "gamma": 60}  # right answers of 100, and with `steps` 30 fewer


def script(request: Any, _nth: int) -> Action:
    """Right for the first samples of a model; `steps` is worse, and one row of it fails."""
    kind, _, text = request["messages"][-1]["content"].partition(": ")
    number, model = int(text.strip("?")), request["model"]
    if (model, kind, number) == ("beta", "steps", 0) and "fail" in request.get("stop", ()):
        return Status(500)
    return Answer("yes" if number < SHARES[model] - (30 if kind == "steps" else 0) else "no")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script) as running:
        yield running


def write(server: ScriptedServer, **keys: Any) -> None:
    Path("steps.json").write_text(json.dumps([{"role": "user", "content": "steps: {{ input }}"}]))
    suite = {
        "name": "matrix",
        "dataset": {"rows": [{"id": f"q{n}", "input": f"{n}?", "expected": "yes"} for n in range(100)]},
        "targets": [{"model": model, "base_url": server.base_url} for model in MODELS],
        "prompts": PROMPTS,
        "scorers": ["exact_match"],
        "run": {"retries": 0},
        **keys,
    }
    Path("s.yaml").write_text(json.dumps({name: item for name, item in suite.items() if item is not None}, indent=1))


def run(server: ScriptedServer, *args: str, **keys: Any) -> Ended:
    write(server, **keys)
    return command("run", "s.yaml", *args)


def metrics() -> Any:
    """The metrics of the last run."""
    return json.loads(
        max(Path("runs/matrix").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns).read_text()
    )


def factors() -> dict[str, Any]:
    return {item["kind"]: item for item in metrics()["comparison"]["factors"]}


def test_every_model_is_asked_with_every_prompt(server: ScriptedServer) -> None:
    assert run(server).code == 0
    assert list(metrics()["targets"]) == CELLS
    sent = {(item.json["model"], *(one["content"] for one in item.json["messages"])) for item in server.requests}
    assert len(sent) == server.calls == 900
    assert ("beta", "Explain.", "long: 7?") in sent and ("gamma", "steps: 7?") in sent
    assert {folder.name for folder in Path("runs/matrix").glob("*/*")} >= {"rows.jsonl", "report.html"}


def test_prompts_are_compared_over_all_models_and_models_over_all_prompts(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run(server)
    found = factors()
    assert [(item["kind"], item["levels"], item["others"], item["family"]) for item in found.values()] == [
        ("prompt", list(PROMPTS), list(MODELS), 3),
        ("model", list(MODELS), list(PROMPTS), 3),
    ]
    prompts, models = (found[kind]["metrics"][0] for kind in ("prompt", "model"))
    assert {name: round(value["value"], 3) for name, value in prompts["values"].items()} == {
        "short": 0.7,
        "long": 0.7,
        "steps": 0.4,
    }
    assert {name: round(value["value"], 3) for name, value in models["values"].items()} == {
        "alpha": 0.8,
        "beta": 0.5,
        "gamma": 0.5,
    }
    pairs = {(pair["first"], pair["second"]): pair for pair in prompts["pairs"]}
    assert pairs["short", "steps"]["better"] == "short" and pairs["short", "steps"]["difference"] == pytest.approx(0.3)
    assert pairs["short", "long"]["better"] is None and pairs["short", "long"]["n"] == 100
    assert [pair["better"] for pair in models["pairs"]] == ["alpha", "alpha", None]
    lines = " ".join(done.out.split())
    assert "Prompts, each over 3 models: long 0.700, short 0.700, steps 0.400. long and short beat steps." in lines
    assert "Models, each over 3 prompts: alpha 0.800, beta 0.500, gamma 0.500. alpha beats beta and gamma." in lines
    assert (
        "Targets: " in lines
        and "of 36 pairs differ. alpha/long leads, but is not significantly better than alpha/short." in lines
    )
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_stored_matrix_is_compared_again_with_the_same_numbers(server: ScriptedServer) -> None:
    run(server)
    again = json.loads(command("compare", "last", "--json").out)
    stored = metrics()["comparison"]
    assert again["factors"] == stored["factors"] and len(again["factors"]) == 2
    assert command("score", "last").code == 0
    assert {kind: item["levels"] for kind, item in factors().items()} == {
        "prompt": list(PROMPTS),
        "model": list(MODELS),
    }
    assert len(json.loads(command("compare", "last", "--json").out)["factors"]) == 2
    report = next(Path("runs/matrix").glob("*/report.html")).read_text()
    assert "Prompts, each over 3 models" in report
    shown = " ".join(command("show", "last", "-v").out.split())
    assert "over 3 tests of prompts, and over 3 tests of models" in shown


def test_samples_without_a_score_count_against_the_better_side_of_a_factor(server: ScriptedServer) -> None:
    broken = [
        {"model": model, "base_url": server.base_url, **({"params": {"stop": ["fail"]}} if model == "beta" else {})}
        for model in MODELS
    ]
    run(server, targets=broken)
    prompts = factors()["prompt"]["metrics"][0]
    pair = next(item for item in prompts["pairs"] if (item["first"], item["second"]) == ("short", "steps"))
    assert (pair["n"], pair["missing"]) == (99, "1 of 300 answers of steps is missing")
    assert pair["p_missing"] >= pair["p_value"]


def test_models_with_other_prompts_are_left_out_of_what_they_do_not_share(server: ScriptedServer) -> None:
    targets = [
        {"model": "alpha", "base_url": server.base_url},
        {"model": "beta", "base_url": server.base_url, "prompts": ["steps", "short"]},
        {"name": "own", "model": "gamma", "base_url": server.base_url, "prompt": "short: {{ input }}"},
    ]
    run(server, targets=targets)
    assert list(metrics()["targets"]) == ["alpha/short", "alpha/long", "alpha/steps", "beta/steps", "beta/short", "own"]
    found = factors()
    assert list(found) == ["model"]
    assert (found["model"]["levels"], found["model"]["others"]) == (["alpha", "beta"], ["short", "steps"])


def test_a_model_without_answers_leaves_no_number_over_it(server: ScriptedServer) -> None:
    targets = [{"model": "alpha", "base_url": server.base_url}, {"model": "down", "base_url": server.base_url}]
    done = run(server, targets=targets)
    assert done.code == 3
    lines = " ".join(done.out.split())
    assert "Prompts, each over 2 models: short –, long –, steps –." in lines
    assert "Models, each over 3 prompts: alpha 0.800, down –." in lines


def test_one_model_or_one_prompt_has_no_factors(server: ScriptedServer) -> None:
    run(server, targets=None, target={"model": "alpha", "base_url": server.base_url})
    assert list(metrics()["targets"]) == ["alpha/short", "alpha/long", "alpha/steps"] and factors() == {}
    run(server, prompts={"only": "short: {{ input }}"})
    assert list(metrics()["targets"]) == ["alpha/only", "beta/only", "gamma/only"] and factors() == {}


def test_recorded_targets_stand_beside_a_matrix(server: ScriptedServer) -> None:
    rows = [{"id": f"q{n}", "input": f"{n}?", "expected": "yes", "old": "no"} for n in range(3)]
    targets = [{"model": "alpha", "base_url": server.base_url}, {"name": "old", "type": "recorded", "column": "old"}]
    done = run(server, dataset={"rows": rows}, targets=targets)
    assert list(metrics()["targets"]) == ["alpha/short", "alpha/long", "alpha/steps", "old"]
    assert "the prompt is not sent to target 'old' (recorded)" in " ".join(done.out.split())


GATES = ["exact_match >= 0.3", {"metric": "exact_match", "min": 0.6, "target": "alpha/short"}, {"metric": "exact_match", "min": 0.6, "target": "gamma/long"}]  # fmt: skip


def test_gates_and_selections_name_a_model_with_its_prompt(server: ScriptedServer) -> None:
    assert run(server, gates=GATES).code == 0
    assert [(item["gate"], item["target"]) for item in metrics()["gates"]][-2:] == [
        ("exact_match >= 0.6", "alpha/short"),
        ("exact_match >= 0.6", "gamma/long"),
    ]
    assert command("gate", "last").code == 0
    assert (
        run(server, "--target", "beta/long", "--target", "alpha/short", "--target", "beta/steps", gates=GATES).code == 0
    )
    assert list(metrics()["targets"]) == ["beta/long", "beta/steps", "alpha/short"]
    assert {item["target"] for item in metrics()["gates"]} == {"beta/long", "beta/steps", "alpha/short"}
    assert run(server, "--target", "beta", gates=GATES).code == 0
    assert list(metrics()["targets"]) == ["beta/short", "beta/long", "beta/steps"]
    wrong = run(server, "--target", "beta/shrt")
    assert wrong.code == 2
    assert "the suite has no target 'beta/shrt'; did you mean 'beta/short'?" in wrong.err


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"prompt": "{{ input }}"}, "prompts: cannot be combined with 'prompt'; keep one of them"),
        ({"prompts": ["{{ input }}"]}, "prompts: is a list; give each prompt a name: {short: …, long: …}"),
        ({"prompts": {}}, "prompts: is empty; name a prompt, such as {short: …}, or remove the key"),
        ({"prompts": "{{ input }}"}, "prompts: is '{{ input }}'; it should be a mapping"),
        ({"prompts": {"a/b": "{{ input }}"}}, "'a/b' should be a name of letters, digits"),
        ({"prompts": {"a": [{"usr": "x"}]}}, "prompts.a[0].usr: unknown key"),
        ({"prompts": {"a": "{{ inptu }}"}}, "the template uses 'inptu', which this sample does not have; did you mean 'input'?"),
        ({"gates": [{"metric": "exact_match", "min": 0, "target": "alpha"}]},
         "no target 'alpha' in this suite; with its prompts it is alpha/short and alpha/long and alpha/steps"),
        ({"targets": [{"model": "m", "prompts": ["shrt"]}]}, "targets[0].prompts[0]: the suite has no prompt 'shrt'; did you mean 'short'?"),
        ({"targets": [{"model": "m", "prompts": []}]}, "targets[0].prompts: is empty; name a prompt of the suite"),
        ({"targets": [{"model": "m", "prompts": ["long", "short"], "prompt": "x"}]}, "targets[0].prompts: cannot be combined with 'prompt'"),
        ({"targets": [{"model": "m", "prompts": ["long", "short"]}]}, "prompts.steps: is not used: no target is a model that takes it"),
        ({"targets": [{"model": "m", "prompts": ["long"]}], "prompts": None}, "targets[0].prompts: names prompts, but the suite has no 'prompts'"),
        ({"targets": [{"model": "m"}, {"model": "n", "name": "m/short", "prompt": "x"}]}, "duplicate name 'm/short'"),
    ],
)  # fmt: skip
def test_a_matrix_that_is_wrong_is_reported(server: ScriptedServer, keys: dict[str, Any], problem: str) -> None:
    targets = [{"base_url": server.base_url, **item} for item in keys.get("targets", [{"model": "alpha"}])]
    write(server, **{**keys, "targets": targets})
    done = command("validate", "s.yaml")
    assert done.code == 2
    assert problem in done.err
    assert done.err.count(problem) == 1 and server.calls == 0
