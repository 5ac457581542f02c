"""Whole screens in a process of their own: how long they are, that nothing is too wide, and that no number is cut."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from rich.console import Console

from evalrunner.reports.metric_tables import screen_names
from evalrunner.reports.text_table import Column, TextTable, shortened
from tests.fakes.command import evalrun
from tests.fakes.terminal import drawn_on_terminal
from tests.reports.screens import LONG_NAMES, PROFILES, masked, problems, size, write_suite

COMMAND = [sys.executable, "-m", "evalrunner"]

WIDTHS = (60, 80, 120)
THREE = tuple(PROFILES)


def screen(*args: str, width: int = 80, code: int = 0) -> str:
    done = evalrun(*args, env={"COLUMNS": str(width)})
    assert done.returncode == code, done.stdout + done.stderr
    assert problems(done.stdout, width) == []
    return done.stdout


ONE_TARGET = """\
PASS  support-qa · alpha-large · 300 samples in … s · $0.0474

PASS  contains >= 0.8   0.883   95% CI 0.842–0.915

metric        value   95% CI
contains      0.883   0.842–0.915
exact_match   0.620   0.564–0.673
token_f1      0.784   0.745–0.820

latency p50 0.52 s, p90 0.60 s · $0.158 per 1,000 answers

lowest scores
  0000000a  Ticket #1010: who approves…    expected Team Fiji   got Support lead
  00000019  Ticket #1025: who approves…    expected Team Fiji   got Support lead
  0000001e  Ticket #1030: which team ow…   expected Team Fiji   got Support lead

report  runs/support-qa/RUN/report.html
"""


def test_one_target_in_three_widths_live_and_stored() -> None:
    suite = write_suite("support-qa", gates=["contains >= 0.8"], rows=300)
    lines = {}
    for width in WIDTHS:
        text = screen(suite, width=width) if width == 80 else screen("show", "last", width=width) if width > 80 else ""
        lines[width] = text or screen(suite, width=width)
        assert lines[width].splitlines()[-1].startswith("report  runs/support-qa/"), "the path is the last line"
        assert size(lines[width]) <= 30
    assert masked(lines[80]) == ONE_TARGET
    assert [size(text) for text in lines.values()] == [24, 17, 17]


THREE_TARGETS = """\
providers · 3 targets × 120 samples in … s · $0.022

target        contains                 p50   $/1k    exact_match
alpha-large   0.850  0.775–0.903    0.52 s   0.158   0.625  0.536–0.706
beta-mini     0.800  0.720–0.862    0.24 s   0.023   0.000  0.000–0.031
gamma-fast    0.733  0.648–0.804   0.096 s   0.002   0.617  0.527–0.699

target        token_f1
alpha-large   0.768  0.697–0.826
beta-mini     0.511  0.463–0.559
gamma-fast    0.692  0.609–0.764

contains      Too close to call (120 samples): all 3 pairs. About 1,400 samples
              would decide.
exact_match   alpha-large and gamma-fast beat beta-mini.
              Too close to call (120 samples): alpha-large vs gamma-fast.
token_f1      alpha-large and gamma-fast beat beta-mini.
              Too close to call (120 samples): alpha-large vs gamma-fast. About
              690 samples would decide.
cost          gamma-fast is 79× cheaper than alpha-large and 5.4× faster.

largest differences between targets
  00000003  Ticket #1003: which team owns it?   expected 2007
    alpha-large   2007                                             exact_match 1
    beta-mini     Regional manager                                 exact_match 0
    gamma-fast    Regional manager                                 exact_match 0
  00000008  Ticket #1008: in which year was the policy changed?   expected 2007
    alpha-large   2007                                             exact_match 1
    beta-mini     Regional manager                                 exact_match 0
    gamma-fast    2007                                             exact_match 1

