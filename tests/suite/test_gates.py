"""All forms of gates in a suite; problems are reported with line and column before any call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import evalrunner
from evalrunner.errors import SuiteError
from evalrunner.suite.json_schema import suite_schema
from evalrunner.suite.loader import load_suite
from evalrunner.suite.schema import GateSpec, PerSample

SMALL = """\
dataset: {rows: [{input: a, expected: b, topic: law, out: b}]}
target: {type: recorded, column: out}
scorers: [exact_match, {type: toxicity, backend: lexical}]
"""


def write(more: str) -> Path:
    path = Path("s.yaml")
    path.write_text(SMALL + more + "\n", encoding="utf-8")
    return path


def gate(text: str, more: str = "") -> GateSpec:
    (result,) = load_suite(write(f"gates: [{text}]\n{more}")).gates
    return result


def problems(more: str) -> list[str]:
    with pytest.raises(SuiteError) as raised:
        evalrunner.run_suite(write(more))
    assert not Path("runs").exists()
    return [str(problem) for problem in raised.value.problems]


def test_gate_slice_is_read_from_the_text_or_its_own_key() -> None:
    text = gate("'exact_match[topic=law] >= 0.7'")
    assert (text.text, text.metric, text.slice) == ("exact_match[topic=law] >= 0.7", "exact_match", {"topic": "law"})
    beside = gate("{metric: exact_match, slice: {topic: law}, min: 0.7}")
    assert (beside.text, beside.metric, beside.slice) == (text.text, text.metric, text.slice)


def test_confidence_key_makes_a_confidence_gate() -> None:
    own = gate("{metric: exact_match, min: 0.7, confidence: 0.9}")
    assert (own.kind, own.confidence, own.text) == ("confidence", 0.9, "exact_match >= 0.7 at 0.9 confidence")
    default = gate("exact_match >= 0.7", "gate_defaults: {confidence: 0.95}")
    assert (default.kind, default.confidence) == ("confidence", 0.95)
    without = gate("{metric: exact_match, min: 0.7, confidence: null}", "gate_defaults: {confidence: 0.95}")
    assert (without.kind, without.confidence) == ("point", None)
    exact = gate("exact_match == 1", "gate_defaults: {confidence: 0.95}")
    assert (exact.kind, exact.confidence) == ("point", None)


def test_baseline_gates_always_have_a_confidence() -> None:
    drop = gate("{metric: exact_match, baseline: main, max_drop: 0.02}")
    assert (drop.kind, drop.bound, drop.baseline, drop.confidence) == ("max_drop", 0.02, "main", 0.95)
    assert drop.text == "exact_match at most 0.02 worse than main"
    better = gate("{metric: exact_match, improved: true}", "gate_defaults: {baseline: old, confidence: 0.9}")
    assert (better.kind, better.baseline, better.confidence) == ("improved", "old", 0.9)
    assert better.text == "exact_match better than old"


def test_per_sample_gate_is_read() -> None:
    rule = "{per_sample: {metric: exact_match, min: 1, passes: 3, of: 5, share: 0.9}, confidence: 0.95}"
    result = gate(rule, "run: {epochs: 5}")
    assert result.per_sample == PerSample(">=", 1.0, 3, 5)
    assert (result.operator, result.bound, result.kind) == (">=", 0.9, "confidence")


def test_gate_rules_precedence_is_gate_then_gate_defaults_then_top_level() -> None:
    more = "min_coverage: 0.5\ninconclusive: warn\nbaseline_required: true\ngate_defaults: {min_coverage: 0.8}"
    result = gate("{metric: exact_match, baseline: main, max_drop: 0.1, inconclusive: block}", more)
    assert (result.min_coverage, result.inconclusive, result.baseline_required) == (0.8, "block", True)
    plain = gate("exact_match >= 0.5")
    assert (plain.min_coverage, plain.inconclusive, plain.baseline_required) == (0.95, "block_if_worse", False)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "gates: [exact_mach >= 0.5]",
            "4:9: gates[0]: no metric 'exact_mach' in this suite; did you mean 'exact_match'?",
        ),
        (
            "gates: ['exact_match[topik=law] >= 0.5']\nslices: [topic]",
            "4:9: gates[0]: no slice 'topik' in this suite; did you mean 'topic'?",
        ),
        (
            "gates: ['exact_match[topic=law] >= 0.5']",
            "4:9: gates[0]: no slice 'topic' in this suite; add it: slices: [topic]",
        ),
        (
            "gates: [exact_match/pass_at_2 >= 0.5]",
            "4:9: gates[0]: no metric 'exact_match/pass_at_2' in this suite; add the reducer 'pass_at_2' to 'reducer:'",
        ),
        (
            "gates: ['exact_match[topic] >= 0.5']",
            "4:9: gates[0]: has the slice [topic]; it should read like exact_match[topic=law]",
        ),
        (
            "gates: [{metric: exact_match, max_drop: 0.1}]",
            "4:31: gates[0].max_drop: needs 'baseline' in the same gate, such as baseline: main",
        ),
        (
            "gates: [{metric: exact_match, baseline: main}]",
            "4:31: gates[0].baseline: needs 'max_drop' (the allowed drop) or 'improved: true' in the same gate",
        ),
        (
            "gates: [{metric: exact_match, baseline: main, max_drop: -1}]",
            "4:57: gates[0].max_drop: is -1; it should be at least 0 (the allowed drop)",
        ),
        (
            "gates: [{metric: exact_match, baseline: main, max_drop: 0.1, min: 0.5}]",
            "4:62: gates[0].min: cannot be combined with 'max_drop'; write two gates",
        ),
        (
            "gates: [{metric: exact_match, min: 0.5, confidence: 95}]",
            "4:53: gates[0].confidence: is 95; it should be above 0.5 and below 1; write a percentage as a share, such as 0.95",
        ),
        (
            "gates: [{metric: exact_match, min: 0.5, baseline: main}]",
            "4:41: gates[0].baseline: has no effect with 'min'; it needs max_drop or improved",
        ),
        (
            "gates: [{metric: exact_match, min: 0.5, inconclusive: blok}]",
            "4:55: gates[0].inconclusive: is 'blok'; it should be one of block, block_if_worse, warn; did you mean 'block'?",
        ),
        (
            "min_coverage: 95",
            "4:15: min_coverage: is 95; it should be at least 0 and at most 1; write a percentage as a share, such as 0.95",
        ),
        (
            "gate_defaults: {confidance: 0.9}",
            "4:17: gate_defaults.confidance: unknown key; did you mean 'confidence'?",
        ),
        (
            "gates: [{per_sample: {metric: exact_match, min: 1, passes: 3, of: 5}}]",
            "4:67: gates[0].per_sample.of: is 5, but the run has 1 epoch; set run.epochs to 5, or remove 'of'",
        ),
        (
            "gates: [{per_sample: {metric: exact_match, min: 1, passes: 6, of: 5}}]",
            "4:60: gates[0].per_sample.passes: is 6, but there are only 5 epochs",
        ),
        (
            "gates: [{metric: toxicity/p90, baseline: main, max_drop: 0.1}]",
            "4:18: gates[0].metric: 'toxicity/v1/p90' cannot be paired sample by sample; use a mean or a ratio, such as 'toxicity'",
        ),
        (
            "gates: [{metric: toxicity/variance, baseline: main, max_drop: 0.1}]",
            "4:18: gates[0].metric: 'toxicity/v1/variance' cannot be paired sample by sample; use a mean or a ratio, such as 'toxicity'",
        ),
        (
            "gates: [{per_sample: {metric: toxicity/ratio, min: 1, passes: 1}}]",
            "4:31: gates[0].per_sample.metric: 'toxicity/ratio' is not a score of a sample; name the scorer alone",
        ),
        (
            "gates: [{per_sample: {metric: latency, max: 1, passes: 1}}]",
            "4:31: gates[0].per_sample.metric: 'latency' is not a score of a sample; name the scorer alone",
        ),
        (
            "gates: [{per_sample: {metric: exact_match, min: 1, passes: 2}}]",
            "4:60: gates[0].per_sample.passes: is 2, but the run has 1 epoch (run.epochs)",
        ),
        (
            "gates: [{per_sample: {metric: exact_match, min: 1, passes: 4}}]\nrun: {epochs: 3}",
            "4:60: gates[0].per_sample.passes: is 4, but the run has 3 epochs (run.epochs)",
        ),
        (
            "gates: [{metric: latency, baseline: main, max_drop: 0.1}]",
            "4:18: gates[0].metric: baselines do not hold 'latency/mean'; use 'max' instead",
        ),
        (
            "gates: [{metric: cost_usd/total, max: 1, confidence: 0.9}]",
            "4:9: gates[0]: 'cost_usd/total' is a total, which has no interval; set confidence: null for this gate",
        ),
        (
            "gates: [{metric: exact_match, baseline: '../x y', max_drop: 0.1}]\ngate_defaults: {baseline: a b}",
            None,
        ),
        (
            "gates: [{metric: exact_match, baseline: a b, max_drop: 0.1}]",
            "4:41: gates[0].baseline: 'a b' is not a baseline reference; use a name such as main, a path to a .jsonl file, run:RUN, mlflow:experiment/NAME or mlflow:run/ID",
        ),
        (
            "gates: [{metric: exact_match, baseline: 'run:nope', max_drop: 0.1}]",
            "4:41: gates[0].baseline: no run 'nope' in 'runs' ('evalrun runs' lists them)",
        ),
    ],
)
def test_invalid_gates_are_suite_errors(more: str, expected: str | None) -> None:
    if expected is None:  # a path that does not exist is a baseline to be created later
        assert evalrunner.run_suite(write(more)).gates[0].verdict == "no_baseline"
    else:
        assert problems(more) == [f"s.yaml:{expected}"]


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(suite_schema())


@pytest.mark.parametrize(
    ("gate", "fits"),
    [
        ("exact_match[topic=law] >= 0.7", True),
        ("{metric: exact_match, min: 0.7, confidence: null, inconclusive: block, min_coverage: 0.5, target: m}", True),
        ("{metric: exact_match, slice: {topic: law}, min: 0.7, max: 0.9}", True),
        ("{metric: exact_match, baseline: main, max_drop: 0.02, baseline_required: true}", True),
        ("{metric: exact_match, baseline: main, improved: true}", True),
        ("{per_sample: {metric: exact_match, min: 1, passes: 3, of: 5, share: 1.0}, confidence: 0.9}", True),
        ("{metric: exact_match}", False),
        ("{metric: exact_match, baseline: main}", False),
        ("{metric: exact_match, baseline: main, max_drop: -1}", False),
        ("{metric: exact_match, baseline: main, max_drop: 0.1, improved: true}", False),
        ("{metric: exact_match, min: 0.7, confidence: 95}", False),
        ("{metric: exact_match, min: 0.7, baseline: main}", False),
        ("{per_sample: {metric: exact_match, min: 1}}", False),
        ("{per_sample: {metric: exact_match, min: 1, max: 2, passes: 1}}", False),
    ],
)
def test_gate_schema_agrees_with_the_check(gate: str, fits: bool, validator: Any) -> None:
    data = {"dataset": "d.csv", "target": "m", "scorers": ["exact_match"], "gates": [yaml.safe_load(gate)]}
    assert (list(validator.iter_errors(data)) == []) is fits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exact_match >= 80", "gates[0]: compares with 80, but 'exact_match/v1' is always 0..1; 80% is 0.8"),
        ("toxicity/ratio < -0.1", "gates[0]: compares with -0.1, but 'toxicity/v1/ratio' is always 0..1"),
        ("toxicity/variance < 0.3", "gates[0]: compares with 0.3, but 'toxicity/v1/variance' is always 0..0.25"),
        ("exact_match >= 101", "gates[0]: compares with 101, but 'exact_match/v1' is always 0..1"),
        ("exact_match >= 100", "gates[0]: compares with 100, but 'exact_match/v1' is always 0..1; 100% is 1"),
        ("toxicity/variance < 80", "gates[0]: compares with 80, but 'toxicity/v1/variance' is always 0..0.25"),
        ("latency/p90 > -1", "gates[0]: compares with -1, but 'latency/p90' is always 0 or more"),
        (
            "{metric: exact_match, baseline: main, max_drop: 2}",
            "gates[0].max_drop: is 2, but 'exact_match/v1' cannot drop by more than 1; 2% is 0.02",
        ),
    ],
)
def test_bound_outside_the_range_of_a_metric_is_a_suite_error(text: str, message: str) -> None:
    (problem,) = problems(f"gates: ['{text}']" if text[0] != "{" else f"gates: [{text}]")
    assert problem.partition(": ")[2] == message


def test_bound_at_the_end_of_the_range_is_valid() -> None:
    result = evalrunner.run_suite(
        write(
            "gates: [exact_match >= 1, exact_match <= 1, exact_match > 0, exact_match >= 0, toxicity/variance <= 0.25, "
            "{metric: exact_match, baseline: main, max_drop: 1}]"
        )
    )
    assert result.exit_code == 0
