"""Data files with an address: downloaded once for a run, from the host of the address only, and identified by their sha256."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote, urljoin, urlsplit

from evalrunner.datasets.records import MIB
from evalrunner.egress import Address, EgressPolicy
from evalrunner.endpoints.transport import extra_ca_file
from evalrunner.secret_names import LOGIN

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS: Final = 5
TRIES: Final = 3
WAITS_S: Final = (0.5, 2.0)  # before the second and third try
SILENCE_S: Final = 60.0  # without a byte
WHOLE_S: Final = 3600.0  # for all of a file
PIECE: Final = 1 << 16


class DownloadError(ValueError):
    """A file that cannot be downloaded. The message is the rest of a sentence about its address."""


class _BusyError(Exception):
    """A failure that may pass; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Download:
    """A downloaded file with the sha256 of its bytes, in hex."""

    file: Path
    sha256: str


def public_url(url: str) -> str:
    """A URL as messages and run files have it: without its login and its query, either of which may have a key."""
    plain = LOGIN.sub("://", url.strip().partition("#")[0])
    head, mark, _ = plain.partition("?")
    return f"{head}?…" if mark else head


def file_name(url: str) -> str:
    """The last part of a URL's path, which tells the format."""
    return PurePosixPath(unquote(urlsplit(url.strip()).path)).name


def check_url(url: str) -> None:
    """Raises DownloadError for a URL that is never asked for."""
    if LOGIN.search(url):
        raise DownloadError("has a login, but data is read without one; download it, and name the file")
    try:
        Address.of(url)
    except ValueError as unclear:
        raise DownloadError(f"cannot be read: {unclear}") from None


def download(url: str, folder: Path, *, name: str, max_mb: int, policy: EgressPolicy) -> Download:
    """The file of a URL in a new folder below `folder`. Raises DownloadError.

    Redirects are followed on the same host only. A busy server is asked up to three times.
    """
    check_url(url)
    import httpx  # the package of a quarter of a second

    folder.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(prefix="web-", dir=folder)) / name
    for number in range(TRIES):
        if number:
            time.sleep(WAITS_S[number - 1])
        try:
            with httpx.Client(timeout=SILENCE_S, verify=_trust(), follow_redirects=False) as client:
                return _fetch(client, url, target, max_mb, policy)
        except (_BusyError, httpx.TransportError) as failed:
            reason = str(failed) or type(failed).__name__
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as failed:
            raise DownloadError(f"cannot be downloaded: {failed}") from None
        except OSError as failed:
            raise DownloadError(f"cannot be stored: {failed.strerror or failed}") from None
    raise DownloadError(f"cannot be downloaded, tried {TRIES} times: {reason}")


def _trust() -> ssl.SSLContext | bool:
    """The certificates to trust: those of the system or SSL_CERT_FILE, and a CA bundle of the environment."""
    own = os.environ.get("SSL_CERT_FILE")
    if (extra := extra_ca_file()) is None and not own:
        return True
    context = ssl.create_default_context(cafile=own if own and Path(own).is_file() else None)
    if extra is not None:
        context.load_verify_locations(extra)
    return context


def _fetch(client: httpx.Client, url: str, target: Path, max_mb: int, policy: EgressPolicy) -> Download:
    start, ends = Address.of(url), time.monotonic() + WHOLE_S
    for _ in range(MAX_REDIRECTS + 1):
        if (refusal := policy.refusal(url)) is not None:
            raise DownloadError(f"is not read: {refusal}")
        with client.stream("GET", url, headers={"Accept-Encoding": "identity", "Accept": "*/*"}) as reply:
            if reply.has_redirect_location:
                url = _redirect(start, url, reply.headers["location"])
                continue
            _check_status(reply.status_code)
            with target.open("wb") as file:
                digest = _store(_pieces(reply, target.name), file, reply.headers, max_mb, ends)
            return Download(target, digest)
    raise DownloadError(f"redirects more than {MAX_REDIRECTS} times")


def _redirect(start: Address, url: str, location: str) -> str:
    """Where a reply leads, on the same host. Raises DownloadError for another one."""
    to = urljoin(url, location)
    try:
        there = Address.of(to)
    except ValueError:
        there = None
    if there is not None and there == start:
        return to
    upgrade = there is not None and (there.scheme, there.host, start.scheme) == ("https", start.host, "http")
    if upgrade and there is not None and there.port == 443 and start.port == 80:
        return to
    raise DownloadError(
        f"redirects to another host, which is not followed; if you trust it, name that address: {public_url(to)}"
    )


def _check_status(status: int) -> None:
    if status == HTTPStatus.OK:
        return
    said = f"{status} {next((one.phrase for one in HTTPStatus if one == status), '')}".strip()
    if (
        status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        raise _BusyError(f"the server answers {said}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise DownloadError(f"needs a login ({said}), but data is read without one; download it, and name the file")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise DownloadError(f"does not exist ({said}); check the address")
    raise DownloadError(f"cannot be downloaded: the server answers {said}")


def _pieces(reply: httpx.Response, name: str) -> Iterator[bytes]:
    """The bytes of the file. Servers may declare a .gz file as compressed in transit, which it is not."""
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    packed = encoding in ("gzip", "x-gzip") and name.lower().endswith(".gz")
    return reply.iter_raw(PIECE) if encoding in ("identity", "") or packed else reply.iter_bytes(PIECE)


def _store(pieces: Iterator[bytes], file: BinaryIO, headers: Mapping[str, str], max_mb: int, ends: float) -> str:
    """Write the pieces; the sha256 of all. Raises DownloadError beyond the limit."""
    too_large = f"has more than {max_mb:,} MiB; raise dataset.max_download_mb, or download it and name the file"
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > max_mb * MIB:
        raise DownloadError(too_large)
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        size += len(piece)
        if size > max_mb * MIB:
            raise DownloadError(too_large)
        if time.monotonic() > ends:
            raise DownloadError(f"takes more than {WHOLE_S / 60:.0f} minutes; download it, and name the file")
        digest.update(piece)
        file.write(piece)
    return digest.hexdigest()
