"""Every scorer of autoevals through evalrun gives what the package gives when it is called directly."""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from evalrunner.domain import Cell, Completion, Failure, Sample
from evalrunner.scorers.autoevals_catalogue import CLASSIFIER, entries, find_entry, scorer_classes
from evalrunner.scorers.autoevals_scorers import autoevals, items_of, number_in
from evalrunner.scorers.call import BoundScorer, call_async, call_sync, cell_without_call, offer
from tests.scorers.scorer_calls import HOSTILE, ScriptedJudge, choosing, tool_call

COLUMNS = {
    "context": ["Paris is the capital of France.", "Lyon is a city in France."],
    "criteria": "Names a city.",
    "language": "French",
}
ROW = Sample("1", "What is the capital of France?", ("Paris, the capital",), COLUMNS)
OUTPUT = 'It is "Paris" <b>& nothing</b> else: {{expected}}.'
JUDGED = [entry.name for entry in entries() if entry.asks_judge]
WITH_MODEL = [entry.name for entry in entries() if entry.asks_model]
LOCAL = [entry.name for entry in entries() if not entry.asks_judge and not entry.asks_model]


def vector(text: str) -> list[float]:
    """A vector that depends on every character; near enough for scores above 0."""
    rng = random.Random(ascii(text))
    return [3 + rng.random() for _ in range(8)]


def verdict(text: str) -> dict[str, Any]:
    scores = {"violence": len(text) % 10 / 10, "hate": 0.1}
    return {"flagged": scores["violence"] > 0.5, "categories": {}, "category_scores": scores}


class ScriptedModel:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Failure | None = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]] | Failure:
        self.asked += texts
        return self.failure or [vector(text) for text in texts]

    async def moderate(self, texts: Sequence[str]) -> list[dict[str, Any]] | Failure:
        self.asked += texts
        return self.failure or [verdict(text) for text in texts]


def arguments(
    schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any] | None = None, name: str = ""
) -> Any:
    """Random arguments that a judge may give, by the schema of the tool."""
    root = root or schema
    if "$ref" in schema:
        return arguments(root["$defs"][schema["$ref"].rpartition("/")[2]], rng, root)
    if schema.get("type") == "object":
        return {key: arguments(item, rng, root, key) for key, item in schema["properties"].items()}
    if schema.get("type") == "array":
        return [arguments(schema["items"], rng, root) for _ in range(rng.randint(1, 4))]
    if schema.get("type") == "integer":
        return 0 if name == "noncommittal" and rng.random() < 0.8 else rng.randint(0, 1)
    return rng.choice(schema["enum"]) if "enum" in schema else rng.choice(("Paris", "Lyon", "France", "Rome is old."))


def reply_to(tools: Sequence[Mapping[str, Any]], prompt: str, seed: int) -> tuple[str, dict[str, Any]]:
    function = tools[0]["function"]
    rng = random.Random(ascii(f"{seed} {function['name']} {prompt}"))
    return function["name"], arguments(function["parameters"], rng)


class RandomJudge(ScriptedJudge):
    def __init__(self, seed: int) -> None:
        super().__init__(lambda text: Completion(""))
        self.seed = seed

    async def ask(self, messages: Any, *, params: Any = None, tools: Any = (), response_format: Any = None) -> Any:
        self.asked.append({"messages": messages, "params": params, "tools": tools})
        name, given = reply_to(tools, messages[0]["content"], self.seed)
        return tool_call(json.dumps(given), name)


