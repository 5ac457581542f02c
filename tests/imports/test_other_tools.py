"""Projects of OpenAI Evals, lm-eval, Inspect and others: imported, run, and compared with the numbers of the source."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from evalrunner.api import run_suite
from evalrunner.errors import SuiteError
from evalrunner.imports.migration import Migration, Outcome
from evalrunner.imports.project import Project
from evalrunner.imports.scorers.lm_eval_match import filtered, targets
from evalrunner.imports.tools import TOOLS, load_tool
from evalrunner.suite.options import RunOptions
from tests.fakes.command import evalrun
from tests.fakes.server import Answer, ScriptedServer

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"


def brought(tool: str, source: Path, folder: Path) -> Migration:
    """The report of an import whose files are in `folder`."""
    migration = Migration()
    load_tool(tool)(source, migration).write(folder)
    return migration


def values(suite: Path, runs: Path, **options: Any) -> dict[str, float | None]:
    return run_suite(suite, options=RunOptions(output_dir=runs), **options).metrics


# inspect

SCORES = [("C", 1.0), ("I", 0.5), ("C", 0.25), ("P", None)]


def inspect_log() -> dict[str, Any]:
    """The form of a log of inspect_ai 0.3: two samples, two epochs, two scorers; one score is NaN."""
    samples = []
    for number, (letter, share) in enumerate(SCORES):
        samples.append({
            "id": f"s{number // 2}", "epoch": number % 2 + 1, "input": "attachment://a1", "target": ["x", "y"],
            "output": {"completion": f"answer {number}"}, "attachments": {"a1": "What?"},
            "scores": {"match": {"value": letter}, "f1": {"value": float("nan") if share is None else share}},
        })  # fmt: skip
    reductions = [
        {
            "scorer": "match",
            "reducer": "max",
            "samples": [{"sample_id": "s0", "value": "C"}, {"sample_id": "s1", "value": "C"}],
        }
    ]
    return {"version": 2, "status": "success", "eval": {"task": "capitals", "model": "mock/m"}, "samples": samples, "reductions": reductions, "novel": 1}  # fmt: skip


def write_archive(path: Path, log: dict[str, Any], *, extra: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("reductions.json", json.dumps(log["reductions"]))
        archive.writestr(
            "header.json", json.dumps({key: log[key] for key in log if key not in ("samples", "reductions")})
        )
        for name, data in (extra or {}).items():
            archive.writestr(name, data)


@pytest.mark.parametrize("packed", [True, False])
def test_an_inspect_log_gives_the_numbers_of_inspect(tmp_path: Path, packed: bool) -> None:
    source = tmp_path / ("log.eval" if packed else "log.json")
    write_archive(source, inspect_log()) if packed else source.write_text(json.dumps(inspect_log()))
    migration = brought("inspect", source, tmp_path / "out")
    metrics = values(tmp_path / "out/capitals.eval.yaml", tmp_path / "runs")
    assert metrics["match/v1/mean"] == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert metrics["f1/v1/mean"] == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert values(tmp_path / "out/capitals-max.eval.yaml", tmp_path / "runs")["match/v1/mean"] == 1
    rows = [json.loads(line) for line in (tmp_path / "out/capitals.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["s0#1", "s0#2", "s1#1", "s1#2"]
    assert rows[0]["input"] == "What?"
    assert [(entry.what, entry.reason) for entry in migration.entries if entry.outcome is Outcome.LEFT] == [("novel", "unknown key")]  # fmt: skip


def test_an_archive_packed_with_zstandard_is_read(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    plain, source = io.BytesIO(), tmp_path / "log.eval"
    data = json.dumps(inspect_log()["samples"][0]).encode()
    packed = zstandard.ZstdCompressor().compress(data)
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("samples/s0_epoch_1.json", packed)
        archive.writestr("header.json", json.dumps({"eval": {"task": "t"}}))
        item = archive.getinfo("samples/s0_epoch_1.json")
        item.compress_type, item.file_size, item.CRC = 93, len(data), __import__("zlib").crc32(data)
    source.write_bytes(plain.getvalue())
    brought("inspect", source, tmp_path / "out")
    assert json.loads((tmp_path / "out/t.jsonl").read_text())["output"] == "answer 0"


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "bomb.eval"
    write_archive(source, inspect_log(), extra={"samples/z.json": b" " * (257 * 2**20)})
    with pytest.raises(SuiteError, match="unpacks to too much data"):
        brought("inspect", source, tmp_path / "out")


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    log = inspect_log()
    log["eval"]["task"] = "../../../escape"
    log["samples"][0]["scores"]["../x"] = {"value": 1}
    source = tmp_path / "log.eval"
    write_archive(
        source, log, extra={"samples/../../../evil.json": json.dumps(log["samples"][0] | {"id": "../../e"}).encode()}
    )
    brought("inspect", source, tmp_path / "deep/er/out")
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"log.eval", "deep"}
    assert all("out" in path.parts for path in (tmp_path / "deep").rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a//b", ".hidden/x"])
def test_a_project_writes_inside_its_folder_only(tmp_path: Path, name: str) -> None:
    with pytest.raises(SuiteError, match="no name for a file"):
        Project({name: "x"}).write(tmp_path / "out")


HUB = """
name: MuSR
evaluation_framework: inspect-ai
tasks:
  - id: mysteries
    config: default
    split: murder
    epochs: 4
    epoch_reducer: pass_at_1
    field_spec: {input: question, target: answer_index, choices: options}
    solvers:
      - {name: prompt_template, args: {template: "{narrative}\\n{prompt}"}}
      - {name: multiple_choice}
    scorers: [{name: choice}]
