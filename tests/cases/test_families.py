"""Gates of one suite share a correction for fails; passes take none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cases.suites import accept, at_least, drop, run, samples

TEN = [f"t{at}" for at in range(10)]
BAD = "t3"


def sliced(right: int, *, of: int = 50, everywhere: int = 46) -> list[dict[str, Any]]:
    """Ten slices; one has fewer right answers than the others."""
    groups = [(count, outcome) for topic in TEN for k in [right if topic == BAD else everywhere] for count, outcome in ((k, "right"), (of - k, "wrong"))]  # fmt: skip
    return samples(*groups, topic=[topic for topic in TEN for _ in range(of)])


def per_slice(bound: float = 0.8, **keys: Any) -> list[dict[str, Any]]:
    return [at_least(bound, "exact_match", slice={"topic": topic}, **keys) for topic in TEN]


def verdict_of(ended: Any, topic: str) -> str:
    (gate,) = [gate for gate in ended.gates if (gate.get("slice") or {}).get("topic") == topic]
    return str(gate["verdict"])


def test_one_slice_of_ten_that_is_low_by_chance_does_not_fail() -> None:
    data = sliced(34)  # p = .03 alone
    ended = run(data, per_slice(), slices=["topic"])
    assert (ended.code, verdict_of(ended, BAD)) == (4, "inconclusive")
    alone = run(data, [at_least(0.8, "exact_match", slice={"topic": BAD})], slices=["topic"])
    assert (alone.code, alone.verdict) == (1, "fail")


def test_slice_that_is_far_too_low_fails_in_the_family() -> None:
    ended = run(sliced(28), per_slice(), slices=["topic"])
    assert (ended.code, verdict_of(ended, BAD)) == (1, "fail")


def test_family_none_switches_the_correction_off_by_name() -> None:
    ended = run(sliced(34), per_slice(family="none"), slices=["topic"])
    assert (ended.code, verdict_of(ended, BAD)) == (1, "fail")
    ended = run(sliced(34), per_slice(), slices=["topic"], gate_defaults={"family": "none"})
    assert (ended.code, verdict_of(ended, BAD)) == (1, "fail")


def test_passes_take_no_correction() -> None:
    data = sliced(46)  # .92 of 50: at least .827 at 95%
    ended = run(data, per_slice(), slices=["topic"])
    assert (ended.code, ended.verdict) == (0, "pass")


def test_one_line_makes_a_gate_for_each_value_of_a_slice() -> None:
    ended = run(sliced(34), [at_least(0.8, "exact_match[topic=*]")], slices=["topic"])
    assert [gate["slice"] for gate in ended.gates] == [{"topic": topic} for topic in TEN]
    assert (ended.code, verdict_of(ended, BAD)) == (4, "inconclusive")
    ended = run(sliced(34), ["exact_match[topic=*] >= 0.7"], slices=["topic"])
    assert (ended.code, verdict_of(ended, BAD)) == (1, "fail")  # point gates are outside of the family


def test_gates_of_all_slices_when_the_provider_is_dead() -> None:
    data = [{**line, "plan": ["error"]} for line in sliced(46)]
    ended = run(data, [at_least(0.8, "exact_match[topic=*]"), "exact_match[topic=*] >= 0.1"], slices=["topic"])
    assert (ended.code, ended.verdict, len(ended.gates)) == (3, "untrusted", 20)


def test_several_targets_of_one_gate_are_a_family() -> None:
    targets = [{"name": f"n{at}", "type": "python", "function": "own.py:answer", "args": {"column": column}}
               for at, column in enumerate(["plan", *["good"] * 9])]  # fmt: skip
    data = [{**line, "good": ["right"]} for line in samples((34, "right"), (16, "wrong"))]
    ended = run(data, [at_least(0.8)], targets=targets)
    assert (ended.code, ended.verdicts) == (4, ("inconclusive", *["pass"] * 9))
    assert run(data, [at_least(0.8)], targets=targets[:1]).verdict == "fail"


def test_several_baselines_are_one_family() -> None:
    whole = samples((200, "right"))
    accept(whole)
    accept(whole, "--name", "release")
    now = samples((181, "right"), (19, "wrong"))  # nine and a half points: p = .033 alone for an allowed drop of six
    gates = [drop(0.06), {**drop(0.06), "baseline": "release"}]
    alone, both, apart = (
        run(now, which) for which in (gates[:1], gates, [{**gate, "family": "none"} for gate in gates])
    )
    assert (alone.verdict, apart.verdict) == ("fail", "fail")
    assert both.verdict == "inconclusive"


def test_baseline_gates_and_thresholds_with_confidence_share_the_family() -> None:
    accept(samples((200, "right")))
    now = samples((181, "right"), (19, "wrong"))
    assert run(now, [drop(0.06)]).verdict == "fail"
    ended = run(now, [drop(0.06), *[at_least(0.5)] * 5])
    assert ended.verdicts == ("inconclusive", *["pass"] * 5)


@pytest.mark.parametrize("family", ["suite", 3, "holm"])
def test_unknown_family_is_an_error_of_the_suite(family: Any) -> None:
    ended = run(samples((5, "right")), [at_least(0.5, family=family)])
    assert ended.code in (0, 2, 4)
    if family != "suite":
        assert ended.code == 2
        assert "family" in ended.err
