"""The file of what an import leaves to be ported by hand: its check fails with the reason, so that it never passes."""

from __future__ import annotations

from typing import Final

PORT_FILE: Final = "scorers/to_port.py"
TO_BE_PORTED: Final = f"{PORT_FILE}:to_be_ported"

TO_PORT: Final = '''"""What could not be imported. Every answer fails until you replace the function; see MIGRATION.md."""

from evalrunner import Score


def to_be_ported(output: str) -> Score:
    """0, with the reason."""
    return Score(0.0, "to be ported")
'''