def client_of_the_package(seed: int) -> Any:
    """A client of autoevals' own kind with the same replies."""
    from autoevals.oai import LLMClient

    class Client(LLMClient):  # type: ignore[misc]
        def __init__(self) -> None:
            self.is_async = True
            self._is_wrapped = False
            self.RateLimitError = ZeroDivisionError
            self.prompts: list[str] = []

        async def complete(self, *, messages: Any, tools: Any, **params: Any) -> dict[str, Any]:
            self.prompts.append(messages[0]["content"])
            name, given = reply_to(tools, messages[0]["content"], seed)
            call = {"function": {"name": name, "arguments": json.dumps(given)}}
            return {"choices": [{"message": {"tool_calls": [call]}}]}

        async def embed(self, *, input: str, **params: Any) -> dict[str, Any]:
            return {"data": [{"embedding": vector(input)}]}

        async def moderation(self, *, input: str, **params: Any) -> dict[str, Any]:
            return {"results": [verdict(input)]}

    return Client()


def cell(made: Any, output: str, row: Sample = ROW, judge: Any = None, model: Any = None) -> Cell:
    """The cell of a scorer that may ask a judge, a model, or both."""
    from dataclasses import replace
    from functools import partial

    function = made.function
    if model is not None:
        function = partial(function.__call__, model=model)
    bound = BoundScorer.bind("tested", replace(made, function=function))
    completion = Completion(output)
    if (settled := cell_without_call(bound, row, completion)) is not None:
        return settled
    if bound.is_async:
        return asyncio.run(call_async(bound, row, completion, judge))
    return call_sync(bound, offer(row, completion))


def direct(name: str, client: Any, output: str = OUTPUT, **params: Any) -> Any:
    """The result of the package itself."""
    values = {
        "output": output,
        "expected": ROW.expected[0],
        "input": ROW.input,
        "context": "\n".join(COLUMNS["context"]),
        "instructions": ROW.input,
        "criteria": COLUMNS["criteria"],
        "language": COLUMNS["language"],
    }
    return asyncio.run(scorer_classes()[name](client=client, **params).eval_async(**values))


def test_every_scorer_of_the_package_is_found() -> None:
    """Compared with the names in the package's own documentation of its modules."""
    import autoevals as package

    modules = {
        name for item in ("json", "list", "moderation", "number", "string") for name in _all(f"autoevals.{item}")
    }
    assert modules - {"LevenshteinScorer"} <= set(scorer_classes())
    assert {"ExactMatch", "Battle", "ClosedQA", "Faithfulness", CLASSIFIER} <= set(scorer_classes())
    assert all(hasattr(package, name) for name in scorer_classes())
    assert set(JUDGED) | set(WITH_MODEL) | set(LOCAL) | {CLASSIFIER} == set(scorer_classes())


def _all(module: str) -> list[str]:
    import importlib

    found = importlib.import_module(module)
    return list(getattr(found, "__all__", ["ListContains"]))


NEEDS = {
    "AnswerCorrectness": {"expected", "input"},
    "AnswerRelevancy": {"input", "context"},
    "Battle": {"instructions", "expected"},
    "ClosedQA": {"input", "criteria"},
    "ContextEntityRecall": {"expected", "context"},
    "ContextPrecision": {"expected", "input", "context"},
    "ExactMatch": {"expected"},
    "Faithfulness": {"input", "context"},
    "Humor": set(),
    "Moderation": set(),
    "Translation": {"language", "input", "expected"},
    "ValidJSON": set(),
}


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_scorer_needs_is_read_from_the_package(name: str) -> None:
    assert set(find_entry(name, {}).needs) == NEEDS[name]


def test_which_scorers_ask_a_judge_and_which_a_model() -> None:
    both = {"AnswerCorrectness", "AnswerRelevancy", "ContextEntityRecall"}
    assert set(JUDGED) & set(WITH_MODEL) == both
    assert set(WITH_MODEL) == both | {"AnswerSimilarity", "EmbeddingSimilarity", "Moderation"}
    assert set(LOCAL) == {"ExactMatch", "JSONDiff", "Levenshtein", "ListContains", "NumericDiff", "ValidJSON"}


