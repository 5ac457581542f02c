"""Images, audio and files in prompts: what a server gets, what is refused before the first call, and what is kept."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Failure
from evalrunner.errors import SuiteError
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.options import RunOptions
from tests.fakes.command import evalrun
from tests.fakes.server import Answer, ScriptedServer

WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(24)
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
ASK = [{"text": "{{ input }}"}, {"image": "{{ file }}"}]


def png(color: tuple[int, int, int], side: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = b"".join(b"\0" + bytes(color) * side for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


RED, GREEN, BLUE = png((255, 0, 0)), png((0, 255, 0)), png((0, 0, 255))
PICTURES = {"red": RED, "green": GREEN, "blue": BLUE}


def decoded(part: Mapping[str, Any]) -> bytes | str:
    """The bytes of an attachment as a server gets them, or the text of a part."""
    if part["type"] == "text":
        return str(part["text"])
    if part["type"] == "input_audio":
        return base64.b64decode(part["input_audio"]["data"], validate=True)
    uri = part["image_url"]["url"] if part["type"] == "image_url" else part["file"]["file_data"]
    if not uri.startswith("data:"):
        return str(uri)
    return base64.b64decode(uri.partition(";base64,")[2], validate=True)


def look(request: Mapping[str, Any], nth: int) -> Answer:
    """Names the color of the last picture, by its bytes."""
    content = request["messages"][-1]["content"]
    seen = [name for part in content for name, data in PICTURES.items() if decoded(part) == data]
    return Answer(seen[-1] if seen else "nothing")


@pytest.fixture
def data() -> Path:
    folder = Path("data/img")
    folder.mkdir(parents=True)
    for name, content in PICTURES.items():
        (folder / f"{name}.png").write_bytes(content)
    Path("data/q.csv").write_text(
        "id,file,input,expected\n" + "".join(f"{n},img/{n}.png,Color?,{n}\n" for n in PICTURES)
    )
    return folder


def write(server: ScriptedServer | None, content: Any = ASK, **keys: Any) -> Path:
    url = server.base_url if server is not None else "http://127.0.0.1:9/v1"
    suite = {
        "name": "vision", "dataset": "data/q.csv", "target": {"model": "m", "base_url": url},
        "prompt": [{"system": "One word."}, {"user": content}], "scorers": ["exact_match"], "run": {"retries": 0}, **keys,
    }  # fmt: skip
    Path("suite.yaml").write_text(json.dumps({name: item for name, item in suite.items() if item is not None}))
    return Path("suite.yaml")


def run(server: ScriptedServer, content: Any = ASK, **keys: Any) -> evalrunner.SuiteResult:
    return evalrunner.run_suite(write(server, content, **keys))


def refused(content: Any = ASK, **keys: Any) -> str:
    with pytest.raises(SuiteError) as raised:
        evalrunner.run_suite(write(None, content, **keys))
    return str(raised.value)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("data")
def test_each_request_has_the_bytes_of_its_own_image() -> None:
    with ScriptedServer(look) as server:
        result = run(server, [{"text": "{{ input }}"}, {"image": "{{ file }}", "detail": "low"}])
        sent = [request.json["messages"] for request in server.requests]
    assert {row.sample.id: row.answer.text for row in read_rows(result.folder)} == {name: name for name in PICTURES}
    assert [message[0] for message in sent] == [{"role": "system", "content": "One word."}] * 3
    image = sent[0][1]["content"][1]["image_url"]
    assert image["url"].startswith("data:image/png;base64,") and image["detail"] == "low"


@pytest.mark.usefixtures("data")
def test_a_run_keeps_path_type_size_and_digest_and_never_the_bytes() -> None:
    with ScriptedServer(look) as server:
        result = run(server)
    row = next(row for row in read_rows(result.folder) if row.sample.id == "red")
    (_, user) = row.answer.messages
    assert user["content"][0] == {"type": "text", "text": "Color?"}
    part = dict(user["content"][1])
    digest = part.pop("sha256")
    assert len(digest) == 64
    assert part == {"type": "image", "path": "data/img/red.png", "media_type": "image/png", "bytes": len(RED)}
    kept = b"".join(path.read_bytes() for path in result.folder.rglob("*") if path.is_file() and path.suffix != ".html")
    assert base64.b64encode(RED)[:60] not in kept and RED not in kept


def test_audio_files_data_uris_and_urls_are_sent_in_openai_format(data: Path) -> None:
    (data / "a.wav").write_bytes(WAV)
    (data / "d.pdf").write_bytes(PDF)
    (data / "n.txt").write_text("Übung", encoding="utf-8")
    uri = "data:image/png;base64," + base64.b64encode(BLUE).decode()
    url = "https://pictures.example/cat.png?x=1"
    content = [
        "Look:",
        {"audio": "img/a.wav"},
        {"file": "img/d.pdf"},
        {"file": "img/n.txt"},
        {"image": uri},
        {"image": url},
    ]
    with ScriptedServer(lambda request, nth: Answer("ok")) as server:
        result = run(server, content)
        parts = server.requests[0].json["messages"][1]["content"]
    assert [decoded(part) for part in parts] == ["Look:", WAV, PDF, "Übung".encode(), BLUE, url]
    assert parts[1]["input_audio"]["format"] == "wav"
    assert parts[2]["file"]["filename"] == "d.pdf" and parts[2]["file"]["file_data"].startswith("data:application/pdf;")
    row = next(read_rows(result.folder))
    assert "path" not in row.answer.messages[1]["content"][4]


@pytest.mark.usefixtures("data")
def test_messages_as_openai_has_them_are_read_from_a_file() -> None:
    content = [{"type": "text", "text": "{{ input }}"}, {"type": "image_url", "image_url": {"url": "{{ file }}"}}]
    Path("prompt.json").write_text(json.dumps([{"role": "user", "content": content}]))
    with ScriptedServer(look) as server:
        result = run(server, prompt={"file": "prompt.json"})
    assert all(row.cells["exact_match"].value == 1 for row in read_rows(result.folder))


def test_what_is_wrong_with_a_file_is_said_before_the_first_call(data: Path) -> None:
    (data / "x.svg").write_bytes(SVG)
    (data / "fake.png").write_bytes(b"GIF89a" + bytes(10))
    (data / "empty.png").write_bytes(b"")
    (data / "big.png").write_bytes(RED + bytes(21 * 2**20))
    Path("secret.png").write_bytes(RED)
    (data / "link.png").symlink_to("/etc/hostname")
    wrong = {
        "gone": "was not found in 'data'", "x.svg": "is image/svg+xml by its content, not PNG, JPEG, GIF or WebP",
        "empty.png": "has 0 bytes", "big.png": "at most 20 MB", "link.png": "leads out of", "../../../x.png": "leads out of",
    }  # fmt: skip
    lines = [f"{number},img/{name},Color?,red" for number, name in enumerate(wrong)]
    Path("data/q.csv").write_text("\n".join(["id,file,input,expected", *lines]))
    done = evalrun(str(write(None)))
    text = " ".join(done.stderr.split())
    assert done.returncode == 2, text
    assert "nothing was called" in text
    for number, (name, why) in enumerate(wrong.items(), 2):
        assert f"data/q.csv:{number}: the image 'img/{name}'" in text
        assert why in text and f"(sample '{number - 2}')" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([{"image": ""}], "is empty"),
        ([{"image": "{{ file }}", "audio": "x"}], "write each as an entry of its own"),
        ([{"imag": "{{ file }}"}], "did you mean 'image'"),
        ([{"image": "{{ file }}", "detail": "lo"}], "auto, low, high"),
        ([{"type": "input_audio", "input_audio": {}}], "{audio: PATH}"),
        ([{"text": "x", "detail": "low"}], "detail"),
        ([], "is empty; add a part"),
        ([3], "a part is {text: …}"),
        ([{"image": "{{ env.HOME }}"}], "templates cannot read environment variables"),
        ([{"image": "{{ fil }}"}], "'fil'"),
        ([{"audio": "https://sounds.example/a.wav"}], "only images by URL"),
        ([{"image": "ftp://pictures.example/a.png"}], "neither a path nor"),
        ([{"image": "https://user:pw@pictures.example/a.png"}], "no URL with a plain host"),
        ([{"image": "data:image/png;base64,@@@"}], "not valid base64"),
        ([{"audio": "{{ file }}"}], "is image/png by its content, not WAV or MP3; write {image: …}"),
    ],
)
@pytest.mark.usefixtures("data")
def test_a_wrong_part_is_refused_with_the_reason(content: Any, why: str) -> None:
    assert why in refused(content)


@pytest.mark.usefixtures("data")
def test_attachments_are_for_user_messages() -> None:
    assert "user messages only" in refused(prompt=[{"system": ASK}, {"user": "x"}])


@pytest.mark.usefixtures("data")
def test_the_embedded_model_takes_text_only_and_litellm_no_urls() -> None:
    assert "takes text only" in refused(target="local/smollm2-135m-instruct")
    pytest.importorskip("litellm")
    url = refused([{"image": "https://pictures.example/a.png"}], target="anthropic/claude-x")
    assert "LiteLLM may fetch on this machine" in url


@pytest.mark.usefixtures("data")
def test_hosts_that_a_suite_does_not_allow_are_refused_in_urls() -> None:
    limits = {"run": {"allow_hosts": ["127.0.0.1:9"]}}
    assert "pictures.example" in refused([{"image": "https://pictures.example/a.png"}], **limits)


@pytest.mark.usefixtures("data")
def test_a_cost_limit_is_refused_with_attachments() -> None:
    prices = {"m": {"input": 1, "output": 1}}
    keys = {"prices": prices, "params": {"max_tokens": 5}, "run": {"max_cost": 1}}
    assert "a part of type 'image' is not bounded" in refused(**keys)


def test_a_changed_image_is_another_prompt_for_cache_and_resume(data: Path) -> None:
    with ScriptedServer(look) as server:
        keys = {"run": {"retries": 0, "cache": "all"}}
        first = run(server, **keys)
        run(server, **keys)
        assert server.calls == 3
        (data / "red.png").write_bytes(BLUE)
        again = run(server, **keys)
        assert server.calls == 4
        assert next(r for r in read_rows(again.folder) if r.sample.id == "red").answer.text == "blue"
        with pytest.raises(SuiteError, match="images, audio or files that prompts attach changed"):
            evalrunner.run_suite(options=RunOptions(resume=str(first.folder)))
        (data / "red.png").write_bytes(RED)
        evalrunner.run_suite(options=RunOptions(resume=str(first.folder)))


def test_a_file_that_changes_while_a_run_goes_on_is_an_error_of_its_row(data: Path) -> None:
    def script(request: Mapping[str, Any], nth: int) -> Answer:
        (data / "blue.png").write_bytes(GREEN) if nth == 1 else None
        return look(request, nth)

    with ScriptedServer(script) as server:
        result = run(server, run={"retries": 0, "concurrency": 1})
        rows = {row.sample.id: row for row in read_rows(result.folder)}
    assert rows["green"].answer.text == "green"
    # the prompt is made when its turn comes: with the new content, unless it was made before
    blue = rows["blue"].answer
    assert (isinstance(blue, Failure) and "has changed" in blue.message) or blue.text == "green"


def test_shots_attach_the_files_beside_their_own_data(data: Path) -> None:
    Path("train").mkdir()
    Path("train/one.png").write_bytes(GREEN)
    Path("train/t.jsonl").write_text(json.dumps({"id": "t", "file": "one.png", "input": "Color?", "expected": "green"}))
    with ScriptedServer(look) as server:
        run(server, prompt=[{"shots": {"path": "train/t.jsonl", "n": 1}}, {"user": ASK}])
        messages = server.requests[0].json["messages"]
    assert decoded(messages[0]["content"][1]) == GREEN
    assert messages[1] == {"role": "assistant", "content": "green"}
    assert decoded(messages[2]["content"][1]) in PICTURES.values()


def test_an_image_is_in_a_conversation_once(data: Path) -> None:
    row = {"id": "c", "file": "img/red.png", "turns": ["What is it?", "And the color?"], "expected": "red"}
    Path("data/t.jsonl").write_text(json.dumps(row))
    with ScriptedServer(lambda request, nth: Answer("red")) as server:
        run(
            server,
            dataset={"path": "data/t.jsonl", "columns": {"input": "turns"}},
            turns="turns",
            prompt=[{"user": ASK}],
        )
        last = server.requests[-1].json["messages"]
    assert [message["role"] for message in last] == ["user", "assistant", "user"]
    assert decoded(last[0]["content"][1]) == RED
    assert last[2]["content"] == [{"type": "text", "text": "And the color?"}]


@pytest.mark.usefixtures("data")
def test_prompts_of_a_matrix_attach_each_their_own_and_epochs_repeat_them() -> None:
    prompts = {"text": "{{ id }} {{ input }}", "image": [{"user": ASK}]}
    with ScriptedServer(lambda request, nth: Answer("red")) as server:
        run(server, prompt=None, prompts=prompts, run={"retries": 0, "epochs": 2})
        contents = [request.json["messages"][0]["content"] for request in server.requests]
    assert sum(isinstance(content, str) for content in contents) == 6
    assert sorted(decoded(content[1]) for content in contents if isinstance(content, list)) == sorted(
        [*PICTURES.values()] * 2
    )


@pytest.mark.usefixtures("data")
def test_shards_with_attachments_merge() -> None:
    lines = [f"{n},img/{color},Color?,{color[:-4]}" for n, color in enumerate(["red.png", "green.png", "blue.png"] * 4)]
    Path("data/q.csv").write_text("\n".join(["id,file,input,expected", *lines]))
    with ScriptedServer(look) as server:
        suite = write(server)
        parts = [evalrunner.run_suite(suite, options=RunOptions(shard=f"{n}/2")).folder for n in (1, 2)]
    done = evalrun("merge", *map(str, parts))
    assert done.returncode == 0, done.stderr
    Path("data/img/red.png").write_bytes(BLUE)
    changed = evalrun("merge", *map(str, parts))
    assert changed.returncode == 2 and "attach changed" in changed.stderr


@pytest.mark.usefixtures("data")
def test_the_plan_says_that_attachments_are_not_counted() -> None:
    done = evalrun("plan", str(write(None)), "--show", "1")
    text = " ".join(done.stdout.split())
    assert "images, audio and files are not counted" in text
    assert f"[image: data/img/red.png, image/png, {len(RED)} bytes, sha256 " in text
    assert "about 11 prompt tokens" in text  # of 'One word.' and 'Color?', three times


@pytest.mark.usefixtures("data")
def test_a_part_that_only_looks_like_a_reference_is_not_read_from_disk() -> None:
    Path("secret.txt").write_text("geheim")
    digest = "0" * 64
    part = {"type": "file", "path": "secret.txt", "media_type": "text/plain", "bytes": 6, "sha256": digest}
    rows = [{"id": "a", "messages": [{"role": "user", "content": [part]}], "expected": "x"}]
    with ScriptedServer(lambda request, nth: Answer("x")) as server:
        run(server, prompt=None, dataset={"rows": rows})
        assert server.requests[0].json["messages"][0]["content"] == [part]


def test_untrusted_suites_attach_no_hidden_files_and_name_no_hosts(data: Path) -> None:
    Path("data/.hidden.png").write_bytes(RED)
    hidden = evalrun(str(write(None, [{"image": ".hidden.png"}])), "--untrusted", "--allow-host", "127.0.0.1:9")
    assert hidden.returncode == 2 and "is hidden" in " ".join(hidden.stderr.split())
    linked = evalrun(
        str(write(None, [{"image": "https://pictures.example/a.png"}])), "--untrusted", "--allow-host", "127.0.0.1:9"
    )
    assert linked.returncode == 2 and "--allow-host pictures.example" in " ".join(linked.stderr.split())
