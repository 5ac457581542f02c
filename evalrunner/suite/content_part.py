"""One part of a message in a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ContentPart:
    """One part of a message: the template of a text, or of what an image, a sound or a file is read from."""

    kind: Literal["text", "image", "audio", "file"]
    template: str
    detail: str | None = None
    key_path: tuple[str | int, ...] = ()
