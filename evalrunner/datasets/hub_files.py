"""Which files of a repository at the hub hold a split of a dataset. Names and the card decide; nothing is run.

Three layouts are read: that of the hub's own conversion to Parquet (`CONFIG/SPLIT/0000.parquet`), `configs:` in the card of
the dataset, and names with a split in them (`data/test-00000-of-00001.parquet`, `dev.jsonl`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

KINDS: Final = ("parquet", "jsonl", "json", "csv", "tsv")  # formats of data files, by preference
ALIASES: Mapping[str, str] = {"ndjson": "jsonl"}
NO_DATA: Final = frozenset(
    {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json", "croissant.json"}
)
CONVERTED = re.compile(r"(?P<config>[^/]+)/(?P<partial>partial-)?(?P<split>[^/]+)/\d{4,}\.parquet")
PART = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})(?=\.|-[0-9a-f]{16}\.)")
SPLIT_WORDS: Mapping[str, str] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "dev": "validation", "val": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
WORD = re.compile(rf"(?<![a-z0-9])({'|'.join(SPLIT_WORDS)})(?![a-z0-9])")
DEFAULT: Final = "default"
MAX_LISTED: Final = 20


class NoSuchPartError(ValueError):
    """A config, split or file that a repository does not have. The message is the rest of a sentence about it."""


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of a split. `partial`: the hub has converted only its beginning."""

    config: str
    split: str
    names: tuple[str, ...]
    partial: bool = False


def kind_of(name: str) -> str | None:
    """The format of a data file by its name; text formats may be packed as `.gz`."""
    lowered = name.lower()
    extension = PurePosixPath(lowered.removesuffix(".gz")).suffix.removeprefix(".")
    kind = ALIASES.get(extension, extension)
    return kind if kind in KINDS and not (kind == "parquet" and lowered.endswith(".gz")) else None


def data_files(names: Iterable[str]) -> list[str]:
    """The files of a repository that have rows by their names."""
    return [
        name
        for name in names
        if kind_of(name) is not None
        and PurePosixPath(name).name not in NO_DATA
        and not any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)
    ]


def find_splits(names: Iterable[str], card: Any) -> list[SplitFiles]:
    """All splits of a repository, by the first layout that fits."""
    files = data_files(names)
    return _converted(files) or list(_of_card(files, card)) or _by_name(files)


def choose_split(
    splits: Sequence[SplitFiles], config: str | None, split: str | None, default: str | None
) -> SplitFiles:
    """The split of these names. A name that is not given is the only one, or the default config. Raises NoSuchPartError."""
    configs = list(dict.fromkeys(one.config for one in splits))
    if config is None:
        config = configs[0] if len(configs) == 1 else default if default in configs else None
        config = DEFAULT if config is None and DEFAULT in configs else config
    if config is None:
        raise NoSuchPartError(f"has several configs; name one with config: {_listed(configs)}")
    if config not in configs:
        raise NoSuchPartError(f"has no config {config!r}; it has: {_listed(configs)}")
    known = [one for one in splits if one.config == config]
    names = [one.split for one in known]
    if split is None and len(known) > 1:
        raise NoSuchPartError(f"has several splits; name one with split: {_listed(names)}")
    found = next((one for one in known if split is None or one.split == split), None)
    if found is None:
        advice = "; for a part of a split use limit, offset or sample" if "[" in str(split) else ""
        of = f" in the config {config!r}" if len(configs) > 1 else ""
        raise NoSuchPartError(f"has no split {split!r}{of}; it has: {_listed(names)}{advice}")
    check_whole(found.names)
    return found


