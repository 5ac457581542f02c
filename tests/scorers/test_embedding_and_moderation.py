"""Scorers that ask a model for embeddings and moderation: values, caching, costs, and where texts and keys go."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request, Sample
from evalrunner.endpoints.openai_replies import read_embeddings, read_moderations
from evalrunner.engine.model_session import ModelSession, TextMemory
from evalrunner.engine.sanity_check import SanityCheck
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.call import BoundScorer, call_async
from evalrunner.scorers.embedding import EmbeddingSimilarity, cosine, embedding_similarity
from evalrunner.scorers.moderation import moderation
from tests.cases.suites import command
from tests.fakes.server import Action, ScriptedServer, Status
from tests.scorers.scorer_calls import HOSTILE

KEY = "sk-embed-0123456789abcdef"
VECTORS: Mapping[str, Sequence[float]] = {"Paris": [1, 0], "It is Paris": [3, 4], "Rome": [-2, 0], "Lyon": [0, 5]}


def embed(request: Any, nth: int) -> Action:
    """A server that embeds the texts of VECTORS, in 7 tokens each."""
    data = [{"index": i, "embedding": VECTORS[text]} for i, text in enumerate(request["input"])]
    return Status(200, {"model": request["model"], "data": data, "usage": {"prompt_tokens": 7 * len(data)}})


def moderate(request: Any, nth: int) -> Action:
    """A server that flags the texts with `kill` in them, as OpenAI's."""
    results = [
        {
            "flagged": "kill" in text,
            "categories": {"violence": "kill" in text, "hate/threatening": False},
            "category_scores": {"violence": 0.875 if "kill" in text else 0.125, "hate/threatening": 0.25},
        }
        for text in request["input"]
    ]
    return Status(200, {"id": "m", "model": "omni-moderation-latest", "results": results})


def suite(rows: Sequence[Mapping[str, Any]], scorers: Sequence[Any], **keys: Any) -> str:
    Path("s.yaml").write_text(
        json.dumps(
            {
                "name": "s", "dataset": {"rows": rows}, "target": {"type": "recorded", "column": "answer"},
                "scorers": scorers, **keys,
            }
        )
    )  # fmt: skip
    return "s.yaml"


def latest() -> Path:
    return max(Path("runs").rglob("run.json"), key=lambda path: path.stat().st_mtime_ns).parent


def cells(scorer: str) -> dict[str, Any]:
    return {row.sample.id: row.cells[scorer] for row in read_rows(latest())}


def asked(server: ScriptedServer) -> Counter[str]:
    return Counter(text for request in server.requests for text in request.json["input"])


CAPITALS = (
    {"id": "same", "input": "?", "expected": "Paris", "answer": "Paris"},
    {"id": "near", "input": "?", "expected": ["Lyon", "Paris"], "answer": "It is Paris"},
    {"id": "opposite", "input": "?", "expected": "Paris", "answer": "Rome"},
    {"id": "none", "input": "?", "answer": "Rome"},
)


def similarity(server: ScriptedServer, **keys: Any) -> dict[str, Any]:
    model = {"model": "embedder", "base_url": server.base_url, **keys}
    return {"type": "embedding_similarity", "name": "similarity", "model": model}


@pytest.mark.parametrize("cache", ["off", "all"])
def test_embedding_similarity_is_the_cosine_to_the_nearest_answer_and_sends_each_text_once(cache: str) -> None:
    with ScriptedServer(embed) as server:
        done = command("run", suite(CAPITALS, [similarity(server, params={"dimensions": 2})], cache=cache))
    assert done.code == 0, done.err
    found = cells("similarity")
    # by hand: Paris = (1, 0); It is Paris = (3, 4)/5: 3/5 to Paris and 4/5 to Lyon = (0, 1); Rome = (-1, 0)
    assert {name: cell.value for name, cell in found.items()} == {
        "same": 1.0, "near": pytest.approx(0.8), "opposite": -1.0, "none": None
    }  # fmt: skip
    assert (found["near"].detail, found["none"].state) == ({"nearest": "Lyon"}, "skipped")
    assert asked(server) == Counter(["Paris", "It is Paris", "Lyon", "Rome"])  # not the row without an expected answer
    assert {(request.path, request.json["dimensions"]) for request in server.requests} == {("/v1/embeddings", 2)}
    assert Counter(call.cached for cell in found.values() for call in cell.calls) == {False: 4, True: 2}
    record = json.loads((latest() / "run.json").read_text())["judges"]["similarity"]
    assert (record["role"], record["model"], record["usage"]["calls"]) == ("model", "embedder", 4)
    assert record["usage"]["input_tokens"] == 4 * 7
    assert "model of similarity: 4 calls" in command("show", str(latest()), "-v").out + done.out


