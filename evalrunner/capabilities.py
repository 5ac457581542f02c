"""What a target or scorer may be able to do besides being called. It says so by deriving from one of these classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from evalrunner.domain import Sample


class SampleValidator(ABC):
    """A target or scorer that can reject samples before the first call.

    A base class rather than a protocol, so that user-defined objects with a method `check` are not called by accident.
    """

    __slots__ = ()

    @abstractmethod
    def check(self, sample: Sample) -> str | None:
        """Why the sample cannot be answered or scored, or None."""


class SampleFilter(ABC):
    """A scorer that applies to some samples only, which it can tell before any answer."""

    __slots__ = ()

    @abstractmethod
    def skip_reason(self, sample: Sample) -> str | None:
        """Why the scorer cannot score any answer to a sample with an expected answer, or None."""


class InlineForSome(ABC):
    """A scorer that is cheap enough for the event loop with some outputs."""

    __slots__ = ()

    @abstractmethod
    def is_quick(self, output: str) -> bool:
        """Whether a call with this output is that cheap."""


class Preparable(ABC):
    """A target or scorer with slow preparations, such as loading a model."""

    __slots__ = ()

    @abstractmethod
    async def prepare(self, notify: Callable[[str], None]) -> None:
        """Prepare for the first call; `notify` receives progress messages. Raises ValueError if that fails."""
