"""What was said in a row, message by message, with who said it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalrunner.domain import Completion, Failure

SIMULATED = "user (simulated)"
NOT_SENT = "user (simulated, not sent)"


def spoken_messages(answer: Completion | Failure) -> Sequence[Mapping[str, Any]] | None:
    """The messages up to the answer; those that a simulated user wrote have its name as their role.

    A message of the user that ended the conversation and was not sent comes last.
    """
    messages = answer.messages
    if messages is None or isinstance(answer, Failure) or "simulated" not in (answer.turns or ({},))[-1]:
        return messages
    marked = list(messages)
    first = len(marked) - 2 * len(answer.turns) + 1  # from here on a message and its answer take turns
    for number, turn in enumerate(answer.turns):
        place = first + 2 * number
        if turn["simulated"] and 0 <= place < len(marked):
            marked[place] = {**marked[place], "role": SIMULATED}
    if closing := answer.turns[-1].get("closing"):
        marked += [{"role": "assistant", "content": answer.text}, {"role": NOT_SENT, "content": closing}]
    return tuple(marked)
