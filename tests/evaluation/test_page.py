"""The house's page: nothing in it is read as HTML that was not meant so, and it asks no host for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from helpers.html_elements import EVIL, Elements
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from hf_asr.evaluation.page import (
    Cell,
    Section,
    Tile,
    bar_chart,
    columns,
    details,
    facts,
    histogram,
    interval_plot,
    json_script,
    line_chart,
    note,
    paragraph,
    picture,
    player,
    render_page,
    stacked_bars,
    table,
    tiles,
)
from hf_asr.evaluation.page_charts import Bar, Row

HELPERS = {
    "tiles": lambda text: tiles([Tile(text, text, text)]),
    "table": lambda text: table([text, text], [[text, Cell(text, text)]], caption=text),
    "facts": lambda text: facts([(text, text)]),
    "paragraph": paragraph,
    "note": note,
    "details": lambda text: details(text, note(text)),
    "picture": lambda text: picture(b"png", text),
    "interval_plot": lambda text: interval_plot([Row(text, [Bar(0.5, 0.4, 0.6)], text)], series=[text], title=text),
    "bar_chart": lambda text: bar_chart([Row(text, [Bar(0.5, title=text)])], series=[text], title=text),
    "stacked_bars": lambda text: stacked_bars([(text, [1, 2])], series=[text, text], title=text),
    "line_chart": lambda text: line_chart({text: [(1, 2), (2, 3)]}, title=text, x_label=text),
    "histogram": lambda text: histogram([0, 1, 2], {text: [1, 2]}, title=text, x_label=text),
    "json_script": lambda text: json_script("data", {text: text}),
}


def page_of(body: Markup, text: str = "a page") -> str:
    return render_page(text, [Section("one", text, body, text)], eyebrow=text, subtitle=text, footer=text)


@pytest.mark.parametrize("helper", HELPERS)
def test_no_helper_lets_a_text_become_html(helper: str) -> None:
    harmless, evil = (Elements(page_of(HELPERS[helper](text), text)).found for text in ("a", EVIL))
    assert [tag for tag, _ in evil] == [tag for tag, _ in harmless]
    assert not any(name.startswith("on") for _, attributes in evil for name in attributes)


@given(st.text())
def test_json_in_a_script_comes_back_and_never_ends_it(text: str) -> None:
    found = str(json_script("data", [text]))
    inside = found[found.index(">") + 1 : found.rindex("</script>")]
    assert "<" not in inside and "&" not in inside
    assert json.loads(inside) == [text]


def test_the_policy_names_the_style_and_the_script_by_their_hashes_and_forbids_the_rest() -> None:
    page = page_of(paragraph("hello"))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    policy = policy.replace("&#39;", "'")
    for kind, source in (("style", "style"), ("script", "script")):
        [text] = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{source}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy


def test_the_page_asks_no_host_for_anything() -> None:
    page = page_of(columns([player(b"ogg"), picture(b"png", "a picture")]))
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
        assert "style" not in attributes, "the policy refuses style attributes"
    assert "@import" not in page and "url(" not in page


def test_sections_without_content_are_left_out() -> None:
    page = render_page("a page", [Section("full", "Full", paragraph("x")), Section("empty", "Empty", Markup(""))])
    assert 'href="#full"' in page
    assert "Empty" not in page


def test_a_table_shows_numbers_dashes_and_sort_keys() -> None:
    text = str(table(["name", "value"], [["a", 1234.5], ["b", None], ["c", Cell("12 %", 0.12)]], numbers=[1]))
    assert '<td class="num" data-sort="1234.5">1,234</td>' in text or "1,235" in text
    assert '<td class="num" data-sort="">–</td>' in text
    assert '<td class="num" data-sort="0.12">12 %</td>' in text


def test_media_lie_in_the_page() -> None:
    assert f"data:audio/ogg;base64,{base64.b64encode(b'sound').decode()}" in player(b"sound")
    assert f"data:image/png;base64,{base64.b64encode(b'dots').decode()}" in picture(b"dots", "dots")