"""


def test_a_task_of_the_hub_becomes_a_suite(tmp_path: Path) -> None:
    (tmp_path / "eval.yaml").write_text(HUB)
    project = load_tool("inspect")(tmp_path / "eval.yaml", migration := Migration())
    suite = project.suites[0].data
    assert suite["run"] == {"epochs": 4, "reducer": "pass_at_1"}
    assert suite["dataset"]["columns"] == {"input": "question", "expected": "answer_index"}
    assert suite["prompt"][0] == {"user": "{{ narrative }}\n{{ input }}"}
    assert [entry.place.line for entry in migration.entries if entry.what == "choice"] == [14]


# lm-eval

GSM8K_TASK = r"""
task: gsm8k
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: "{{answer}}"
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: false,
     regexes_to_ignore: [",", "\\$", "(?s).*#### ", "\\.$"]}
generation_kwargs: {until: ["Question:", "</s>"], do_sample: false, temperature: 0.0}
filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "A: (\\-?[0-9\\.\\,]+)"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"}, {function: take_first}]
"""


@pytest.mark.skipif(not GSM8K.exists(), reason="needs the shared data of GSM8K")
def test_gsm8k_of_lm_eval_gives_its_numbers(tmp_path: Path) -> None:
    rows = []
    for index, line in enumerate(GSM8K.read_text().splitlines()[:300]):
        record = json.loads(line)
        solution = record["175b_verification"]["solution"]
        rows.append({"id": str(index), "question": record["question"], "answer": record["ground_truth"].replace("A: ", "#### "), "output": solution})  # fmt: skip
    (tmp_path / "task").mkdir()
    (tmp_path / "task/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task/gsm8k.yaml").write_text(GSM8K_TASK)
    migration = brought("lm-eval", tmp_path / "task/gsm8k.yaml", tmp_path / "out")
    assert not migration.needs_a_hand
    suite = tmp_path / "out/gsm8k.eval.yaml"
    text = suite.read_text().replace("target: openai/gpt-5.4-mini", "target: {type: recorded, column: output}")
    suite.write_text(text)
    metrics = values(suite, tmp_path / "runs")

    def by_hand(pattern: str, which: int) -> float:
        """lm-eval's filter and metric, written out: findall, the first group that is not empty, the regexes removed."""
        right = 0
        for row in rows:
            found = re.findall(pattern, row["output"])
            match = found[which] if found else "[invalid]"
            match = next((part for part in match if part), "[invalid]") if isinstance(match, tuple) else match
            both = [match.strip(), row["answer"]]
            for ignored in (",", r"\$", "(?s).*#### ", r"\.$"):
                both = [re.sub(ignored, "", side) for side in both]
            right += both[0].lower() == both[1].lower()
        return right / len(rows)

    assert metrics["strict-match/v1"] == pytest.approx(by_hand(r"A: (\-?[0-9\.\,]+)", 0))
    assert metrics["flexible-extract/v1"] == pytest.approx(by_hand(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1))
    assert 0.5 < (metrics["flexible-extract/v1"] or 0) < 0.6


