"""Images, audio and files in messages: small references with a digest, whose bytes are read only when a request is sent.

A reference is a mapping, so that it goes into the row log, reports and cache keys as it is. A mapping that merely looks like
one, such as a message of the dataset, is never read from disk: only an `Attachment` knows where its bytes are.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from evalrunner.domain import Message
from evalrunner.storage import open_file, read_file

MEDIA_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("image/png", "image/jpeg", "image/gif", "image/webp"),
    "audio": ("audio/wav", "audio/mpeg"),
    "file": ("application/pdf", "text/plain"),
}
"""What providers take in the chat format, by the kind of the part."""
NAMES: Final = {"image": "PNG, JPEG, GIF or WebP", "audio": "WAV or MP3", "file": "PDF or UTF-8 text"}
AUDIO_FORMATS: Final = {"audio/wav": "wav", "audio/mpeg": "mp3"}
MAX_TOTAL_MB: Final = 48  # of one request: providers take 20 to 50 MB, and base64 adds a third
MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"), (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"), (8, b"WEBP", "image/webp"), (8, b"WAVE", "audio/wav"), (0, b"ID3", "audio/mpeg"),
    (0, b"%PDF-", "application/pdf"), (0, b"BM", "image/bmp"), (0, b"II*\0", "image/tiff"), (0, b"MM\0*", "image/tiff"),
    (4, b"ftypheic", "image/heic"), (4, b"ftypavif", "image/avif"), (4, b"ftyp", "video/mp4"), (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"), (0, b"PK\x03\x04", "application/zip"), (0, b"\x1f\x8b", "application/gzip"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
)  # fmt: skip
RIFF: Final = ("image/webp", "audio/wav")
KNOWN_FILES: Final = 4096  # whose digests are remembered
SHOWN: Final = 80  # characters of a value in a message


class AttachmentError(ValueError):
    """A value that cannot be attached. The message is a sentence without its place."""


class Attachment(dict[str, Any]):
    """A reference to bytes: `type`, `media_type`, `bytes`, `sha256`, and `path` from the suite's folder, if it is a file."""

    __slots__ = ("load",)
    load: Callable[[], bytes]

    @classmethod
    def of(cls, load: Callable[[], bytes], fields: Mapping[str, Any]) -> Attachment:
        made = cls(fields)
        made.load = load
        return made

    def content(self) -> bytes:
        """The bytes. Raises AttachmentError if they are no longer those that were described."""
        try:
            data = self.load()
        except OSError as broken:
            raise AttachmentError(f"{_name(self)} cannot be read: {broken.strerror or broken}") from None
        if hashlib.sha256(data).hexdigest() != self["sha256"]:
            raise AttachmentError(f"{_name(self)} has changed since the run began; start a new run")
        return data


