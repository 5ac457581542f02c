"""What our own targets and scorers do before the first call. They say so by their class: a function of people's that has
a method of such a name by chance is left alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from evalrunner.domain import Sample


class ChecksSamples(ABC):
    """Knows of a sample, before anything is called, that it cannot be answered or scored."""

    __slots__ = ()

    @abstractmethod
    def check(self, sample: Sample) -> str | None:
        """What is wrong with a sample, or None."""


class Prepares(ABC):
    """Has something slow to do, such as loading a model."""

    __slots__ = ()

    @abstractmethod
    async def prepare(self, tell: Callable[[str], None]) -> None:
        """None, when it is done; `tell` is told of a download. Raises ValueError where it cannot be done."""
