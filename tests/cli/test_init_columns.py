"""Which column `evalrun init` takes for what."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner.starter.columns import guess_roles
from evalrunner.starter.start import Wish, plan_start
from evalrunner.starter.table import read_table


def roles(header: str, *rows: str) -> tuple[str | None, ...]:
    """Input, expected, context, id and the outputs of a table."""
    Path("t.csv").write_text("\n".join([header, *(rows or [",".join("abcdefgh"[: header.count(",") + 1])])]))
    found = guess_roles(read_table(Path("t.csv")))
    return (found.input, found.expected, found.context, found.id, *found.outputs)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("question,answer", ("question", "answer", None, None)),
        ("category,question,answer", ("question", "answer", None, None)),
        ("text,question,context,answer", ("question", "answer", "context", None)),
        ("text,label", ("text", "label", None, None)),
        ("id,prompt,reference,answer", ("prompt", "reference", None, "id", "answer")),
        ("prompt,gpt_output,claude_output,gold", ("prompt", "gold", None, None, "gpt_output", "claude_output")),
        ("Frage,Antwort,Kategorie", ("Frage", "Antwort", None, None)),
        ("Pregunta,Respuesta", ("Pregunta", "Respuesta", None, None)),
        ("Вопрос,Ответ", ("Вопрос", "Ответ", None, None)),
        ("问题,答案", ("问题", "答案", None, None)),
        ("customer question,correct answer,source document", ("customer question", "correct answer", "source document", None)),
        ("question_id,question,gold output,model output", ("question", "gold output", None, "question_id", "model output")),
        ("userInput,expectedOutput", ("userInput", "expectedOutput", None, None)),
    ],
)  # fmt: skip
def test_names_tell_the_roles(header: str, found: tuple[str | None, ...]) -> None:
    assert roles(header) == found


def test_values_tell_the_roles_without_known_names() -> None:
    rows = [f"k{n},hello there number {n}?,{n}" for n in range(5)]
    assert roles("aa,bb,cc", *rows) == ("bb", "cc", None, "aa")


def test_an_id_that_repeats_is_no_id() -> None:
    assert roles("id,question,answer", "1,a,b", "1,c,d") == ("question", "answer", None, None)
    assert guess_roles(read_table(Path("t.csv"))).not_id == "'id' has '1' in several rows"
    assert roles("id,question,answer", "1,a,b", ",c,d") == ("question", "answer", None, None)
    assert guess_roles(read_table(Path("t.csv"))).not_id == "'id' is empty in 1 row"


def test_rows_without_text_are_counted() -> None:
    Path("t.csv").write_text("question;answer\na;b\n;;\n\nc;d\n", encoding="utf-8")
    table = read_table(Path("t.csv"))
    assert len(table.rows) == 2
    assert table.notes[0] == "1 row left out: no text in any column"


@pytest.mark.parametrize("name", ["数据.csv", "a.b c.csv", "Ünï-côdé.csv", "-x.csv", "123.csv"])
@pytest.mark.parametrize("column", ["Antwort (dt.)", "a.b", "it's", 'say "x"', "yes", "1", "#n", "x: y", "{{ z }}"])
def test_odd_names_of_files_and_columns_are_valid(name: str, column: str) -> None:
    import csv

    from evalrunner.suite.loader import load_suite

    with Path(name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["question", column], ["a?", "b"]])
    start = plan_start(Wish(Path(), Path(), Path(name), models=("m",), base_url="http://127.0.0.1:9/v1"), {})
    for path, text in start.files.items():
        path.write_text(text, encoding="utf-8")
    suite = next(path for path in start.files if path.name.endswith(".eval.yaml"))
    spec = load_suite(suite).dataset.columns.expected
    assert spec is not None
    assert spec.column == column
    assert suite.name[0] not in "-."
