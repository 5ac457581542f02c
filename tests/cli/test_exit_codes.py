"""Each exit code and their order, through the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.command import command_env, evalrun
from tests.fakes.server import Answer, ScriptedServer, Slow, Status, always

RECORDED = """\
name: codes
dataset: data.csv
target: {type: recorded, column: out}
scorers: [exact_match, contains]
"""
DEAD = "http://127.0.0.1:9"  # the discard port, where no server listens


def write(gates: str, *, right: int = 60, wrong: int = 40, silent: int = 0, more: str = "") -> str:
    outs = ["yes"] * right + ["no"] * wrong + [""] * silent
    Path("data.csv").write_text(
        "id,expected,input,out\n" + "".join(f"q{i},yes,{i}?,{out}\n" for i, out in enumerate(outs))
    )
    Path("codes.yaml").write_text(f"{RECORDED}gates: [{gates}]\n{more}\n")
    return "codes.yaml"


def served(gates: str, address: str, name: str = "served") -> str:
    Path("served.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i}?,ok\n" for i in range(20)))
    Path(f"{name}.yaml").write_text(
        f"name: {name}\ndataset: served.csv\ntarget: {{model: m, base_url: '{address}'}}\nscorers: [exact_match]\n"
        f"gates: [{gates}]\nrun: {{retries: 0, concurrency: 4}}\n"
    )
    return f"{name}.yaml"


def code_and_word(*args: str) -> tuple[int, str]:
    done = evalrun(*args, "-q")
    return done.returncode, done.stdout.partition(" codes")[0].partition(" served")[0]


def reason(*args: str) -> str:
    result: str = json.loads(evalrun(*args, "--json").stdout)["gates"][0]["reason"]
    return result


def test_exit_code_0_all_gates_pass() -> None:
    assert code_and_word(write("exact_match >= 0.5, contains >= 0.5")) == (0, "PASS")
    assert code_and_word(write("{metric: exact_match, min: 0.5, confidence: 0.95}")) == (0, "PASS")


def test_exit_code_1_gate_failed() -> None:
    assert code_and_word(write("exact_match >= 0.7")) == (1, "FAIL")
    assert code_and_word(write("{metric: exact_match, min: 0.7, confidence: 0.95}")) == (1, "FAIL")


def test_exit_code_2_typo_suggests_the_nearest_name() -> None:
    done = evalrun(write("exact_mach >= 0.5"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "codes.yaml:5:9: gates[0]: no metric 'exact_mach' in this suite; did you mean 'exact_match'?" in done.stderr
    assert not Path("runs").exists()


def test_exit_code_3_provider_down_is_never_1() -> None:
    with ScriptedServer(always(Status(500))) as server:
        suite = served("exact_match >= 0.5", server.base_url)
        assert code_and_word(suite) == (3, "UNTRUSTED")
        assert reason(suite) == "scored 0 of 20 answers: the provider failed on 20 (server)"
    assert code_and_word(served("exact_match >= 0.5", DEAD)) == (3, "UNTRUSTED")


def test_failing_user_code_is_not_reported_as_provider_failure() -> None:
    Path("own.py").write_text("def fails(output):\n    raise ValueError(output)\n")
    suite = write("own >= 0.5")
    text = Path(suite).read_text()
    Path(suite).write_text(
        text.replace("[exact_match, contains]", "[{type: python, name: own, function: own.py:fails}]")
    )
    assert reason(suite) == "scored 0 of 100 answers: the scorer failed on 100 (function)"
    Path(suite).write_text(
        text.replace("own >=", "contains >=").replace("{type: recorded, column: out}", "{type: python, function: own.py:fails}")
    )  # fmt: skip
    Path("own.py").write_text("def fails(input):\n    raise ValueError(input)\n")
    assert reason(suite) == "scored 0 of 100 answers: the target's function failed on 100 (function)"


def test_exit_code_3_provider_down_with_a_baseline() -> None:
    gate = "{metric: exact_match, baseline: main, max_drop: 0.2}"
    with ScriptedServer(always(Answer("ok"))) as server:
        assert code_and_word(served(gate, server.base_url)) == (0, "NO BASELINE")
        assert evalrun("baseline", "accept").returncode == 0
        assert code_and_word(served(gate, server.base_url)) == (0, "PASS")
        assert code_and_word(served(gate, DEAD)) == (3, "UNTRUSTED")
    assert "the provider failed" in reason(served(gate, DEAD))


def test_exit_code_3_provider_errors_that_could_change_the_verdict() -> None:
    outcomes = [Answer("ok")] * 80 + [Answer("no")] * 17 + [Status(500)] * 3
    with ScriptedServer(lambda request, nth: outcomes[(nth - 1) % 100]) as server:
        suite = served("exact_match >= 0.81", server.base_url)
        Path("served.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i}?,ok\n" for i in range(100)))
        assert code_and_word(suite) == (3, "UNTRUSTED")


def test_exit_code_4_inconclusive_gate_that_blocks() -> None:
    gate = "{metric: exact_match, min: %s, confidence: 0.95%s}"
    above, below = gate % (0.55, ""), gate % (0.65, "")
    assert code_and_word(write(above)) == (0, "INCONCLUSIVE")  # 60 of 100 is on the right side, though not proven
    assert code_and_word(write(below)) == (4, "INCONCLUSIVE")  # and here on the wrong one
    assert code_and_word(write(gate % (0.55, ", inconclusive: block"))) == (4, "INCONCLUSIVE")
    assert code_and_word(write(gate % (0.65, ", inconclusive: warn"))) == (0, "INCONCLUSIVE")
    assert code_and_word(write(below, more="inconclusive: warn")) == (0, "INCONCLUSIVE")


def test_inconclusive_gate_reports_the_samples_needed() -> None:
    suite = write("{metric: exact_match, min: 0.55, confidence: 0.95}")
    (result,) = json.loads(evalrun(suite, "--json").stdout)["gates"]
    assert result["verdict"] == "inconclusive"
    assert result["samples_to_decide"] == [303, 693]
    assert result["reason"] == (
        "between 0.513 and 0.6825 at 95% confidence: not conclusive. About 700 samples are needed to decide"
    )
    assert result["details"] == ["303 samples decide with 50% power, 693 with 80%"]


def test_missing_baseline_has_no_effect_unless_required() -> None:
    gate = "{metric: exact_match, baseline: main, max_drop: 0.02}"
    done = evalrun(write(gate))
    assert (done.returncode, done.stdout.split(" codes")[0].strip()) == (0, "NO BASELINE")
    assert "evalrun baseline accept" in " ".join(done.stdout.split())
    assert code_and_word(write(gate, more="baseline_required: true")) == (3, "NO BASELINE")
    assert evalrun("baseline", "accept").returncode == 0  # only the baseline was missing
    assert code_and_word(write(gate, more="baseline_required: true"))[0] in (0, 4)


@pytest.mark.parametrize(
    ("gates", "code", "word"),
    [
        ("exact_match >= 0.9, '{unclear}', '{untrusted}'", 1, "FAIL"),
        ("'{unclear}', contains >= 0.1, '{untrusted}'", 3, "UNTRUSTED"),
        ("'{unclear}', contains >= 0.1", 4, "INCONCLUSIVE"),
    ],
)
def test_worst_verdict_of_several_gates_decides_the_exit_code(gates: str, code: int, word: str) -> None:
    unclear = "{metric: exact_match, min: 0.65, confidence: 0.95}"
    untrusted = "{metric: exact_match, min: 0.1, min_coverage: 1}"
    text = gates.replace("'{unclear}'", unclear).replace("'{untrusted}'", untrusted)
    assert code_and_word(write(text, silent=2)) == (code, word)


def test_worst_verdict_of_several_suites_decides_the_exit_code() -> None:
    good = write("exact_match >= 0.1")
    Path("bad.yaml").write_text(Path(good).read_text().replace("codes", "bad").replace("0.1", "0.9"))
    assert evalrun(good, served("exact_match >= 0.5", DEAD), "-q").returncode == 3
    assert evalrun(good, served("exact_match >= 0.5", DEAD), "bad.yaml", "-q").returncode == 1
    assert evalrun(good, "bad.yaml", "missing.yaml", "-q").returncode == 2


def test_exit_code_130_interrupt_despite_a_failed_gate() -> None:
    with ScriptedServer(lambda request, nth: Answer("no") if nth < 12 else Slow(0.5)) as server:
        suite = served("exact_match >= 0.9", server.base_url)
        Path("served.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i}?,ok\n" for i in range(30)))
        command = [sys.executable, "-m", "evalrunner", suite, "-q"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_env())
        until = time.monotonic() + 30
        while server.calls < 15 and time.monotonic() < until:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=30)
    assert (run.returncode, out.split()[0]) == (130, "INTERRUPTED")
    # gates checked again: with 12 wrong answers of 30 the metric can no longer reach its threshold, but rows are missing
    assert evalrun("gate", "--set", "min_coverage=0").returncode == 1
