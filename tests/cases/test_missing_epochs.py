"""Failed calls among the epochs of a sample are missing answers, whatever the other epochs say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cases.suites import Plan, at_least, run, samples

FIVE = {"epochs": 5}
ONE_OF_FIVE: Plan = ["right", "error", "error", "error", "error"]


def reduced(reducer: str, epochs: int = 5) -> dict[str, Any]:
    return {"epochs": epochs, "reducer": reducer}


@pytest.mark.parametrize(
    "gate", ["exact_match >= 0.9", at_least(0.9), "exact_match >= 0.1", at_least(0.1), "exact_match <= 0.9"]
)
def test_run_with_80_percent_failed_calls_is_untrusted(gate: Any) -> None:
    ended = run(samples((100, ONE_OF_FIVE)), [gate], run=FIVE)
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "100 of 500 answers" in ended.text
    assert "failed on 400" in ended.text


def test_counts_of_a_metric_are_of_answers_and_n_is_of_samples() -> None:
    import json
    from pathlib import Path

    run(samples((99, ONE_OF_FIVE), (1, "error")), [], run=FIVE)
    (file,) = Path("runs/case").glob("*/metrics.json")
    metrics = json.loads(file.read_text())["targets"]["m"]["metrics"]
    metric = next(one for one in metrics if one["name"] == "exact_match/v1")
    assert (metric["n"], metric["errors"], metric["trusted"]) == (99, 401, False)


def test_failing_only_where_the_answer_would_be_wrong_is_not_a_pass() -> None:
    data = samples((100, ["right", "right", "right", "error", "error"]))  # in truth .6, of the scored ones 1.0
    for gate in ("exact_match >= 0.9", at_least(0.9)):
        ended = run(data, [gate], run=FIVE)
        assert (ended.code, ended.verdict) == (3, "untrusted"), gate
        ended = run(
            data,
            [gate if isinstance(gate, dict) else {"metric": "exact_match", "min": 0.9}],
            run=FIVE,
            min_coverage=0.5,
        )
        assert (ended.code, ended.verdict) == (3, "untrusted"), gate


def test_verdict_that_holds_for_every_filling_is_kept_below_full_coverage() -> None:
    data = samples((200, ["right", "right", "right", "error", "error"]))
    ended = run(data, ["exact_match >= 0.5", at_least(0.5)], run=FIVE, min_coverage=0.5)
    assert (ended.code, ended.verdicts) == (0, ("pass", "pass"))  # at least .6 with the failed ones wrong
    data = samples((200, ["wrong", "wrong", "wrong", "error", "error"]))
    ended = run(data, ["exact_match >= 0.5", at_least(0.5)], run=FIVE, min_coverage=0.5)
    assert (ended.code, ended.verdicts) == (1, ("fail", "fail"))  # at most .4 with the failed ones right


@pytest.mark.parametrize(
    ("reducer", "plan", "verdict"),
    [
        ("at_least_3", ["right", "right", "right", "error", "error"], "pass"),
        ("at_least_3", ["right", "right", "error", "wrong", "wrong"], "untrusted"),
        ("at_least_3", ["wrong", "wrong", "wrong", "error", "error"], "fail"),
        ("at_least_3", ["right", "right", "error", "error", "wrong"], "untrusted"),
        ("at_least_1", ["right", "error", "error", "error", "error"], "pass"),
        ("at_least_5", ["right", "right", "right", "right", "error"], "untrusted"),
        ("at_least_5", ["wrong", "error", "error", "error", "error"], "fail"),
        ("max", ["right", "error", "error", "error", "error"], "pass"),
        ("max", ["wrong", "wrong", "wrong", "wrong", "error"], "untrusted"),
        ("pass_k_5", ["wrong", "right", "right", "right", "error"], "fail"),
        ("pass_k_5", ["right", "right", "right", "right", "error"], "untrusted"),
        ("pass_at_5", ["right", "error", "error", "error", "error"], "pass"),
        ("pass_at_5", ["wrong", "wrong", "wrong", "wrong", "error"], "untrusted"),
        ("median", ["right", "right", "right", "error", "error"], "pass"),
        ("median", ["wrong", "wrong", "right", "error", "error"], "untrusted"),
        ("median", ["wrong", "wrong", "wrong", "error", "error"], "fail"),
        ("mode", ["right", "right", "right", "error", "error"], "pass"),
        ("mode", ["right", "wrong", "right", "error", "error"], "untrusted"),
        ("mean", ["right", "right", "right", "error", "error"], "pass"),
        ("mean", ["right", "right", "error", "error", "wrong"], "untrusted"),
        ("mean", ["wrong", "wrong", "wrong", "error", "error"], "fail"),
    ],
)  # fmt: skip
def test_reducer_has_a_verdict_only_if_the_missing_epochs_cannot_decide_it(
    reducer: str, plan: Plan, verdict: str
) -> None:
    gates = [{"metric": "exact_match", "min": 0.5}, at_least(0.5)]
    ended = run(samples((100, plan)), gates, run=reduced(reducer), min_coverage=0.1)
    assert set(ended.verdicts) == {verdict}, ended.text
    assert ended.code == {"pass": 0, "fail": 1, "untrusted": 3}[verdict]


def test_counting_reducer_is_not_biased_by_calls_that_fail_at_random() -> None:
    """Each call right with .8, one call in ten lost: `at_least_3` of what is left is far below that of all calls."""
    whole: list[Plan] = [["right"] * 5, ["right", "right", "right", "right", "wrong"], ["right", "right", "right", "wrong", "wrong"],
                         ["right", "right", "wrong", "wrong", "wrong"]]  # fmt: skip
    lost = (
        ["right", "error", "right", "right", "wrong"],
        ["right", "right", "error", "wrong", "right"],
        ["error", "right", "right", "wrong", "wrong"],
    )
    data = samples(
        (60, whole[0]), (60, whole[1]), (40, whole[2]), (10, whole[3]), (10, lost[0]), (10, lost[1]), (10, lost[2])
    )
    ended = run(data, [at_least(0.98)], run=reduced("at_least_3"))
    assert ended.verdict == "fail"  # 10 of 200 are wrong for certain: .95 at best, and at most .9x at 95%
    ended = run(data, ["exact_match >= 0.92"], run=reduced("at_least_3"))
    assert ended.verdict == "untrusted"  # .9 to .95
    ended = run(data, ["exact_match >= 0.9"], run=reduced("at_least_3"))
    assert ended.verdict == "pass"


@pytest.mark.parametrize("passes", [1, 3, 5])
def test_per_sample_gate_waits_for_the_missing_epochs(passes: int) -> None:
    gate = {
        "per_sample": {"metric": "exact_match", "min": 1, "passes": passes, "of": 5, "share": 0.9},
        "min_coverage": 0.1,
    }
    sure = run(
        samples((50, ["right"] * passes + ["error"] * (5 - passes))), [gate, {**gate, "confidence": 0.95}], run=FIVE
    )
    assert (sure.code, sure.verdicts[0]) == (0, "pass")
    open_ = run(samples((50, ["right"] * (passes - 1) + ["error"] + ["wrong"] * (5 - passes))), [gate, {**gate, "confidence": 0.95}], run=FIVE)  # fmt: skip
    assert (open_.code, set(open_.verdicts)) == (3, {"untrusted"})
    never = run(samples((50, ["right"] * (passes - 1) + ["wrong"] * (6 - passes))), [gate, {**gate, "confidence": 0.95}], run=FIVE)  # fmt: skip
    assert (never.code, set(never.verdicts)) == (1, {"fail"})


def test_per_sample_gate_on_a_maximum() -> None:
    rule = {"metric": "exact_match", "max": 0, "passes": 2, "of": 3, "share": 0.5}
    gate = {"per_sample": rule, "min_coverage": 0.1}
    three = {"epochs": 3}
    assert run(samples((30, ["wrong", "wrong", "error"])), [gate], run=three).verdict == "pass"
    assert run(samples((30, ["wrong", "right", "error"])), [gate], run=three).verdict == "untrusted"
    assert run(samples((30, ["right", "right", "error"])), [gate], run=three).verdict == "fail"


def test_additional_reducers_and_slices_count_missing_epochs_too() -> None:
    data = samples((40, ["right"] * 4 + ["error"]), (40, ["right"] * 5), topic=["a"] * 40 + ["b"] * 40)
    gates = ["exact_match/at_least_5 >= 0.9", "exact_match[topic=a] >= 0.9", "exact_match[topic=b] >= 0.9"]
    ended = run(
        data, gates, run=reduced("mean") | {"reducer": ["mean", "at_least_5"]}, slices=["topic"], min_coverage=0.5
    )
    assert (ended.code, ended.verdicts) == (3, ("untrusted", "untrusted", "pass"))


@pytest.mark.parametrize("scorer", ["mistakes", "signed", "harm"])
def test_missing_epochs_with_other_directions_and_ranges(scorer: str) -> None:
    good, bad, gate = {
        "mistakes": ("right", "wrong", {"metric": "mistakes", "max": 0.3}),
        "signed": (0.6, -1.0, {"metric": "signed", "min": 0.5}),
        "harm": (0.1, 1.0, {"metric": "harm", "max": 0.3}),
    }[scorer]  # fmt: skip
    low = {**gate, "min_coverage": 0.5}
    three = {"epochs": 3}
    assert run(samples((50, [good, good, "error"])), [gate], scorers=[scorer], run=three).verdict == "untrusted"
    assert run(samples((50, [good, good, "error"])), [low], scorers=[scorer], run=three).verdict == "untrusted"
    assert run(samples((50, [good, good, good])), [low], scorers=[scorer], run=three).verdict == "pass"
    assert run(samples((50, [bad, bad, "error"])), [low], scorers=[scorer], run=three).verdict == "fail"


def test_four_percent_of_the_calls_matter_only_near_the_threshold() -> None:
    data = samples((120, ["right", "wrong", "right"]), (24, ["right", "error", "right"]), (56, ["right"] * 3))
    gates = [{"metric": "exact_match", "min": bound} for bound in (0.75, 0.76, 0.78, 0.79, 0.8, 0.81)]
    ended = run(data, gates, run={"epochs": 3})  # 456 right, 120 wrong, 24 lost: .76 to .8
    assert ended.verdicts == ("pass", "pass", "untrusted", "untrusted", "untrusted", "fail")
    assert ended.code == 1


def test_epochs_of_a_run_that_was_limited_are_all_there() -> None:
    ended = run(samples((50, ["right"] * 5)), ["exact_match >= 0.9"], "--limit", "20", run=FIVE)
    assert (ended.code, ended.verdict) == (0, "pass")


@pytest.mark.parametrize("outcome", ["refused", "truncated", "filtered", "empty"])
def test_epochs_that_the_model_did_not_answer_never_count_as_right(outcome: str) -> None:
    data = samples((100, ["right", "right", outcome]))
    gate = {"metric": "exact_match", "min": 0.9, "min_coverage": 0.5}
    ended = run(data, [gate], run={"epochs": 3})
    assert (ended.code, ended.verdict) == (3, "untrusted")  # 1.0 without them, .667 with zeros
    assert "did not answer 100" in ended.text
    ended = run(samples((100, ["wrong", "right", outcome])), [{**gate, "min": 0.6}], run={"epochs": 3})
    assert (ended.code, ended.verdict) == (1, "fail")  # .5 without them, .333 with zeros, never .667


def test_open_metric_with_lost_and_refused_epochs_of_one_sample_does_not_crash() -> None:
    data = samples((30, [5.0, "error", "refused"]), (30, [4.0, 5.0, 6.0]))
    ended = run(data, ["open >= 1", "open/p90 <= 10"], scorers=["open"], run={"epochs": 3})
    assert (ended.code, set(ended.verdicts)) == (3, {"untrusted"})