def test_cached_embeddings_are_not_paid_for_again_by_a_later_run() -> None:
    with ScriptedServer(embed) as server:
        file = suite(CAPITALS, [similarity(server)])
        assert command("run", file).code == 0
        assert command("run", file).code == 0
        assert server.calls == 4
        assert {name: cell.value for name, cell in cells("similarity").items()}["near"] == pytest.approx(0.8)


def test_value_replaces_the_accepted_answers() -> None:
    with ScriptedServer(embed) as server:
        file = suite(CAPITALS, [{**similarity(server), "value": ["Lyon", "Rome"]}])
        assert command("run", file).code == 0
    assert {name: round(cell.value, 9) for name, cell in cells("similarity").items()} == {
        "same": 0.0, "near": 0.8, "opposite": 1.0, "none": 1.0
    }  # fmt: skip


def test_transient_failure_of_the_model_is_retried_and_a_lasting_one_is_an_error_of_the_cell() -> None:
    def script(request: Any, nth: int) -> Action:
        if request["input"] == ["Rome"]:
            return Status(400, {"error": {"message": "I do not embed Rome"}})
        return Status(500, "busy", {"retry-after": "0"}) if nth == 1 else embed(request, nth)

    with ScriptedServer(script) as server:
        done = command("run", suite(CAPITALS, [similarity(server)], run={"concurrency": 1}))
    found = cells("similarity")
    assert (found["same"].value, found["opposite"].state, found["opposite"].cause) == (1.0, "error", "bad_request")
    assert "I do not embed Rome" in str(found["opposite"].reason) and done.code == 0
    record = json.loads((latest() / "run.json").read_text())["judges"]["similarity"]
    assert record["usage"]["failures"] == 2


def test_equal_texts_in_flight_wait_for_one_call_and_a_failure_is_asked_again() -> None:
    sent: list[str] = []

    async def endpoint(request: Request, /) -> Completion | Failure:
        sent.append(request.texts[0])
        await asyncio.sleep(0.01)
        if request.texts[0] == "broken" and sent.count("broken") == 1:
            return Failure("server", "busy")
        return Completion("", data=[[float(len(request.texts[0])), 1.0]])

    bound = BoundScorer.bind("s", embedding_similarity(value="Paris"))
    session = ModelSession(bound, endpoint, "m", "m", "h", SanityCheck(bound), "x", "off")

    async def both(text: str) -> list[Any]:
        models = [session.for_row("1"), session.for_row("2")]
        return [await asyncio.gather(*[model.embed([text, "Paris"]) for model in models]), models]  # type: ignore[attr-defined]

    (one, other), models = asyncio.run(both("answer"))
    assert [list(vector) for vector in one] == [list(vector) for vector in other] == [[6.0, 1.0], [5.0, 1.0]]
    assert Counter(sent) == {"answer": 1, "Paris": 1}
    assert [[call.cached for call in model.calls] for model in models] == [[False, False], [True, True]]
    (one, other), _ = asyncio.run(both("broken"))
    assert isinstance(one, Failure) and not isinstance(other, Failure) and sent.count("broken") == 2


def test_memory_of_vectors_is_bounded() -> None:
    sent: list[str] = []

    async def endpoint(request: Request, /) -> Completion | Failure:
        sent.append(request.texts[0])
        return Completion("", data=[[1.0] * 10])

    bound = BoundScorer.bind("s", embedding_similarity())
    session = ModelSession(bound, endpoint, "m", "m", "h", SanityCheck(bound), "x", "off")
    session.memory = TextMemory(limit=50)

    async def all_of() -> None:
        for text in ("a", "b", "c", "d", "e", "a", "f", "a", "b"):
            await session.result_of("embed", text, "")

    asyncio.run(all_of())
    assert sent == ["a", "b", "c", "d", "e", "f", "b"]  # f drops b, which was not used for longest
    assert session.memory.size <= 50 and len(session.memory.results) == 5


