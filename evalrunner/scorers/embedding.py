"""The scorer `embedding_similarity`: how near an output is to the accepted answers in the space of an embedding model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from evalrunner.domain import Declaration, Failure, Model, Outcome, Score, Scorer, Skipped
from evalrunner.plugins import main_option
from evalrunner.redact import redact_start

MAX_NEAREST = 200  # characters of an accepted answer in the detail of a cell


@main_option("value")
def embedding_similarity(*, value: str | list[str] | None = None) -> Scorer:
    """Cosine of the embeddings of output and accepted answer. From -1 to 1, that of the nearest one; `model` embeds.

    Args:
        value: Text or texts to compare with, in place of the accepted answers of the sample.
    """
    texts = (value,) if isinstance(value, str) else tuple(value or ())
    if value is not None and not any(text.strip() for text in texts):
        raise ValueError("value is empty; give a text to compare with")
    return Scorer(EmbeddingSimilarity(texts), Declaration(low=-1.0, high=1.0, needs_expected=not texts))


@dataclass(frozen=True, slots=True)
class EmbeddingSimilarity:
    """The function of the scorer. `texts` replace the accepted answers of every sample."""

    texts: tuple[str, ...] = ()

    async def __call__(self, output: str, expected: str | tuple[str, ...] | None, model: Model) -> Outcome:
        given = self.texts or ((expected,) if isinstance(expected, str) else expected or ())
        accepted = [text for text in given if text.strip()]
        if not accepted:
            return Skipped("the expected answer is blank")
        vectors = await model.embed([output, *accepted])
        if isinstance(vectors, Failure):
            return vectors
        best: tuple[float, str] | None = None
        for text, vector in zip(accepted, vectors[1:], strict=True):
            similarity = cosine(vectors[0], vector)
            if isinstance(similarity, Failure):
                return similarity
            if best is None or similarity > best[0]:
                best = similarity, text
        assert best is not None  # there is an accepted answer
        return Score(best[0], metadata={"nearest": redact_start(best[1], MAX_NEAREST)} if len(accepted) > 1 else {})


def cosine(one: Sequence[float], other: Sequence[float]) -> float | Failure:
    """The cosine of the angle between two vectors, in -1..1."""
    if len(one) != len(other):
        return Failure("malformed", f"the model embeds one text in {len(one)} numbers and another in {len(other)}")
    lengths = math.hypot(*one), math.hypot(*other)
    if not all(lengths) or not all(map(math.isfinite, lengths)):
        return Failure("malformed", "the model embeds a text in a vector without a direction")
    return max(-1.0, min(1.0, math.fsum(map(mul, unit(one, lengths[0]), unit(other, lengths[1])))))


def unit(vector: Sequence[float], length: float) -> list[float]:
    """The vector with length 1."""
    return [number / length for number in vector]
