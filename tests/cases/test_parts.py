"""Parts: further results of one scorer. Their numbers, verdicts and cells are those of a scorer of its own."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalrunner.runs.row_log import encode_row, read_rows
from tests.cases.suites import Ended, command

OWN = """
import json
from pathlib import Path

from evalrunner import Completion, Declaration, Failure, Parts, Score, Scorer, Unscored


async def answer(sample, epoch, column="plan"):
    outcome = sample.metadata[column][epoch - 1]
    if outcome == "error":
        raise RuntimeError("the service is down")
    if outcome == "refused":
        return Completion("", "refused")
    return Completion(json.dumps(outcome), latency_s=1.0)


def result(value):
    if value == "fail" and not Path("repaired").exists():
        return Failure("server", "the checker is down")
    named = {"skip": None, "judge": Unscored("judge", "no verdict"), "fail": 1.0}
    return named[value] if isinstance(value, str) else value


def alone(*, field: str, high: float = 1.0, inline: bool = False):
    return Scorer(lambda output: result(json.loads(output)[field]), Declaration(high=high, inline=inline))


def both(*, inline: bool = False, wait: bool = False, bare: bool = False):
    def values(output):
        with Path("calls.txt").open("a") as calls:
            calls.write("called\\n")
        fields = json.loads(output)
        parts = {"a": result(fields["a"]), "b": result(fields["b"])}
        main = result(fields.get("main", 1.0))
        return Parts(main, parts) if isinstance(main, (Unscored, Failure)) else Score(main, parts=parts)

    async def awaited(output):
        return values(output)

    parts = {"a": Declaration(bare=bare), "b": Declaration(high=5.0)}
    return Scorer(awaited if wait else values, Declaration(inline=inline, parts=parts))
