"""What a browser would make of a page: its elements; and a text that tries to become some."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = "</script></style></title><img src=x onerror=alert(1)>\"'<script>alert(1)</script>&{{7*7}}"


class Elements(HTMLParser):
    """Collects elements with their attributes, as a browser's parser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.found.append((tag, dict(attrs)))
