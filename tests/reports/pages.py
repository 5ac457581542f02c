"""Markdown as GitHub reads it, near enough: to HTML by markdown-it, then what a reader and a bot would find in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

LOOKED_FOR = re.compile(r"@\w|#\d|(?i:gh-\d)|:\w+:|\bhttps?://|\bwww\.")


class Page(HTMLParser):
    """What is on a page: its tags, their attributes, its texts, and what stands in code."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.prose: list[str] = []
        self.code: list[str] = []
        self.rows: list[int] = []  # cells of each row of a table
        reader = MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["table", "strikethrough", "linkify"])
        self.feed(reader.render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, value in attrs if (name, value) != ("style", "text-align:right"))
        if tag not in ("br", "hr", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = {"code", "pre"} & set(self.open)
        (self.code if inside else self.prose).append(data)

    def found_by_bots(self) -> list[str]:
        """What GitHub would make a mention, a reference, a picture or a formula of, outside of code."""
        return [result.group() for text in self.prose for result in LOOKED_FOR.finditer(text)]