"""
BOTH = {"type": "own.py:both"}
ALONE = [
    {"type": "own.py:alone", "name": "a", "field": "a"},
    {"type": "own.py:alone", "name": "b", "field": "b", "high": 5},
]


def write(
    plans: Sequence[Sequence[Any]], scorers: Sequence[Mapping[str, Any]], gates: Sequence[Any] = (), **keys: Any
) -> str:
    """A suite of samples whose answers are the outcomes of a plan, one for each epoch."""
    Path("own.py").write_text(OWN)
    rows = [
        {"id": f"q{place}", "input": f"Question {place}?", "topic": "law" if place % 3 else "tax", "plan": plan}
        for place, plan in enumerate(plans)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {
        "name": "parts",
        "dataset": "data.jsonl",
        "targets": [{"name": "m", "type": "python", "function": "own.py:answer"}],
        "scorers": list(scorers),
        "gates": list(gates),
        "slices": ["topic"],
        **keys,
    }
    Path("suite.yaml").write_text(json.dumps(suite, indent=1))
    return "suite.yaml"


def run(*args: Any, **keys: Any) -> Ended:
    return command(write(*args, **keys), "--json")


def folder() -> Path:
    """The newest run."""
    return max(
        Path("runs", "parts").glob("2*"), key=lambda run: json.loads((run / "run.json").read_text())["started_at"]
    )


def numbers() -> dict[str, Any]:
    return json.loads((folder() / "metrics.json").read_text())


def cells() -> list[dict[str, Any]]:
    """The cells of the newest run, by sample and epoch."""
    rows = [json.loads(line) for line in (folder() / "rows.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "index" in row]  # not an event
    return [row["cells"] for row in sorted(rows, key=lambda row: (row["index"], row["epoch"]))]


def random_plans(seed: int, *, samples: int = 24, epochs: int = 1) -> list[list[Any]]:
    """Outcomes of every kind: failed calls, refused answers, and parts that are skipped, unscored, in error or numbers."""
    draw = random.Random(seed)

    def value(high: float) -> Any:
        return draw.choice(["skip", "judge", "fail", 0.0, 1.0, round(draw.uniform(0, high), 3), high])

    def outcome() -> Any:
        whole = draw.choice(["error", "refused", *[None] * 10])
        return whole or {"a": value(1.0), "b": value(5.0), "main": draw.choice([0.0, 1.0, "judge", "fail", "skip"])}

    return [[outcome() for _ in range(epochs)] for _ in range(samples)]


def of_metrics(metrics: Sequence[Mapping[str, Any]], scorer: str) -> list[dict[str, Any]]:
    """The metrics of a scorer or part, with `X` in place of its name."""
    return [
        {**metric, "scorer": "X", "name": metric["name"].replace(scorer, "X", 1)}
        for metric in metrics
        if metric["scorer"] == scorer
    ]


@pytest.mark.parametrize("how", [{}, {"inline": True}, {"wait": True}])
@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_of_a_part_are_those_of_a_scorer_of_its_own(seed: int, how: dict[str, bool]) -> None:
    epochs = 1 if seed == 0 else 3
    keys: dict[str, Any] = {} if epochs == 1 else {"run": {"epochs": 3, "reducer": ["mean", "pass_at_2", "max"]}}
    plans = random_plans(seed, epochs=epochs)
    gates = [
        text
        for name in ("a", "b")
        for text in (
            f"{name} >= 0.4",
            f"both/{name} >= 0.4",
            f"{name}[topic=law] <= 0.6",
            f"both/{name}[topic=law] <= 0.6",
        )
    ]
    both = {**BOTH, **how, "on_no_answer": "zero" if seed == 2 else "unscored"}
    alone = [{**one, "on_no_answer": both["on_no_answer"]} for one in ALONE]
    done = run(plans, [both, *alone], gates, **keys)
    metrics = numbers()["targets"]["m"]["metrics"]
    for name in ("a", "b"):
        part = of_metrics(metrics, f"both/{name}")
        assert part == of_metrics(metrics, name)
        assert len(part) == (1 if epochs == 1 else 3) * 3  # with two slices
    assert all(row[f"both/{name}"] == {**row[name]} for row in cells() for name in ("a", "b"))
    pairs = list(zip(done.gates[::2], done.gates[1::2], strict=True))
    assert len(pairs) == 4
    for one, other in pairs:
        assert json.loads(json.dumps(other).replace("both/", "")) == {**one, "line": other["line"]}


def plain(*values: Any) -> list[list[Any]]:
    """One answer per value of `a`; `b` is 2 everywhere."""
    return [[{"a": value, "b": 2.0}] for value in values]


def test_gates_on_parts_with_their_version_aggregate_and_slice_decide_the_run() -> None:
    gates = ["both/a >= 0.5", "both/a/v1 >= 0.5", "both/a/v1/mean >= 0.5", "both/b/mean >= 3", "both/a[topic=tax] >= 1"]
    done = run(plain(1.0, 0.5, 0.0), [BOTH], gates)
    assert (done.code, done.verdicts) == (1, ("pass", "pass", "pass", "fail", "pass"))
    assert [gate["metric"] for gate in done.gates] == ["both/a/v1/mean"] * 3 + ["both/b/v1/mean", "both/a/v1/mean"]
    assert [gate["value"] for gate in done.gates] == [0.5, 0.5, 0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("gate", "hint"),
    [
        ("both/aa >= 0.5", "did you mean 'both/a'"),
        ("both/a/p90 >= 0.5", "no metric 'both/a/p90'"),
        ("bot/a >= 0.5", "did you mean 'both'"),
    ],
)
def test_a_gate_on_an_unknown_part_names_the_nearest_one(gate: str, hint: str) -> None:
    done = run(plain(1.0), [BOTH], [gate])
    assert done.code == 2
    assert hint.lower() in done.err.lower()
    assert not Path("runs").exists()


def test_bare_parts_are_metrics_by_their_own_name() -> None:
    done = run(plain(1.0, 0.0), [{**BOTH, "bare": True}], ["a >= 0.5", "both/b >= 2"], headline="a")
    assert done.code == 0
    assert [gate["metric"] for gate in done.gates] == ["a/v1/mean", "both/b/v1/mean"]
    assert list(cells()[0]) == ["both", "a", "both/b"]


def test_a_bare_part_with_the_name_of_a_scorer_is_a_problem_of_the_suite() -> None:
    done = run(plain(1.0), [{**BOTH, "bare": True}, ALONE[0]])
    assert done.code == 2
    assert "'a' of 'both' has the same name as the scorer 'a'; rename one of them" in done.err
    again = run(plain(1.0), [{**BOTH, "bare": True}, {**BOTH, "bare": True, "name": "other"}])
    assert "'a' of 'other' has the same name as 'a' of 'both'" in again.err


def test_baselines_compare_parts_as_they_compare_scorers() -> None:
    before = [0.9, 0.8, 1.0, 0.5, *[0.7, 0.6, 1.0] * 8]
    after = [0.2, 0.8, 0.5, 1.0, *[0.5, 0.6, 0.4] * 8]
    assert run(plain(*before), [BOTH, *ALONE]).code == 0
    assert command("baseline", "accept").code == 0
    gates = [{"metric": name, "baseline": "main", "max_drop": 0.05} for name in ("both/a", "a", "both/b", "b")]
    done = run(plain(*after), [BOTH, *ALONE], gates)
    assert done.verdicts == ("fail", "fail", "inconclusive", "inconclusive"), done.err
    for part, own in (done.gates[:2], done.gates[2:]):
        assert part["baseline"] == own["baseline"]
        assert part["baseline"]["n"] == 28


def test_a_changed_option_of_the_scorer_makes_the_baseline_of_its_parts_incomparable() -> None:
    assert run(plain(1.0), [BOTH]).code == 0
    assert command("baseline", "accept").code == 0
    done = run(plain(1.0), [{**BOTH, "inline": True}], [{"metric": "both/a", "baseline": "main", "max_drop": 0.1}])
    assert done.code == 2
    assert "cannot compare 'both/a' with 'main': it has changed (options.inline: not set → true)" in done.err


def test_a_resumed_run_has_the_parts_of_all_its_rows() -> None:
    path = write(random_plans(7), [BOTH])
    assert command(path, "--limit", "10", "-q").code == 0
    assert command(path, "--resume", "last", "--limit", "24", "-q").code == 0
    resumed, whole = numbers(), Path("calls.txt").read_text().count("called")
    Path("calls.txt").unlink()
    assert command(path, "-q").code == 0
    assert Path("calls.txt").read_text().count("called") == whole
    assert numbers()["targets"]["m"]["metrics"] == resumed["targets"]["m"]["metrics"]


@pytest.mark.parametrize("how", [{}, {"inline": True}, {"wait": True}])
def test_retrying_errors_calls_the_scorer_of_a_part_in_error_again(how: dict[str, bool]) -> None:
    path = write(plain(1.0, "fail", 0.0), [{**BOTH, **how}, ALONE[1]], ["both/a >= 0.6"])
    assert command(path, "--json").code == 3
    assert cells()[1]["both/a"] == {"state": "error", "value": None, "cause": "server", "reason": "the checker is down"}
    assert json.loads((folder() / "run.json").read_text())["rows_in_error"] == 1
    Path("repaired").touch()
    before = Path("calls.txt").read_text().count("called")
    done = command("--resume", "last", "--retry-errors", "--json")
    assert (done.code, done.gates[0]["value"]) == (0, pytest.approx(2 / 3))
    assert Path("calls.txt").read_text().count("called") == before + 1
    (row,) = [row for row in read_rows(folder()) if row.sample.id == "q1"]
    assert {name: cell.value for name, cell in row.cells.items()} == {
        "both": 1.0,
        "both/a": 1.0,
        "both/b": 2.0,
        "b": 2.0,
    }


def test_scoring_a_run_again_gives_its_parts_again() -> None:
    assert run(random_plans(9), [BOTH]).code == 0
    first = numbers()["targets"]["m"]["metrics"]
    assert command("score", "last", "-q").code == 0
    second = numbers()["targets"]["m"]["metrics"]
    names = ("both", "both/a", "both/b")
    assert [of_metrics(second, name) for name in names] == [of_metrics(first, name) for name in names]
    done = command("gate", "last", "--set", "gates=[both/b >= 1]", "--json")
    assert [gate["metric"] for gate in done.gates] == ["both/b/v1/mean"], done.err


def test_a_run_scored_without_parts_can_be_scored_with_them() -> None:
    assert run(plain(1.0, 0.0), ALONE).code == 0
    write(plain(1.0, 0.0), [BOTH], ["both/a >= 0.5"])
    done = command("score", "last", "--suite", "suite.yaml", "--json")
    assert (done.code, done.gates[0]["value"]) == (0, 0.5)


def test_runs_from_before_parts_are_read_and_resumed() -> None:
    path = write(plain(1.0, 0.0, 0.5), ALONE)
    assert command(path, "--limit", "2", "-q").code == 0
    record = folder() / "run.json"
    data = json.loads(record.read_text())
    for scorer in data["scorers"].values():
        assert scorer.pop("part_of") is None
    record.write_text(json.dumps(data))
    assert command(path, "--resume", "last", "--limit", "3", "-q").code == 0
    assert [row["a"]["value"] for row in cells()] == [1.0, 0.0, 0.5]


def test_a_run_whose_scorer_had_no_parts_yet_is_scored_again_but_not_resumed() -> None:
    path = write(plain(1.0, 0.0, 0.5), [BOTH], ["both/a >= 0.5"])
    assert command(path, "--limit", "2", "-q").code == 0
    record, log = folder() / "run.json", folder() / "rows.jsonl"
    data = json.loads(record.read_text())
    data["scorers"] = {"both": data["scorers"]["both"]}
    record.write_text(json.dumps(data))
    rows = list(read_rows(folder()))
    for row in rows:
        for name in ("both/a", "both/b"):
            del row.cells[name]  # type: ignore[attr-defined]
    log.write_bytes(b"".join(encode_row(row) for row in rows))
    done = command(path, "--resume", "last", "--limit", "3")
    assert done.code == 2
    assert "scorers 'both'.parts: not set → " in done.err
    assert command("show", "last").code == 0
    again = command("score", "last", "--json")
    assert (again.code, again.gates[0]["value"]) == (0, 0.5), again.err


def test_two_targets_are_compared_by_parts_as_by_scorers() -> None:
    draw = random.Random(3)
    path = write(plain(*[round(draw.random(), 2) for _ in range(30)]), [BOTH, *ALONE])
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    for row in rows:
        row["other"] = [{"a": min(1.0, row["plan"][0]["a"] + 0.2), "b": draw.choice([1.0, 3.0])}]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = json.loads(Path(path).read_text())
    suite["targets"].append({"name": "n", "type": "python", "function": "own.py:answer", "args": {"column": "other"}})
    Path(path).write_text(json.dumps(suite))
    assert command(path, "-q").code == 0
    compared = {metric["scorer"]: metric for metric in numbers()["comparison"]["metrics"]}
    for name in ("a", "b"):
        ours, own = (json.dumps(compared[one]["pairs"]) for one in (f"both/{name}", name))
        assert ours.replace(f"both/{name}", name) == own
    done = command("compare", "last", "--metric", "both/a")
    assert done.code == 0, done.err
    assert "both/a" in done.out and "both/b" not in done.out


def test_a_part_has_columns_in_every_table() -> None:
    path = write(plain(1.0, "judge"), [BOTH])
    assert (
        command(path, "-q", "-o", "t.csv", "-o", "t.jsonl", "-o", "t.json", "-o", "t.xlsx", "-o", "t.parquet").code == 0
    )
    import openpyxl
    import pyarrow.parquet

    wanted = ["both/a/v1/score", "both/a/v1/state", "both/a/v1/justification"]
    records = list(csv.DictReader(Path("t.csv").read_text().splitlines()))
    assert [[record[name] for name in wanted] for record in records] == [
        ["1.0", "scored", ""],
        ["", "unscored", "judge: no verdict"],
    ]
    sheet = next(openpyxl.load_workbook("t.xlsx")["rows"].iter_rows(values_only=True))
    assert {*wanted} <= {*sheet} and {*wanted} <= {*pyarrow.parquet.read_schema("t.parquet").names}
    assert "both/a" in Path("t.jsonl").read_text()
    assert "both/a/v1/mean" in Path("t.json").read_text()


def test_a_sequential_gate_on_a_part_ends_the_run_as_one_on_a_scorer() -> None:
    stopped = []
    for scorers, name in (([BOTH], "both/a"), (ALONE, "a")):
        gate = {"metric": name, "min": 0.5, "confidence": 0.95}
        done = run(
            plain(*[1.0] * 200),
            scorers,
            [gate],
            run={"stop_early": True, "concurrency": 1},
            dataset={"path": "data.jsonl", "shuffle": 1},
        )
        assert (done.code, done.verdicts) == (0, ("pass",)), done.err
        stopped.append((len(cells()), done.gates[0]["value"], done.gates[0]["gate_low"]))
    assert stopped[0] == stopped[1]
    assert stopped[0][0] < 100


def test_mlflow_gets_metrics_and_columns_of_parts() -> None:
    from evalrunner.mlflow.payload import evaluation_frame, target_metrics
    from evalrunner.runs.record import RunRecord

    assert run(plain(1.0, 0.5), [BOTH]).code == 0
    record = RunRecord.load(folder())
    found = record.load_metrics(folder())
    assert found is not None
    sent = target_metrics(found.targets["m"].metrics)
    assert (sent["both/a/v1/mean"], sent["both/a/v1/mean/topic/law"]) == (0.75, 0.5)
    frame = evaluation_frame(read_rows(folder()), record, ["m"])
    assert frame["both/a/v1/score"].tolist() == [1.0, 0.5]


def test_a_failing_part_leaves_its_scorer_and_the_other_parts_as_they_are() -> None:
    done = run(plain(*[1.0] * 18, "fail", "judge"), [BOTH], ["both >= 1", "both/b >= 2", "both/a >= 1"])
    assert (done.code, done.verdicts) == (3, ("pass", "pass", "untrusted"))
    part = next(metric for metric in numbers()["targets"]["m"]["metrics"] if metric["name"] == "both/a/v1/mean")
    assert (part["n"], part["unscored"], part["errors"], part["trusted"]) == (18, 1, 1, False)
    assert part["detail"]["reasons"] == {"judge: no verdict": 1, "server": 1}


def test_parts_keep_their_results_where_the_scorer_has_none() -> None:
    done = run([[{"a": 1.0, "b": 2.0, "main": "judge"}]], [BOTH], ["both/a >= 1", "both >= 0.5"])
    assert done.verdicts == ("pass", "untrusted")
    assert [cells()[0][name]["state"] for name in ("both", "both/a", "both/b")] == ["unscored", "scored", "scored"]


PYTHON = """
from evalrunner import Score