@pytest.mark.parametrize("name", sorted({*JUDGED, *WITH_MODEL}))
def test_a_scorer_with_calls_gives_the_value_of_the_package(name: str) -> None:
    entry = find_entry(name, {})
    made = autoevals(scorer=name)
    seen = set()
    for seed in range(12):
        client = client_of_the_package(seed)
        try:
            wanted = float(direct(name, client).score)
        except ZeroDivisionError:
            wanted = None
        judge = RandomJudge(seed) if entry.asks_judge else None
        found = cell(made, OUTPUT, judge=judge, model=ScriptedModel() if entry.asks_model else None)
        assert found.value == wanted, found
        assert found.state == ("unscored" if wanted is None else "scored")
        if judge is not None:
            assert sorted(one["messages"][0]["content"] for one in judge.asked) == sorted(client.prompts)
        seen.add(wanted)
    assert len(seen) > 1 or name in ("AnswerSimilarity", "EmbeddingSimilarity", "Moderation")


def random_json(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 5:
        return (
            rng.randint(-9, 9),
            rng.random() * 100,
            rng.choice("abc") * rng.randint(0, 4),
            None,
            rng.random() < 0.5,
        )[kind]
    if kind == 5:
        return [random_json(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice("wxyz"): random_json(rng, depth + 1) for _ in range(rng.randint(0, 3))}


def random_text(rng: random.Random) -> str:
    letters = "abc xyz.,\n\t{}[]\"'0123456789éßİ\u0301漢\U0001f468\u200d\u202e\x00"
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 30)))


def pairs(name: str) -> list[tuple[str, str, Any, Any]]:
    """Outputs and accepted answers as texts, and as the values that the package is called with."""
    rng = random.Random(name)
    found: list[tuple[str, str, Any, Any]] = []
    for _ in range(300):
        if name == "NumericDiff":
            one, other = (rng.choice((0, rng.randint(-99, 99), rng.random() * 1000)) for _ in "ab")
            found.append((f"It is {one}." if rng.random() < 0.5 else str(one), str(other), float(one), float(other)))
        elif name == "ListContains":
            one, other = ([random_text(rng) for _ in range(rng.randint(1, 4))] for _ in "ab")
            found.append((json.dumps(one), json.dumps(other), one, other))
        else:
            texts = [random_text(rng) if rng.random() < 0.4 else json.dumps(random_json(rng)) for _ in "ab"]
            one, other = texts if rng.random() < 0.8 else texts[:1] * 2
            found.append((one, other, one, other))
    return [item for item in found if item[0].strip() and item[1].strip()]


@pytest.mark.parametrize("name", LOCAL)
def test_a_scorer_without_calls_gives_the_value_of_the_package(name: str) -> None:
    package = scorer_classes()[name]()
    made = autoevals(scorer=name)
    values = []
    for output, answer, one, other in pairs(name):
        wanted = package.valid_json(one) if name == "ValidJSON" else package.eval(one, other).score
        found = cell(made, output, Sample("1", "", (answer,)))
        if output.strip():
            assert (found.state, found.value) == ("scored", wanted), (output, answer)
            values.append(wanted)
    assert len(values) > 200 and len(set(values)) > 1


def test_valid_json_with_a_schema_gives_the_value_of_the_package() -> None:
    schema = {"type": "object", "properties": {"w": {"type": "number"}}, "required": ["w"]}
    package = scorer_classes()["ValidJSON"]()
    made = autoevals(scorer="ValidJSON", params={"schema": schema})
    rng = random.Random(5)
    texts = [json.dumps({"w": random_json(rng)} if rng.random() < 0.5 else random_json(rng)) for _ in range(300)]
    found = [cell(made, text, Sample("1", "")).value for text in texts]
    assert found == [package.valid_json(text, schema) for text in texts]
    assert set(found) == {0.0, 1.0}