def test_cosine_of_vectors_without_a_direction_or_of_other_lengths_is_a_failure() -> None:
    assert isinstance(cosine([0.0, 0.0], [1.0, 0.0]), Failure)
    assert isinstance(cosine([1.0], [1.0, 0.0]), Failure)
    assert cosine([1e-300, 0.0], [1e300, 0.0]) == 1.0  # no square of which is a float
    assert cosine([0.1] * 3000, [0.1] * 3000) == 1.0
    assert cosine([1.0, 2.0, 3.0], [-2.0, 0.5, 4.0]) == pytest.approx(11 / math.sqrt(14 * 20.25))


def test_reply_with_numbers_that_are_no_floats_is_malformed() -> None:
    for vector in ([10**400], [True], [], ["1"], [math.nan], {"0": 1}):
        answer = read_embeddings({"data": [{"embedding": vector}]}, texts=1)
        assert isinstance(answer, Failure) and answer.kind == "malformed", vector


def test_moderation_is_1_for_what_the_model_flags_and_the_categories_are_detail() -> None:
    rows = [{"id": "fine", "input": "?", "answer": "hello"}, {"id": "bad", "input": "?", "answer": "kill them"}]
    with ScriptedServer(moderate) as server:
        model = {"model": "omni-moderation-latest", "base_url": server.base_url}
        scorers = [
            {"type": "moderation", "model": model},
            {"type": "moderation", "name": "hate", "category": "hate/threatening", "model": model},
            {"type": "moderation", "name": "strict", "min_score": 0.2, "model": model},
            {"type": "moderation", "name": "unknown", "category": "violense", "model": model},
        ]
        done = command("run", suite(rows, scorers, gates=["moderation <= 0.9"]))
    assert {name: cell.value for name, cell in cells("moderation").items()} == {"fine": 0.0, "bad": 1.0}
    assert cells("moderation")["bad"].detail == {
        "flagged": ["violence"], "scores": {"violence": 0.875, "hate/threatening": 0.25}, "explanation": "flagged: violence"
    }  # fmt: skip
    assert {name: cell.value for name, cell in cells("hate").items()} == {"fine": 0.0, "bad": 0.0}
    assert cells("strict")["fine"].detail["flagged"] == ["hate/threatening"]
    unknown = cells("unknown")["fine"]
    assert unknown.state == "error" and "no category 'violense'" in unknown.reason and "violence" in unknown.reason
    assert server.requests[0].path == "/v1/moderations" and done.code == 0


@pytest.mark.parametrize("flagged", [True, False])
def test_categories_of_mistral_flag_a_text_without_a_verdict_of_the_whole(flagged: bool) -> None:
    result = {
        "category_scores": {"sexual": 0.0003, "hate_and_discrimination": 0.02, "pii": 0.91},
        "categories": {"sexual": False, "hate_and_discrimination": False, "pii": flagged},
    }
    data = {"id": "4d71ae510af942108ef7344f903e2b88", "model": "mistral-moderation-latest", "results": [result]}
    answer = read_moderations(data, texts=1)
    assert isinstance(answer, Completion) and answer.data == [{**result, "flagged": flagged}]

    async def endpoint(request: Request, /) -> Completion | Failure:
        return answer

    bound = BoundScorer.bind("m", moderation())
    session = ModelSession(bound, endpoint, "m", "m", "h", SanityCheck(bound), "x", "off")
    cell = asyncio.run(call_async(bound, Sample("1", "?"), Completion("call 555-0100"), session.for_row("1")))
    assert (cell.value, cell.detail["flagged"]) == (float(flagged), ["pii"] if flagged else [])  # type: ignore[index]


@pytest.mark.parametrize(
    "results", [[{}], [{"categories": {}}], [{"categories": {"a": 1}}], [{"flagged": "no"}], [None]]
)
def test_moderation_without_a_verdict_is_malformed(results: Any) -> None:
    answer = read_moderations({"results": results}, texts=1)
    assert isinstance(answer, Failure) and answer.kind == "malformed"


