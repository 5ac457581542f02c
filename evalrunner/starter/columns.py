"""Guess which column of a table is the input, the expected answer, the recorded output, the context and the id."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

Role = Literal["input", "expected", "output", "context", "id"]

NAMES: Final[Mapping[Role, str]] = {
    # English, then German, French, Spanish, Italian, Portuguese, Dutch, Polish, Swedish, Russian, Chinese, Japanese
    "input": """
        input question prompt query instruction user usermessage message text request utterance q sentence ticket email
        inputs questions prompts queries problem task document review content body comment
        frage fragen eingabe anfrage nachricht aufgabe question entree requete pregunta entrada consulta mensaje
        domanda richiesta messaggio pergunta mensagem vraag bericht pytanie wiadomosc fraga вопрос запрос текст
        问题 提问 输入 文本 質問 入力 テキスト""",
    "expected": """
        expected answer reference label target groundtruth gold ideal correct truth solution a y answers labels
        expectedoutput expectedanswer referenceanswer correctanswer goldanswer targets category class intent sentiment
        completion expectedresponse classification
        antwort antworten erwartet erwarteteantwort musterantwort loesung losung ziel kategorie klasse
        reponse attendu etiquette categorie respuesta esperado esperada etiqueta categoria
        risposta atteso etichetta resposta rotulo antwoord verwacht odpowiedz oczekiwana svar forvantat
        ответ ожидаемый метка категория 答案 回答 标签 期望 参考答案 正解 答え ラベル カテゴリ""",
    "output": """
        output modeloutput modelanswer modelresponse prediction predicted actual response generated generation
        outputs predictions responses candidate answermodel botanswer actualoutput llmoutput llmresponse
        ausgabe modellantwort vorhersage sortie prediction salida prediccion uscita saida uitvoer wynik utdata
        вывод предсказание 输出 模型输出 预测 出力 予測""",
    "context": """
        context contexts passage passages source sources evidence background retrievedcontext paragraph article
        kontext quelle abschnitt contexte contexto contesto fonte fuente bron kontekst sammanhang
        контекст 上下文 背景 文脈 コンテキスト""",
    "id": """
        id qid key uid uuid number nr no index idx rowid sampleid questionid caseid ticketid
        nummer kennung numero identificador identifiant номер 编号 序号 番号""",
}
SPELLINGS: Final = {role: frozenset(names.split()) for role, names in NAMES.items()}
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


def fold(name: str) -> str:
    """A name without case, accents, spaces and punctuation."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[\W_]", "", "".join(sign for sign in plain if not unicodedata.combining(sign)))


FOLDED: Final = {role: frozenset(map(fold, names)) for role, names in SPELLINGS.items()}
KNOWN: Final = frozenset().union(*FOLDED.values())


def is_known_name(name: str) -> bool:
    """Whether a text is a usual name of a column."""
    return fold(name) in KNOWN


def guess_roles(table: Columns) -> Roles:
    """The roles of a table's columns, by their names, then by what they hold."""
    found: dict[Role, list[str]] = {role: [] for role in ORDER}
    for column in table.columns:
        role = _role_of(column)
        if role is not None:
            found[role].append(column)
    if not found["output"] and len(found["expected"]) > 1 and "answer" in (names := list(map(fold, found["expected"]))):
        # of `answer` and `expected` the first is what a model said
        found["output"].append(found["expected"].pop(names.index("answer")))
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
    if first["id"] is not None and not _is_unique(table, first["id"]):
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
    )


def _role_of(column: str) -> Role | None:
    """The role that a name says: as a whole, or by one of its words, such as `customer_question` or `answer (gold)`."""
    folded = fold(column)
    for role in ORDER:
        if folded in FOLDED[role]:
            return role
    words = [fold(word) for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", column) if len(word) > 1]
    for role in ORDER:
        if any(word in FOLDED[role] for word in words):
            return role
    return None


def _is_unique(table: Columns, column: str) -> bool:
    values = [value.strip() for value in table.values(column)]
    return all(values) and len(set(values)) == len(values)


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