def match_files(names: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The files that patterns name, in their order. Raises NoSuchPartError for a pattern without a file."""
    listed = list(names)
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in listed if matches(name, pattern)]
        if not matching:
            known = data_files(listed)
            raise NoSuchPartError(f"has no file {pattern!r}; its data files: {_listed(known)}")
        found.update(dict.fromkeys(sorted(matching)))
    check_whole(found)
    return tuple(found)


def check_whole(names: Iterable[str]) -> None:
    """Raises NoSuchPartError if a file is missing whose siblings say how many there are."""
    counts: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if (match := PART.search(name)) is not None:
            counts.setdefault((name[: match.start()], int(match["count"])), set()).add(int(match["number"]))
    for (stem, count), numbers in counts.items():
        if len(numbers) < count:
            raise NoSuchPartError(f"has only {len(numbers)} of the {count} parts of {stem!r}")


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches: `*` within a folder, `**` across folders, a folder with all that is in it."""
    if name == pattern or name.startswith(pattern.rstrip("/") + "/"):
        return True
    steps = fnmatch.translate(pattern.replace("**/", "\0").replace("**", "\1").replace("*", "\2"))
    regex = steps.replace("\\\0", "\0").replace("\0", "(?:.*/)?").replace("\1", ".*").replace("\2", "[^/]*")
    return re.fullmatch(regex, name) is not None


def default_config(card: Any) -> str | None:
    """The config that the card declares as the default."""
    return next((str(one.get("config_name")) for one in _configs(card) if one.get("default") is True), None)


def _converted(files: Sequence[str]) -> list[SplitFiles]:
    """The splits of a conversion; empty if a file is none of one."""
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for name in files:
        if (match := CONVERTED.fullmatch(name)) is None:
            return []
        groups.setdefault((match["config"], match["split"], match["partial"] is not None), []).append(name)
    return [SplitFiles(*key[:2], tuple(sorted(group)), key[2]) for key, group in groups.items()]


def _configs(card: Any) -> list[Mapping[str, Any]]:
    given = card.get("configs") if isinstance(card, Mapping) else None
    return [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []


def _of_card(files: Sequence[str], card: Any) -> Iterator[SplitFiles]:
    """The splits that the card of a dataset declares, as far as their files can be read."""
    for config in _configs(card):
        name = str(config.get("config_name") or DEFAULT)
        folder = str(config.get("data_dir") or "").strip("/.")
        inside = [file for file in files if not folder or file.startswith(folder + "/")]
        if config.get("data_files") is None:
            yield from (SplitFiles(name, one.split, one.names) for one in _by_name(inside))
            continue
        for split, patterns in _declared(config["data_files"]):
            under = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
            found = sorted(file for file in inside if any(matches(file, pattern) for pattern in under))
            if found:
                yield SplitFiles(name, split, tuple(found))


def _declared(data: Any) -> Iterator[tuple[str, list[str]]]:
    """Splits with their patterns: one pattern, a list of them, a mapping, or a list of `{split, path}`."""
    if isinstance(data, Mapping):
        yield from ((str(split), _texts(paths)) for split, paths in data.items())
        return
    items = data if isinstance(data, list) else [data]
    for item in items:
        if isinstance(item, Mapping):
            yield str(item.get("split") or "train"), _texts(item.get("path"))
    if plain := _texts(items):
        yield "train", plain


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item.removeprefix("./") for item in items if isinstance(item, str)]


def _by_name(files: Sequence[str]) -> list[SplitFiles]:
    """The splits by words in the names of files, else of folders; one split `train` if no name has such a word.

    Of several formats the first of `KINDS` is used: they usually have the same rows.
    """
    kind = next((kind for kind in KINDS if any(kind_of(name) == kind for name in files)), None)
    groups: dict[str, list[str]] = {}
    chosen = sorted(name for name in files if kind_of(name) == kind)
    for name in chosen:
        words = [word for part in reversed(PurePosixPath(name.lower()).parts) for word in WORD.findall(part)]
        if words:
            groups.setdefault(SPLIT_WORDS[words[0]], []).append(name)
    if not groups and chosen:
        groups["train"] = chosen
    return [SplitFiles(DEFAULT, split, tuple(names)) for split, names in groups.items()]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return (", ".join(names[:MAX_LISTED]) or "none") + more
