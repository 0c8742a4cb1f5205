"""The pages in a real browser: they play, filter, sort, fit a phone, and do nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import chromium, open_page
from helpers.html_elements import EVIL
from helpers.scored_run import make_scored_run
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml, tone

from hf_asr.cli import main
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.evaluation.page_report import report_page
from hf_asr.evaluation.page_run import read_run

__all__ = ["chromium"]

REFERENCES = [*(f"word{index} a b c" for index in range(30)), EVIL, f"{EVIL} {EVIL}"]
BEFORE = [*(f"word{index} a b" for index in range(30)), "nothing", EVIL]
AFTER = [*("x a b c" if index % 3 else f"word{index} a b c" for index in range(29)), "", f"{EVIL} more", EVIL[::-1]]

# The page's policy refuses what playwright's own waiting would evaluate.
UNTIL = """new Promise(resolve => {{
  const first = document.querySelectorAll("audio")[0];
  const look = () => {condition} && resolve(true);
  first.addEventListener("{event}", look);
  setTimeout(() => resolve(false), 20000);
  look();
}})"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 32 clips, two of them hostile, one audible."""
    folder = tmp_path_factory.mktemp("report")
    ids = [*(f"id{index}" for index in range(31)), EVIL]
    run = make_scored_run(folder / "run", name=EVIL, references=REFERENCES, before=BEFORE, after=AFTER, ids=ids)
    audio = encode(tone(3, 2.0), SAMPLE_RATE, "opus")
    path = folder / "report.html"
    path.write_text(report_page([read_run(run)], {"id29": audio, "id1": audio}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a tiny corpus."""
    folder = tmp_path_factory.mktemp("inspect")
    config = tiny_yaml(folder, folder / "none", make_tiny_corpus(folder / "corpus"))
    assert main(["inspect", "--config", str(config), "--output-dir", str(folder), "--clips", "2"]) == 0
    return folder / "inspect.html"


def visible(page: Any) -> list[str]:
    return page.eval_on_selector_all(".item:not([hidden])", "items => items.map(item => item.dataset.id)")


@pytest.mark.parametrize("name", ["report", "inspected"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1180, 360])
def test_no_page_complains_asks_a_host_or_is_wider_than_its_window(
    request: pytest.FixtureRequest, chromium: Any, name: str, dark: bool, width: int
) -> None:
    page, seen = open_page(chromium, request.getfixturevalue(name), width=width, dark=dark)
    page.wait_for_load_state("networkidle")
    assert (seen.console, seen.requests) == ([], [])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_player_plays_and_only_one_at_a_time(chromium: Any, report: Path) -> None:
    page, _ = open_page(chromium, report)
    page.evaluate("document.querySelectorAll('audio')[0].play()")
    assert page.evaluate(UNTIL.format(event="timeupdate", condition="first.currentTime > 0.1"))
    assert page.evaluate("document.querySelectorAll('audio')[0].duration") == pytest.approx(2.0, abs=0.1)
    page.evaluate("document.querySelectorAll('audio')[1].play()")
    assert page.evaluate(UNTIL.format(event="pause", condition="first.paused"))
    page.close()


def test_the_list_is_searched_filtered_and_sorted(chromium: Any, report: Path) -> None:
    page, _ = open_page(chromium, report)
    assert len(visible(page)) == 20
    page.click(".more")
    assert len(visible(page)) == 32
    page.fill("[name=search]", "WORD7")
    assert visible(page) == ["id7"]
    page.fill("[name=search]", "")
    page.select_option("[name=tag]", "empty")
    assert visible(page) == ["id29"]
    page.select_option("[name=tag]", "audio")
    assert sorted(visible(page)) == ["id1", "id29"]
    page.select_option("[name=tag]", "")
    page.select_option("[name=sort]", "seconds down")
    seconds = page.eval_on_selector_all(".item:not([hidden])", "items => items.map(item => +item.dataset.seconds)")
    assert seconds == sorted(seconds, reverse=True)
    assert page.text_content("output") == "20 of 32"
    page.close()


def test_tables_are_sorted_by_their_heads(chromium: Any, report: Path) -> None:
    page, _ = open_page(chromium, report)
    head = page.locator("#confusions th.num button").first
    column = "rows => rows.map(row => +row.cells[2].dataset.sort)"
    head.click()
    down = page.eval_on_selector_all("#confusions table:first-of-type tbody:first-of-type tr", column)
    head.click()
    up = page.eval_on_selector_all("#confusions table:first-of-type tbody:first-of-type tr", column)
    count = len(page.query_selector_all("#confusions table >> nth=0 >> tbody tr"))
    assert np.all(np.diff(down[:count]) <= 0) and np.all(np.diff(up[:count]) >= 0)
    page.close()


def test_light_and_dark_follow_the_system_and_the_button(chromium: Any, report: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light, _ = open_page(chromium, report)
    dark, _ = open_page(chromium, report, dark=True)
    colours = light.evaluate(background), dark.evaluate(background)
    assert colours[0] == "rgb(255, 255, 255)" and colours[1] != colours[0]
    light.click("#theme")
    dark.click("#theme")
    assert (light.evaluate(background), dark.evaluate(background)) == (colours[1], colours[0])
    light.close()
    dark.close()


def test_what_hostile_texts_say_is_shown_and_does_nothing(chromium: Any, report: Path) -> None:
    page, seen = open_page(chromium, report)
    assert page.title() == EVIL
    assert page.text_content("h1") == EVIL
    page.fill("[name=search]", "onerror")
    assert EVIL in visible(page)
    assert page.query_selector("main img") is None
    assert len(page.query_selector_all("script")) == 1
    assert seen.console == []
    page.close()


def test_a_script_that_got_in_would_not_run(chromium: Any, report: Path, tmp_path: Path) -> None:
    """The second wall: the policy refuses every script but the page's own, and every request."""
    text = report.read_text(encoding="utf-8")
    inside = (
        "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x' onerror=\"document.title='owned'\">"
    )
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace("</main>", f"{inside}</main>"), encoding="utf-8")
    page, seen = open_page(chromium, broken)
    page.wait_for_load_state("networkidle")
    assert page.title() == EVIL
    assert any("Content Security Policy" in line for line in seen.console)
    page.close()


def test_it_prints_light_and_without_controls(chromium: Any, report: Path) -> None:
    page, _ = open_page(chromium, report, dark=True)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for selector in ("nav", ".tools", "audio"):
        assert not page.locator(selector).first.is_visible()
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.close()