@pytest.mark.parametrize("name", LOCAL)
def test_a_scorer_without_calls_survives_any_pair_of_texts(name: str) -> None:
    """Never an exception, NaN, or a value out of range."""
    made = autoevals(scorer=name)
    rng = random.Random(f"hostile {name}")
    texts = [*(text for text in HOSTILE if len(text) < 10_000), "[" * 100_000, "[NaN]", "[1e999]", f"[{10**400}]", "1" * 5000,
             "9" * 400, '{"a": null}', *(random_text(rng) for _ in range(20))]  # fmt: skip
    checked = 0
    for output in texts:
        for answer in rng.sample(texts, 6):
            found = cell(made, output, Sample("1", "", (answer,)))
            assert found.state in ("scored", "skipped", "unscored") or "the accepted answer with itself" in str(
                found.reason
            )
            assert found.value is None or (math.isfinite(found.value) and 0 <= found.value <= 1)
            checked += found.value is not None
    assert checked > 30


def test_the_best_accepted_answer_counts() -> None:
    row = Sample("1", "", ("completely different", "Paris"))
    assert cell(autoevals(scorer="Levenshtein"), "Paris", row).value == 1.0
    assert cell(autoevals(scorer="ExactMatch"), "Paris", row).value == 1.0
    model = ScriptedModel()
    assert cell(autoevals(scorer="EmbeddingSimilarity"), "Paris", row, model=model).value == pytest.approx(1)
    assert set(model.asked) == {"Paris", "completely different"}
    assert cell(autoevals(scorer="ListContains"), "- Paris\n- completely different", row).value == 1.0


def test_no_number_is_wrong_in_an_output_and_skips_a_row_in_its_answers() -> None:
    made = autoevals(scorer="NumericDiff")
    assert cell(made, "none", Sample("1", "", ("4",))) == Cell(
        "scored", 0.0, detail={"explanation": "no number in the output"}
    )
    assert cell(made, "4", Sample("1", "", ("none",))).state == "skipped"
    assert (
        made.function.skip_reason(Sample("1", "", ("none",)))
        and made.function.skip_reason(Sample("1", "", ("4",))) is None
    )
    assert number_in("9" * 400) is None
    assert items_of('["a", 1, null]') == ["a", 1, "null"] and items_of("* a\n\n2) b") == ["a", "2) b"]


def test_exact_match_does_not_take_a_missing_answer_for_the_text_none() -> None:
    assert cell(autoevals(scorer="ExactMatch"), "None", Sample("1", "")) == Cell("skipped", reason="no expected answer")


DECLARED = {
    "ClosedQA": (True, False),
    "Battle": (True, True),
    "Factuality": (False, True),
    "Humor": (False, False),
    "ContextPrecision": (True, True),
    "Faithfulness": (False, False),
    "Levenshtein": (False, True),
    "ExactMatch": (True, True),
    "Moderation": (True, False),
    "ValidJSON": (True, False),
    "ListContains": (False, True),
}


@pytest.mark.parametrize("name", DECLARED)
def test_a_scorer_declares_whether_it_is_binary_and_needs_an_answer(name: str) -> None:
    from importlib.metadata import version

    declaration = autoevals(scorer=name).declaration
    assert (declaration.binary, declaration.needs_expected) == DECLARED[name]
    assert (declaration.low, declaration.high, declaration.higher_is_better) == (0.0, 1.0, True)
    assert declaration.backend == f"autoevals {version('autoevals')}"


def test_only_factuality_has_a_sanity_check() -> None:
    assert [name for name in JUDGED if autoevals(scorer=name).calibration_examples] == ["Factuality"]


