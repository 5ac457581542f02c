"""A small syllable dictionary in the location and format of NLTK's cmudict."""

from __future__ import annotations

from pathlib import Path

WORDS = {
    "AREA": "EH1 R IY0 AH0",  # three syllables; hyphenation finds fewer
    "CAT": "K AE1 T",
    "IDEA": "AY0 D IY1 AH0",
    "MAT": "M AE1 T",
    "ON": "AA1 N",
    "PEOPLE": "P IY1 P AH0 L",
    "SAT": "S AE1 T",
    "THE": "DH AH0",
}


def write_dictionary(folder: Path) -> Path:
    """The folder for NLTK_DATA."""
    place = folder / "nltk" / "corpora" / "cmudict" / "cmudict"
    place.parent.mkdir(parents=True)
    place.write_text("".join(f"{word} 1 {sounds}\n" for word, sounds in WORDS.items()))
    return folder / "nltk"
