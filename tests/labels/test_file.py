from pathlib import Path

import pytest

from evalrunner.errors import SuiteError
from evalrunner.labels.file import Label, parse_label, read_labels, write_labels


def _file(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_short_form_has_an_id_and_a_verdict(tmp_path: Path) -> None:
    labels = read_labels(_file(tmp_path, "id,verdict\nmoon,yes\n\nrome,0\n"))
    assert [(one.id, one.label, one.line) for one in labels] == [("moon", 1.0, 2), ("rome", 0.0, 4)]


def test_labels_survive_writing_and_reading(tmp_path: Path) -> None:
    label = Label(
        id='a,"b"', target="bot", epoch=2, scorer="factuality", label=1.0, labeler="ada", time="2026-11-29T07:00:00Z",
        probability=0.25, stratum="disagree", judge_verdict=0.0, judge="openai/m", prompt="12ab", version="v1",
        answer="9a41", line=2,
    )  # fmt: skip
    path = tmp_path / "labels.csv"
    write_labels(path, [label])
    assert read_labels(path) == (label,)
    write_labels(path, [Label(id="x", label=0.0)])
    assert path.read_text() == "id,label\nx,0\n", "columns that no label fills are left out"


def test_every_problem_is_reported_with_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, 'id,label,probability,epoch\n,1,,\nb,maybe,,\nc,1,2,\nd,1\n"e\nf",1,,0.5\n')
    with pytest.raises(SuiteError) as caught:
        read_labels(path)
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}:") for line in lines] == [
        "2: has no id",
        "3: label 'maybe' is no verdict; use 1 or 0, yes or no, or a number",
        "4: probability is 2; it should be above 0 and at most 1",
        "5: has 2 values; the header has 4 columns",
        "6: epoch is 0.5; it should be a whole number from 1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: is empty; it needs a header with 'id' and 'label'"),
        ("id,lable\n", "1: unknown column 'lable'; did you mean '"),
        ("id\n", "1: has no column 'label'"),
        ("id,label,verdict\n", "1: has the column 'label' twice"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(SuiteError) as caught:
        read_labels(path)
    assert f"{path}:{message}" in str(caught.value)


def test_a_missing_file_and_a_binary_one_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match="not UTF-8"):
        read_labels(tmp_path / "b.csv")


def test_words_for_labels() -> None:
    assert [parse_label(word) for word in ("Yes", "pass", "wrong", "0.5", "nan", "1_0", "")] == [
        1.0, 1.0, 0.0, 0.5, None, None, None,
    ]  # fmt: skip