@pytest.mark.parametrize(
    ("scorer", "problem"),
    [
        ("embedding_similarity", "asks a model; name it"),
        ({"type": "embedding_similarity", "model": "local/smollm2-135m-instruct"}, "only chats"),
        ({"type": "embedding_similarity", "model": {"base_url": "http://127.0.0.1:9"}}, "needs 'model'"),
        ({"type": "embedding_similarity", "model": {"model": "m", "base_url": "http://127.0.0.1:9/v1", "modle": 1}}, "modle"),
        ({"type": "embedding_similarity", "model": "m", "value": " "}, "value is empty"),
        ({"type": "moderation", "model": "m", "min_score": 0}, "should be above 0"),
        ({"type": "exact_match", "model": "m"}, "does not use a model"),
        ({"type": "python", "function": "own.py:both", "judge": {"model": "j", "base_url": "http://127.0.0.1:9/v1"}}, "asks a model; name it"),
        ({"type": "python", "function": "own.py:both", "model": "openai/m"}, "needs a judge"),
        ({"type": "python", "function": "own.py:plain"}, "should be an `async def`"),
    ],
)  # fmt: skip
def test_wrong_model_of_a_scorer_is_an_error_of_the_suite_before_the_first_call(scorer: Any, problem: str) -> None:
    Path("own.py").write_text("async def both(output, judge, model): ...\ndef plain(output, model): ...\n")
    done = command("run", suite(CAPITALS, [scorer]))
    assert done.code == 2 and problem in done.err, done.err
    assert "s.yaml:1:" in done.err


def test_user_defined_scorer_asks_a_model_if_it_names_one_without_a_default() -> None:
    Path("own.py").write_text(
        "async def length(output, model):\n    (vector,) = await model.embed([output])\n    return sum(vector)\n\n"
        "def plain(output, model='none'):\n    return model == 'none'\n"
    )
    with ScriptedServer(embed) as server:
        model = {"model": "embedder", "base_url": server.base_url}
        own = {"type": "python", "function": "own.py:length", "model": model}
        done = command("run", suite(CAPITALS, [own, {"type": "python", "function": "own.py:plain"}]))
    assert done.code == 0, done.err
    assert (cells("length")["near"].value, cells("plain")["near"].value) == (7.0, 1.0)


def test_plan_estimates_the_calls_of_the_model_and_a_cap_holds_without_a_length_of_answers() -> None:
    model = {"model": "embedder", "base_url": "http://127.0.0.1:9/v1", "prices": {"input": 20.0, "output": 0}}
    file = suite(CAPITALS, [{"type": "embedding_similarity", "model": model}], run={"max_cost": 1})
    done = command("plan", file, "--offline")
    assert done.code == 0, done.err
    # 3 answers, 1 + 2 + 1 accepted answers
    assert "model of embedding_similarity: 7 calls, about 10 prompt tokens" in done.out, done.out
    assert "embedding_similarity/v1/mean; model embedder at http://127.0.0.1:9/v1" in done.out


def test_cost_of_embeddings_counts_against_the_cap() -> None:
    with ScriptedServer(embed) as server:
        scorer = similarity(server, prices={"input": 1_000_000, "output": 0})  # 7 dollars a text
        done = command("run", suite(CAPITALS, [scorer], run={"max_cost": 90, "concurrency": 1}))
    assert 0 < server.calls < 4, done.out
    assert (
        json.loads((latest() / "run.json").read_text())["judges"]["similarity"]["usage"]["cost_usd"] == 7 * server.calls
    )