def grade(output):
    if output == "crash":
        raise ValueError("broken")
    if output == "other":
        return Score(1, parts={"tone": 1, "style": 1})
    return 0.5 if output == "alone" else Score(1, "whole", parts={"tone": Score(0.25, "rude"), "words": 3})
"""


def graded(parts: Any, *outputs: str) -> Ended:
    """A run of a function of the user that declares these parts."""
    Path("grade.py").write_text(PYTHON)
    rows = [{"id": text or "empty", "input": "x", "output": text} for text in outputs]
    suite = {
        "name": "parts",
        "dataset": {"rows": rows},
        "target": {"type": "recorded", "column": "output"},
        "scorers": [{"type": "python", "function": "grade.py:grade", "low": 0, "high": 5, "parts": parts}],
        "gates": ["grade/tone >= 0.1"],
    }
    Path("suite.yaml").write_text(json.dumps(suite))
    return command("suite.yaml", "--json")


def test_a_function_of_the_user_returns_parts() -> None:
    done = graded(["tone", "words"], "good", "alone", "other", "crash", "")
    assert done.code == 3, done.err
    good, alone, other, crash, empty = cells()
    assert good == {
        "grade": {"state": "scored", "value": 1.0, "detail": {"explanation": "whole"}},
        "grade/tone": {"state": "scored", "value": 0.25, "detail": {"explanation": "rude"}},
        "grade/words": {"state": "scored", "value": 3.0},
    }
    skipped = {"state": "skipped", "value": None, "reason": "the scorer returned no such part"}
    assert alone == {"grade": {"state": "scored", "value": 0.5}, "grade/tone": skipped, "grade/words": skipped}
    message = "grade() returned the part 'style', which it does not declare; declared parts: tone, words"
    assert other["grade"]["reason"] == message
    for row, state in ((other, "error"), (crash, "error"), (empty, "unscored")):
        assert [cell["state"] for cell in row.values()] == [state] * 3
        assert len({json.dumps(cell) for cell in row.values()}) == 1


def test_parts_of_a_function_have_ranges_of_their_own() -> None:
    graded({"tone": {"low": 0, "high": 0.1}, "words": {"low": 0, "unit": "words", "higher_is_better": False}}, "good")
    assert cells()[0]["grade/tone"]["state"] == "error"
    words = next(metric for metric in numbers()["targets"]["recorded"]["metrics"] if metric["scorer"] == "grade/words")
    assert (words["value"], words["unit"], words["higher_is_better"]) == (3.0, "words", False)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tone": {"lo": 0}}, "part 'tone': 'lo' unknown option; did you mean 'low'?"),
        ({"tone": {"low": 2, "high": 1}}, "part 'tone': 'low' is 2 and 'high' is 1; 'low' should be smaller"),
        (["a/b"], "declares the part 'a/b', but a name has 1 to 100 characters"),
        (["mean"], "declares the part 'mean', which is also the name of one of its aggregates"),
        (["v1"], "declares the part 'v1', which is also the name of its version"),
        ("tone", "scorers[0].parts: is 'tone'; it should be a list or a mapping"),
    ],
)
def test_wrong_declarations_of_parts_are_problems_of_the_suite(parts: Any, message: str) -> None:
    done = graded(parts, "good")
    assert done.code == 2
    assert message.lower() in " ".join(done.err.split()).lower()