report  runs/providers/RUN/report.html
"""


def test_three_targets_in_three_widths_live_and_stored() -> None:
    suite = write_suite("providers", THREE, more="headline: contains\n")
    live = screen(suite, width=80)
    assert masked(live) == THREE_TARGETS
    assert masked(screen("show", "last", width=80)) == masked(live), "a stored run has the same screen"
    assert size(live) <= 40
    wide, narrow = screen("show", "last", width=120), screen("show", "last", width=60)
    assert size(wide) <= 40 and size(narrow) <= 40
    head = wide.splitlines()[2].split()
    assert head == ["target", "contains", "exact_match", "token_f1", "p50", "$/1k"], "one table where it fits"
    for text in (wide, narrow):
        assert all(number in text for number in ("0.850  0.775–0.903", "0.158", "0.096 s"))


def test_long_names_and_wide_characters_are_folded_and_not_cut() -> None:
    suite = write_suite("long", LONG_NAMES, rows=60, wide=True, more="slices: [topic]\n", gates=["contains >= 0.6"])
    screen(suite, width=60)
    for width in WIDTHS:
        text = screen("show", "last", width=width)
        assert all(name in text for name in LONG_NAMES) and "工单" in text
        assert "contains by topic" in text
    verbose = screen("show", "last", "-v", width=80)
    assert "win/tie/loss" in verbose and "n=30" in verbose and verbose.count("lowest scores: ") == 3


def test_a_drop_below_the_baseline_shows_the_rows_that_got_worse() -> None:
    gates = ["{metric: contains, baseline: main, max_drop: 0.05}", "token_f1 >= 0.5"]
    before = evalrun(write_suite("base", rows=200, gates=gates))
    assert "NO BASELINE  contains" in before.stdout
    assert evalrun("baseline", "accept", "--with-outputs").returncode == 0
    text = screen(write_suite("base", rows=200, gates=gates, worse=0.2), width=80, code=1)
    assert text.startswith("FAIL  base · alpha-large · 200 samples in ")
    assert re.search(r"FAIL  contains at most 0\.05 worse than main   0\.\d+ → 0\.\d+\n", text)
    assert "points worse (90% CI" in text and "(base.yaml:7)" in text
    assert re.search(r"allowed 5; \d+\s+samples\s+got\s+worse,\s+\d+\s+got\s+better", text)
    assert re.search(r"changed for the worse\n  \S+  Ticket #.* was .* now ", text)
    hint = re.search(r"\d+ more:\s+evalrun diff (\S+) (\S+)", text)
    assert hint and size(text) <= 30 and "lowest scores" not in text
    diff = screen("diff", hint[1], hint[2], width=80)
    assert "changed rows" in diff and "contains 1 → 0" in diff
    quiet = evalrun("gate", "last", env={"COLUMNS": "60"})
    assert quiet.returncode == 1 and problems(quiet.stdout, 60) == []


def test_a_dead_provider_is_untrusted_with_the_command_that_retries() -> None:
    suite = write_suite("down", rows=200, gates=["contains >= 0.8"], down=80)
    text = screen(suite, width=80, code=3)
    assert text.startswith("UNTRUSTED  down · alpha-large · ") and "50 with errors" in text
    assert "stopped early: target 'alpha-large' aborted" in text
    assert re.search(r"contains +0\.\d{3} ! +0\.\d{3}–0\.\d{3} +120 of 200 +50 \(server error\) +30", text)
    assert "rows unfinished. Resume: evalrun --resume runs/down/" in text
    narrow = screen("show", "last", width=60)
    command = next(line.strip() for line in narrow.splitlines() if line.endswith("--retry-errors"))
    assert shlex.split(command)[:2] == ["evalrun", "--resume"], "the command is unbroken and can be copied"
    quiet = evalrun("-q", suite).stdout
    assert size(quiet) == 1 and quiet.startswith("UNTRUSTED down: ") and "503 from api" in quiet


def test_many_gates_show_what_does_not_pass() -> None:
    gates = [f"contains >= 0.{place}" for place in range(10, 85)] + ["exact_match >= 0.9"]
    text = screen(write_suite("gates", rows=60, gates=gates), width=80, code=1)
    assert "FAIL  exact_match >= 0.9" in text and "more gates (-v shows all)" in text
    assert size(text) <= 40
    assert "more gates" not in screen("show", "last", "-v", width=80)


def test_many_metrics_show_the_first_of_each_scorer_and_those_of_gates() -> None:
    scorers = "[contains, " + ", ".join(f"{{type: toxicity, backend: lexical, name: t{n}}}" for n in range(3)) + "]"
    text = screen(write_suite("many", rows=30, scorers=scorers, gates=["t1/p90 <= 1"]), width=80)
    assert "t0/mean (lexical)" in text and "t1/p90 (lexical)" in text and "t0/variance" not in text
    assert "8 more metrics: -v" in text
    assert "t0/variance" in screen("show", "last", "-v", width=80)


def test_the_headline_scorer_leads() -> None:
    suite = write_suite("lead", rows=20)
    assert screen(suite).splitlines()[3].startswith("exact_match"), "the first scorer"
    gated = write_suite("lead", rows=20, gates=["token_f1 >= 0.1", "contains >= 0.1"])
    assert "\ntoken_f1 " in screen(gated) and screen("show", "last").index("token_f1   ") > 0
    named = write_suite("lead", rows=20, gates=["token_f1 >= 0.1"], more="headline: contains\n")
    table = screen(named).partition("metric ")[2].splitlines()
    assert table[1].startswith("contains ")
    runs = screen("runs", width=80)
    assert re.search(r"lead +PASS +contains 0\.\d+", runs) and " exit" not in runs
    assert re.search(r" exit$", screen("runs", width=120), re.MULTILINE)
    wrong = evalrun(write_suite("lead", rows=20, more="headline: contain\n"))
    assert wrong.returncode == 2 and "'contain' is not a scorer of this suite; did you mean 'contains'?" in wrong.stderr


def test_compare_fits_eighty_columns() -> None:
    screen(write_suite("providers", THREE, rows=30, gates=["contains >= 0.5"]))
    assert "too close to call" in screen("compare", "last").lower()
    text = screen("compare", "last", "-v")
    assert "win/tie/loss" in text and "Holm-adjusted" in text


def test_plan_fits_a_terminal_and_keeps_its_lines_in_a_log() -> None:
    suite = write_suite("providers", THREE, rows=30, gates=["contains >= 0.5"])
    drawn = drawn_on_terminal([*COMMAND, "plan", suite], env={"TERM": "xterm", "COLUMNS": "60"}).replace("\r", "")
    assert problems(drawn, 60) == []
    assert "".join(drawn.split()) == "".join(evalrun("plan", suite).stdout.split())


def test_no_color_leaves_every_sign_and_a_link_is_for_terminals_only() -> None:
    suite = write_suite("plain", rows=20, gates=["contains >= 0.5"])
    assert "\x1b" not in evalrun(suite).stdout
    for env, linked, colored in (({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False)):
        drawn = drawn_on_terminal([*COMMAND, "show", "last"], env={"TERM": "xterm-256color", "COLUMNS": "80", **env})
        assert ("\x1b]8;" in drawn and "file://" in drawn) is linked
        assert ("\x1b[1;32m" in drawn) is colored
        assert "PASS" in drawn


def test_open_shows_the_report_in_a_browser() -> None:
    Path("browser.sh").write_text('#!/bin/sh\necho "$1" > opened\n')
    Path("browser.sh").chmod(0o755)
    suite = write_suite("browse", rows=10)
    done = evalrun(suite, "--open", env={"BROWSER": str(Path("browser.sh").resolve()) + " %s"})
    assert done.returncode == 0
    assert Path("opened").read_text().strip().startswith("file://")
    assert Path("opened").read_text().strip().endswith("/report.html")


def test_an_error_shows_its_line_with_a_caret() -> None:
    suite = Path(write_suite("wrong", rows=3))
    suite.write_text(suite.read_text().replace("contains", "contain"))
    done = evalrun(str(suite))
    assert done.returncode == 2
    first, line, caret = done.stderr.splitlines()
    assert first.startswith("evalrun: wrong.yaml:5:24: scorers[1]: unknown scorer 'contain'")
    assert line == "    scorers: [exact_match, contain, token_f1]"
    assert line[caret.index("^") :].startswith("contain")


def test_a_line_that_may_hold_a_secret_is_not_shown() -> None:
    Path("s.yaml").write_text(
        "name: s\ndataset: d.csv\ntarget: {model: m, base_url: 'http://127.0.0.1:1', api_key: abcdef123456, tempo: 3}\n"
        "scorers: [exact_match]\n"
    )
    Path("d.csv").write_text("input,expected\na,b\n")
    done = evalrun("s.yaml")
    assert done.returncode == 2 and "unknown key" in done.stderr
    assert "abcdef123456" not in done.stderr and "^" not in done.stderr


def test_metrics_lose_suffixes_where_the_rest_is_unambiguous() -> None:
    names = ["exact_match/v1", "toxicity/v1/mean", "toxicity/v1/p90", "token_f1/v1/mean", "a/v1", "a/v2"]
    assert list(screen_names(names).values()) == [
        "exact_match", "toxicity/mean", "toxicity/p90", "token_f1", "a/v1", "a/v2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        ("expected 2007", 12, "expected…"),
        ("expected 2007", 13, "expected 2007"),
        ("in 1.25 s", 6, "in…"),
        ("客服助手", 5, "客服…"),
    ],
)
def test_a_text_is_not_cut_within_a_number(text, width, cut) -> None:
    assert shortened(text, width) == cut


def test_columns_that_do_not_fit_are_stacked_beside_the_folded_names() -> None:
    out = io.StringIO()
    table = TextTable(
        Column("target", ["anthropic/claude-sonnet-4-5"]),
        [Column("contains", ["0.866  0.793–0.916"]), Column("p50", ["0.43 s"], right=True), Column("errors", [""])],
    )
    Console(file=out, width=40, highlight=False).print(table)
    assert out.getvalue().splitlines() == [
        "target                contains", "anthropic/claude-     0.866  0.793–0.916", "sonnet-4-5", "",
        "target                   p50", "anthropic/claude-     0.43 s", "sonnet-4-5",
    ]  # fmt: skip
