"""Comparison of targets through the command line: one suite with several targets, and stored runs."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun

MODELS = {
    "small": "6b_finetuning", "small_checked": "6b_verification",
    "large": "175b_finetuning", "large_checked": "175b_verification",
}  # fmt: skip


def gsm8k(shared: Path, scorers: str = "[numeric_match, token_f1]", **more: str) -> None:
    """A suite of the four recorded models."""
    solutions = shared / "gsm8k" / "example_model_solutions.jsonl"
    targets = "".join(
        f"  - {{name: {name}, type: recorded, column: {column}.solution}}\n" for name, column in MODELS.items()
    )
    Path("gsm8k.yaml").write_text(
        f"name: gsm8k\ndataset: {{path: '{solutions}', columns: {{input: question, expected: ground_truth}}}}\n"
        f"targets:\n{targets}scorers: {scorers}\n"
    )


def stored(number: int = -1) -> Path:
    return sorted(Path("runs").glob("*/*"), key=lambda path: path.name)[number]


def test_comparison_agrees_with_pandas_and_statsmodels(shared_data: Path) -> None:
    import pandas
    from scipy.stats import ttest_1samp
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    gsm8k(shared_data)
    done = evalrun("gsm8k.yaml", "--json")
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout)["comparison"]

    table = pandas.read_csv(stored() / "table.csv")
    p_values: list[float] = []
    differences: list[float] = []
    for scorer in ("numeric_match", "token_f1"):
        scores = table.pivot_table(index="id", columns="target", values=f"{scorer}/v1/score")
        for one, other in itertools.combinations(MODELS, 2):
            first, second = scores[one], scores[other]
            differences.append(first.mean() - second.mean())
            if scorer == "numeric_match":
                both = pandas.crosstab(first, second).to_numpy()
                p_values.append(mcnemar(both, exact=True).pvalue)
            else:
                p_values.append(ttest_1samp([*(first - second), 1.0, -1.0], 0.0).pvalue)
    adjusted = multipletests(p_values, method="holm")[1]

    pairs = [pair for metric in comparison["metrics"] for pair in metric["pairs"]]
    assert comparison["family"] == len(pairs) == 12
    assert [pair["difference"] for pair in pairs] == pytest.approx(differences, abs=1e-12)
    assert [pair["p_value"] for pair in pairs] == pytest.approx(p_values, rel=1e-6)
    assert [pair["p_adjusted"] for pair in pairs] == pytest.approx(list(adjusted), rel=1e-6)
    assert [pair["better"] is not None for pair in pairs] == list(adjusted < 0.05)
    for pair in pairs:  # nothing is missing
        assert (pair["p_missing"], pair["better_scored"], pair["missing"]) == (pair["p_value"], pair["better"], None)
    right = comparison["metrics"][0]
    for name, value in right["values"].items():
        count = int(table[table["target"] == name]["numeric_match/v1/score"].sum())
        assert (value["low"], value["high"]) == pytest.approx(
            proportion_confint(count, 1319, method="wilson"), abs=1e-9
        )


@pytest.mark.slow
def test_recorded_models_are_ranked(shared_data: Path) -> None:
    gsm8k(shared_data)
    done = evalrun("gsm8k.yaml", "--diff", "2")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert re.search(r"large_checked +0\.563  0\.536–0\.589 ", text)
    assert re.search(
        r"^numeric_match +large_checked beats small_checked, large and small\. small_checked beats large and small\.",
        text, re.MULTILINE,
    )  # fmt: skip
    assert "win/tie/loss" not in text
    pairs = evalrun("show", "last", "-v").stdout
    assert (
        pairs.count("win/tie/loss") == evalrun("compare", "last", "-v", "--diff", "0").stdout.count("win/tie/loss") == 2
    )
    assert "numeric_match/v1: large_checked 0.563 > small_checked 0.390 > large 0.347 > small 0.217\n" in pairs
    assert re.search(r"small_checked − large +\+0\.043 +0\.015–0\.071 +\.009 +1,319 +209/958/152", pairs)
    after = text.partition("largest differences between targets")[2]
    assert len(re.findall(r"^    small_checked +.* numeric_match [01]$", after, re.MULTILINE)) == 2
    assert "largest differences between targets" not in evalrun("gsm8k.yaml", "--diff", "0").stdout


@pytest.mark.slow
def test_separate_runs_compare_like_one_run_with_all_targets(shared_data: Path) -> None:
    gsm8k(shared_data, "[numeric_match]")
    whole = json.loads(evalrun("gsm8k.yaml", "--json").stdout)["comparison"]
    for name in MODELS:
        assert evalrun("gsm8k.yaml", "--target", name, "--output-dir", f"of/{name}").returncode == 0
    runs = [str(next(Path("of", name, "gsm8k").iterdir())) for name in MODELS]
    done = evalrun("compare", *runs, "--json")
    assert done.returncode == 0, done.stderr
    apart = json.loads(done.stdout)
    assert apart["metrics"] == whole["metrics"]
    assert [item["differs"] for item in apart["candidates"]] == [item["differs"] for item in whole["candidates"]]


ROWS = [{"input": f"{place}?", "expected": str(place), "a": str(place), "b": str(place % 7)} for place in range(40)]


def write(name: str, target: str = "{type: recorded, column: a, name: m}", **keys: Any) -> str:
    """A small suite; `keys` override its own."""
    rows = keys.pop("rows", ROWS)
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {"name": name, "dataset": f"{name}.jsonl", "scorers": ["exact_match"], **keys}
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in suite.items())
    Path(f"{name}.yaml").write_text(text + f"target: {target}\n")
    return f"{name}.yaml"


def run(name: str, *args: str) -> str:
    """The id of a run of a suite."""
    done = evalrun(name, "--json", *args)
    assert done.stdout, done.stderr
    return str(json.loads(done.stdout)["run_id"])


def test_targets_with_the_same_name_are_labeled_by_run() -> None:
    one, two = run(write("s")), run(write("s", "{type: recorded, column: b, name: m}"))
    done = evalrun("compare", one, two)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"{one}/m +1\.000 .*\n{two}/m +0\.175 ", done.stdout) and f"{one}/m beats {two}/m" in done.stdout
    assert "options.column: 'a' → 'b'" in done.stdout


def test_runs_with_different_data_are_refused_unless_unpaired() -> None:
    one, two = run(write("s")), run(write("s", "{type: recorded, column: b, name: n}", rows=ROWS[:30]))
    done = evalrun("compare", one, two)
    assert done.returncode == 2
    assert "dataset: its rows changed (40 → 30 rows, other content)" in done.stderr
    assert "--unpaired" in done.stderr
    weaker = evalrun("compare", one, two, "--unpaired")
    assert weaker.returncode == 0
    assert re.search(r"m +1\.000 .*\nn +0\.233 ", weaker.stdout) and "m beats n" in weaker.stdout
    assert "unpaired: the samples differ" in weaker.stdout
    assert "win/tie/loss" not in weaker.stdout
    values = json.loads(evalrun("compare", one, two, "--unpaired", "--json").stdout)["metrics"][0]["values"]
    assert [(value["n"], value["trusted"]) for value in values.values()] == [(40, True), (30, True)]


def test_rows_that_an_unpaired_run_lacks_are_missing() -> None:
    one, two = run(write("s")), run(write("s", "{type: recorded, column: b, name: n}", rows=ROWS[:30]))
    log = next(Path("runs").glob(f"*/{one}")) / "rows.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:10]))
    data = json.loads(evalrun("compare", one, two, "--unpaired", "--json").stdout)
    assert "exact_match/v1: 30 of 40 answers of m are missing (not run)" in data["warnings"]
    (pair,) = data["metrics"][0]["pairs"]
    assert (pair["n"], pair["better_scored"], pair["better"]) == (40, "m", None)


def test_runs_with_different_scorers_are_refused_with_the_differences() -> None:
    one = run(write("s"))
    two = run(write("s", scorers=[{"type": "exact_match", "normalize": "squad"}, "contains"]))
    done = evalrun("compare", one, two, "--unpaired")
    assert done.returncode == 2
    assert "scorers 'exact_match'.options.normalize: not set → 'squad'" in done.stderr
    assert "scorers: 'contains' was added" in done.stderr
    assert "--unpaired" not in done.stderr.partition("differ in what is measured")[2]


def test_only_scorers_of_the_requested_metric_must_match() -> None:
    one, two = run(write("s")), run(write("s", scorers=["exact_match", "contains"]))
    assert evalrun("compare", one, two).returncode == 2
    assert evalrun("compare", one, two, "--metric", "exact_match").returncode == 0
    wrong = evalrun("compare", one, two, "--metric", "exact_mach")
    assert wrong.returncode == 2


def test_runs_with_different_epochs_are_compared_by_means_only() -> None:
    one, two = run(write("s")), run(write("s"), "--epochs", "3")
    done = evalrun("compare", one, two)
    assert done.returncode == 0, done.stderr
    assert "the runs have 1 and 3 epochs" in done.stdout
    reducer = {"run": {"reducer": ["median"]}}
    one, two = run(write("s", **reducer)), run(write("s", **reducer), "--epochs", "3")
    done = evalrun("compare", one, two)
    assert done.returncode == 2
    assert "epochs: 1 → 3, on which median depends" in done.stderr


def test_comparison_needs_two_different_runs() -> None:
    one = run(write("s"))
    alone, twice = evalrun("compare", one), evalrun("compare", one, "last")
    assert (alone.returncode, twice.returncode) == (2, 2)
    assert "name another run" in alone.stderr
    assert "named twice" in twice.stderr


def test_escape_sequences_in_names_and_outputs_are_neutralized() -> None:
    evil = "\x1b]8;;http://evil\x1b\\x\x1b[31m\u202e"
    rows = [{"input": f"{evil}{place}", "expected": "1", "a": f"{evil}1", "b": "1"} for place in range(3)]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("s.yaml").write_text(
        'name: s\ndataset: s.jsonl\nslices: [b]\ntargets:\n  - {type: recorded, column: a, name: "\\e[2J[bold]"}\n'
        '  - {type: recorded, column: b, name: "\\u202eb"}\nscorers: [{type: exact_match, name: "\\e[31mx"}]\n'
    )
    done = evalrun("s.yaml")
    if done.returncode == 2:  # the suite rejects such names before they are printed
        assert "\x1b" not in done.stderr
        Path("s.yaml").write_text(
            Path("s.yaml").read_text().replace("\\e[2J", "").replace("\\u202e", "").replace("\\e[31m", "")
        )
        done = evalrun("s.yaml")
    assert done.returncode == 0, done.stderr
    output = done.stdout + evalrun("compare", "last").stdout
    assert "[bold]" in output
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", output)


def test_markdown_summary_ranks_the_targets() -> None:
    rows = [
        {"input": f"{n}", "expected": "x", "a": "x" if n % 9 else "", "b": "x" if n % 2 else "y"} for n in range(80)
    ]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("s.yaml").write_text(
        "name: s\ndataset: s.jsonl\nscorers: [exact_match]\ntargets:\n"
        "  - {type: recorded, column: b, name: '@b | <b>'}\n  - {type: recorded, column: a, name: a}\n"
    )
    assert evalrun("s.yaml", "-o", "s.md", "-q").returncode == 0
    text = Path("s.md").read_text(encoding="utf-8")
    assert "| <code>a</code> | **1.000 0.949–1.000** a 9 missing |" in text
    assert "| 0.500 0.393–0.607 b |" in text
    assert "- exact_match/v1: <code>a</code> &gt; <code>&#64;&#8203;b &#124; &#60;b&#62;</code>. a beats " in text
    assert "- warning: exact_match/v1: 9 of 80 answers of a are missing (model: empty)\n" in text
    assert "p-values: Holm-adjusted over 1 test, with missing scores against the better target." in text
    output = evalrun("show", "last").stdout
    assert re.search(r"^exact_match +a beats @b \| <b> \(\+0\.49, p < 0\.001\)\.", output, re.MULTILINE)


def test_single_target_has_no_comparison() -> None:
    done = evalrun(write("s"))
    assert "comparison" not in done.stdout
    assert "comparison" not in json.loads((stored() / "metrics.json").read_text())


def test_long_names_and_missing_scores_do_not_truncate_numbers() -> None:
    rows = [
        {"input": f"{n}", "expected": "x", "t0": "x", "t1": "x" if n % 9 else "", "t2": "x" if n % 2 else "y"}
        for n in range(200)
    ]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = [f"{'one prompt with a name of many words' if place else 'n' * 150} {place}" for place in range(3)]
    targets = "".join(f"  - {{type: recorded, column: t{place}, name: {name}}}\n" for place, name in enumerate(names))
    scorers = [{"type": "exact_match", "name": f"exact_match_{n}"} for n in range(4)]
    Path("s.yaml").write_text(f"name: s\ndataset: s.jsonl\ntargets:\n{targets}scorers: {json.dumps(scorers)}\n")
    evalrun("s.yaml")
    side = evalrun("compare", "last", "-v").stdout.partition("\ntarget ")[2].partition("exact_match_0/v1: ")[0]
    assert len(re.findall(r"\b23\b", side)) == 1  # in its column, once for all metrics
    assert [len(re.findall(rf"[01][.][0-9]+ {letter}\b", side)) for letter in "ab"] == [8, 4]
    pairs = evalrun("compare", "last", "-v", "--diff", "0").stdout
    for number in ("+0.500", "0.431–0.569", "100/100/0", "+0.497", "0.424–0.570", "88/89/0"):
        assert number in pairs, pairs[:2000]
    assert re.search(r"^pair +(.+ )?excluded$", pairs, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "key"), [("run.json", "targets"), ("run.json", "scorers"), ("metrics.json", "targets")]
)
def test_corrupt_run_file_is_named_and_not_a_crash(name: str, key: str) -> None:
    one, two = run(write("s")), run(write("s", "{type: recorded, column: b, name: n}"))
    broken = next(Path("runs").glob(f"*/{two}")) / name
    broken.write_text(json.dumps({**json.loads(broken.read_text()), key: None}))
    for args in (["show", two], ["report", two], ["compare", one, two, "-o", "c.html"], ["diff", one, two]):
        done = evalrun(*args)
        assert "Traceback" not in done.stderr
        assert done.returncode in ((0, 2) if name == "metrics.json" and args[0] == "diff" else (2,)), done.stderr
    listed = evalrun("runs")
    assert (listed.returncode, listed.stdout.count("unreadable")) == (0, 1)


def test_run_without_rows_has_nothing_to_compare() -> None:
    rows = [{"input": "q", "expected": "x", "a": "x", "b": "y"}]
    one, two = run(write("s", rows=rows)), run(write("s", "{type: recorded, column: b, name: n}", rows=rows))
    (next(Path("runs").glob(f"*/{two}")) / "rows.jsonl").unlink()
    done = evalrun("compare", one, two)
    assert done.returncode == 0, done.stderr
    assert "exact_match/v1: 1 of 1 answers of n is missing (not run)" in done.stdout
    assert "0 of 0" not in done.stdout


FAILING = """
def answers(failed):
    def target(input):
        place = int(input[:-1])
        if place in failed:
            raise RuntimeError("lost")
        return "x" if place % 5 else "y"
    return target

