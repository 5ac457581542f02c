"""What the prompts of a run attach: its digest, which is part of what a run is, and what a target cannot take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from evalrunner.attachments import attachments_in, linked_image
from evalrunner.domain import Message, Sample
from evalrunner.endpoints.pricing import unbounded_part
from evalrunner.engine.plan import PlannedTarget
from evalrunner.formatting import one_line

MODULUS = 2**256


@dataclass(slots=True)
class AttachedContent:
    """The digest of all attachments: a sum over samples, so that their order does not matter and shards add up.

    `count` is how many samples have any. `prefix` is the number of first samples whose digest is also in `first`.
    """

    prefix: int | None = None
    count: int = 0
    first: str | None = None
    _samples: int = 0
    _total: int = 0
    _current: dict[str, None] = field(default_factory=dict)

    def add(self, messages: Iterable[Message]) -> None:
        """Add the messages of one target for the current sample."""
        self._current.update((f"{part['type']} {part['sha256']}", None) for part in attachments_in(messages))

    def end(self, sample: Sample) -> None:
        """End the current sample."""
        if self._current:
            self.count += 1
            line = json.dumps([sample.id, *sorted(self._current)]).encode()
            self._total = (self._total + int.from_bytes(hashlib.sha256(line).digest())) % MODULUS
            self._current.clear()
        self._samples += 1
        if self._samples == self.prefix:
            self.first = self.digest

    @property
    def digest(self) -> str | None:
        """The digest in hexadecimal digits, None without attachments."""
        return f"{self._total:064x}" if self.count else None


def sum_of(digests: Iterable[str | None]) -> str | None:
    """The digest of several parts of a run, each with other samples."""
    known = [int(digest, 16) for digest in digests if digest is not None]
    return f"{sum(known) % MODULUS:064x}" if known else None


def content_problem(target: PlannedTarget, messages: Iterable[Message]) -> str | None:
    """Why a target cannot take the parts of a request, None if it can."""
    if target.takes == "any":
        return None
    messages = tuple(messages)
    if target.takes == "text":
        kind = unbounded_part(messages)
        return None if kind is None else f"{target.model!r} takes text only; the prompt has a part of type {kind!r}"
    url = linked_image(messages)
    if url is None:
        return None
    return (
        f"the image {one_line(url, 80)!r} is a URL, which LiteLLM may fetch on this machine for {target.model!r}; "
        "download it and name the file, or send the request to a gateway with base_url"
    )
