"""A pass or a fail holds only if it holds for every score that the missing answers could have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import accept, at_least, command, drop, run, samples
from tests.fakes.server import Answer, Script, ScriptedServer, Status, always

DEAD = "http://127.0.0.1:9"  # the discard port, where no server listens
LOST = ["error", "judge", "crash"]  # lost to the provider, the judge, or the scorer's code
SILENT = ["refused", "filtered", "truncated", "empty"]


@pytest.mark.parametrize("lost", LOST)
def test_four_lost_answers_that_could_lift_a_metric_over_its_threshold(lost: str) -> None:
    ended = run(samples((76, "right"), (20, "wrong"), (4, lost)), ["own >= 0.8"], scorers=["own"])
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "0.76" in ended.text and "0.8" in ended.text
    assert {"error": "failed on 4", "judge": "judge", "crash": "scorer failed on 4"}[lost] in ended.text


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize(
    ("right", "wrong", "bound", "verdict"),
    [
        (76, 20, 0.80, "untrusted"),
        (76, 20, 0.801, "fail"),
        (76, 20, 0.76, "pass"),
        (76, 20, 0.761, "untrusted"),
        (75, 21, 0.80, "fail"),
        (80, 16, 0.80, "pass"),
        (96, 0, 0.97, "untrusted"),
        (96, 0, 0.95, "pass"),
        (0, 96, 0.04, "untrusted"),
        (0, 96, 0.05, "fail"),
    ],
)
def test_point_gate_holds_for_every_score_of_four_lost_answers(
    lost: str, right: int, wrong: int, bound: float, verdict: str
) -> None:
    ended = run(samples((right, "right"), (wrong, "wrong"), (4, lost)), [f"own >= {bound}"], scorers=["own"])
    assert ended.verdict == verdict, ended.text


@pytest.mark.parametrize("silent", SILENT)
def test_silent_model_is_never_right(silent: str) -> None:
    ended = run(samples((76, "right"), (20, "wrong"), (4, silent)), ["exact_match >= 0.8"])
    assert (ended.code, ended.verdict) == (1, "fail")  # .792 without the four, .76 with zeros
    ended = run(samples((80, "right"), (18, "wrong"), (2, silent)), ["exact_match >= 0.81"])
    assert (ended.code, ended.verdict) == (3, "untrusted")  # .816 and .80
    assert "did not answer 2" in ended.text
    ended = run(samples((80, "right"), (18, "wrong"), (2, silent)), ["exact_match >= 0.8"])
    assert (ended.code, ended.verdict) == (0, "pass")
    ended = run(samples((80, "right"), (18, "wrong"), (2, silent)), ["exact_match >= 0.81"], on_no_answer="zero")
    assert (ended.code, ended.verdict) == (1, "fail")


def test_silent_model_and_failed_provider_together() -> None:
    data = samples((76, "right"), (20, "wrong"), (2, "error"), (2, "refused"))
    ended = run(data, [f"exact_match >= {bound}" for bound in (0.76, 0.77, 0.79, 0.795, 0.797)])
    assert ended.verdicts == ("pass", "untrusted", "untrusted", "untrusted", "fail")  # 76/100 to 78/98
    assert "did not answer 2" in ended.text and "failed on 2" in ended.text


@pytest.mark.parametrize("lost", LOST)
def test_confidence_gate_fails_only_if_lost_answers_cannot_save_it(lost: str) -> None:
    data = samples((330, "right"), (150, "wrong"), (20, lost))
    ended = run(data, [at_least(bound, "own") for bound in (0.6, 0.69, 0.72, 0.76)], scorers=["own"])
    # .66 to .70: the bounds at 95% are .623 and .734 at the outer ends
    assert ended.verdicts == ("pass", "inconclusive", "untrusted", "fail")


def test_confidence_gate_that_a_lost_answer_would_decide_stays_inconclusive_or_is_untrusted() -> None:
    data = samples((312, "right"), (176, "wrong"), (12, "error"))
    # .639 of 488, fails .68 alone (at most .676); with the twelve right .648 is at most .684
    assert run(data, [at_least(0.68)]).verdict == "untrusted"
    assert run(data, [at_least(0.685)]).verdict == "fail"


def test_missing_ignored_by_name_gives_the_verdict_of_the_scored_answers() -> None:
    data = samples((76, "right"), (20, "wrong"), (4, "error"))
    gate = {"metric": "exact_match", "min": 0.8}
    ended = run(data, [{**gate, "missing": "ignore"}, gate])
    assert ended.verdicts == ("fail", "untrusted")
    assert "ignore" in ended.gates[0]["reason"]
    ended = run(data, [gate], gate_defaults={"missing": "ignore"})
    assert (ended.code, ended.verdict) == (1, "fail")


def test_missing_ignored_still_needs_coverage() -> None:
    data = samples((70, "right"), (20, "wrong"), (10, "error"))
    assert run(data, [{"metric": "exact_match", "min": 0.7, "missing": "ignore"}]).verdict == "untrusted"


@pytest.mark.parametrize(
    ("scorer", "outcomes", "gate", "verdict"),
    [
        ("mistakes", [(76, "right"), (20, "wrong")], "mistakes <= 0.2", "untrusted"),  # .20 to .24
        ("mistakes", [(76, "right"), (20, "wrong")], "mistakes <= 0.24", "pass"),
        ("mistakes", [(76, "right"), (20, "wrong")], "mistakes < 0.2", "fail"),
        ("mistakes", [(76, "right"), (20, "wrong")], "mistakes < 0.24", "untrusted"),
        ("own", [(80, "right"), (16, "wrong")], "own == 0.8", "untrusted"),
        ("own", [(80, "right"), (16, "wrong")], "own == 0.9", "fail"),
        ("own", [(80, "right"), (16, "wrong")], "own <= 0.84", "pass"),
        ("own", [(80, "right"), (16, "wrong")], "own < 0.84", "untrusted"),
        ("signed", [(48, 1.0), (48, -1.0)], "signed >= 0", "untrusted"),  # −.04 to .04
        ("signed", [(48, 1.0), (48, -1.0)], "signed >= 0.05", "fail"),
        ("signed", [(48, 1.0), (48, -1.0)], "signed >= -0.05", "pass"),
        ("harm", [(96, 0.1)], "harm <= 0.13", "untrusted"),  # .096 to .136
        ("harm", [(96, 0.1)], "harm <= 0.14", "pass"),
        ("harm", [(96, 0.1)], "harm <= 0.09", "fail"),
        ("harm", [(96, 0.1)], "harm/ratio <= 0.03", "untrusted"),  # 0 to .04
        ("harm", [(96, 0.1)], "harm/ratio <= 0.04", "pass"),
        ("harm", [(90, 0.1), (6, 0.9)], "harm/p90 <= 0.2", "pass"),
        ("harm", [(88, 0.1), (8, 0.9)], "harm/p90 <= 0.2", "untrusted"),  # p90 of 12 high ones in 100 is high
        ("harm", [(80, 0.1), (16, 0.9)], "harm/p90 <= 0.2", "fail"),
        ("harm", [(96, 0.5)], "harm/variance <= 0.005", "untrusted"),  # 0 to .0096
        ("harm", [(96, 0.5)], "harm/variance <= 0.01", "pass"),
    ],
)
def test_point_gates_of_other_directions_ranges_and_aggregates(
    scorer: str, outcomes: list[tuple[int, Any]], gate: str, verdict: str
) -> None:
    ended = run(samples(*outcomes, (4, "error")), [gate], scorers=[scorer])
    assert ended.verdict == verdict, ended.text


def test_metric_without_bounds_says_what_is_missing_in_any_case() -> None:
    ended = run(samples((98, 5.0), (2, "error")), ["open <= 10"], scorers=["open"])
    assert (ended.code, ended.verdict) == (0, "pass")
    assert "2" in ended.text and ("missing" in ended.text or "failed on 2" in ended.text or "98 of 100" in ended.text)
    ended = run(samples((98, 5.0), (2, "error")), ["open <= 4"], scorers=["open"])
    assert "2" in ended.text and ("missing" in ended.text or "failed on 2" in ended.text or "98 of 100" in ended.text)
    ended = run(samples((94, 5.0), (6, "error")), ["open <= 10"], scorers=["open"])
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_metric_with_one_open_end_does_not_claim_to_hold_for_every_score() -> None:
    ended = run(samples((96, "right"), (4, "error")), ["latency/mean <= 2", "latency/mean >= 2", "latency/p90 <= 2"])
    assert ended.verdicts == ("pass", "fail", "pass")
    assert ["holds for every score" in " ".join(gate["details"]) for gate in ended.gates] == [False, False, True]
    assert all("failed on 4" in gate["reason"] for gate in ended.gates[:2])
    ended = run(samples((96, "right"), (4, "error")), ["latency/mean >= 0.97"])
    assert (ended.code, ended.verdict) == (3, "untrusted")  # 0.96 with the lost ones at the end that there is


def test_quantile_without_bounds_counts_missing_answers_beyond_both_ends() -> None:
    verdicts = run(
        samples((97, 5.0), (3, "error")), ["open/p90 <= 10", "open/p90 >= 6", "open/p90 <= 4"], scorers=["open"]
    ).verdicts
    assert verdicts == ("pass", "fail", "fail")
    assert run(samples((88, 5.0), (8, 20.0), (4, "error")), ["open/p90 <= 10"], scorers=["open"]).verdict == "untrusted"


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize(("right", "bound", "verdict"), [(10, 0.6, "untrusted"), (14, 0.6, "pass"), (6, 0.6, "fail")])
def test_slice_gates_hold_for_their_own_missing_answers(lost: str, right: int, bound: float, verdict: str) -> None:
    data = samples((right, "right"), (18 - right, "wrong"), (2, lost), (80, "right"), topic=["a"] * 20 + ["b"] * 80)
    gates = [{"metric": "own[topic=a]", "min": bound, "min_coverage": 0.9}, "own[topic=b] >= 0.9"]
    ended = run(data, gates, scorers=["own"], slices=["topic"])
    assert ended.verdicts == (verdict, "pass"), ended.text


def test_each_target_has_its_own_missing_answers() -> None:
    Path("second.py").write_text("def answer(input):\n    return 'yes'\n")
    targets = [
        {"name": "m", "type": "python", "function": "own.py:answer"},
        {"name": "n", "type": "python", "function": "second.py:answer"},
    ]
    ended = run(samples((76, "right"), (20, "wrong"), (4, "error")), ["exact_match >= 0.8"], targets=targets)
    assert (ended.code, ended.verdicts) == (3, ("untrusted", "pass"))


def served(server: str, slices: str, *, rows: int = 3, key: str = "", gates: str = "exact_match[c=y] >= 0.5") -> str:
    lines = [
        f'{{"id": "q{i}", "input": "{i}?", "expected": "ok", "c": "{"y" if i % 2 else "n"}"}}' for i in range(rows)
    ]
    Path("served.jsonl").write_text("\n".join(lines) + "\n")
    Path("served.yaml").write_text(
        f"name: served\ndataset: served.jsonl\ntarget: {{model: m, base_url: '{server}'{key}}}\n"
        f"scorers: [exact_match]\n{slices}\ngates: ['{gates}']\nrun: {{retries: 0}}\n"
    )
    return "served.yaml"


SLICED = "slices: [c]"


@pytest.mark.parametrize("rows", [3, 40, 120])
def test_dead_provider_with_a_slice_gate_is_untrusted(rows: int) -> None:
    ended = command(served(DEAD, SLICED, rows=rows), "--json")
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "has 'y'" not in ended.text and "no sample applies" not in ended.text
    assert "provider failed" in ended.text


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_refusing_provider_with_a_slice_gate_is_untrusted(status: int) -> None:
    with ScriptedServer(always(Status(status, {"error": {"message": "no"}}))) as server:
        ended = command(served(server.base_url, SLICED, rows=60), "--json")
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "has 'y'" not in ended.text and "no sample applies" not in ended.text


def test_stored_run_of_a_dead_provider_is_untrusted_in_its_slices() -> None:
    command(served(DEAD, SLICED, rows=60), "--json")
    ended = command("gate", "last", "--json")
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "has 'y'" not in ended.text


def test_slice_that_no_sample_has_is_not_blamed_on_the_provider() -> None:
    with ScriptedServer(always(Answer("ok"))) as server:
        ended = command(served(server.base_url, SLICED, gates="exact_match[c=zebra] >= 0.5"), "--json")
    assert ended.code in (1, 2)
    assert "zebra" in ended.text + ended.err


def lose(count: int, total: int) -> Script:
    def script(request: Any, nth: int) -> Answer | Status:
        place = int(request["messages"][-1]["content"].rstrip("?"))
        return Status(503) if place < count else Answer("ok" if place < count + 76 * total // 100 else "no")

    return script


@pytest.mark.parametrize(("gate", "verdict"), [("exact_match >= 0.8", "untrusted"), ("exact_match >= 0.85", "fail")])
def test_provider_that_loses_four_percent(gate: str, verdict: str) -> None:
    with ScriptedServer(lose(4, 100)) as server:
        ended = command(served(server.base_url, SLICED, rows=100, gates=gate), "--json")
    assert ended.verdict == verdict
    if verdict == "untrusted":
        assert "provider failed on 4" in ended.text


# ---- skipped rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["own >= 0.8", at_least(0.8, "own")])
def test_scorer_that_skips_half_of_the_rows_is_named_in_the_verdict(gate: Any) -> None:
    ended = run(samples((100, "right"), (100, "skip")), [gate], scorers=["own"])
    assert ended.verdict == "pass"
    assert "100" in ended.gates[0]["reason"] and "skipped" in ended.gates[0]["reason"]


def test_scorer_that_skips_every_row_fails() -> None:
    ended = run(samples((20, "skip")), ["own >= 0.8"], scorers=["own"])
    assert (ended.code, ended.verdict) == (1, "fail")
    assert "skipped" in ended.text


def test_skipped_rows_are_no_missing_answers() -> None:
    ended = run(samples((80, "right"), (20, "skip")), ["own >= 1"], scorers=["own"])
    assert (ended.code, ended.verdict) == (0, "pass")


# ---- on a baseline -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", LOST)
def test_four_lost_answers_that_could_save_a_drop(lost: str) -> None:
    """26 of 200 got worse: .13. With the eight lost ones unchanged or better the drop may be smaller than allowed."""
    accept(samples((160, "right"), (40, "wrong")), scorers=["own"])
    now = samples((134, "right"), (18, "wrong"), (8, lost), (40, "wrong"))
    verdicts = run(now, [drop(0.02, "own"), drop(0.06, "own"), drop(0.3, "own")], scorers=["own"]).verdicts
    assert verdicts[0] in ("fail", "untrusted") and verdicts[2] == "pass"
    alone = run(now, [drop(0.063, "own")], scorers=["own"])
    assert (alone.code, alone.verdict) == (3, "untrusted"), alone.text
    assert "8" in alone.text


def test_fail_against_a_baseline_that_lost_answers_cannot_change() -> None:
    accept(samples((180, "right"), (20, "wrong")))
    ended = run(samples((120, "right"), (56, "wrong"), (4, "error"), (20, "wrong")), [drop(0.05)])
    assert (ended.code, ended.verdict) == (1, "fail")


def test_improvement_that_lost_answers_could_undo() -> None:
    accept(samples((150, "right"), (50, "wrong")))
    gate = {"metric": "exact_match", "baseline": "main", "improved": True}
    now = samples((142, "right"), (8, "error"), (8, "right"), (42, "wrong"))
    ended = run(now, [gate])
    assert ended.verdict in ("untrusted", "inconclusive"), ended.text  # eight better, and perhaps eight worse
    now = samples((146, "right"), (4, "error"), (40, "right"), (10, "wrong"))
    assert run(now, [gate]).verdict == "pass"


def test_lower_is_better_on_a_baseline() -> None:
    accept(samples((160, "right"), (40, "wrong")), scorers=["mistakes"])
    now = samples((134, "right"), (18, "wrong"), (8, "error"), (40, "wrong"))
    assert run(now, [drop(0.063, "mistakes")], scorers=["mistakes"]).verdict == "untrusted"
    assert run(now, [drop(0.3, "mistakes")], scorers=["mistakes"]).verdict == "pass"
    now = samples((80, "right"), (76, "wrong"), (4, "error"), (40, "wrong"))
    assert run(now, [drop(0.063, "mistakes")], scorers=["mistakes"]).verdict == "fail"


def test_dead_provider_against_a_baseline_in_a_slice() -> None:
    data = samples((160, "right"), (40, "wrong"), topic=["a", "b"])
    accept(data, slices=["topic"])
    dead = samples((200, "error"), topic=["a", "b"])
    ended = run(dead, [drop(0.05, "exact_match[topic=a]"), drop(0.05)], slices=["topic"])
    assert (ended.code, set(ended.verdicts)) == (3, {"untrusted"})
