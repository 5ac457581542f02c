"""Datasets of the Hugging Face hub, through its client, from a hub of our own."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from evalrunner.datasets.hub_files import NoSuchPartError, choose_split, find_splits, match_files
from tests.fakes.command import evalrun
from tests.fakes.data_hub import DataHub, Repository, data_hub

ROWS = [{"question": f"q{number}", "answer": str(number), "output": str(number)} for number in range(6)]
COLUMNS = {"input": "question", "expected": "answer"}


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


def lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


QUIZ = Repository(
    "me/quiz",
    {
        "main": {"README.md": b"#", "quiz.py": b"raise SystemExit(9)", "data/test.jsonl": lines(ROWS[:1])},
        "v1": {
            "data/dev.csv": b"question,answer,output\nold,1,1\n",
            "data/test.csv": b"question,answer,output\nolder,1,0\n",
        },
        "refs/convert/parquet": {
            "default/test/0000.parquet": parquet(ROWS[:3]),
            "default/test/0001.parquet": parquet(ROWS[3:]),
            "default/train/0000.parquet": parquet(ROWS),
        },
    },
)
CLOSED = Repository("me/closed", {"main": {"test.jsonl": lines(ROWS)}}, access="private")
GATED = Repository("me/gated", {"main": {"test.jsonl": lines(ROWS)}}, access="gated")
CODE = Repository("me/code", {"main": {"code.py": b"raise SystemExit(9)", "README.md": b"#"}})
CARD = Repository(
    "me/card",
    {"main": {"a/x.jsonl": lines(ROWS[:2]), "b/y.jsonl": lines(ROWS[:3]), "b/z-test.jsonl": lines(ROWS[:4])}},
    {"configs": [
        {"config_name": "small", "data_files": "a/*.jsonl"},
        {"config_name": "large", "data_dir": "b", "data_files": [{"split": "dev", "path": "y.jsonl"},
                                                                 {"split": "test", "path": ["z-*.jsonl"]}]},
    ]},
)  # fmt: skip
PARTIAL = Repository(
    "me/big",
    {
        "main": {"big.jsonl": lines(ROWS)},
        "refs/convert/parquet": {"default/partial-train/0000.parquet": parquet(ROWS[:1])},
    },
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    monkeypatch.chdir(tmp_path)
    with data_hub(QUIZ, CLOSED, GATED, CODE, CARD, PARTIAL, storage_host="localhost") as hub:
        yield hub


def write(dataset: Mapping[str, Any], file: str = "s.yaml", **suite: Any) -> None:
    whole = {
        "name": "s",
        "dataset": {"columns": COLUMNS, **dataset},
        "target": {"type": "recorded", "column": "output"},
        "scorers": ["exact_match"],
        "run": {"allow_hosts": ["127.0.0.1", "localhost"]},
        **suite,
    }
    Path(file).write_text(json.dumps(whole), encoding="utf-8")


def run(
    hub: DataHub, dataset: Mapping[str, Any], *args: str, env: Mapping[str, str] | None = None, **suite: Any
) -> Any:
    write(dataset, **suite)
    return evalrun(*args, "s.yaml", env=hub.env(Path.cwd(), **(env or {})))


def record() -> dict[str, Any]:
    newest = max(Path("runs/s").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text(encoding="utf-8"))


def test_a_split_is_read_at_a_commit_and_no_code_is_run(hub: DataHub) -> None:
    done = run(hub, {"path": "hf://me/quiz", "split": "test"})
    assert done.returncode == 0 and "6 samples" in done.stdout, done.stderr
    commit = QUIZ.commit("refs/convert/parquet")
    assert record()["dataset_from"] == {"hub": "hf://me/quiz", "commit": commit, "config": "default", "split": "test"}
    assert [one.path.rpartition("/")[2] for one in hub.asked if one.server == "storage"] == [
        "0000.parquet",
        "0001.parquet",
    ]
    assert not any(path.endswith(".py") for path in hub.paths())
    del hub.asked[:]
    pinned = run(hub, {"path": f"hf://me/quiz@{commit}", "split": "test"})
    assert pinned.returncode == 0 and hub.asked == []  # everything of this commit is cached
    offline = run(hub, {"path": "hf://me/quiz", "split": "test"}, env={"HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 0 and "6 samples" in offline.stdout and hub.asked == []


def test_a_limit_leaves_later_files_where_they_are(hub: DataHub) -> None:
    assert "2 samples" in run(hub, {"path": "hf://me/quiz", "split": "test", "limit": 2}).stdout
    assert [one.path.rpartition("/")[2] for one in hub.asked if one.server == "storage"] == ["0000.parquet"]


def test_a_revision_means_the_files_of_the_repository(hub: DataHub) -> None:
    assert run(hub, {"path": "hf://me/quiz@main"}).returncode == 0
    assert record()["dataset_from"]["commit"] == QUIZ.commit("main")
    done = run(hub, {"path": "hf://me/quiz@v1", "split": "validation"})
    assert "exact_match   1.000" in done.stdout
    assert "exact_match   0.000" in run(hub, {"path": "hf://me/quiz@v1", "files": "data/t*.csv"}).stdout
    assert "1 sample " in run(hub, {"path": "hf://me/quiz", "files": ["**/*.jsonl"]}).stdout


@pytest.mark.parametrize(
    ("dataset", "samples"),
    [
        ({"path": "hf://me/card", "config": "small"}, 2),
        ({"path": "hf://me/card", "config": "large", "split": "dev"}, 3),
        ({"path": "hf://datasets/me/card", "config": "large", "split": "test"}, 4),
        ({"path": "hf://me/big"}, 6),  # the hub has converted only its beginning
    ],
)
def test_the_card_says_what_a_config_is(hub: DataHub, dataset: dict[str, Any], samples: int) -> None:
    done = run(hub, dataset)
    assert f"{samples} samples" in done.stdout, done.stderr


MISTAKES = [
    ({"path": "hf://me/quiz"}, "several splits; name one with split: test, train"),
    ({"path": "hf://me/quiz", "split": "tset"}, "has no split 'tset'; it has: test, train"),
    ({"path": "hf://me/quiz", "split": "test[:10]"}, "use limit"),
    ({"path": "hf://me/card"}, "several configs; name one with config: small, large"),
    ({"path": "hf://me/card", "config": "huge"}, "has no config 'huge'; it has: small, large"),
    ({"path": "hf://me/quiz@v9"}, "does not have the revision 'v9'"),
    ({"path": "hf://me/none"}, "the hub has no dataset 'me/none', or it is private: check the name; set HF_TOKEN"),
    ({"path": "hf://me/closed"}, "or it is private"),
    ({"path": "hf://me/gated"}, "access to it is restricted: ask for it at http"),
    ({"path": "hf://me/code"}, "code of a dataset is not run"),
    ({"path": "hf://quiz"}, "write hf://owner/name"),
    ({"path": "hf://me/quiz", "files": "x/*.csv"}, "has no file 'x/*.csv'; its data files: data/test.jsonl"),
    ({"path": "hf://me/quiz", "files": "x", "split": "test"}, "files cannot be combined with config and split"),
    ({"path": "hf://me/quiz", "splt": "test"}, "did you mean 'split'"),
    ({"path": "hf://me/quiz", "split": ["test"]}, "dataset.split"),
]


def test_what_is_not_there_is_said_before_the_first_call(hub: DataHub) -> None:
    files = [f"s{number}.yaml" for number in range(len(MISTAKES))]
    for file, (dataset, _) in zip(files, MISTAKES, strict=True):
        write(dataset, file)
    done = evalrun(*files, env=hub.env(Path.cwd()))
    assert done.returncode == 2 and not Path("runs").exists()
    told = {file: [line for line in done.stderr.splitlines() if f"{file}:" in line] for file in files}
    wrong = [
        (dataset, told[file])
        for file, (dataset, words) in zip(files, MISTAKES, strict=True)
        if words not in " ".join(told[file])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["me/closed", "me/gated"])
def test_the_token_goes_to_the_hub_only_and_into_no_file(hub: DataHub, name: str) -> None:
    assert run(hub, {"path": f"hf://{name}"}, env={"HF_TOKEN": hub.token}).returncode == 0
    assert run(hub, {"path": "hf://me/quiz", "split": "test"}, env={"HF_TOKEN": hub.token}).returncode == 0
    assert {one.token for one in hub.asked if one.server == "hub"} == {f"Bearer {hub.token}"}
    assert {one.token for one in hub.asked if one.server == "storage"} == {None}
    written = [path for path in Path().rglob("*") if path.is_file() and hub.token.encode() in path.read_bytes()]
    assert written == []


def test_hosts_of_the_hub_are_listed_and_obey_the_policy(hub: DataHub) -> None:
    dataset = {"path": "hf://me/quiz", "split": "test"}
    listed = run(hub, dataset, "plan", "--endpoints", env={"HF_TOKEN": hub.token})
    assert hub.address in listed.stdout and "HF_TOKEN" in listed.stdout and hub.asked == []
    refused = run(hub, dataset, run={"allow_hosts": ["api.openai.com"]})
    assert refused.returncode == 2 and "is not among the hosts" in refused.stderr and hub.asked == []
    storage = run(hub, dataset, run={"allow_hosts": ["127.0.0.1"]})
    assert storage.returncode == 2 and "localhost" in storage.stdout + storage.stderr
    unlisted = run(hub, dataset, run={})
    assert unlisted.returncode == 2 and "allow that host in run.allow_hosts" in unlisted.stdout + unlisted.stderr
    assert {one.server for one in hub.asked} == {"hub"}


def test_an_untrusted_suite_needs_the_host_and_gets_neither_login_nor_cache(hub: DataHub) -> None:
    dataset = {"path": "hf://me/closed"}
    assert run(hub, dataset, env={"HF_TOKEN": hub.token}).returncode == 0
    del hub.asked[:]
    refused = run(hub, dataset, "run", "--untrusted", env={"HF_TOKEN": hub.token})
    assert refused.returncode == 2 and "--allow-host 127.0.0.1:" in refused.stderr and hub.asked == []
    allowed = ("run", "--untrusted", "--allow-host", "127.0.0.1", "--allow-host", "localhost")
    closed = run(hub, dataset, *allowed, env={"HF_TOKEN": hub.token})
    assert closed.returncode == 2 and "--allow-env HF_TOKEN" in closed.stderr
    assert {one.token for one in hub.asked} == {None}
    offline = run(hub, dataset, *allowed, env={"HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 2 and "reads no caches" in offline.stderr
    assert run(hub, {"path": "hf://me/quiz", "split": "test"}, *allowed).returncode == 0


def test_a_resumed_run_reads_the_commit_of_its_start(hub: DataHub) -> None:
    target = {"type": "python", "function": "app.py:answer"}
    Path("app.py").write_text(
        "import os\n\ndef answer(input):\n    if input == 'q4' and os.environ.get('DOWN'):\n        raise OSError('down')\n    return input[1:]\n"
    )
    dataset = {"path": "hf://me/quiz", "split": "test"}
    first = run(hub, dataset, target=target, env={"DOWN": "1"})
    assert "1 row with errors" in first.stdout
    hub.repositories["me/quiz"] = Repository("me/quiz", {
        **QUIZ.branches, "refs/convert/parquet": {"other/test/0000.parquet": parquet(ROWS[:1])}, "old": QUIZ.branches["refs/convert/parquet"],
    })  # fmt: skip
    done = evalrun("--resume", "last", "--retry-errors", env=hub.env(Path.cwd()))
    assert done.returncode == 0 and "exact_match   1.000" in done.stdout, done.stderr + done.stdout
    assert record()["dataset_from"]["commit"] == QUIZ.commit("refs/convert/parquet")


def test_a_download_may_have_a_limited_size(hub: DataHub) -> None:
    noise = os.urandom(2**20).hex()
    hub.repositories["me/large"] = Repository("me/large", {"main": {"t.jsonl": lines([{**ROWS[0], "noise": noise}])}})
    refused = run(hub, {"path": "hf://me/large", "max_download_mb": 1})
    assert refused.returncode == 2 and "more than 1 MiB to download" in refused.stdout + refused.stderr
    assert run(hub, {"path": "hf://me/large", "max_download_mb": 3}).returncode == 0


def test_a_cache_of_another_tool_is_used_offline(hub: DataHub, tmp_path: Path) -> None:
    commit = "0123456789" * 4
    folder = tmp_path / "hf/hub/datasets--me--copied"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(commit)
    (folder / f"snapshots/{commit}/data").mkdir(parents=True)
    part = folder / f"snapshots/{commit}/data/test-00000-of-00002.jsonl"
    part.write_bytes(lines(ROWS[:2]))
    lacking = run(hub, {"path": "hf://me/copied"}, env={"HF_HUB_OFFLINE": "1"})
    assert lacking.returncode == 2 and "only 1 of the 2 parts" in lacking.stderr
    part.with_name("test-00001-of-00002.jsonl").write_bytes(lines(ROWS[2:]))
    done = run(hub, {"path": "hf://me/copied"}, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0 and "6 samples" in done.stdout and hub.asked == []
    absent = run(hub, {"path": "hf://me/absent"}, env={"HF_HUB_OFFLINE": "1"})
    assert absent.returncode == 2 and "copy HF_HOME" in absent.stderr


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], {"train": 1, "test": 1}),
        (["validation.csv", "dev.csv", "train.csv"], {"validation": 2, "train": 1}),
        (["test/a.jsonl", "test/b.jsonl", "LICENSE", "README.md", "test/dataset_infos.json"], {"test": 2}),
        (["questions.jsonl.gz"], {"train": 1}),
        (["latest.csv", "contest.csv"], {"train": 2}),  # words, not letters
        (["test.parquet", "test.csv"], {"test": 1}),  # two formats of the same rows
        ([".hidden/test.csv", "x.py"], {}),
    ],
)
def test_names_of_files_tell_the_split(names: list[str], splits: dict[str, int]) -> None:
    assert {one.split: len(one.names) for one in find_splits(names, {})} == splits


def test_a_missing_part_is_told_and_patterns_stay_in_their_folder() -> None:
    names = ["data/test-00000-of-00003.parquet", "data/test-00002-of-00003.parquet"]
    with pytest.raises(NoSuchPartError, match="only 2 of the 3 parts"):
        choose_split(find_splits(names, {}), None, None, None)
    files = ["a.csv", "x/a.csv", "x/y/a.csv"]
    assert match_files(files, ["*.csv"]) == ("a.csv",)
    assert match_files(files, ["x/*.csv"]) == ("x/a.csv",)
    assert match_files(files, ["**/*.csv"]) == tuple(files)
    assert match_files(files, ["x"]) == ("x/a.csv", "x/y/a.csv")
