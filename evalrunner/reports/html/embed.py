"""Data as it can stand inside a page: JSON that cannot end its own element, and packed JSON in base64."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

from evalrunner.redact import redact

LEVEL = 4  # of deflate: 6 takes half as long again, for three per cent

# `</script>` and `<!--` would end or change the element; the two separators end a line in older engines
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def json_text(data: Any) -> str:
    """Data as JSON on one line, keys redacted. NaN is refused: no reader of JSON knows it."""
    return redact(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str))


def to_utf8(text: str) -> bytes:
    r"""Text as UTF-8; half of a surrogate pair as `\udc00`, which is how JSON spells it too."""
    return text.encode("utf-8", errors="backslashreplace")


def inline_json(text: str) -> bytes:
    """JSON as the content of a script element that is data: nothing in it ends the element."""
    return to_utf8(text.translate(_ESCAPES))


def packed_json(text: str) -> bytes:
    """JSON deflated (zlib, RFC 1950) and in base64, as `DecompressionStream('deflate')` takes it."""
    return base64.b64encode(zlib.compress(to_utf8(text), LEVEL))


def csp_hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline script or style by: `'sha256-…'`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