QA_TASK = """
include: base.yaml
task: capitals
doc_to_text: "Q: {{question}}?\\nA:"
doc_to_target: "{{answers}}"
"""
QA_BASE = """
dataset_path: json
dataset_kwargs: {data_files: rows.jsonl}
output_type: generate_until
process_docs: !function utils.clean
generation_kwargs: {until: ["\\n"], max_gen_toks: 20}
filter_list: [{name: trimmed, filter: [{function: remove_whitespace}, {function: take_first}]}]
metric_list: [{metric: exact_match, ignore_case: true, ignore_punctuation: true}]
novel: 1
"""


def test_a_question_answering_task_asks_the_model_as_lm_eval_does(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "Capital of Peru", "answers": ["Lima", "lima city"]}\n{"question": "Capital of Italy", "answers": ["Rome"]}\n')  # fmt: skip
    (tmp_path / "capitals.yaml").write_text(QA_TASK)
    (tmp_path / "base.yaml").write_text(QA_BASE)
    migration = brought("lm-eval", tmp_path / "capitals.yaml", tmp_path / "out")
    assert [entry.what for entry in migration.entries if entry.outcome is Outcome.PORT] == [
        "process_docs: !function utils.clean"
    ]
    assert [(entry.place.file, entry.what) for entry in migration.entries if entry.outcome is Outcome.LEFT] == [
        ("base.yaml", "novel")
    ]
    suite = tmp_path / "out/capitals.eval.yaml"
    with ScriptedServer(lambda request, nth: Answer(" LIMA. ")) as server:
        suite.write_text(
            suite.read_text().replace(
                "target: openai/gpt-5.4-mini", f"target: {{model: m, base_url: '{server.base_url}'}}"
            )
        )
        assert values(suite, tmp_path / "runs")["trimmed/v1"] == 0.5
        sent = json.dumps([request.json for request in server.requests])
    assert "Q: Capital of Peru?" in sent and '"max_tokens": 20' in sent


@pytest.mark.parametrize("kind", ["multiple_choice", "loglikelihood", "loglikelihood_rolling"])
def test_likelihood_tasks_are_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    (tmp_path / "t.yaml").write_text(f"task: t\noutput_type: {kind}\ndoc_to_choice: [a, b]\n")
    project = load_tool("lm-eval")(tmp_path / "t.yaml", migration := Migration())
    assert project.suites == []
    assert "likelihood of given texts" in next(entry.reason for entry in migration.entries if entry.place.line == 2)
    assert {entry.place.line for entry in migration.entries} == {1, 2, 3}


def test_an_include_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("key: hidden-value\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/t.yaml").write_text("include: ../secret.yaml\ntask: t\noutput_type: generate_until\n")
    migration = brought("lm-eval", tmp_path / "in/t.yaml", tmp_path / "out")
    assert any("outside" in entry.reason for entry in migration.entries)
    assert "hidden-value" not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("step", "answer", "kept"),
    [
        ({"function": "regex", "regex_pattern": "(a)|(b)", "group_select": -1}, "a b", "b"),
        ({"function": "regex", "regex_pattern": "z"}, "a b", "[invalid]"),
        ({"function": "map", "mapping_dict": {"a": "1"}, "default_value": "0"}, "b", "0"),
        ({"function": "lowercase"}, "AB", "ab"),
        ({"function": "remove_whitespace"}, " a\n", "a"),
    ],
)
def test_filters_of_lm_eval(step: dict[str, Any], answer: str, kept: str) -> None:
    assert filtered(answer, step) == kept


def test_a_target_in_pythons_notation_is_a_list_of_answers() -> None:
    assert targets("{{ a }}", {"a": ["x", "y"]}) == ["x", "y"]
    assert targets("a", {"a": "x"}) == ["x"]
    assert targets("{{ a.split('#')[-1] }}", {"a": "1#[2"}) == ["[2"]


# OpenAI Evals