@dataclass(frozen=True, slots=True)
class AttachmentReader:
    """Describes what a prompt attaches. A relative path is looked for in the `folders`, the first one first.

    No file outside them is read, links included. `refusal` says why a file may not be read, `url_refusal` why a URL may not
    be passed on; `max_mb` is the size of one attachment. Paths are described from `base`.
    """

    folders: tuple[Path, ...]
    base: Path
    max_mb: int
    refusal: Callable[[Path], str | None] | None = None
    url_refusal: Callable[[str], str | None] | None = None

    def read(self, kind: str, text: str, detail: str | None = None) -> Mapping[str, Any]:
        """The part of a message for a path, a data URI or the URL of an image. Raises AttachmentError."""
        value = text.strip()
        if not value:
            raise AttachmentError(f"the {kind} is empty; it should be a path, a data: URI or a URL")
        if value[:5].lower() == "data:":
            data = _data_of(kind, value, self.max_mb)
            described = media_type(data), hashlib.sha256(data).hexdigest(), len(data)
            return self._attachment(kind, "the data: URI", described, lambda: data, detail, None)
        scheme = value.partition("://")[0].lower() if "://" in value else ""
        if scheme:
            return self._linked(kind, value, scheme, detail)
        path = self._find(kind, value)
        try:
            described = self._describe(path)
        except OSError as broken:
            raise AttachmentError(f"the {kind} {_short(value)} cannot be read: {broken.strerror or broken}") from None
        shown = Path(os.path.relpath(path, self.base.resolve())).as_posix()
        limit = self.max_mb * 2**20
        return self._attachment(
            kind, _short(value), described, lambda: read_file(path, max_bytes=limit), detail, shown
        )  # fmt: skip

    def _linked(self, kind: str, url: str, scheme: str, detail: str | None) -> Mapping[str, Any]:
        """The part for an image at a URL, which the provider fetches."""
        if scheme not in ("http", "https"):
            raise AttachmentError(f"the {kind} {_short(url)} is neither a path nor an http(s) URL nor a data: URI")
        if kind != "image":
            raise AttachmentError(
                f"the {kind} {_short(url)} is a URL, but providers take only images by URL; download it and name the file"
            )
        try:
            parts = urlsplit(url)
            clear = bool(parts.hostname) and "@" not in parts.netloc and url.isprintable() and " " not in url
        except ValueError:
            clear = False
        if not clear:
            raise AttachmentError(f"the {kind} {_short(url)} is no URL with a plain host name")
        if self.url_refusal is not None and (why := self.url_refusal(url)) is not None:
            raise AttachmentError(f"the {kind} {_short(url)} {why}" if why[:8] == "contacts" else why)
        return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}

    def _find(self, kind: str, name: str) -> Path:
        """The real path of a file in one of the folders."""
        outside = None
        for folder in self.folders:
            try:
                real = (folder / name).resolve()
                exists = real.exists()
            except (OSError, ValueError, RuntimeError):  # too long, a NUL, a circle of links
                raise AttachmentError(f"the {kind} {_short(name)} is not a path that can be read") from None
            if not any(real.is_relative_to(root.resolve()) for root in self.folders):
                outside = outside or name
            elif exists:
                if self.refusal is not None and (why := self.refusal(folder / name)) is not None:
                    raise AttachmentError(f"the {kind} {_short(name)} {why}, which --untrusted refuses")
                return real
        places = " or ".join(dict.fromkeys(repr(str(folder)) for folder in self.folders))
        if outside is not None:
            raise AttachmentError(
                f"the {kind} {_short(name)} leads out of {places}, links included; copy it into the folder of the data"
            )
        raise AttachmentError(f"the {kind} {_short(name)} was not found in {places}")

    def _describe(self, path: Path) -> tuple[str | None, str, int]:
        """Type, digest and size of a file, remembered while it does not change."""
        with open_file(path) as file:
            state = os.fstat(file.fileno())
        if state.st_size > self.max_mb * 2**20:
            return None, "", state.st_size
        return _described(str(path), state.st_mtime_ns, state.st_size, state.st_ino)

    def _attachment(
        self, kind: str, name: str, described: tuple[str | None, str, int], load: Callable[[], bytes],
        detail: str | None, path: str | None,
    ) -> Attachment:  # fmt: skip
        found, digest, size = described
        if size > self.max_mb * 2**20:
            raise AttachmentError(
                f"the {kind} {name} has {size / 2**20:,.1f} MB; at most {self.max_mb} MB are sent, so make it smaller"
            )
        if not size:
            raise AttachmentError(f"the {kind} {name} is empty: it has 0 bytes")
        if found not in MEDIA_TYPES[kind]:
            what = f"is {found}" if found is not None else "has an unknown type"
            other = next((known for known, types in MEDIA_TYPES.items() if found in types), None)
            hint = f"; write {{{other}: …}} for it" if other else "; convert it"
            raise AttachmentError(f"the {kind} {name} {what} by its content, not {NAMES[kind]}{hint}")
        fields = {"type": kind, **({} if path is None else {"path": path}), "media_type": found, "bytes": size}
        fields |= {"sha256": digest, **({"detail": detail} if detail else {})}
        return Attachment.of(load, fields)


@functools.lru_cache(maxsize=KNOWN_FILES)
def _described(path: str, _modified: int, size: int, _number: int) -> tuple[str | None, str, int]:
    data = read_file(Path(path), max_bytes=size)
    return media_type(data), hashlib.sha256(data).hexdigest(), len(data)


def media_type(data: bytes) -> str | None:
    """The type of bytes by their content, None if it is unknown."""
    for offset, magic, found in MAGIC:
        if data[offset : offset + len(magic)] == magic and (found not in RIFF or data[:4] == b"RIFF"):
            return found
    if len(data) > 3 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 and data[1] != 0xFF:
        return "audio/mpeg"  # a frame without tags; ADTS has no layer
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    start = text[:1000].lstrip("\ufeff \t\r\n").lower()
    return "image/svg+xml" if start.startswith("<svg") or ("<svg" in start and start[:1] == "<") else "text/plain"


