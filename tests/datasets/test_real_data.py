"""Published datasets, read unchanged."""

from __future__ import annotations

from pathlib import Path

from evalrunner.suite.columns import ColumnSpec
from tests.datasets.reading import columns, problems, samples


def test_gsm8k_is_read_completely(shared_data: Path) -> None:
    result = samples("gsm8k/test.jsonl", folder=shared_data, columns=columns(input="question", expected="answer"))
    assert len(result) == len({sample.id for sample in result}) == 1319
    assert result[0].input.startswith("Janet’s ducks lay 16 eggs per day.")
    assert result[0].expected[0].endswith("#### 18")


def test_humaneval_is_read_gzipped_with_its_own_ids(shared_data: Path) -> None:
    result = samples("humaneval/HumanEval.jsonl.gz", folder=shared_data, columns=columns(id="task_id", input="prompt"))
    assert [sample.id for sample in result] == [f"HumanEval/{n}" for n in range(164)]


def test_a_glob_over_three_natural_questions_files_is_one_dataset(shared_data: Path) -> None:
    result = samples("nq_open/*.jsonl", folder=shared_data, columns=columns(input="question", expected="answer"))
    assert len(result) == 3610 + 1800 + 1769
    assert result[0].expected == ("14 December 1972 UTC", "December 1972")


def test_the_human_labels_of_nq301_need_quoting_false(shared_data: Path) -> None:
    spec = {"columns": columns(id=ColumnSpec(""), input="Question", expected="Model answer")}
    name = "openqa_eval/NQ301_human.tsv"
    result = samples(name, folder=shared_data, options={"quoting": False}, **spec)
    assert len(result) == 1490
    assert sum(sample.metadata["Acceptable?"] == "Yes" for sample in result) > 700
    assert any('"' in sample.metadata["Model answer"] for sample in result)
    rows = samples(name, folder=shared_data, options={"quoting": False}, where={"id": 7}, **spec)
    assert {sample.metadata["id"] for sample in rows} == {"7"}
    assert "set quoting: false" in problems(name, folder=shared_data, **spec)[0]


def test_a_file_with_a_missing_tab_in_every_row_is_an_error(shared_data: Path) -> None:
    message = problems("openqa_eval/NQ301_text-davinci-003.tsv", folder=shared_data, options={"quoting": False})
    assert "NQ301_text-davinci-003.tsv:2: has 4 fields, but the header has 5" in message[0]
    assert message[-1] == "… and 1,470 more"