REGISTRY = """
capitals-match.dev.v0: {class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: c.jsonl}}
capitals-includes.dev.v0: {class: "evals.elsuite.basic.includes:Includes", args: {samples_jsonl: c.jsonl, ignore_case: true}}
capitals-fuzzy.dev.v0: {class: "evals.elsuite.basic.fuzzy_match:FuzzyMatch", args: {samples_jsonl: c.jsonl}}
capitals-graded.dev.v0:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args: {samples_jsonl: c.jsonl, modelgraded_spec: closed, eval_type: cot_classify}
capitals-battle.dev.v0:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args: {samples_jsonl: c.jsonl, modelgraded_spec: battle}
"""
OUTPUTS = {"France": "Paris, of course", "Peru": "It is LIMA", "Italy": "rome"}


def registry(folder: Path) -> Path:
    for name, text in {
        "evals/c.yaml": REGISTRY,
        "data/c.jsonl": "".join(
            json.dumps({"input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Capital of {land}?"}], "ideal": ideal}) + "\n"
            for land, ideal in (("France", "Paris"), ("Peru", ["Lima"]), ("Italy", "Rome"))
        ),
        "modelgraded/closed.yaml": 'prompt: "Task: {input}\\nAnswer: {completion}\\nRight?"\nchoice_strings: YN\nchoice_scores: {"Y": 1, "N": 0}\ninput_outputs: {input: completion}\n',
        "modelgraded/battle.yaml": 'prompt: "{input1} {completion1} {input2} {completion2}"\nchoice_strings: ["Yes", "No"]\ninput_outputs: {input1: completion1, input2: completion2}\n',
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "evals/c.yaml"


def scripted(request: Any, nth: int) -> Answer:
    """The model's answers; as the judge, Y for an answer with Paris, N for LIMA, and nothing readable for rome."""
    text = request["messages"][-1]["content"]
    if "Right?" in text:
        verdict = "Y" if "Paris" in text else "N" if "LIMA" in text else "maybe"
        return Answer(f"I think about it.\n{verdict}")
    return Answer(next(answer for land, answer in OUTPUTS.items() if land in text))


@pytest.mark.parametrize(("name", "wanted"), [("match", 1 / 3), ("includes", 1.0), ("fuzzy", 1.0), ("graded", 0.5)])
def test_open_source_evals_give_their_numbers(tmp_path: Path, name: str, wanted: float) -> None:
    migration = brought("openai-evals", registry(tmp_path / "r"), tmp_path / "out")
    assert any("compares several answers" in entry.reason for entry in migration.entries)
    suite = tmp_path / f"out/capitals-{name}.dev.v0.eval.yaml"
    with ScriptedServer(scripted) as server:
        model = f"{{model: m, base_url: '{server.base_url}'}}"
        text = suite.read_text().replace("target: openai/gpt-5.4-mini", f"target: {model}").replace("judge: openai/gpt-5.4\n", f"judge: {model}\n")  # fmt: skip
        suite.write_text(text)
        metrics = values(suite, tmp_path / "runs")
    found = [value for key, value in metrics.items() if re.match(r"(accuracy|choice)/v1(/mean)?$", key)]
    assert found == [pytest.approx(wanted)]


EXPORT = {
    "eval": {
        "object": "eval", "id": "e1", "name": "Tickets", "data_source_config": {"type": "custom"}, "novel": 1,
        "testing_criteria": [
            {"type": "string_check", "name": "Exact", "input": "{{ sample.output_text }}", "reference": "{{item.label}}", "operation": "eq"},
            {"type": "string_check", "name": "Has", "input": "{{sample.output_text}}", "reference": "WARE", "operation": "ilike"},
            {"type": "label_model", "name": "Tone", "model": "gpt-4o", "labels": ["good", "bad"], "passing_labels": ["good"],
             "input": [{"role": "user", "content": "Rate {{sample.output_text}} for {{item.text}}"}]},
            {"type": "python", "name": "Py", "source": "def grade(sample, item):\n    return float(sample['output_text'] == item['label'])\n", "pass_threshold": 0.5},
            {"type": "text_similarity", "name": "Met", "input": "{{sample.output_text}}", "reference": "x", "evaluation_metric": "meteor", "pass_threshold": 0.5},
        ],
    },
    "runs": [{
        "object": "eval.run", "id": "r1", "eval_id": "e1", "name": "first", "model": "m",
        "data_source": {"type": "completions", "model": "m", "sampling_params": {"temperature": 0},
                        "input_messages": {"type": "template", "template": [{"role": "user", "content": {"type": "input_text", "text": "{{ item.text }}"}}]}},
        "output_items": {"object": "list", "data": [
            {"object": "eval.run.output_item", "id": f"o{number}", "datasource_item_id": number,
             "datasource_item": {"text": text, "label": label}, "sample": {"output": [{"role": "assistant", "content": output}]},
             "results": [{"name": name, "passed": passed, "score": float(passed)} for name, passed in results.items()]}
            for number, (text, label, output, results) in enumerate([
                ("monitor", "Hardware", "Hardware", {"Exact-7f": True, "Has": True, "Tone": True, "Py": True, "Met": False}),
                ("word", "Software", "Hardware ", {"Exact-7f": False, "Has": True, "Tone": False, "Py": False, "Met": True}),
            ])
        ]},
    }],
}  # fmt: skip


