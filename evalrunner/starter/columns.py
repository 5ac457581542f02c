"""Guess which column of a table is the input, the expected answer, the recorded output, the context and the id."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from evalrunner.formatting import counted, one_line

Role = Literal["input", "expected", "output", "context", "id"]

NAMES: Final[Mapping[Role, str]] = {
    # the clearest names first; of each kind English, then German, French, Spanish, Italian, Portuguese, Dutch, Polish,
    # Swedish, Russian, Chinese and Japanese
    "input": """
        input question prompt query inputs questions prompts queries userinput usermessage usermsg q
        frage fragen eingabe anfrage entree requete pregunta entrada consulta domanda richiesta pergunta vraag pytanie
        fraga вопрос запрос 问题 提问 输入 質問 入力
        instruction request utterance message user problem task
        nachricht aufgabe mensaje messaggio mensagem bericht wiadomosc
        text sentence document content body review comment ticket email texto testo tekst текст 文本 テキスト""",
    "expected": """
        expected expectedoutput expectedanswer expectedresponse reference referenceanswer references groundtruth gold
        goldanswer ideal idealanswer correct correctanswer truth solution target targets
        erwartet erwarteteantwort musterantwort referenz loesung losung attendu esperado esperada atteso verwacht oczekiwana
        forvantat ожидаемый 期望 参考答案 正解
        answer answers a antwort antworten reponse respuesta risposta resposta antwoord odpowiedz svar ответ 答案 回答 答え
        completion label labels category class intent sentiment classification y ziel kategorie klasse etiquette categorie
        etiqueta categoria etichetta rotulo метка категория 标签 ラベル カテゴリ""",
    "output": """
        output modeloutput modelanswer modelresponse prediction predicted actual actualoutput response generated generation
        outputs predictions responses candidate botanswer llmoutput llmresponse
        ausgabe modellantwort vorhersage sortie salida prediccion uscita saida uitvoer wynik utdata
        вывод предсказание 输出 模型输出 预测 出力 予測""",
    "context": """
        context contexts passage passages retrievedcontext evidence background source sources paragraph article
        kontext quelle abschnitt contexte contexto contesto fonte fuente bron kontekst sammanhang
        контекст 上下文 背景 文脈 コンテキスト""",
    "id": """
        id qid key uid uuid sampleid questionid caseid ticketid idx index rowid number nr no
        nummer kennung numero identificador identifiant номер 编号 序号 番号""",
}
SPELLINGS: Final = {role: tuple(names.split()) for role, names in NAMES.items()}
WHOLE_ANSWERS: Final = "answer"  # from here on, names of `expected` also name what a model has said
BY_WORD: Final = 1000  # added to the rank of a name of which only one word is known
ORDER: Final[tuple[Role, ...]] = ("output", "input", "expected", "context", "id")
MAX_LABELS: Final = 20  # different answers, up to which they are classes
ROWS_PER_LABEL: Final = 2.5  # on average, from which answers are classes


class Columns(Protocol):
    """What the guesses look at: a `Table`."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    def values(self, column: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Roles:
    """The column of each role, None where there is none. `outputs` are all with recorded outputs; `guesses` need a look."""

    input: str | None = None
    expected: str | None = None
    context: str | None = None
    id: str | None = None
    outputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    several: bool = False
    guesses: frozenset[str] = field(default_factory=frozenset)
    not_id: str = ""  # why the column with the name of an id is none


