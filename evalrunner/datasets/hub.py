"""Datasets of the Hugging Face hub: `hf://owner/name[@revision]`, at one commit, file by file. No code of theirs is run.

The rows are read from the hub's own conversion to Parquet, or from the data files of the repository. Files come through
the cache of the hub's client. What a commit has is kept there too, so that a run needs no request for a known commit.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import quote

from evalrunner.datasets.hub_files import (
    NoSuchPartError,
    SplitFiles,
    choose_split,
    default_config,
    find_splits,
    match_files,
)
from evalrunner.datasets.records import MIB, InvalidRecord, Reader, Record
from evalrunner.egress import Address, EgressPolicy, HostPattern
from evalrunner.errors import MissingExtraError
from evalrunner.redact import redact_message
from evalrunner.storage import replacing
from evalrunner.suite.data_address import HUB_SCHEME, HUB_TOKENS, hub_url, is_offline

if TYPE_CHECKING:
    import httpx

REFERENCE = re.compile(r"(?:datasets/)?(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@\s]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
CONVERSION: Final = "refs/convert/parquet"
MAIN: Final = "main"
STORAGE: Final = ("*.hf.co", "*.huggingface.co")  # where the hub's files are
TIMEOUT_S: Final = 20.0
SILENCE_S: Final = 60.0  # of a download, without a byte
KEPT: Final = "evalrun"  # folder in the cache of a repository, for listings
ENV_BEFORE_IMPORT: Mapping[str, str] = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",  # a protocol with hosts and connections of its own
}
ENV_DEFAULTS: Mapping[str, str] = {"HF_HUB_VERBOSITY": "error"}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository has at a commit: file names to sizes, and the card as far as it says which files are what."""

    commit: str
    files: Mapping[str, int | None]
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class HubFile:
    """A reader of a file that is downloaded when its first row is read; a limit may end a dataset before."""

    fetch: Callable[[], Path]
    open: Callable[[Path], Reader]
    display_name: str
    text_only: bool = False
    file: Path | None = None

    def __call__(self) -> Iterator[tuple[Record, str]]:
        try:
            self.file = self.file or self.fetch()
        except ValueError as refused:
            yield InvalidRecord(str(refused)), self.display_name
            return
        path = str(self.file)
        for record, place in self.open(self.file)():
            yield record, self.display_name + place.removeprefix(path)


class HasReader(Protocol):
    """A source of rows."""

    @property
    def reader(self) -> Reader: ...


HasReaderT = TypeVar("HasReaderT", bound=HasReader)


def fetched(sources: Sequence[HasReaderT]) -> tuple[HasReaderT, ...]:
    """The sources for which nothing has to be downloaded any more."""
    return tuple(one for one in sources if not isinstance(one.reader, HubFile) or one.reader.file is not None)