def test_a_hosted_export_gives_the_verdicts_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps(EXPORT))
    migration = brought("openai-evals", tmp_path / "export.json", tmp_path / "out")
    assert [entry.what for entry in migration.entries if entry.outcome is Outcome.LEFT] == ["novel"]
    assert [entry.what.split("'")[1] for entry in migration.entries if entry.outcome is Outcome.PORT] == ["Met"]
    metrics = values(tmp_path / "out/tickets-first.eval.yaml", tmp_path / "runs")
    shares = {name: metrics[f"{name}/v1/mean"] for name in ("Exact", "Has", "Tone", "Py", "Met")}
    assert shares == {"Exact": 0.5, "Has": 1.0, "Tone": 0.5, "Py": 0.5, "Met": 0.5}


def test_a_hosted_eval_asks_the_model_and_the_judge_anew(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps(EXPORT))
    brought("openai-evals", tmp_path / "export.json", tmp_path / "out")

    def script(request: Any, nth: int) -> Answer:
        text = request["messages"][0]["content"]
        return Answer(
            "good"
            if text.startswith("Rate Hardware for monitor")
            else "**Bad**"
            if text.startswith("Rate")
            else "Hardware"
        )

    suite = tmp_path / "out/tickets.eval.yaml"
    with ScriptedServer(script) as server:
        text = suite.read_text().replace("target: openai/m", f"target: {{model: m, base_url: '{server.base_url}'}}")
        suite.write_text(text.replace("judge: openai/gpt-4o", f"judge: {{model: j, base_url: '{server.base_url}'}}"))
        metrics = values(suite, tmp_path / "runs")
    shares = {name: metrics[f"{name}/v1/mean"] for name in ("Exact", "Has", "Tone", "Py", "Met")}
    assert shares == {"Exact": 0.5, "Has": 1.0, "Tone": 0.5, "Py": 0.5, "Met": 0.0}, "what is to be ported fails"


# datasets and results

DATASETS = {
    "deepeval": ("g.csv", 'input,expected_output,actual_output,retrieval_context,own\n2+2?,4,4,"[""math""]",z\nPeru?,Lima,Rome,,\n'),
    "ragas": ("r.jsonl", '{"user_input": "2+2?", "reference": "4", "response": "4", "retrieved_contexts": ["a"]}\n{"user_input": "Peru?", "reference": "Lima", "response": "Rome"}\n'),
    "langfuse": ("l.json", '[{"id": "a", "input": {"question": "2+2?"}, "expectedOutput": {"answer": "4"}, "datasetId": "d"}]'),
    "braintrust": ("b.jsonl", '{"id": "1", "input": "2+2?", "expected": "4", "_xact_id": "9", "tags": ["t"]}\n'),
    "promptfoo-results": ("out.json", json.dumps({"results": {"results": [{"provider": {"id": "openai:m"}, "promptIdx": 0, "testIdx": 0, "prompt": {"raw": "2+2?"}, "response": {"output": "4"}, "success": True, "score": 1, "namedScores": {"a b": 0.5}}]}})),
}  # fmt: skip


