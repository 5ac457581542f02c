"""Spellings of a secret that a hostile server may reply with, and a search that finds them in any file.

The search shares no code with what it checks: it undoes spellings, and the redaction looks for them.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import html
import io
import json
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

Spelling = Callable[[str], str]


def _each(template: str) -> Spelling:
    return lambda key: "".join(template.format(ord(character)) for character in key)


def _basic(before: str, after: str = "", *, url_safe: bool = False) -> Spelling:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    return lambda key: "Basic " + encode(f"{before}{key}{after}".encode()).decode()


SPELLINGS: Mapping[str, Spelling] = {
    "as it is": str,
    "upper case": str.upper,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 without padding": lambda key: base64.b64encode(key.encode()).decode().rstrip("="),
    **{f"base64 after {before!r}": _basic(before) for before in ("u:", "us:", "use:", "user:")},
    **{f"base64 between {before!r} and more": _basic(before, after) for before, after in (("a", "b"), ("ab", "cd"), ("", "\0"))},
    "base64 URL-safe": _basic("??:", ">>", url_safe=True),
    "base64 in lines": lambda key: base64.encodebytes(f"{'x' * 50}{key}".encode()).decode(),
    "base64 of JSON": lambda key: base64.b64encode(json.dumps({"api_key": key}).encode()).decode(),
    "base64 percent-encoded": lambda key: quote(base64.b64encode(key.encode()).decode(), safe=""),
    "base64 split": lambda key: " ".join(base64.b64encode(key.encode()).decode()),
    "hexadecimal": lambda key: key.encode().hex(),
    "hexadecimal upper": lambda key: key.encode().hex().upper(),
    "percent": lambda key: quote(key, safe=""),
    "percent each": _each("%{:02x}"),
    "percent upper": _each("%{:02X}"),
    "percent in part": lambda key: "".join(f"%{ord(one):02X}" if place % 3 else one for place, one in enumerate(key)),
    "percent twice": lambda key: quote(_each("%{:02x}")(key), safe=""),
    "percent three times": lambda key: quote(quote(_each("%{:02x}")(key), safe=""), safe=""),
    "JSON escapes": _each("\\u{:04x}"),
    "JSON escapes in JSON": lambda key: json.dumps(_each("\\u{:04X}")(key)),
    "Python escapes": _each("\\x{:02x}"),
    "slashes escaped": lambda key: key.replace("/", "\\/"),
    "HTML decimal": _each("&#{};"),
    "HTML hexadecimal": _each("&#x{:X};"),
    "HTML escaped": lambda key: html.escape(_each("&#{};")(key)),
    **{
        f"split by {name}": lambda key, gap=gap: gap.join(key)  # type: ignore[misc]
        for name, gap in {
            "blanks": " ", "line ends": "\n", "CRLF": "\r\n", "tabs": "\t", "no-break spaces": "\xa0", "zero width": "\u200b",
            "joiners": "\u2060", "soft hyphens": "\xad", "direction marks": "\u200e", "tags": "\U000e0020", "NUL": "\0",
            "escaped line ends": "\\n", "escaped zero width": "\\u200b", "percent blanks": "%20", "entities": "&#8203;",
        }.items()
    },
    "in halves": lambda key: f"{key[: len(key) // 2]}\n    {key[len(key) // 2 :]}",
    "after a backslash": lambda key: f"\\{key}",
    "after a percent sign": lambda key: f"100%{key}",
}  # fmt: skip

ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")


def find_canaries(text: str, canaries: Mapping[str, str]) -> set[str]:
    """The names of the canaries that are in a text in any spelling."""
    views = list(_views(text, min(map(len, canaries.values()))))
    return {name for name, canary in canaries.items() if any(canary.lower() in view for view in views)}


def _views(text: str, shortest: int) -> Iterator[str]:
    """The text with its spellings undone, without all but visible ASCII, in lower case."""
    forms = [text]
    for _ in range(4):
        last = forms[-1]
        escapes = ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), last)
        controls = re.sub(r"\\+[nrt]", "", escapes)
        percent = unquote(controls, errors="replace")
        last = html.unescape(percent)
        if last == forms[-1]:
            break
        forms += escapes, controls, percent, last
    encoded = re.compile(rf"[A-Za-z0-9+/]{{{shortest * 4 // 3},}}")
    hexadecimal = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{{shortest},}}")
    for form in dict.fromkeys(forms):
        plain = re.sub(r"[^!-~]", "", form)
        yield from _unquoted(plain)
        decoded: list[bytes] = []
        for source in {plain, form}:
            for run in encoded.findall(source.replace("-", "+").replace("_", "/")):
                for part in (run[start:] for start in range(4)):
                    decoded.append(base64.b64decode(part[: len(part) // 4 * 4]))
                    if len(part) % 4 > 1:
                        decoded.append(base64.b64decode(part + "=" * (-len(part) % 4)))
            decoded += map(binascii.unhexlify, hexadecimal.findall(source))
        yield from _unquoted("|".join(re.sub(r"[^!-~]", "", data.decode("latin-1")) for data in decoded))


def _unquoted(text: str) -> Iterator[str]:
    """The text with and without the quoting of JSON and CSV."""
    plain = text.lower()
    yield plain
    if "\\" in plain:
        yield plain.replace("\\\\", "\\").replace('\\"', '"')
        yield plain.replace("\\", "")
    if '""' in plain:
        yield plain.replace('""', '"')


def texts_of(path: Path) -> Iterator[str]:
    """All texts in a file: of databases each cell, of archives each member, of anything else its content."""
    data = path.read_bytes()
    yield path.name
    if data.startswith(b"SQLite format 3\0"):
        yield from _cells(path)
    elif data.startswith(b"PAR1"):
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        yield json.dumps(
            [table.to_pylist(), {str(k): str(v) for k, v in (table.schema.metadata or {}).items()}], default=str
        )
    yield from _members(data)


def _members(data: bytes) -> Iterator[str]:
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name
                yield from _members(archive.read(name))
    elif data.startswith(b"\x1f\x8b"):
        yield from _members(gzip.decompress(data))
    else:
        yield data.decode("utf-8", errors="replace")


def _cells(path: Path) -> Iterator[str]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            cells = [cell for row in database.execute(f'select * from "{table}"') for cell in row]
            yield "\n\n".join(cell for cell in cells if isinstance(cell, str))
            for cell in cells:
                if isinstance(cell, bytes):
                    yield from _members(cell)


def search_folder(folder: Path, canaries: Mapping[str, str]) -> set[tuple[str, str]]:
    """Every file below a folder that has a canary, with the name of the canary."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        (str(path.relative_to(folder)), name)
        for path in files
        for text in texts_of(path)
        for name in find_canaries(text, canaries)
    }
