"""Scripts of languages and texts."""

from __future__ import annotations

import unicodedata

import pytest

from hf_asr.data.scripts import count_scripts, is_in_scripts, scripts_of

SAMPLES = {
    "am": "ሰላም ለዓለም",
    "ar": "مرحبا بالعالم",
    "be": "Прывітанне",
    "bn": "ওহে বিশ্ব",
    "cy": "Helo byd",
    "de": "Grüße",
    "el": "Γειά σου",
    "en": "Hello",
    "fa": "سلام دنیا",
    "ga-IE": "Dia duit",
    "he": "שלום עולם",
    "hi": "नमस्ते दुनिया",
    "hy-AM": "Բարեւ",
    "ja": "こんにちはカタカナ世界ー",
    "ka": "გამარჯობა",
    "km": "សួស្តី",
    "ko": "안녕하세요",
    "lo": "ສະບາຍດີ",
    "ml": "ഹലോ",
    "my": "မင်္ဂလာပါ",
    "pa-IN": "ਸਤਿ ਸ੍ਰੀ ਅਕਾਲ",
    "ru": "Привет, мир",
    "sah": "Дорообо",
    "sr": "Zdravo",
    "ta": "வணக்கம்",
    "te": "హలో",
    "th": "สวัสดี",
    "tt": "Сәлам",
    "uk": "Привіт",
    "ur": "سلام",
    "vi": "Xin chào",
    "yue": "你好",
    "zh-CN": "你好世界",
    "zh_TW": "妳好世界",
}


@pytest.mark.parametrize(("language", "text"), SAMPLES.items())
def test_a_languages_own_text_is_in_its_scripts(language: str, text: str) -> None:
    assert scripts_of(language)
    assert is_in_scripts(text, scripts_of(language))


@pytest.mark.parametrize(
    ("language", "text"),
    [("ru", "Hello there"), ("en", "Привет"), ("ja", "안녕"), ("ko", "こんにちは"), ("he", "سلام")],
)
def test_another_scripts_text_is_not(language: str, text: str) -> None:
    assert not is_in_scripts(text, scripts_of(language))


@pytest.mark.parametrize("language", ["", "xx", "tlh"])
def test_an_unknown_language_has_no_scripts(language: str) -> None:
    assert scripts_of(language) == frozenset()


def test_every_script_is_the_first_word_of_some_letters_unicode_name() -> None:
    chars = map(chr, range(0x11FFF))
    letters = (char for char in chars if unicodedata.category(char) in ("Lu", "Ll", "Lo"))
    first_words = {unicodedata.name(char, "").split()[0] for char in letters if unicodedata.name(char, "")}
    used = {script for language in SAMPLES for script in scripts_of(language)}
    assert len(used) > 20
    assert used <= first_words


def test_digits_marks_and_signs_count_for_nothing() -> None:
    assert count_scripts("12 ½ -- ¡!") == {}
    assert count_scripts("aБ ー") == {"LATIN": 1, "CYRILLIC": 1}
    assert is_in_scripts("2024", scripts_of("ru"))


@pytest.mark.parametrize(("text", "inside"), [("да yes", False), ("нет ok", True), ("да ok", True)])
def test_half_of_the_letters_decide(text: str, inside: bool) -> None:
    assert is_in_scripts(text, scripts_of("ru")) is inside
