"""How often all gates together stop a model as good as the accepted one: draws, against the verdicts of `check_gates`."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows
from evalrunner.domain import Declaration, GateResult, Row
from evalrunner.gates.accepted_run import AcceptedRun, planned_gates, rows_of_run
from evalrunner.gates.build import GateBuilder
from evalrunner.gates.decision import Outcome, verdicts_of
from evalrunner.gates.false_alarms import Resampling, chance_of_change, red_rate, stopping_gates
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, Population
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document
from tests.gates.builders import judge, provenance_of, rows

numpy = pytest.importorskip("numpy")

RIGHT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("token_f1", Declaration())


def gates_of(text: str, measure: Measure, design: Design) -> tuple[Gate, ...]:
    document = parse_document(f"gates: [{text}]", file="s.yaml")
    specs = read_gates(SectionReader(document, Path()), document.data)
    built = GateBuilder(document, [measure, *BUILTIN_MEASURES], targets=["m"], design=design, epochs=1).build(specs)
    document.raise_problems()
    return built


def resampling_of(
    text: str, accepted: list[Row], measure: Measure = RIGHT, *, design: Design | None = None, baseline: bool = False,
    changed: float | None = None, seed: int = 0,
) -> Resampling:  # fmt: skip
    """Draws of a run, accepted as the baseline or only stored."""
    design = design or Design()
    population = Population.of(design)
    for row in accepted:
        population.add(row.sample)
    head = BaselineHead("main", "run-0", None, provenance_of(measure, 1))
    baselines = {"main": Baseline(head, "main", collect_rows(accepted, epochs=1))} if baseline else {}
    last = rows_of_run(accepted, epochs=1)
    run = AcceptedRun([row.sample.id for row in accepted], baselines, last, ["m"], population)
    planned = planned_gates(gates_of(text, measure, design), ["m"], population, [last])
    result = run.resampling(planned, lambda gate, target: changed, seed=seed)
    assert result is not None
    return result


def draws_and_verdicts(
    resampling: Resampling, text: str, scores: list[float], topics: list[dict[str, str]], measure: Measure
) -> Iterator[tuple[list[tuple[Outcome, bool]], list[GateResult]]]:
    """The outcomes of draws, each with the results of `check_gates` on the rows of the same draw."""
    for _ in range(30):
        random_state = copy.deepcopy(resampling.random)
        outcomes = resampling.outcomes()
        after, resampling.random = resampling.random, random_state
        places, _ = resampling._draw()
        swapped = resampling.random.random(len(places)) < resampling.changed["m"]
        candidate = numpy.where(swapped, resampling._partners(places), places)
        resampling.random = after
        metadata = [topics[place] for place in places]
        now = rows([scores[place] for place in candidate], measure.name, metadata)
        before = rows([scores[place] for place in places], measure.name, metadata)
        yield outcomes, judge(text, measure, now, before=before, design=Design(slices=("topic",)))


def scores_and_topics(measure: Measure, n: int) -> tuple[list[float], list[dict[str, str]]]:
    draw = random.Random(1)
    scores = [float(draw.random() < 0.85) if measure is RIGHT else draw.betavariate(8, 2) for _ in range(n)]
    return scores, [{"topic": "law" if place % 3 else "tax"} for place in range(n)]


@pytest.mark.parametrize("measure", [RIGHT, GRADED])
def test_a_draw_has_the_verdicts_of_the_gates_on_its_rows(measure: Measure) -> None:
    name = measure.name
    scores, topics = scores_and_topics(measure, 120)
    text = (
        f"{name} >= 0.8, {{metric: {name}, min: 0.75, confidence: 0.95}}, latency < 2, "
        f"{{metric: '{name}[topic=law]', min: 0.9, confidence: 0.9}}, {{metric: {name}, baseline: main, max_drop: 0.05}}, "
        f"{{metric: {name}, baseline: main, improved: true}}, {{metric: {name}, max: 0.8, confidence: 0.8, family: none}}"
    )
    design, accepted = Design(slices=("topic",)), rows(scores, name, topics)
    resampling = resampling_of(text, accepted, measure, design=design, baseline=True, changed=0.2)
    gates = [one.gate for one in resampling.scores]
    seen = set()
    for outcomes, results in draws_and_verdicts(resampling, text, scores, topics, measure):
        assert [one.verdict for one in results] == verdicts_of(gates, [outcome for outcome, _ in outcomes])
        stopped = [place for place, one in enumerate(results) if one.exit_code]
        assert stopped == stopping_gates(gates, outcomes)
        seen |= {one.verdict for one in results}
    assert {"pass", "inconclusive"} <= seen


@pytest.mark.parametrize("measure", [RIGHT, GRADED])
def test_a_draw_has_the_verdicts_of_sequential_gates(measure: Measure) -> None:
    name = measure.name
    scores, topics = scores_and_topics(measure, 300)
    rules = "confidence: 0.95, sequential: true, family: none"
    text = (
        f"{{metric: {name}, min: 0.75, {rules}}}, {{metric: {name}, max: 0.77, {rules}}}, "
        f"{{metric: {name}, baseline: main, max_drop: 0.07, {rules}}}"
    )
    accepted = rows(scores, name, topics)
    resampling = resampling_of(text, accepted, measure, design=Design(slices=("topic",)), baseline=True, changed=0.2)
    gates = [one.gate for one in resampling.scores]
    seen = set()
    for outcomes, results in draws_and_verdicts(resampling, text, scores, topics, measure):
        assert [one.verdict for one in results] == verdicts_of(gates, [outcome for outcome, _ in outcomes])
        seen |= {one.verdict for one in results}
    assert {"pass", "inconclusive"} <= seen


def test_slices_keep_their_sizes_and_their_means() -> None:
    topics = [{"topic": "hard" if place % 4 == 0 else "easy"} for place in range(200)]
    scores = [0.0 if one["topic"] == "hard" else 1.0 for one in topics]
    text = "'exact_match[topic=hard] <= 0', 'exact_match[topic=easy] >= 1', {metric: exact_match, baseline: main, max_drop: 0.05}"
    resampling = resampling_of(
        text, rows(scores, "exact_match", topics), design=Design(slices=("topic",)), baseline=True
    )
    assert red_rate(resampling, draws=50).by_gate[:2] == (0.0, 0.0)
    places, _ = resampling._draw()
    assert sum(topics[place]["topic"] == "hard" for place in places) == 50


def test_more_changes_stop_more_equal_models() -> None:
    scores = [1.0] * 160 + [0.0] * 40
    text = "{metric: exact_match, baseline: main, max_drop: 0.02, inconclusive: block}"

    def rate(changed: float) -> float:
        return red_rate(
            resampling_of(text, rows(scores, "exact_match"), baseline=True, changed=changed), draws=200
        ).corrected

    assert rate(0.0) == 0.0
    assert 0.5 < rate(0.05) <= rate(0.2)


def test_the_drawn_share_of_changes_is_the_assumed_one() -> None:
    values = numpy.array([1.0] * 800 + [0.0] * 200)
    chance = chance_of_change(values, 0.1)
    assert chance == pytest.approx(0.1 / 0.32)
    assert chance_of_change(values, 0.9) == 1.0
    assert chance_of_change(numpy.array([1.0, 1.0]), 0.1) == 0.0
    assert chance_of_change(numpy.linspace(0, 1, 500), 0.1) == pytest.approx(0.1, abs=0.001)


def test_a_point_gate_at_its_value_stops_half_of_the_runs() -> None:
    resampling = resampling_of("exact_match >= 0.8", rows([1.0] * 160 + [0.0] * 40, "exact_match"))
    rate = red_rate(resampling)
    assert rate.draws == 1000
    assert rate.corrected == rate.uncorrected == pytest.approx(0.47, abs=0.05)  # P(X < 160) of Binomial(200, .8)


def test_the_correction_lowers_the_rate_of_ten_gates_at_their_bound() -> None:
    topics = [{"topic": f"t{place % 10}"} for place in range(600)]
    scores = [float(place % 50 < 40) for place in range(600)]  # .8 in each topic
    text = ", ".join(
        f"{{metric: 'exact_match[topic=t{number}]', min: 0.8, confidence: 0.95, inconclusive: warn}}"
        for number in range(10)
    )
    resampling = resampling_of(text, rows(scores, "exact_match", topics), design=Design(slices=("topic",)))
    rate = red_rate(resampling)
    assert rate.corrected <= 0.07
    assert rate.uncorrected >= 0.2


def test_clusters_are_drawn_whole() -> None:
    topics = [{"passage": str(place // 5)} for place in range(200)]
    scores = [float(place // 5 % 5 < 4) for place in range(200)]  # whole passages are right or wrong
    related = resampling_of(
        "exact_match >= 0.75", rows(scores, "exact_match", topics), design=Design(cluster="passage")
    )
    plain = resampling_of("exact_match >= 0.75", rows(scores, "exact_match"))
    assert red_rate(related).corrected > 0.1 > red_rate(plain).corrected
    places, clusters = related._draw()
    assert clusters is not None
    assert len(set(clusters.tolist())) == 40
    assert all(len(set((places[clusters == code] // 5).tolist())) == 1 for code in range(40))


def test_slow_gates_get_fewer_draws() -> None:
    draw = random.Random(2)
    graded = rows([draw.betavariate(8, 2) for _ in range(2000)], "token_f1")
    resampling = resampling_of("{metric: token_f1, min: 0.7, confidence: 0.95}", graded, GRADED)
    assert red_rate(resampling).draws == 300