@pytest.mark.parametrize("tool", DATASETS)
def test_datasets_become_suites_that_are_valid(tmp_path: Path, tool: str) -> None:
    name, text = DATASETS[tool]
    (tmp_path / name).write_text(text)
    out = tmp_path / "out"
    done = evalrun("import", tool, str(tmp_path / name), "-o", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 left, 0 to be ported" in " ".join(done.stdout.split())
    for suite in out.glob("*.eval.yaml"):
        checked = evalrun("validate", str(suite), env={"OPENAI_API_KEY": "x"})
        assert checked.returncode == 0, checked.stderr
    if tool in ("deepeval", "ragas"):
        assert values(next(out.glob("*.eval.yaml")), tmp_path / "runs")["exact_match/v1"] == 0.5
    again = evalrun("import", tool, str(tmp_path / name), "-o", str(out))
    assert again.returncode == 2 and "--force" in again.stderr


def test_an_import_that_needs_a_hand_exits_with_4_and_an_unreadable_one_with_2(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("task: t\noutput_type: multiple_choice\n")
    done = evalrun("import", "lm-eval", str(tmp_path / "t.yaml"), "-o", str(tmp_path / "out"))
    assert done.returncode == 4 and "likelihood" in (tmp_path / "out/MIGRATION.md").read_text()
    for tool in TOOLS:
        broken = evalrun("import", tool, str(tmp_path / "none.json"), "-o", str(tmp_path / "o2"))
        assert broken.returncode == 2 and "not found" in broken.stderr, (tool, broken.stderr)
    typo = evalrun("import", "lm-evl", "x")
    assert typo.returncode == 2 and "did you mean 'lm-eval'" in typo.stderr


# mutations

ODD: tuple[Any, ...] = (
    None,
    "",
    0,
    -1,
    1e308,
    True,
    [],
    {},
    [[]],
    [None],
    {"": None},
    "{{ x",
    "../../x",
    "\x1b[31m",
    "é" * 300,
    2**70,
)


def mutated(value: Any, random_: random.Random) -> Any:
    """The value with one part replaced, removed or doubled."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key, item in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            places.append((node, key))
            visit(item)

    copy = json.loads(json.dumps(value))
    visit(copy)
    node, key = random_.choice(places)
    if random_.random() < 0.25:
        del node[key]
    else:
        node[key] = random_.choice(ODD)
    return copy


def survive(tool: str, source: Path) -> None:
    """Import; a SuiteError is an answer, any other exception fails the test."""
    try:
        project = load_tool(tool)(source, migration := Migration())
    except SuiteError:
        return
    migration.to_markdown("x")
    for suite in project.suites:
        suite.to_yaml()


def mutate(tmp_path: Path, rounds: int, seed: int) -> None:
    import yaml

    random_ = random.Random(seed)
    registry(tmp_path / "r")
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    sources = {
        ("inspect", "log.json"): inspect_log(), ("openai-evals", "export.json"): EXPORT,
        ("lm-eval", "task.yaml"): yaml.safe_load(GSM8K_TASK), ("inspect", "eval.yaml"): yaml.safe_load(HUB),
        ("openai-evals", "r/evals/c.yaml"): yaml.safe_load(REGISTRY),
        ("promptfoo-results", "out.json"): json.loads(DATASETS["promptfoo-results"][1]),
        ("langfuse", "l.json"): json.loads(DATASETS["langfuse"][1]),
    }  # fmt: skip
    for _ in range(rounds):
        for (tool, name), value in sources.items():
            changed = mutated(value, random_)
            for _ in range(random_.randrange(3)):
                changed = mutated(changed, random_) if changed else changed
            text = json.dumps(changed)
            (tmp_path / name).write_text(text if random_.random() < 0.9 else text[: random_.randrange(len(text))])
            survive(tool, tmp_path / name)


def test_mutated_sources_are_reported_or_refused(tmp_path: Path) -> None:
    mutate(tmp_path, 25, seed=1)


@pytest.mark.slow
def test_many_mutated_sources_are_reported_or_refused(tmp_path: Path) -> None:
    mutate(tmp_path, 400, seed=2)


def test_mutated_archives_are_reported_or_refused(tmp_path: Path) -> None:
    source, random_ = tmp_path / "log.eval", random.Random(3)
    write_archive(source, inspect_log())
    whole = source.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(random_.randrange(1, 6)):
            data[random_.randrange(len(data))] = random_.randrange(256)
        source.write_bytes(bytes(data) if random_.random() < 0.8 else bytes(data[: random_.randrange(len(data))]))
        survive("inspect", source)
    source.write_bytes(whole[:-10] + struct.pack("<L", 2**31) + whole[-6:])
    survive("inspect", source)
