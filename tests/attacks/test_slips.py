"""Options of security as people mistype them: each is accepted as meant, or refused with the way to write it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.attacks.counts import Attacks
from tests.attacks.test_canary import command

LINES = [json.loads(line) for line in Path(__file__).with_name("slips.jsonl").read_text().splitlines()]
SECRET = "hunter42Secret"
SUITE = """
name: s
dataset: {rows: [{id: a, input: hi, expected: ok}]}
target: {model: m, base_url: "http://127.0.0.1:9/v1", api_key: x}
scorers: [contains]
"""


def test_a_mistyped_option_is_refused_with_the_way_to_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attacks: Attacks
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SUITE)
    for line in LINES:
        args = line.get("command") or ["validate", "s.yaml", *line["args"]]
        done = command(*args)
        text = " ".join((done.out + done.err).split())
        faults = [] if done.code == line.get("code", 2) else [f"exit code {done.code}: {text}"]
        faults += [] if line.get("says", "") in text else [f"says {text}"]
        attacks.add(" ".join(args), [*faults, *([f"repeats a secret: {text}"] if SECRET in text else [])])
    attacks.check()