def fold(name: str) -> str:
    """A name without case, accents, spaces and punctuation."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[\W_]", "", "".join(sign for sign in plain if not unicodedata.combining(sign)))


RANKS: Final[Mapping[Role, Mapping[str, int]]] = {
    role: {fold(name): rank for rank, name in reversed(list(enumerate(names)))} for role, names in SPELLINGS.items()
}
KNOWN: Final = frozenset(name for names in RANKS.values() for name in names)


def is_known_name(name: str) -> bool:
    """Whether a text is a usual name of a column."""
    return fold(name) in KNOWN


def guess_roles(table: Columns) -> Roles:
    """The roles of a table's columns, by their names, then by what they hold."""
    ranked: dict[Role, list[tuple[int, str]]] = {role: [] for role in ORDER}
    for column in table.columns:
        if (named := _role_of(column)) is not None:
            ranked[named[0]].append((named[1], column))
    found = {
        role: [column for _, column in sorted(columns, key=lambda item: item[0])] for role, columns in ranked.items()
    }
    found["output"] = [column for _, column in ranked["output"]]  # all of them are used, in the order of the table
    _separate_answers(found)
    guesses: set[str] = set()
    used = {column for columns in found.values() for column in columns}
    free = [column for column in table.columns if column not in used and any(table.values(column))]
    if not found["id"] and free and not found["input"] and _is_id(table, free[0]) and len(free) > 2:
        found["id"].append(free.pop(0))
    if not found["input"] and free:
        questions = [column for column in free if _share_of_questions(table, column) > 0.5]
        longest = questions[0] if questions else max(free, key=lambda column: _length(table, column))
        found["input"].append(longest)
        free.remove(longest)
        guesses.add(longest)
    if not found["expected"] and free and not found["output"]:
        found["expected"].append(free[0])
        guesses.add(free[0])
    first = {role: columns[0] if columns else None for role, columns in found.items()}
    not_id = "" if first["id"] is None else _why_no_id(table, first["id"])
    if not_id:
        first["id"] = None
    expected = [value for value in table.values(first["expected"]) if value] if first["expected"] else []
    return Roles(
        first["input"],
        first["expected"],
        first["context"],
        first["id"],
        tuple(found["output"]),
        _labels(expected),
        _are_several(expected),
        frozenset(guesses),
        not_id,
    )


def _separate_answers(found: dict[Role, list[str]]) -> None:
    """Take a column `answer` beside one with a clearer name, such as `reference`, as what a model has said."""
    ranks, names = RANKS["expected"], found["expected"]
    if found["output"] or len(names) < 2 or ranks.get(fold(names[0]), BY_WORD) >= ranks[WHOLE_ANSWERS]:
        return
    answers = [name for name in names[1:] if fold(name) in ("answer", "antwort", "reponse", "respuesta")]
    for name in answers[:1]:
        names.remove(name)
        found["output"].append(name)


def _role_of(column: str) -> tuple[Role, int] | None:
    """The role that a name says, and its rank, the clearest 0: as a whole, or by a word, as in `customer_question`."""
    folded = fold(column)
    for role in ORDER:
        if (rank := RANKS[role].get(folded)) is not None:
            return role, rank
    words = [fold(word) for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", column) if len(word) > 1]
    known = [(RANKS[role][word], role) for role in ORDER for word in words if word in RANKS[role]]
    if not known:
        return None
    clear = [(rank, role) for rank, role in known if role == "expected" and rank < RANKS["expected"][WHOLE_ANSWERS]]
    rank, role = min(clear or known, key=lambda item: item[0])  # in `gold output` the first word counts
    return role, BY_WORD + rank


def _why_no_id(table: Columns, column: str) -> str:
    """Why a column cannot be the id, empty if every row has a value of its own."""
    values = [value.strip() for value in table.values(column)]
    if not all(values):
        return f"{column!r} is empty in {counted(values.count(''), 'row')}"
    repeated = [value for value, times in Counter(values).items() if times > 1]
    return f"{column!r} has {one_line(repeated[0], 20)!r} in several rows" if repeated else ""


def _is_unique(table: Columns, column: str) -> bool:
    return not _why_no_id(table, column)


def _is_id(table: Columns, column: str) -> bool:
    """Whether a column has a short value of its own in every row, without spaces."""
    return _is_unique(table, column) and all(len(value) <= 20 and " " not in value for value in table.values(column))


def _share_of_questions(table: Columns, column: str) -> float:
    values = [value.strip() for value in table.values(column) if value.strip()]
    return sum(value.endswith(("?", "？")) for value in values) / max(len(values), 1)


def _length(table: Columns, column: str) -> int:
    return sum(map(len, table.values(column)))


def _labels(expected: Sequence[str]) -> tuple[str, ...]:
    """The classes, if the expected answers are few and each is short and frequent."""
    labels = tuple(dict.fromkeys(value.strip() for value in expected))
    few = 2 <= len(labels) <= MAX_LABELS and len(expected) >= ROWS_PER_LABEL * len(labels)
    return labels if few and all(len(label) <= 40 and "\n" not in label for label in labels) else ()


def _are_several(expected: Sequence[str]) -> bool:
    """Whether expected answers list several with `|` between them."""
    lists = [value for value in expected if re.search(r"\S\|\S", value)]
    return bool(lists) and not any(value.startswith(("|", "[", "{")) for value in lists)
