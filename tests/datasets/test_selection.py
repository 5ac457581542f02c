"""offset, sample with by, named ids and shards: which samples a dataset has, always the same ones."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from evalrunner.datasets.resolve import open_dataset
from evalrunner.datasets.selection import SampleSelection, Shard, Subset, proportional_shares, shard_number
from evalrunner.domain import Sample
from evalrunner.errors import SuiteError
from evalrunner.suite.schema import DatasetSpec
from tests.datasets.reading import HERE, SPOOL, inputs, problems, write


def rows(count: int) -> str:
    topics = ["law", "art", "law", "tax", "law", "art"]
    made = [{"id": f"q{n}", "input": str(n), "topic": topics[n % 6], "n": n} for n in range(count)]
    return write("qa.jsonl", "".join(json.dumps(row) + "\n" for row in made))


def read(shard: Shard | None = None, named: SampleSelection | None = None, **spec: object) -> list[Sample]:
    source = open_dataset(
        DatasetSpec(path="qa.jsonl", **spec), folder=HERE, spool_folder=SPOOL, subset=Subset(named=named, shard=shard)
    )
    scan = source.scan(lambda sample: ())
    result = list(source)
    assert scan.count == len(result) and result == list(source)
    assert [sample.index for sample in result] == list(range(len(result)))
    return result


def test_offset_leaves_out_the_first_samples_before_the_limit() -> None:
    rows(10)
    assert inputs("qa.jsonl", offset=7) == ["7", "8", "9"]
    assert inputs("qa.jsonl", offset=3, limit=2) == ["3", "4"]
    assert inputs("qa.jsonl", offset=1, limit=2, where={"topic": "law"}) == ["2", "4"]
    shuffled = inputs("qa.jsonl", shuffle=5)
    assert inputs("qa.jsonl", shuffle=5, offset=4, limit=3) == shuffled[4:7]
    assert problems("qa.jsonl", offset=10) == [
        "dataset.offset: is 10, which leaves none of 10 samples; use a smaller one"
    ]


def test_parts_by_offset_and_limit_are_the_whole() -> None:
    rows(25)
    parts = [inputs("qa.jsonl", shuffle=3, offset=start, limit=10) for start in (0, 10, 20)]
    assert [item for part in parts for item in part] == inputs("qa.jsonl", shuffle=3)


def test_a_stratified_sample_keeps_the_shares_of_every_value() -> None:
    rows(600)
    chosen = read(sample=60, by="topic")
    assert Counter(sample.metadata["topic"] for sample in chosen) == {"law": 30, "art": 20, "tax": 10}
    assert [sample.metadata["n"] for sample in chosen] == sorted(sample.metadata["n"] for sample in chosen)
    assert read(sample=60, by="topic") == chosen
    assert {one.id for one in read(sample=60, by="topic", sample_seed=1)} != {one.id for one in chosen}


def test_a_sample_of_more_than_there_are_is_everything() -> None:
    rows(7)
    assert len(read(sample=50, by="topic")) == 7
    assert len(read(sample=5)) == 5


def test_samples_combine_with_where_shuffle_offset_and_limit() -> None:
    rows(60)
    laws = read(sample=10, where={"topic": "law"})
    assert {sample.metadata["topic"] for sample in laws} == {"law"} and len(laws) == 10
    shuffled = read(sample=10, where={"topic": "law"}, shuffle=2)
    assert {one.id for one in shuffled} == {one.id for one in laws} and shuffled != laws
    assert [one.id for one in read(sample=10, where={"topic": "law"}, shuffle=2, offset=3, limit=4)] == [
        one.id for one in shuffled[3:7]
    ]


def test_a_column_to_sample_by_must_have_values() -> None:
    rows(6)
    assert problems("qa.jsonl", sample=3, by="subject") == ["dataset.by: no sample has a value in the column 'subject'"]


@pytest.mark.parametrize("wanted", range(1, 14))
def test_shares_add_up_and_differ_by_less_than_one_from_the_exact_ones(wanted: int) -> None:
    sizes = {"a": 1, "b": 5, "c": 7}
    shares = proportional_shares(sizes, wanted)
    assert sum(shares.values()) == wanted
    assert all(abs(shares[group] - size * wanted / 13) < 1 for group, size in sizes.items())


def test_every_sample_is_in_exactly_one_shard() -> None:
    rows(500)
    whole = read(shuffle=1, limit=333)
    parts = [read(Shard(number, 8), shuffle=1, limit=333) for number in range(1, 9)]
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in whole)
    for part in parts:  # in the order of the whole
        ids = {one.id for one in part}
        assert [one.id for one in part] == [one.id for one in whole if one.id in ids]


def test_the_shard_of_an_id_never_changes() -> None:
    assert {id: shard_number(id, 8) for id in ("q0", "q1", "q2", "Ω")} == {"q0": 8, "q1": 3, "q2": 5, "Ω": 7}


def test_a_sample_without_an_id_stays_in_its_shard_when_others_are_added() -> None:
    write("qa.jsonl", "".join(json.dumps({"input": str(n)}) + "\n" for n in range(40)))
    before = {one.input for one in read(Shard(1, 3))}
    write("qa.jsonl", "".join(json.dumps({"input": str(n)}) + "\n" for n in range(-5, 40)))
    assert before == {one.input for one in read(Shard(1, 3))} - {str(n) for n in range(-5, 0)}


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "a/b", "1/0", "-1/2", "", "2/8/3"])
def test_texts_that_are_no_shard_are_refused(text: str) -> None:
    with pytest.raises(SuiteError, match="from 1/8 to 8/8"):
        Shard.parse(text)


def test_named_samples_are_used_and_unknown_ones_named() -> None:
    rows(20)
    wanted = SampleSelection(frozenset({"q3", "q11"}), "were named")
    assert [one.id for one in read(named=wanted)] == ["q3", "q11"]
    with pytest.raises(SuiteError, match="--rows: no sample 'qq3' in qa.jsonl; did you mean 'q3'?"):
        read(named=SampleSelection(frozenset({"q11", "qq3"}), "were named"))
