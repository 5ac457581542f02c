"""Datasets with an address in place of a path, as files with the name that they have in messages."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evalrunner.datasets.hub import HubDataset, choose_files, open_hub
from evalrunner.datasets.web import DownloadError, check_url, download, file_name, public_url
from evalrunner.domain import EMPTY
from evalrunner.egress import Address, Destination, EgressPolicy
from evalrunner.suite.data_address import HUB_TOKENS, address_of, contacted_url, hub_url, is_hub
from evalrunner.suite.schema import Suite

MAX_DOWNLOAD_MB: Final = 2048
MAX_UNTRUSTED_MB: Final = 256
SHA256 = re.compile(r"(?:sha256[:-])?(?P<digest>[0-9a-fA-F]{64})")
HUB_STORAGE: Final = "https://*.hf.co"  # the hub redirects downloads there


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms data is fetched: into `folder`, from hosts of `policy`.

    `pinned` is what an earlier process of the same run has read, which is read again. `trusted`: the user's login and
    cache may be used.
    """

    folder: Path
    policy: EgressPolicy
    pinned: Mapping[str, str] = EMPTY
    trusted: bool = True

    def max_mb(self, given: int) -> int:
        """The size that may be downloaded. Raises ValueError for a number that is none."""
        if given < 1:
            raise ValueError(f"max_download_mb is {given}; it should be 1 or more")
        return given if self.trusted else min(given, MAX_UNTRUSTED_MB)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file with its name in messages. `fetch` gets it once it is needed; its name tells the format."""

    name: str
    display_name: str
    fetch: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class RemoteDataset:
    """The files of a dataset; `origin` says exactly what was read."""

    files: tuple[RemoteFile, ...]
    origin: Mapping[str, str]


def web_dataset(
    address: str, terms: Terms, /, *, sha256: str | None = None, max_download_mb: int = MAX_DOWNLOAD_MB
) -> RemoteDataset:
    """A file on a web server, downloaded now. Raises ValueError.

    Args:
        sha256: With an address: the sha256 of the file, in hex; another file is an error.
        max_download_mb: With an address: maximum size of what is downloaded, in MiB.
    """
    shown = public_url(address)
    digest = None if sha256 is None else SHA256.fullmatch(sha256.strip())
    if sha256 is not None and digest is None:
        raise ValueError(f"sha256 is {sha256!r}; it should be the 64 hex digits that sha256sum prints")
    try:
        check_url(address)
        name = file_name(address)
        whole = download(
            address, terms.folder, name=_plain(name), max_mb=terms.max_mb(max_download_mb), policy=terms.policy
        )
    except DownloadError as refused:
        raise ValueError(f"{shown!r} {refused}") from None
    wanted = digest["digest"].lower() if digest is not None else None
    if wanted not in (None, whole.sha256):
        raise ValueError(
            f"{shown!r} has the sha256 {whole.sha256}, not {wanted}; if the new content is right, set that in dataset.sha256"
        )
    known = terms.pinned.get("sha256") if terms.pinned.get("url") == shown else None
    if known not in (None, whole.sha256):
        raise ValueError(f"{shown!r} has changed since the run began: its sha256 was {known}; start a new run")
    return RemoteDataset((RemoteFile(name, shown, lambda: whole.file),), {"url": shown, "sha256": whole.sha256})


def hub_dataset(
    address: str,
    terms: Terms,
    /,
    *,
    config: str | None = None,
    split: str | None = None,
    files: str | tuple[str, ...] | None = None,
    max_download_mb: int = MAX_DOWNLOAD_MB,
) -> RemoteDataset:
    """A dataset of the Hugging Face hub. Raises ValueError.

    Args:
        config: With hf://: the configuration of the dataset, also called its subset.
        split: With hf://: the split, such as test.
        files: With hf://: files of the repository, in place of config and split; patterns may have * and **.
        max_download_mb: With an address: maximum size of what is downloaded, in MiB.
    """
    if files is not None and (config is not None or split is not None):
        raise ValueError("files cannot be combined with config and split; keep one of them")
    pinned = terms.pinned if terms.pinned.get("hub") == address else EMPTY
    dataset, revision = open_hub(
        address,
        policy=terms.policy,
        max_mb=terms.max_mb(max_download_mb),
        pinned=pinned.get("commit"),
        trusted=terms.trusted,
    )
    patterns = (files,) if isinstance(files, str) else files
    if patterns is None and pinned:
        config, split = config or pinned.get("config"), split or pinned.get("split")
    chosen = choose_files(dataset, revision, config=config, split=split, files=patterns)
    label = f"hf://{dataset.name}@{chosen.commit[:8]}"
    parts = {"config": chosen.config, "split": chosen.split}
    return RemoteDataset(
        tuple(
            RemoteFile(
                name, f"{label}/{name}", functools.partial(_fetch, dataset, chosen.commit, name, chosen.sizes[name])
            )
            for name in chosen.names
        ),
        {"hub": address, "commit": chosen.commit, **{key: value for key, value in parts.items() if value}},
    )


def _fetch(dataset: HubDataset, commit: str, name: str, size: int | None) -> Path:
    return dataset.fetch(commit, name, size)


def source_of(address: str) -> Callable[..., RemoteDataset]:
    """What opens an address. Its keyword-only parameters are options of the dataset."""
    return hub_dataset if is_hub(address) else web_dataset


def data_destinations(suite: Suite, trackers: Mapping[str, Any]) -> Iterator[Destination]:
    """The host of a dataset with an address, and the storage of the hub."""
    spec = suite.dataset
    address = None if spec.type is not None and ":" in spec.type else address_of(spec)
    if address is None or (url := contacted_url(address)) is None:
        return
    try:
        host = str(Address.of(url))
    except ValueError:
        host = public_url(url)
    if not is_hub(address):
        yield Destination(host, "dataset", (), spec.key_path)
        return
    yield Destination(host, "dataset", tuple(name for name in HUB_TOKENS if os.environ.get(name)), spec.key_path)
    if hub_url().endswith("//huggingface.co"):
        yield Destination(HUB_STORAGE, "dataset", (), spec.key_path)


def _plain(name: str) -> str:
    """A file name on this machine with the same extensions; it is only read by its format."""
    return re.sub(r"[^\w.-]", "_", name)[-100:].lstrip(".") or "data"
