"""Tables and texts of a terminal, without markup: what is printed may be anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def plain_table(title: str, columns: Sequence[str], *, wraps: bool = False) -> Table:
    """An empty table. Where it is too wide its texts are wrapped and no number is cut; `wraps` is for cells of several words."""
    from rich import box
    from rich.table import Table

    table = Table(title=styled(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        wide = wraps or name in ("why", "input", "output", "expected", "metric", "gate", "target", "pair")
        right = name in ("value", "scored", "skipped", "unscored", "errors")
        table.add_column(
            styled(name), justify="right" if right else "left", overflow="fold", ratio=None, no_wrap=not wide
        )
    return table


def styled(text: str, style: str | None = None) -> Any:
    """Text as it is, in a style: no markup is read in it."""
    from rich.text import Text

    return Text(text, style=style or "")