@dataclass(slots=True)
class HubDataset:
    """A dataset at the hub. `trusted`: the user's login and cache may be used.

    `spent` are the bytes downloaded, of at most `max_mb` MiB.
    """

    path: str
    name: str
    policy: EgressPolicy
    max_mb: int
    trusted: bool = True
    spent: int = 0

    def listing(self, revision: str) -> Listing:
        """What the repository has at a revision. Raises ValueError."""
        if is_offline():
            if not self.trusted:
                raise ValueError(f"{self.path!r} is not read: HF_HUB_OFFLINE is set, and --untrusted reads no caches")
            if (kept := self._find_listing(revision) or self._snapshot(revision)) is not None:
                return kept
            raise ValueError(
                f"{self.path!r} is not cached at the revision {revision!r}, and HF_HUB_OFFLINE is set; "
                "run it once where the hub can be reached, and copy HF_HOME"
            )
        if self.trusted and COMMIT.fullmatch(revision) and (kept := self._find_listing(revision)) is not None:
            return kept
        from huggingface_hub import HfApi

        with self._client(f"the revision {revision!r}"):
            info = HfApi(endpoint=hub_url(), token=self._token()).dataset_info(
                self.name, revision=revision, files_metadata=True, timeout=TIMEOUT_S
            )
        card = info.card_data.to_dict() if info.card_data is not None else {}
        files = {one.rfilename: one.size for one in info.siblings or ()}
        listing = Listing(str(info.sha), files, {"configs": card["configs"]} if "configs" in card else {})
        if not COMMIT.fullmatch(listing.commit):
            raise ValueError(
                f"{self.path!r}: {hub_url()} gives no commit for {revision!r}; does HF_ENDPOINT name a hub?"
            )
        for label in (revision, listing.commit):
            self._keep(label, listing)
        return listing

    def fetch(self, commit: str, name: str, size: int | None) -> Path:
        """A file of the repository, from the cache or the hub. Raises ValueError."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(self.name, name, revision=commit, repo_type="dataset")
        if isinstance(cached, str):
            return Path(cached)
        self.spent += size or 0
        if self.spent > self.max_mb * MIB:
            raise ValueError(
                f"{self.path!r} has more than {self.max_mb:,} MiB to download; raise dataset.max_download_mb, "
                "or set dataset.limit: files that are not needed are not downloaded"
            )
        with self._client(f"the file {name!r}"):
            return Path(
                hf_hub_download(
                    self.name, name, repo_type="dataset", revision=commit, token=self._token(), endpoint=hub_url(),
                    etag_timeout=TIMEOUT_S,
                )
            )  # fmt: skip

    def _token(self) -> bool | None:
        """Whether to log in: as the client of the hub does, or not at all."""
        return None if self.trusted else False

    @contextmanager
    def _client(self, what: str) -> Iterator[None]:
        """A context in which the client of the hub contacts the hub and its storage only. Raises ValueError for its errors."""
        import huggingface_hub

        http = importlib.import_module("httpx2" if int(huggingface_hub.__version__.partition(".")[0]) >= 2 else "httpx")
        hub, storage = Address.of(hub_url()), [HostPattern.parse(one) for one in STORAGE]

        def check(request: httpx.Request) -> None:
            url = str(request.url)
            there = Address.of(url)
            if there != hub:
                request.headers.pop("authorization", None)
                if any(pattern.matches(there) for pattern in storage):
                    return  # an allow_hosts with the hub includes it
                if not self.policy.limited:
                    raise ValueError(
                        f"{self.path!r} is not read: the hub redirects to {there}; allow that host in run.allow_hosts"
                    )
            if (refusal := self.policy.refusal(url)) is not None:
                raise ValueError(f"{self.path!r} is not read: {refusal}")

        def factory() -> Any:
            return http.Client(event_hooks={"request": [check]}, follow_redirects=True, timeout=SILENCE_S)

        huggingface_hub.set_client_factory(factory)
        try:
            yield
        except ValueError as refused:
            if type(refused) is ValueError:  # our own
                raise
            raise ValueError(self._explain(what, refused)) from None
        except Exception as refused:  # the client of the hub lets errors of any type through
            raise ValueError(self._explain(what, refused)) from None
        finally:
            huggingface_hub.set_client_factory(_plain_client)

    def _explain(self, what: str, refused: Exception) -> str:
        """Why something cannot be read, and what to do."""
        kind, page = type(refused).__name__, f"{hub_url()}/datasets/{self.name}"
        login = (
            "HF_TOKEN is set, but its account may have no access"
            if _has_token()
            else "set HF_TOKEN, or run hf auth login"
        )
        if not self.trusted:
            login = "an untrusted suite gets HF_TOKEN only with --allow-env HF_TOKEN"
        reasons = {
            "GatedRepoError": f"access to it is restricted: ask for it at {page}; {login}",
            "RepositoryNotFoundError": f"the hub has no dataset {self.name!r}, or it is private: check the name; {login}",
            "RevisionNotFoundError": f"it does not have {what}",
            "DisabledRepoError": "the hub has disabled it",
            "EntryNotFoundError": f"it does not have {what}",
            "RemoteEntryNotFoundError": f"it does not have {what}",
            "HFValidationError": "that is no name of a dataset: hf://owner/name",
        }
        if (why := reasons.get(kind)) is None:
            text = " ".join(redact_message(str(refused)).split())[:200]
            why = f"{hub_url()} does not give {what}: {kind}: {text}; with HF_HUB_OFFLINE=1 only the cache is used"
        return f"{self.path!r} cannot be read: {why}"

    def _folder(self) -> Path:
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE, f"datasets--{self.name.replace('/', '--')}")

    def _keep(self, revision: str, listing: Listing) -> None:
        """Keep a listing beside the cached files, for later runs of the same commit and without a network."""
        data = {"commit": listing.commit, "files": listing.files, "card": listing.card}
        target = self._folder() / KEPT / f"{quote(revision, safe='')}.json"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as part:
                part.write_text(json.dumps(data, default=str), encoding="utf-8")
        except OSError:  # a cache that is read-only: the next run asks again
            return

    def _find_listing(self, revision: str) -> Listing | None:
        path = self._folder() / KEPT / f"{quote(revision, safe='')}.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return Listing(data["commit"], data["files"], data["card"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _snapshot(self, revision: str) -> Listing | None:
        """What the cache of the hub's client has of a revision, as another tool has downloaded it."""
        commit = revision
        if not COMMIT.fullmatch(revision):
            try:
                commit = (self._folder() / "refs" / revision).read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                return None
        folder = self._folder() / "snapshots" / commit
        files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        return Listing(commit, dict.fromkeys(files)) if files else None