def attachments_in(messages: Iterable[Message]) -> Iterator[Mapping[str, Any]]:
    """The references in messages, also in those of a stored row."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list | tuple) else ():
            if isinstance(part, Attachment) or (isinstance(part, Mapping) and "sha256" in part and "bytes" in part):
                yield part


def content_lines(content: Any) -> list[str] | None:
    """The content of a message for people: its texts, and a line for each attachment; None if it is no list of parts."""
    if not isinstance(content, list | tuple):
        return None
    lines = []
    for part in content:
        if not isinstance(part, Mapping):
            return None
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            lines.append(part["text"])
        elif "sha256" in part and "bytes" in part:
            lines.append(f"[{part.get('type')}: {label_of(part)}]")
        elif (url := linked_image([{"content": [part]}])) is not None:
            lines.append(f"[image: {url}]")
        else:
            return None
    return lines


def label_of(part: Mapping[str, Any]) -> str:
    """What an attachment is, for people: `img/cat.png, image/png, 24,117 bytes, sha256 1c8f55bbf479`."""
    size = f"{part['bytes']:,}" if isinstance(part["bytes"], int) else str(part["bytes"])
    digest = str(part["sha256"])[:12]
    return f"{part.get('path', 'data: URI')}, {part.get('media_type')}, {size} bytes, sha256 {digest}"


def linked_image(messages: Iterable[Message]) -> str | None:
    """The first URL of an image that somebody else would have to fetch."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list | tuple) else ():
            linked = part.get("image_url") if isinstance(part, Mapping) else None
            url = linked.get("url") if isinstance(linked, Mapping) else linked
            if isinstance(url, str) and url[:5].lower() != "data:":
                return url
    return None


async def with_content(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages as they are sent in OpenAI's chat format, with the bytes of attachments in base64.

    Raises AttachmentError for a file that was removed or changed.
    """
    if not any(isinstance(part, Attachment) for part in attachments_in(messages)):
        return messages
    return await asyncio.to_thread(lambda: [_expanded(message) for message in messages])


def _expanded(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [_sent(part) if isinstance(part, Attachment) else part for part in content]}


def _sent(part: Attachment) -> dict[str, Any]:
    encoded = base64.b64encode(part.content()).decode("ascii")
    kind, found = part["type"], part["media_type"]
    if kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": AUDIO_FORMATS[found]}}
    uri = f"data:{found};base64,{encoded}"
    if kind == "image":
        detail = {"detail": part["detail"]} if "detail" in part else {}
        return {"type": "image_url", "image_url": {"url": uri, **detail}}
    name = PurePosixPath(part["path"]).name if "path" in part else "file.pdf" if found.endswith("pdf") else "file.txt"
    return {"type": "file", "file": {"filename": name, "file_data": uri}}


def without_repeats(message: Message, history: Iterable[Message]) -> Message:
    """A message without the attachments that the messages before it have."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    known = list(attachments_in(history))
    return {**message, "content": [part for part in content if part not in known]}


def check_total(messages: Iterable[Message]) -> str | None:
    """Why the attachments of one request are too many bytes together, None if they are not."""
    total = sum(part["bytes"] for part in attachments_in(messages) if isinstance(part, Attachment))
    if total <= MAX_TOTAL_MB * 2**20:
        return None
    return f"the attachments have {total / 2**20:,.1f} MB together; at most {MAX_TOTAL_MB} MB are sent in one request"


def _data_of(kind: str, uri: str, max_mb: int) -> bytes:
    head, comma, body = uri[5:].partition(",")
    if not comma:
        raise AttachmentError(f"the {kind} {_short(uri)} is no data: URI, which has a comma before its data")
    if len(body) > max_mb * 2**20 * 4 // 3 + 1024:
        raise AttachmentError(f"the {kind} in the data: URI is larger than {max_mb} MB; make it smaller")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except (binascii.Error, ValueError):
        raise AttachmentError(f"the {kind} {_short(uri)} is a data: URI that is not valid base64") from None


def _name(part: Mapping[str, Any]) -> str:
    return f"the {part['type']} {_short(part['path'])}" if "path" in part else f"the {part['type']}"


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
