"""Texts that would do something if they were taken for more than text."""

from __future__ import annotations

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></details></td></table><h1>gone</h1>",
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1)) [two][ref]\n\n[ref]: https://evil.example",
    "https://evil.example/a www.evil.example/b <https://evil.example> me@evil.example",
    "@someone @org/team please look, fixes #12, GH-13, org/repo#14, owner@0123456789abcdef",
    "a|b\\|c\\\\|d\n| --- | --- |\n| x | y |",
    "`` ` ```\n```js\nalert(1)\n```\n~~~",
    "# heading\n\n- list\n1. one\n> quote\n***\n===\n    code",
    "**bold** _under_ __x__ ~~gone~~ $x^2$ $$y$$ :octocat: :+1: [^1]",
    "${{ secrets.GITHUB_TOKEN }} $(id) `id`",
    "::error file=a,line=1::owned\n::stop-commands::x\n##[error]owned ##vso[task.complete]",
    "\x1b[31mred\x1b]8;;https://evil.example\x07link\x1b]8;;\x07 \x9b31m \x00 \x08\x7f",
    "\u202eright to left\u2066isolate\u2069 \u200ba\u200bb \ufeff \U000e0041",
    "&lt;b&gt; &#60;img src=x&#62; &amp;",
    "]]> <!-- <![CDATA[ <?xml ?>",
    "line\u2028separator\u2029paragraph\x0bvt\x0cff\x85nel\rcr\r\ncrlf",
    "half \ud800 a pair \udfff \ufffe\uffff",
    "a\n\n\n\nb" * 50,
    "x" * 1_000_000,
    "a\u0301" * 2_000,
)
