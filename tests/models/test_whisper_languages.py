"""A corpus language becomes the checkpoint's token, or a stand-in with a warning."""

from __future__ import annotations

import pytest
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from hf_asr.errors import UserError
from hf_asr.models.whisper_languages import LanguagePlan, language_plan, languages_of, whisper_codes

BEFORE_V3 = [code for code in LANGUAGES if code != "yue"]


@pytest.mark.parametrize(
    ("tag", "token"),
    [
        ("ru", "ru"),
        ("RU", "ru"),
        ("zh-CN", "zh"),
        ("zh-TW", "zh"),
        ("zh-HK", "zh"),
        ("zh-Hant-HK", "zh"),
        ("yue", "zh"),
        ("pt-BR", "pt"),
        ("sv-SE", "sv"),
        ("pa-IN", "pa"),
        ("hy-AM", "hy"),
        ("ne-NP", "ne"),
        ("nb-NO", "no"),
        ("no", "no"),
        ("nn-NO", "nn"),
        ("fil", "tl"),
        ("iw", "he"),
        ("he", "he"),
        ("jv", "jw"),
        ("jw", "jw"),
        ("id", "id"),
        ("in", "id"),
        ("cmn-Hans-CN", "zh"),
        ("zh-cmn", "zh"),
        ("haw", "haw"),
        ("sr_Latn", "sr"),
        ("de-1996", "de"),
        ("en-US-x-twain", "en"),
        ("es-419", "es"),
    ],
)
def test_tags_with_a_token(tag: str, token: str) -> None:
    assert language_plan(tag, BEFORE_V3) == LanguagePlan(token)


@pytest.mark.parametrize("tag", ["yue", "zh-HK", "zh-MO", "zh-hant-hk"])
def test_cantonese_has_its_own_token_since_large_v3(tag: str) -> None:
    assert language_plan(tag, list(LANGUAGES)).token == "yue"


@pytest.mark.parametrize("tag", ["sah", "ky", "rw", "ga-IE", "nan-tw", "rm-sursilv", "tok"])
def test_a_language_without_a_token_trains_under_another_and_says_so(tag: str) -> None:
    default = language_plan(tag, BEFORE_V3)
    assert default.token == "en"
    assert f"no token for the language {tag}" in default.warning
    assert "under en" in default.warning
    chosen = language_plan(tag, BEFORE_V3, "tr")
    assert chosen.token == "tr"
    assert "under tr (as model.language_token says)" in chosen.warning


@pytest.mark.parametrize("stand_in", ["tr", "<|tr|>", "TR", "turkish"])
def test_ways_to_write_the_stand_in(stand_in: str) -> None:
    assert language_plan("sah", BEFORE_V3, stand_in).token == "tr"


@pytest.mark.parametrize(
    ("language", "stand_in", "message"),
    [
        ("sah", "sah", "model.language_token: .* found 'sah'"),
        ("ru", "xx", "model.language_token: .* found 'xx'"),
        ("russian", None, "data.language: .* found 'russian'. Write ru"),
        ("ru RU", None, "data.language: .* found 'ru RU'"),
        ("", None, "data.language: .* found ''"),
        ("r", None, "data.language"),
        ("ру", None, "data.language"),
        ("ru-", None, "data.language"),
        ("../ru", None, "data.language"),
    ],
)
def test_mistakes(language: str, stand_in: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        language_plan(language, BEFORE_V3, stand_in)


def test_a_stand_in_that_is_not_needed_is_told() -> None:
    plan = language_plan("ru", BEFORE_V3, "uk")
    assert plan.token == "ru"
    assert "model.language_token=uk is not used" in plan.warning
    assert language_plan("ru", BEFORE_V3, "ru") == LanguagePlan("ru")


def test_without_a_language_nothing_is_chosen_but_what_was_asked_for() -> None:
    assert language_plan(None, BEFORE_V3) == LanguagePlan(None)
    assert language_plan(None, BEFORE_V3, "uk") == LanguagePlan("uk")


def test_the_default_stand_in_must_be_there_too() -> None:
    with pytest.raises(UserError, match=r"model.language_token"):
        language_plan("sah", ["ru"])


@pytest.mark.parametrize(("language", "warned"), [(None, False), ("en", False), ("en-GB", False), ("ru", True)])
def test_english_only_models_take_no_language(language: str | None, warned: bool) -> None:
    plan = language_plan(language, BEFORE_V3, multilingual=False)
    assert plan.token is None
    assert ("English-only" in plan.warning) == warned


def test_english_only_models_take_no_stand_in() -> None:
    with pytest.raises(UserError, match="English-only"):
        language_plan("en", BEFORE_V3, "ru", multilingual=False)


def test_languages_of_a_vocabulary() -> None:
    assert languages_of({"<|ru|>": 1, "<|en|>": 2, "ru": 3, "<|sah|>": 4, "<|transcribe|>": 5}) == ["en", "ru"]


def test_every_code_is_one_of_whispers() -> None:
    assert all(set(whisper_codes(tag)) <= set(LANGUAGES) for tag in ("nb", "fil", "iw", "jv", "cmn", "yue", "zh-HK"))
