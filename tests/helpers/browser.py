"""A real headless Chromium for tests of pages; they are skipped, with the reason, where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Seen:
    """What a page did beside showing itself.

    Attributes:
        console: Messages in the console and errors of scripts, the policy's refusals among them.
        requests: Addresses asked for, but for the file itself and what lies in it.
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser through playwright and the system's Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on PATH; install it to test pages in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--autoplay-policy=no-user-gesture-required"])
        yield browser
        browser.close()


def open_page(
    browser: Any, path: Path, *, width: int = 1180, height: int = 900, dark: bool = False
) -> tuple[Any, Seen]:
    """Open a file and return the page with what it does."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    seen = Seen()
    page.on("console", lambda message: seen.console.append(message.text))
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    page.on("dialog", lambda dialog: (seen.console.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: note_request(seen, request.url, path))
    page.goto(path.as_uri())
    return page, seen


def note_request(seen: Seen, address: str, path: Path) -> None:
    """Keep an address that is neither the file nor something inside it."""
    if not address.startswith(("data:", path.as_uri())):
        seen.requests.append(address)