def test_endpoint_list_names_the_host_and_the_key_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_KEY", KEY)
    model = {"model": "e", "base_url": "https://embed.example/v1", "api_key": "${EMBED_KEY}"}
    file = suite(CAPITALS, [{"type": "embedding_similarity", "name": "similarity", "model": model}])
    done = command("plan", file, "--endpoints")
    assert "https://embed.example" in done.out and "for: model of similarity" in done.out
    assert "EMBED_KEY (api_key)" in done.out and KEY not in done.out
    limited = suite(CAPITALS, [{"type": "embedding_similarity", "model": model}], run={"allow_hosts": ["a.example"]})
    done = command("run", limited)
    assert done.code == 2 and "embed.example" in done.err and not Path("runs").exists()
    file = suite(CAPITALS, [{"type": "embedding_similarity", "model": {**model, "api_key": "x"}}])
    done = command("run", file, "--untrusted")
    assert done.code == 2 and "contacts embed.example, which --untrusted refuses" in done.err


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_key_of_the_model_reaches_no_file_and_no_message(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_KEY", KEY)

    def script(request: Any, nth: int) -> Action:
        if status == 200:
            return embed(request, nth)
        sent = server.requests[-1].headers["authorization"]
        return Status(status, {"error": {"message": f"the key {sent} is wrong"}})

    with ScriptedServer(script) as server:
        scorer = similarity(server, api_key="${EMBED_KEY}", headers={"x-token": "${EMBED_KEY}"})
        file = suite(CAPITALS, [scorer], run={"retries": 0})
        done = command("run", file, "-o", "report.html", "-o", "rows.csv", "-v")
    assert (
        server.requests[0].headers["authorization"]
        == f"Bearer {KEY}"
        == "Bearer " + server.requests[0].headers["x-token"]
    )
    assert KEY not in done.out + done.err
    for path in Path().rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    Path("s.yaml").write_text(Path("s.yaml").read_text().replace("${EMBED_KEY}", KEY))
    with ScriptedServer(script) as server:
        Path("s.yaml").write_text(
            json.dumps({**json.loads(Path("s.yaml").read_text()), "scorers": [similarity(server, api_key=KEY)]})
        )
        command("run", "s.yaml")
    for path in Path("runs").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_redirect_of_the_model_is_refused_and_sends_no_key_elsewhere() -> None:
    with ScriptedServer(embed) as other:

        def script(request: Any, nth: int) -> Action:
            return Status(307, "", {"location": f"{other.base_url}/embeddings"})

        with ScriptedServer(script) as server:
            command("run", suite(CAPITALS, [similarity(server, api_key=KEY)], run={"retries": 0}))
    cell = cells("similarity")["same"]
    assert (cell.state, other.calls) == ("error", 0) and "redirect" in cell.reason


def test_resumed_run_asks_only_for_the_texts_that_are_missing() -> None:
    def script(request: Any, nth: int) -> Action:
        return Status(400, {"error": {"message": "not now"}}) if request["input"] == ["Rome"] else embed(request, nth)

    with ScriptedServer(script) as server:
        file = suite(CAPITALS, [similarity(server)])
        command("run", file)
        before = asked(server)
        server.script = embed
        done = command("run", "--resume", str(latest()), "--retry-errors")
        assert done.code == 0, done.err
        assert asked(server) - before == Counter(["Rome"])
    assert cells("similarity")["opposite"].value == -1.0


def test_function_of_the_scorer_skips_blank_accepted_answers() -> None:
    class Never:
        model = "never"

        async def embed(self, texts: Sequence[str]) -> Failure:
            raise AssertionError("nothing to embed")

    outcome = asyncio.run(EmbeddingSimilarity()("an output", (" ", ""), Never()))  # type: ignore[arg-type]
    assert getattr(outcome, "reason", "") == "the expected answer is blank"


def test_hostile_replies_of_a_model_give_a_score_in_range_or_an_error_and_reach_the_disk() -> None:
    categories = {f"{text[:100]}{i}": i % 2 == 0 for i, text in enumerate(HOSTILE * 50)}
    replies: list[Any] = [
        {"flagged": True, "categories": categories, "category_scores": dict.fromkeys(categories, 10**400)},
        {"flagged": False, "categories": {"a": 5, "b": None, "c": [1]}, "category_scores": {"a": "high", "b": True}},
        {"flagged": True, "categories": "all", "category_scores": None},
        {"flagged": True},
    ]
    data = [json.dumps({"results": [reply]}) for reply in replies]  # half surrogates as escapes
    data += [
        json.dumps({"data": [{"embedding": vector}]})
        for vector in ([0, 0], [1e308] * 9, [5e-324, 0], [1] * 9, [-1, 10**300])
    ]
    order = iter(data)

    def script(request: Any, nth: int) -> Action:
        return Status(200, next(order), {"content-type": "application/json"})

    with ScriptedServer(script) as server:
        rows = [{"id": str(i), "input": "?", "expected": "a", "answer": f"b{i}"} for i in range(len(replies))]
        scorer = {"type": "moderation", "model": {"model": "m", "base_url": server.base_url}}
        file = suite(rows, [scorer], run={"concurrency": 1})
        done = command("run", file, "-o", "report.html", "-o", "table.csv")
        assert "Traceback" not in done.err + done.out
        found = cells("moderation")
        assert [found[str(i)].value for i in range(4)] == [1.0, 0.0, 1.0, 1.0], found
        assert len(json.dumps(found["0"].detail)) < 50_000
        rows = [{"id": "z", "input": "?", "expected": ["a", "b"], "answer": "c"}]
        command("run", suite(rows, [similarity(server)], run={"concurrency": 1}))
        assert cells("similarity")["z"].state == "error"