a, b = answers(set(range(0, 200, 5))), answers(set())
"""


def test_a_target_whose_wrong_answers_are_missing_is_not_better() -> None:
    """Both are right on 160 of 200; of one the 40 wrong ones are lost."""
    Path("answering.py").write_text(FAILING)
    rows = [{"input": f"{place}?", "expected": "x", "kind": "odd" if place % 2 else "even"} for place in range(200)]
    name = write(
        "s", "{type: python, function: 'answering:b', name: b}", rows=rows, prompt="{{ input }}", slices=["kind"]
    )
    Path(name).write_text(
        Path(name)
        .read_text()
        .replace("target: {", "targets:\n  - {type: python, function: 'answering:a', name: a}\n  - {")
    )
    done = evalrun(name, "--json", "-o", "s.md", "-o", "s.html")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["comparison"]
    (pair,) = data["metrics"][0]["pairs"]
    assert (pair["n"], pair["better"], pair["better_scored"], pair["p_missing"]) == (160, None, None, 1.0)


@pytest.mark.parametrize("form", ["run", "compare", "markdown"])
def test_a_pair_that_missing_answers_could_reverse_is_never_called_better(form: str) -> None:
    rows = [
        {
            "input": f"{n}", "expected": "x", "b": "x" if n % 3 else "y",
            "a": "" if n % 6 == 1 else "x" if n % 5 else "y",
        } for n in range(600)
    ]  # fmt: skip
    name = write("s", "{type: recorded, column: b, name: b}", rows=rows)
    Path(name).write_text(
        Path(name).read_text().replace("target: {", "targets:\n  - {type: recorded, column: a, name: a}\n  - {")
    )
    done = evalrun(name, "-o", "s.md")
    text = {
        "run": lambda: done.stdout, "compare": lambda: evalrun("compare", "last").stdout,
        "markdown": lambda: Path("s.md").read_text(),
    }[form]()  # fmt: skip
    assert re.search(
        r"a vs b: not conclusive: 100 of 600 answers of a are missing \(model: empty\)\s+and\s+could", text
    )
    assert "beats" not in text
    assert not re.search(r"significantly better (than|in)", text)


def test_a_run_whose_scorers_cannot_be_compared_says_so() -> None:
    Path("sizes.py").write_text("def size(output):\n    return len(output)\n")
    name = write("s", scorers=[{"type": "python", "function": "sizes:size", "name": "size", "aggregates": ["p90"]}])
    Path(name).write_text(
        Path(name).read_text().replace("target: {", "targets:\n  - {type: recorded, column: b, name: b}\n  - {")
    )
    done = evalrun(name, "-o", "s.md")
    assert done.returncode == 0, done.stderr
    report = (stored() / "report.html").read_text()
    for text in (done.stdout, evalrun("compare", "last").stdout, Path("s.md").read_text(), report):
        assert "No metric is compared." in text
        assert "size/v1 is not compared: p90 cannot be compared in pairs; the mean can" in text