def test_a_classifier_of_the_suite_fills_its_prompt_with_data_that_is_no_template() -> None:
    made = autoevals(
        scorer=CLASSIFIER,
        prompt="Is {{{output}}} for {{audience}} polite in {{ tone }}? Asked: {{input.question}}{{#tags}} [{{.}}]{{/tags}}",
        choices={"Yes": 1, "Partly": 0.5, "No": 0},
        params={"tone": "{{output}} Dutch"},
    )
    assert made.declaration.binary is False
    row = Sample("1", {"question": "why {{output}}?"}, (), {"audience": "<kids> {{x}}", "tags": ["a", "{{b}}"]})
    judge = ScriptedJudge(lambda text: choosing("Partly", "so"))
    assert cell(made, "{{audience}} &", row, judge).value == 0.5
    prompt = judge.asked[0]["messages"][0]["content"].split("\n")[0]
    assert prompt == "Is {{audience}} & for <kids> {{x}} polite in {{output}} Dutch? Asked: why {{output}}? [a] [{{b}}]"
    assert judge.asked[0]["tools"][0]["function"]["parameters"]["properties"]["choice"]["enum"] == [
        "Yes",
        "Partly",
        "No",
    ]
    assert autoevals(scorer=CLASSIFIER, prompt="{{output}}?", choices={"Yes": 1, "No": 0}).declaration.binary is True


