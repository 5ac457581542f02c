"""The API of GitHub, as far as the action needs it. Only the host of GITHUB_API_URL receives the token of the job."""

from __future__ import annotations

import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from workflow import TOKEN

PAGE = 100  # items of a list in one reply
MAX_PAGES = 30
MAX_REPLY = 16 * 2**20  # bytes
MAX_DOWNLOAD = 2 * 2**30
CHUNK = 2**20
TIMEOUT_S = 60.0
TRIES = 3
TRANSIENT = frozenset({429, 500, 502, 503, 504})


class GitHubError(Exception):
    """GitHub refused a request or could not be reached. `status` is that of its reply, 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are replies, so that none takes the token to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class GitHub:
    """The API for the repository of the workflow, with the token of the job."""

    def __init__(self) -> None:
        self.url = os.environ.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
        self.repository = os.environ["GITHUB_REPOSITORY"]
        self.token = os.environ.get(TOKEN, "")
        self.opener = urllib.request.build_opener(NoRedirects)
        if not is_safe(self.url):
            raise GitHubError(f"GITHUB_API_URL is {self.url!r}; the token is sent with https only")

    def get(self, path: str, **query: str | int) -> Any:
        """The data of a path below the repository."""
        return self.send("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)

    def items(self, path: str, key: str | None = None, **query: str | int) -> Iterator[Any]:
        """Every item of a list, page by page; `key` is its name in replies that have more than the list."""
        for page in range(1, MAX_PAGES + 1):
            reply = self.get(path, **query, per_page=PAGE, page=page)
            items = reply if key is None else reply[key]
            yield from items
            if len(items) < PAGE:
                return

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The reply to a request below the repository, as data. Raises GitHubError."""
        with self._open(method, f"{self.url}/repos/{self.repository}{path}", body) as reply:
            if 300 <= (reply.status or 0) < 400:
                raise GitHubError(f"{method} {path}: unexpected redirect", reply.status or 0)
            text = reply.read(MAX_REPLY)
        return json.loads(text) if text else None

    def download(self, path: str, target: Path) -> None:
        """Write what a path below the repository redirects to, without the token. Raises GitHubError."""
        with self._open("GET", f"{self.url}/repos/{self.repository}{path}") as reply:
            if not 300 <= (reply.status or 0) < 400:
                return self._save(reply, target)
            location = reply.headers.get("Location") or ""
        if not is_safe(location) or (is_loopback(location) and not is_loopback(self.url)):
            raise GitHubError("the address of the artifact is not https")
        request = urllib.request.Request(location, headers={"User-Agent": "evalrun-action"})  # noqa: S310  checked above
        try:
            with self.opener.open(request, timeout=TIMEOUT_S) as reply:
                self._save(reply, target)
        except (urllib.error.URLError, OSError) as refused:
            host = urllib.parse.urlsplit(location).hostname  # the rest of the address is a credential
            raise GitHubError(f"the download from {host} failed: {_reason(refused)}") from None

    def _save(self, reply: IO[bytes], target: Path) -> None:
        size = 0
        with target.open("wb") as file:
            while part := reply.read(CHUNK):
                size += len(part)
                if size > MAX_DOWNLOAD:
                    raise GitHubError("the artifact is larger than 2 GiB")
                file.write(part)

    def _open(self, method: str, url: str, body: Any = None) -> Any:
        """The open reply; transient failures of requests that change nothing are retried."""
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "User-Agent": "evalrun-action",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310  checked at the start
        tries = TRIES if method == "GET" else 1
        for left in reversed(range(tries)):
            try:
                return self.opener.open(request, timeout=TIMEOUT_S)
            except urllib.error.HTTPError as refused:
                if 300 <= refused.code < 400:
                    return refused
                if not (left and refused.code in TRANSIENT):
                    raise GitHubError(
                        f"{method} {_path(url)}: {refused.code} {_message(refused)}", refused.code
                    ) from None
            except (urllib.error.URLError, OSError) as refused:
                if not left:
                    raise GitHubError(f"{method} {_path(url)}: {_reason(refused)}") from None
            time.sleep(1.0)
        raise AssertionError("the last try returns or raises")


def is_safe(url: str) -> bool:
    """Whether an address is one of https, or of this machine."""
    return urllib.parse.urlsplit(url).scheme == "https" or is_loopback(url)


def is_loopback(url: str) -> bool:
    """Whether an address is http on this machine, as of a test."""
    parts = urllib.parse.urlsplit(url)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _path(url: str) -> str:
    return urllib.parse.urlsplit(url).path


def _reason(refused: BaseException) -> str:
    return str(getattr(refused, "reason", None) or refused)


def _message(refused: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(refused.read(MAX_REPLY)).get("message", ""))[:200]
    except (ValueError, AttributeError, OSError):
        return ""
