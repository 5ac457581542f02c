import random
from pathlib import Path

import pytest

from evalrunner.stats.prediction_powered import JudgedRows, powered_difference, powered_mean
from evalrunner.stats.rogan_gladen import JudgeRates, corrected_share

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "openqa_eval"


def test_a_perfect_judge_makes_labels_worth_more_and_a_coin_adds_nothing() -> None:
    source = random.Random(1)
    truth = [float(source.random() < 0.7) for _ in range(1000)]
    labels = [value if place < 100 else None for place, value in enumerate(truth)]
    coin = [float(source.random() < 0.5) for _ in truth]
    perfect, useless = powered_mean(JudgedRows(truth, labels)), powered_mean(JudgedRows(coin, labels))
    assert perfect.value is not None and abs(perfect.value - sum(truth) / 1000) < 0.01 and perfect.power > 0.85
    assert perfect.n_effective is not None and perfect.n_effective > 400
    assert useless.power < 0.2 and useless.n_effective is not None and 98 < useless.n_effective < 110


def test_a_judge_that_always_says_yes_leaves_the_labels_alone() -> None:
    labels = [float(place % 2) if place < 50 else None for place in range(500)]
    result = powered_mean(JudgedRows([1.0] * 500, labels))
    assert (result.value, result.power) == (0.5, 0.0)


def test_fewer_than_twenty_labels_or_ten_clusters_give_no_corrected_mean() -> None:
    few = powered_mean(JudgedRows([1.0] * 50, [1.0] * 19 + [None] * 31))
    assert few.value is None and few.note == "19 labels, at least 20 are needed"
    labels = [1.0] * 40 + [None] * 10
    grouped = powered_mean(JudgedRows([1.0] * 50, labels, clusters=[place % 5 for place in range(50)]))
    assert grouped.value is None and "5 clusters" in (grouped.note or "")


def test_drawing_probabilities_undo_labels_drawn_where_it_pays() -> None:
    source, values = random.Random(3), list[float]()
    for _ in range(300):
        truth = [float(source.random() < 0.6) for _ in range(300)]
        verdicts = [value if source.random() < 0.8 else 1 - value for value in truth]
        drawn = [0.5 if verdict == 0 else 0.2 for verdict in verdicts]
        labels = [value if source.random() < p else None for value, p in zip(truth, drawn, strict=True)]
        shown = [p if label is not None else None for p, label in zip(drawn, labels, strict=True)]
        values.append((powered_mean(JudgedRows(verdicts, labels, shown)).value or 0) - 0.6)
    assert abs(sum(values) / len(values)) < 0.01


def test_a_difference_of_a_target_with_itself_is_zero_and_never_proven() -> None:
    rows = JudgedRows(
        [float(place % 3 > 0) for place in range(300)],
        [float(place % 4 > 0) if place < 90 else None for place in range(300)],
    )
    result = powered_difference(rows, rows)
    assert result.estimate == 0 and result.p_value == 1 and result.error > 0


def test_rogan_gladen_recovers_the_true_share_and_states_its_conditions() -> None:
    rates = JudgeRates(90, 100, 80, 100)
    found = corrected_share(0.9 * 0.6 + 0.2 * 0.4, 500, rates)
    assert found.value == pytest.approx(0.6) and found.low is not None and found.high is not None
    assert found.low < 0.55 and found.high > 0.65
    assert corrected_share(0.05, 500, rates).clipped is not None and corrected_share(0.05, 500, rates).value == 0
    assert "at least 20" in (JudgeRates(19, 19, 30, 40).why_not() or "")
    assert "hardly tells" in (JudgeRates(55, 100, 50, 100).why_not() or "")
    assert JudgeRates(100, 100, 100, 100).why_not() is None


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded judges are not here")
@pytest.mark.parametrize(("repeats", "margin"), [(300, 0.03), pytest.param(4000, 0.01, marks=pytest.mark.slow)])
def test_corrected_rates_cover_what_people_say_and_raw_ones_do_not(repeats: int, margin: float) -> None:
    from benchmarks.recorded_judges import false_better, read_judges, resample

    for judge in read_judges(RECORDED).values():
        for rows in (300, len(judge.labels)) if repeats > 1000 else (300,):
            found = resample(judge, rows=rows, labels=100, repeats=repeats)
            assert 0.95 - 0.01 - margin <= found["ppi++"].share <= 0.96 + margin
            assert found["naive"].share < 0.9 and found["rogan-gladen"].share >= 0.94 - margin
            assert found["ppi++"].error <= 1.02 * found["labels"].error
            raw, corrected = false_better(judge, rows=rows, labels=100, repeats=repeats // 4)
            assert raw > 0.9 and corrected <= 0.05 + margin
