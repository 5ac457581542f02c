"""`load_suite`: a valid suite file becomes a `Suite`, problems are reported with line and column."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from evalrunner.errors import SuiteError
from evalrunner.suite.columns import ColumnSpec
from evalrunner.suite.loader import load_suite
from evalrunner.suite.options import RunOptions
from evalrunner.suite.schema import DatasetSpec, GateSpec, RunSpec

SMALL = """\
dataset: data.csv
target: openai/gpt-5-mini
scorers: [exact_match]
"""


def write(text: str, name: str = "qa.yaml") -> Path:
    path = Path(name)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def problems(text: str, options: RunOptions | None = None) -> list[str]:
    with pytest.raises(SuiteError) as raised:
        load_suite(write(text), options)
    return str(raised.value).splitlines()


def test_minimal_suite_uses_defaults() -> None:
    suite = load_suite(write(SMALL))
    assert suite.name == "qa"
    assert suite.dataset == DatasetSpec(path="data.csv")
    assert [target.name for target in suite.targets] == ["openai/gpt-5-mini"]
    assert [(scorer.name, scorer.type, scorer.on_no_answer) for scorer in suite.scorers] == [
        ("exact_match", "exact_match", "unscored")
    ]
    assert suite.run == RunSpec(concurrency="auto", epochs=1, seed=0, timeout=60.0)
    assert suite.judge_check == "on"


def test_all_documented_forms_are_parsed() -> None:
    suite = load_suite(
        write("""\
        name: qa.v2
        description: Short answers.
        dataset:
          path: data/*.jsonl
          columns: {id: qid, input: question.text, expected: {column: answers, split: "|"}}
          where: {split: [test, dev]}
          shuffle: 7
          limit: 200
        prompt:
          - system: Be short.
          - user: "{{ input }}"
        targets:
          - {name: gateway, model: claude, base_url: "http://localhost:4000/v1/", params: {temperature: null}}
          - {type: recorded, name: old, column: output}
        params: {temperature: 0}
        judge: {model: openai/gpt-5-mini, params: {max_tokens: 9}}
        judge_check: warn
        on_no_answer: zero
        scorers:
          - {type: toxicity, backend: lexical, on_no_answer: unscored}
          - {type: python, name: polite, function: "tone.py:polite", args: {strict: true}}
          - my_package.scorers:length
        gates:
          - toxicity/p90 < 0.2
          - {metric: polite, min: 0.5, target: gateway}
        run: {concurrency: 4, epochs: 2, seed: 3, timeout: 7}
        """)
    )
    assert suite.dataset.columns.expected == ColumnSpec("answers", split="|")
    assert suite.dataset.where == {"split": ["test", "dev"]}
    assert suite.prompt is not None
    assert [(part.role, part.template) for part in suite.prompt.parts] == [
        ("system", "Be short."),
        ("user", "{{ input }}"),
    ]
    gateway, old = suite.targets
    assert gateway.model is not None and gateway.model.params == {"temperature": None}
    assert (old.type, old.options) == ("recorded", {"column": "output"})
    assert [(scorer.name, scorer.on_no_answer) for scorer in suite.scorers] == [
        ("toxicity", "unscored"),
        ("polite", "zero"),
        ("length", "zero"),
    ]
    assert suite.scorers[1].args == {"strict": True}
    assert [(gate.metric, gate.operator, gate.bound, gate.target, gate.line) for gate in suite.gates] == [
        ("toxicity/p90", "<", 0.2, None, 24),
        ("polite", ">=", 0.5, "gateway", 25),
    ]
    assert suite.run == RunSpec(4, 2, 3, 7.0)


def test_all_problems_are_reported_at_once_with_line_and_column() -> None:
    message = problems("""\
        dataset: {path: qa.csv, limit: 0}
        target: {model: x, base_ur: http://x}
        scorers:
          - exact_match
          - exact_match
          - {toxicity: {backend: lexical}}
        gates:
          - exact_match > 80%
        run: {timeoutt: 3, epochs: two}
        """)
    assert message == [
        "qa.yaml:1:32: dataset.limit: is 0; it should be at least 1",
        "qa.yaml:2:20: target.base_ur: unknown key; did you mean 'base_url'?",
        "qa.yaml:5:5: scorers[1]: duplicate name 'exact_match'; set `name:` on one of them",
        "qa.yaml:8:5: gates[0]: compares with '80%', which is not a finite number; write it as a share, 80/100",
        "qa.yaml:9:7: run.timeoutt: unknown key; did you mean 'timeout'?",
        "qa.yaml:9:28: run.epochs: is 'two'; it should be a whole number",
    ]


def test_missing_required_keys_are_named() -> None:
    assert problems("") == [
        "qa.yaml: is empty; a suite needs at least dataset, target and scorers ('evalrun init' writes one)"
    ]
    assert problems("name: x\n") == [
        "qa.yaml:1:1: needs 'dataset' (the inputs), such as dataset: data/qa.csv",
        "qa.yaml:1:1: needs 'scorers', such as scorers: [exact_match], or checks",
        "qa.yaml:1:1: needs 'target' (the system under test), such as target: local/smollm2-135m-instruct",
    ]


def test_mistyped_required_key_is_one_problem() -> None:
    assert problems(SMALL.replace("scorers:", "scorer:")) == [
        "qa.yaml:3:1: scorer: unknown key; did you mean 'scorers'?"
    ]


def test_invalid_yaml_is_reported_with_line_and_column() -> None:
    (message,) = problems("dataset: [1, 2\ntarget: x\n")
    assert message.startswith("qa.yaml:2:7: is not valid YAML: ")
    (twice,) = problems(SMALL + "target: other\n")
    assert twice == "qa.yaml:4:1: target: duplicate key; remove one"


def test_missing_suite_file_suggests_the_nearest_name() -> None:
    write(SMALL, "qa.yaml")
    with pytest.raises(SuiteError, match=r"qq.yaml: file not found; did you mean 'qa.yaml'\?"):
        load_suite("qq.yaml")


def test_plain_scalars_follow_yaml_1_2() -> None:
    suite = load_suite(
        write('dataset: {rows: [{input: "Is it?", expected: no, at: 12:30, on: 2026-01-02, n: 010}]}\n' + SMALL[18:])
    )
    assert suite.dataset.rows == ({"input": "Is it?", "expected": "no", "at": "12:30", "on": "2026-01-02", "n": 10},)


def test_environment_variables_are_interpolated_only_in_allowed_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "sk-very-secret")
    monkeypatch.setenv("DATA", "elsewhere.csv")
    suite = load_suite(
        write("""\
        dataset: ${DATA}
        prompt: "Costs $5 or ${DATA}? {{ input }}"
        target:
          model: ${MODEL:-gpt-x}
          base_url: ${URL:-http://localhost:1/v1}
          api_key: ${GATEWAY_KEY}
          headers: {X-Team: "$${plain}"}
        scorers: [exact_match]
        """)
    )
    model = suite.targets[0].model
    assert suite.dataset.path == "elsewhere.csv"
    assert suite.prompt is not None and suite.prompt.parts[0].template == "Costs $5 or ${DATA}? {{ input }}"
    assert model is not None
    assert (model.model, model.base_url, model.api_key) == ("gpt-x", "http://localhost:1/v1", "sk-very-secret")
    assert model.headers == {"X-Team": "${plain}"}
    assert "sk-very-secret" not in str(suite.resolved)
    assert suite.resolved["targets"][0]["api_key"] == "${GATEWAY_KEY}"


def test_unset_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_ONE", "")
    message = problems("""\
        dataset: d.csv
        targets:
          - {model: a, name: one, api_key: "${NOPE}"}
          - {model: a, name: two, api_key: "${EMPTY_ONE}"}
          - {model: a, name: three, api_key: "${NOT A NAME}"}
        scorers: [exact_match]
        """)
    assert "the variable NOPE is not set" in message[0]
    assert "the variable EMPTY_ONE is empty" in message[1]
    assert "'${NOT A NAME}' is not ${NAME}" in message[2]


def test_precedence_is_command_line_then_set_then_suite() -> None:
    text = SMALL + "run: {epochs: 2, seed: 5}\n"
    suite = load_suite(
        write(text),
        RunOptions(
            epochs=4, settings=("run.epochs=3", "run.seed=6", "scorers[0]=contains", "run.timeout=9.5"), limit=3
        ),
    )
    assert (suite.run.epochs, suite.run.seed, suite.run.timeout) == (4, 6, 9.5)
    assert suite.dataset.limit == 3
    assert suite.scorers[0].type == "contains"


def test_target_and_base_url_options_select_targets() -> None:
    text = "dataset: d.csv\ntargets: [{name: a, model: m1}, {name: b, model: m2}, {type: recorded, column: c}]\nscorers: [contains]\n"
    chosen = load_suite(write(text), RunOptions(targets=("b", "openai/gpt-5"), base_url="http://localhost:9/v1"))
    assert [(target.name, target.model and target.model.base_url) for target in chosen.targets] == [
        ("b", "http://localhost:9/v1"),
        ("openai/gpt-5", "http://localhost:9/v1"),
    ]


def test_invalid_option_value_names_the_option() -> None:
    assert problems(SMALL, RunOptions(settings=("run.epochs=many",))) == [
        "--set 'run.epochs=many': run.epochs: is 'many'; it should be a whole number"
    ]
    assert problems(SMALL, RunOptions(settings=("scorers.4.type=x",))) == [
        "--set 'scorers.4.type=x': scorers is a list of 1; '4' is not a valid index"
    ]


def test_yaml_alias_bomb_is_rejected() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (message,) = problems("\n".join(lines))
    assert "more than 250,000 values" in message


def test_prompt_is_read_from_a_file() -> None:
    Path("p.txt").write_text("Q: {{ input }}\n")
    Path("roles.yaml").write_text("- system: Short.\n- user: '{{ input }}'\n")
    text = "dataset: d.csv\ntargets: [{model: m, prompt: {file: p.txt}}, {model: m, name: n, prompt: {file: roles.yaml}}]\nscorers: [contains]\n"
    one, two = load_suite(write(text)).targets
    assert one.prompt is not None and [(part.role, part.template) for part in one.prompt.parts] == [
        ("user", "Q: {{ input }}")
    ]
    assert two.prompt is not None and [part.role for part in two.prompt.parts] == ["system", "user"]
    (message,) = problems(text.replace("p.txt", "q.txt"))
    assert "'q.txt' cannot be read" in message


def test_gates_are_read_as_text_and_as_mapping() -> None:
    gates = load_suite(write(SMALL + "gates: [exact_match>=.5, {metric: latency/p90, max: 2, min: 0.1}]\n")).gates
    assert gates == (
        GateSpec("exact_match >= .5", "exact_match", ">=", 0.5, None, 4, ("gates", 0)),
        GateSpec("latency/p90 >= 0.1", "latency/p90", ">=", 0.1, None, 4, ("gates", 1)),
        GateSpec("latency/p90 <= 2", "latency/p90", "<=", 2.0, None, 4, ("gates", 1)),
    )


def test_target_is_selected_by_default_name_and_gates_of_other_targets_are_dropped() -> None:
    text = (
        "dataset: d.csv\ntargets: [{type: recorded, column: c}, {name: b, model: m2}]\nscorers: [contains]\n"
        "gates: [contains >= 0.5]\n"
    )
    chosen = load_suite(write(text), RunOptions(targets=("recorded",)))
    assert [(target.name, target.type) for target in chosen.targets] == [("recorded", "recorded")]
    set_gate = load_suite(write(text), RunOptions(settings=("gates=[contains >= 0.7]",)))
    assert [(gate.bound, gate.line) for gate in set_gate.gates] == [(0.7, None)]


@pytest.mark.parametrize("dataset", ["''", "' '", '"${EMPTY:-}"'])
def test_an_empty_dataset_is_reported(dataset: str) -> None:
    (problem,) = problems(SMALL.replace("data.csv", dataset))
    assert problem == "qa.yaml:1:10: dataset: is empty; name a file, a glob, or - for standard input"