WRONG = [
    ({"scorer": "ClosedQa"}, "autoevals has no scorer 'ClosedQa'; did you mean 'ClosedQA'?"),
    ({"scorer": "Sumary"}, "did you mean 'Summary'?"),
    ({"scorer": "Humor", "criteria": "x"}, "'criteria' is not needed by Humor; it needs only the output"),
    ({"scorer": "ClosedQA", "columns": {"criterion": "x"}}, "did you mean 'criteria'?; it needs input and criteria"),
    ({"scorer": "ClosedQA", "criteria": "x", "columns": {"criteria": "y"}}, "'criteria' is set twice"),
    ({"scorer": "ClosedQA", "prompt": "{{output}}"}, "'prompt' is an option of LLMClassifier; 'ClosedQA' has its own"),
    ({"scorer": "Levenshtein", "params": {"prefix": "x"}}, "'Levenshtein' does not accept; it accepts none"),
    ({"scorer": "EmbeddingSimilarity", "params": {"model": "x"}}, "'model', which the suite decides"),
    ({"scorer": "EmbeddingSimilarity", "params": {"expected_mim": 1}}, "did you mean 'expected_min'?"),
    ({"scorer": "JSONDiff", "params": {"string_scorer": "EmbeddingSimilarity"}}, "without calls to a model"),
    ({"scorer": "ValidJSON", "params": {"schema": {"type": "nope"}}}, "'schema' is no JSON Schema"),
    (
        {"scorer": "ValidJSON", "params": {"schema": {"items": {"$ref": "http://other.example/s"}}}},
        "which is not fetched",
    ),
    ({"scorer": "AnswerCorrectness", "params": {"factuality_weight": -1}}, "Weights must be non-negative"),
    ({"scorer": "LLMClassifier", "choices": {"a": 1, "b": 0}}, "'LLMClassifier' needs 'prompt'"),
    ({"scorer": "LLMClassifier", "prompt": "{{output}}"}, "'LLMClassifier' needs 'choices'"),
    ({"scorer": "LLMClassifier", "prompt": "polite?", "choices": {"a": 1, "b": 0}}, "has no {{output}}"),
    ({"scorer": "LLMClassifier", "prompt": "{{output}}", "choices": {"a": 1}}, "at least two choices"),
    ({"scorer": "LLMClassifier", "prompt": "{{output}}", "choices": {"a": 1, "b": 7}}, "from 0 to 1"),
    (
        {"scorer": "LLMClassifier", "prompt": "{{output}} {{> secret}}", "choices": {"a": 1, "b": 0}},
        "reads the file 'secret'",
    ),
    (
        {"scorer": "LLMClassifier", "prompt": "{{output}} {{ x | y }}", "choices": {"a": 1, "b": 0}},
        "the name of a column",
    ),
    ({"scorer": "LLMClassifier", "prompt": "{% if x %}{{output}}", "choices": {"a": 1, "b": 0}}, "mustache templates"),
    ({"scorer": "LLMClassifier", "prompt": "{{output}} {{#x}}", "choices": {"a": 1, "b": 0}}, "template is not valid"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=lambda item: item if isinstance(item, str) else "")
def test_wrong_options_are_refused_before_the_first_call(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        autoevals(**options)
    assert message in str(raised.value)


def test_params_decide_whether_a_model_is_asked() -> None:
    assert not find_entry("ContextEntityRecall", {"pairwise_scorer": "Levenshtein"}).asks_model
    assert not find_entry("AnswerCorrectness", {"answer_similarity_weight": 0}).asks_model


@pytest.mark.parametrize(
    "reply",
    [
        Completion('```json\n{"statements": [{"statement": "s", "attributed": true, "reason": "r"}]}\n```'),
        Completion('Here it is: [{"statement": "s", "attributed": 1, "reason": "r"}]'[12:]),
        Completion('I think so.\n{"name": "extract_statements", "arguments": {"statements": [{"statement": "s", "attributed": "yes", "reason": "r"}]}}'),
        tool_call({"statements": [{"statement": "s", "attributed": 1.0, "reason": "r"}]}, "other_name"),
    ],
)  # fmt: skip
def test_arguments_are_read_wherever_they_are_unambiguous(reply: Completion) -> None:
    judge = ScriptedJudge(lambda text: reply)
    found = cell(autoevals(scorer="ContextRecall"), "x", judge=judge)
    assert (found.value, found.detail) == (1.0, {"explanation": "s – 1 – r"})


UNREADABLE = [
    Completion("All of it is supported."),
    Completion(""),
    Completion('{"statements": [{"statement": "s", "attributed": 1, "reason": "r"}]}', "length"),
    Completion('{"statements": [{"statement": "s", "attributed": 7, "reason": "r"}]}'),
    Completion('{"statements": [{"statement": "s", "attributed": null, "reason": "r"}]}'),
    Completion('{"statements": [{"statement": "s"}]}'),
    Completion('{"statements": "none"}'),
    Completion('{"statements": [{"statement": "s", "attributed": 1, "reason": "r"}]} or {"statements": []}'),
    tool_call("{nope", "extract_statements"),
    tool_call("[" * 100_000, "extract_statements"),
    tool_call(None, "extract_statements"),
    choosing("A"),
]


@pytest.mark.parametrize("name", ["ContextRecall", "ContextPrecision", "ContextRelevancy", "Faithfulness", "ClosedQA"])
@pytest.mark.parametrize("reply", UNREADABLE)
def test_an_unreadable_reply_is_unscored_and_never_zero(name: str, reply: Completion) -> None:
    found = cell(autoevals(scorer=name), "x", judge=ScriptedJudge(lambda text: reply))
    assert (found.state, found.cause, found.value) == ("unscored", "judge", None)


def test_a_reply_without_statements_is_unscored() -> None:
    nothing = ScriptedJudge(lambda text: tool_call('{"statements": [], "faithfulness": []}', "x"))
    assert cell(autoevals(scorer="Faithfulness"), "x", judge=nothing).state == "unscored"
    assert cell(autoevals(scorer="ContextRecall"), "x", judge=nothing).state == "unscored"


@pytest.mark.parametrize("name", JUDGED)
def test_a_failed_call_of_a_judge_is_an_error_and_not_retried(name: str) -> None:
    judge = ScriptedJudge(lambda text: Failure("rate_limit", "429 after 5 tries", 429))
    found = cell(autoevals(scorer=name), "x", judge=judge, model=ScriptedModel() if name in WITH_MODEL else None)
    assert (found.state, found.cause, found.reason) == ("error", "rate_limit", "429 after 5 tries")
    assert len(judge.asked) <= 3  # AnswerRelevancy asks for three questions at once


@pytest.mark.parametrize("name", WITH_MODEL)
def test_a_failed_call_of_a_model_is_an_error(name: str) -> None:
    model = ScriptedModel()
    model.failure = Failure("server", "503", 503)
    found = cell(autoevals(scorer=name), "x", judge=RandomJudge(3), model=model)
    assert (found.state, found.cause) == ("error", "server")


def test_no_embedding_stays_in_the_memory_of_the_package() -> None:
    from autoevals import EmbeddingSimilarity

    before = dict(EmbeddingSimilarity._CACHE)
    for name in WITH_MODEL:
        cell(autoevals(scorer=name), OUTPUT, judge=RandomJudge(1), model=ScriptedModel())
    assert before == EmbeddingSimilarity._CACHE


def test_a_missing_column_is_known_before_the_first_call_and_a_blank_one_skips_the_row() -> None:
    check = autoevals(scorer="Faithfulness").function.check
    assert check(ROW) is None
    assert check(Sample("1", "q", (), {"contxt": "x"})) == (
        "needs 'context', but there is no column 'context'; did you mean 'contxt'?"
    )
    assert "name it with columns: {context: COLUMN}, or give context: …" in (check(Sample("1", "q")) or "")
    judge = RandomJudge(1)
    blank = Sample("1", "q", (), {"context": " "})
    assert cell(autoevals(scorer="Faithfulness"), "x", blank, judge) == Cell("skipped", reason="no context")
    assert judge.asked == []
    named = autoevals(scorer="Faithfulness", columns={"context": "passage"})
    assert named.function.check(Sample("1", "q", (), {"passage": "x"})) is None
    assert autoevals(scorer="Faithfulness", context="always this").function.check(Sample("1", "q")) is None


def test_no_other_host_is_contacted_even_with_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a socket was opened: {args[1:]}")

    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-sent-anywhere")
    monkeypatch.setenv("BRAINTRUST_API_KEY", "not-to-be-sent-either")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in (*JUDGED, *WITH_MODEL, *LOCAL):
        judge, model = RandomJudge(2), ScriptedModel()
        found = cell(autoevals(scorer=name), OUTPUT, judge=judge, model=model if name in WITH_MODEL else None)
        assert found.state == ("skipped" if name == "NumericDiff" else "scored"), (name, found)
        assert "sk-not-to-be-sent-anywhere" not in repr(judge.asked)


def test_the_reference_lists_every_scorer_with_what_it_asks_and_needs() -> None:
    import re
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "reference" / "scorers.md").read_text(encoding="utf-8")
    section = text.split("\n## autoevals\n")[1].split("\n| option |")[0]
    rows = {line.split("|")[1].strip(" `"): line.split("|") for line in section.splitlines() if line.startswith("| `")}
    assert set(rows) == set(scorer_classes())
    for entry in entries():
        _, _, score, asks, needs, *_ = rows[entry.name]
        asked = [word for word, does in (("judge", entry.asks_judge), ("model", entry.asks_model)) if does]
        assert asks.strip() == ", ".join(asked)
        assert set(re.findall(r"`(\w+)`", needs)) == set(entry.needs), entry.name
        assert score.strip().startswith("0 or 1") == entry.binary, entry.name


@pytest.mark.parametrize("name", sorted({*JUDGED, *WITH_MODEL}))
def test_hostile_texts_reach_a_judge_and_break_nothing(name: str) -> None:
    entry = find_entry(name, {})
    made = autoevals(scorer=name)
    rng = random.Random(f"hostile texts {name}")
    texts = [*(text for text in HOSTILE if len(text) < 10_000), *(random_text(rng) for _ in range(10))]
    for number, output in enumerate(texts):
        other = rng.choice(texts)
        row = Sample("1", other, (other,), {"context": other, "criteria": other, "language": other})
        judge = RandomJudge(number) if entry.asks_judge else None
        found = cell(made, output, row, judge, ScriptedModel() if entry.asks_model else None)
        assert found.state in ("scored", "unscored", "skipped"), (output, other, found)
        assert found.value is None or 0 <= found.value <= 1
        if judge is not None and found.value is not None and name in ("ClosedQA", "Humor", "Security"):
            assert output in judge.asked[0]["messages"][0]["content"]