@dataclass(frozen=True, slots=True)
class ChosenFiles:
    """The files to read, at one commit. `config` and `split` are empty if patterns named the files."""

    commit: str
    names: tuple[str, ...]
    sizes: Mapping[str, int | None]
    config: str = ""
    split: str = ""


def open_hub(
    path: str, *, policy: EgressPolicy, max_mb: int, pinned: str | None = None, trusted: bool = True
) -> tuple[HubDataset, str | None]:
    """The dataset of an address, with the revision to read: that of an earlier run, or the address's own. Raises ValueError."""
    reference = REFERENCE.fullmatch(path.removeprefix(HUB_SCHEME))
    if reference is None:
        raise ValueError(
            f"{path!r} is no dataset of the hub; write hf://owner/name or hf://owner/name@revision, and name its files "
            "with dataset.files"
        )
    if any(importlib.util.find_spec(name) is None for name in ("huggingface_hub", "pyarrow")):
        raise MissingExtraError("hf:// datasets", "hf")
    _quiet()
    return HubDataset(path, reference["name"], policy, max_mb, trusted), pinned or reference["revision"]


def choose_files(
    dataset: HubDataset, revision: str | None, *, config: str | None, split: str | None, files: Sequence[str] | None
) -> ChosenFiles:
    """The files of a split, or those that patterns name. Raises ValueError.

    Without a revision the hub's conversion to Parquet is preferred, unless it has only a part of the split.
    """
    listing = dataset.listing(revision or MAIN)
    try:
        if files is not None:
            return _chosen(listing, SplitFiles("", "", match_files(listing.files, files)))
        if revision is None and (converted := _converted(dataset, config, split, default_config(listing.card))):
            return converted
        splits = find_splits(listing.files, listing.card)
        if not splits:
            raise NoSuchPartError(
                "has no Parquet, JSON Lines, JSON or CSV files, and the hub has not converted it; code of a dataset is not run"
            )
        found = choose_split(splits, config, split, default_config(listing.card))
    except NoSuchPartError as missing:
        raise ValueError(f"{dataset.path!r} {missing}") from None
    if found.partial:
        raise ValueError(f"{dataset.path!r}: the hub has converted only the beginning of the split {found.split!r}")
    return _chosen(listing, found)


def _converted(dataset: HubDataset, config: str | None, split: str | None, default: str | None) -> ChosenFiles | None:
    """The files of the hub's conversion; None if it has none of the config, or only a part. Raises NoSuchPartError."""
    try:
        listing = dataset.listing(CONVERSION)
    except ValueError as refused:
        if "it does not have the revision" in str(refused) or "is not cached at the revision" in str(refused):
            return None
        raise
    splits = find_splits(listing.files, {})
    if not splits or (config is not None and config not in [one.config for one in splits]):
        return None
    found: SplitFiles = choose_split(splits, config, split, default)
    return None if found.partial else _chosen(listing, found)


def _chosen(listing: Listing, found: SplitFiles) -> ChosenFiles:
    sizes = {name: listing.files[name] for name in found.names}
    return ChosenFiles(listing.commit, found.names, sizes, found.config, found.split)


def _plain_client() -> httpx.Client:
    """The client for other uses of the hub in this process: as the hub's package makes it."""
    import httpx

    return httpx.Client(follow_redirects=True, timeout=None)  # noqa: S113  it waits as long as the package does


def _quiet() -> None:
    """Set the variables that the client of the hub reads when it is imported."""
    os.environ.update(ENV_BEFORE_IMPORT)
    for name, value in ENV_DEFAULTS.items():
        os.environ.setdefault(name, value)


def _has_token() -> bool:
    return any(os.environ.get(name) for name in HUB_TOKENS)
