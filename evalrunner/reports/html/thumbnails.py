"""Thumbnails of attached images, for the page of a run: the rows hold only where the images are, and their digests.

A picture is shown if the file is still the one that was sent. Small ones are taken as they are, larger ones are scaled down
if Pillow is installed. SVG is never shown, and nothing that only claims to be an image.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from evalrunner.attachments import MEDIA_TYPES, media_type
from evalrunner.storage import read_file

AS_IT_IS: Final = 48 * 1024  # bytes of an image that is not scaled down
MAX_BYTES: Final = 20 * 2**20  # of an image that is read to be scaled down
MAX_PIXELS: Final = 40_000_000
SIDE: Final = 320  # pixels of a thumbnail
BUDGET: Final = 6_000_000  # characters of all thumbnails of a page
KNOWN: Final = 2000  # thumbnails that are remembered; rows of several targets show the same


class Thumbnails:
    """Finds thumbnails by the references in rows. Paths are relative to one of the `folders`."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self._left = BUDGET
        self._known: dict[str, str | None] = {}

    def find(self, part: Mapping[str, Any]) -> str | None:
        """The data URI of an image; None for other attachments, for a file that has changed, and once the page is full."""
        digest, path = part.get("sha256"), part.get("path")
        if part.get("type") != "image" or not isinstance(digest, str) or not isinstance(path, str):
            return None
        if digest not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[digest] = self._load(digest, path)
        uri = self._known[digest]
        if uri is None or len(uri) > self._left:
            return None
        self._left -= len(uri)
        return uri

    def _load(self, digest: str, path: str) -> str | None:
        for folder in self.folders:
            try:
                data = read_file(folder / path, max_bytes=MAX_BYTES)
            except (OSError, ValueError):
                continue
            found = media_type(data)
            if found not in MEDIA_TYPES["image"] or hashlib.sha256(data).hexdigest() != digest:
                continue
            if len(data) > AS_IT_IS:
                scaled = _scaled(data)
                if scaled is None:
                    return None
                data, found = scaled, "image/jpeg"
            return f"data:{found};base64,{base64.b64encode(data).decode('ascii')}"
        return None


def _scaled(data: bytes) -> bytes | None:
    """A JPEG of at most `SIDE` pixels; None without Pillow, and for an image that it cannot read."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.thumbnail((SIDE, SIDE))
            small = image.convert("RGBA")
            flat = Image.new("RGB", small.size, "white")
            flat.paste(small, mask=small.getchannel("A"))
            out = io.BytesIO()
            flat.save(out, "JPEG", quality=80)
    except Exception:  # a broken or hostile image raises nearly anything
        return None
    return out.getvalue()


def suite_folders(run: Path, suite_file: Path | None) -> Iterator[Path]:
    """Where the suite of a run may be: as it is recorded, from the folder that the run was started in."""
    if suite_file is not None:
        started_in = run.absolute().parents
        if len(started_in) > 2:
            yield (started_in[2] / suite_file).parent
        yield suite_file.absolute().parent
