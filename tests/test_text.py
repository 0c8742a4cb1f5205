"""Text pipelines: what they unify, and that they lose no letter of any script."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.errors import UserError
from hf_asr.text import TEXT_PIPELINES, apply_pipeline, basic, cer_first

# Letters and marks that basic writes otherwise, each on purpose: İ as i, a letter apostrophe inside a word as ',
# the marks of emoji as nothing.
REWRITTEN = {"\u0130", "\u0149", "\u02bb", "\u02bc", "\u20e3", "\ufe0e", "\ufe0f"}

# Characters whose neighbours decide, so that random text meets the rules.
TRICKY = (
    "aLl·'’ʼʻiIİ\u0307\u0301\u200c\u200d\u180e\u200b\u00adςΣσ. -\"״אב中か゛\u3099´¨ﹰ½\ufe0fᄀ\u1161"
    "e\u2028\r\x00՞Hẖ\u0331"
)


def letters(text: str) -> str:
    """Letters, marks and numbers of a text, in compatibility forms, decomposed and lower case."""
    lowered = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).lower())
    return "".join(char for char in lowered if unicodedata.category(char)[0] in "LMN")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,\tWORLD!\n", "hello world"),
        ("", ""),
        ("...", ""),
        ("well-known — fact", "well known fact"),
        ("Straße, STRASSE, ẞ", "straße strasse ß"),
        ("ΟΔΟΣ. Σ!", "οδος σ"),
        ("İstanbul I\u0307zmir", "istanbul izmir"),
        ("ｆｕｌｌ ﬁne № ²", "full fine no 2"),
        ("3.14 and 1,000 at 5 %", "3 14 and 1 000 at 5"),
        ("e\u0301te\u0301", "été"),
    ],
)
def test_basic_unifies_forms_case_and_punctuation(text: str, expected: str) -> None:
    assert basic(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don’t, don´t, don`t, don't", "don't don't don't don't"),
        ("‘quoted’ 'words', dogs'", "quoted words dogs"),
        ("м'ята м’ята мʼята", "м'ята м'ята м'ята"),
        ("oʻzbek o'zbek", "o'zbek o'zbek"),
        ("ʻōlelo", "ʻōlelo"),
        ("ג׳ירפה ג'ירפה", "ג'ירפה ג'ירפה"),
        ('צה״ל צה"ל', "צהל צהל"),
        ("''x''y''", "x y"),
        ("col·lecció coŀlecció a·b", "col·lecció col·lecció a b"),
        ("Ինչո՞ւ", "ինչու"),
    ],
)
def test_basic_keeps_marks_inside_words_and_drops_quotes(text: str, expected: str) -> None:
    assert basic(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी में, यह है।", "हिन्दी में यह है"),
        ("தமிழ்!", "தமிழ்"),
        ("ภาษาไทย ๆ", "ภาษาไทย ๆ"),
        ("مُحَمَّد، قال", "مُحَمَّد قال"),
        ("می\u200cخواهم کتاب\u200c ها", "می\u200cخواهم کتاب ها"),
        ("ന്\u200d x", "ന്\u200d x"),
        ("ខ្មែរ\u200bភាសា", "ខ្មែរ ភាសា"),
        ("你好，世界！", "你好世界"),
        ("今日は、ハロー・ワールド", "今日はハローワールド"),
        ("我 love 你", "我 love 你"),
        ("대한민국 만세", "대한민국 만세"),
        ("ཀ་ཁ།", "ཀ ཁ"),
        ("ኢትዮጵያ፡ሀገር።", "ኢትዮጵያ ሀገር"),
        ("\u102c၏", "\u102c၏"),
    ],
)
def test_basic_is_right_for_every_script(text: str, expected: str) -> None:
    assert basic(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so\u00adft\ufeff \u200eleft", "soft left"),
        ("I ❤️ it 👩\u200d👩\u200d👧 👍🏽", "i it"),
        ("1️⃣", "1"),
        ("a\u2028b\x85c\x00d", "a b c d"),
        ("a ¨ b", "a b"),
        ("lone \ud800 surrogate", "lone surrogate"),
    ],
)
def test_basic_leaves_nothing_invisible_behind(text: str, expected: str) -> None:
    assert basic(text) == expected


def test_basic_keeps_every_letter_mark_and_digit_of_unicode() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(char)[0] in "LMN" and char not in REWRITTEN:
            assert letters(f"a{char}b") == letters(basic(f"a{char}b")), hex(ord(char))


@pytest.mark.parametrize("frame", ["{}", "a{}b", ".{}", "{}\u0301", "i{}\u0307", "'{}'"])
def test_basic_is_idempotent_for_every_character(frame: str) -> None:
    for code in itertools.chain(range(0x3100), range(0xA000, 0xAC00), range(0xF900, 0x10000), range(0x1D100, 0x1D200)):
        once = basic(frame.format(chr(code)))
        assert basic(once) == once, hex(code)


@settings(deadline=None, max_examples=300)
@given(st.text() | st.text(alphabet=TRICKY, max_size=12))
def test_basic_is_idempotent_and_clean(text: str) -> None:
    once = basic(text)
    assert basic(once) == once
    assert once == " ".join(once.split())
    assert unicodedata.normalize("NFKC", once) == once


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(categories=["L", "M", "N", "Zs", "Cc", "Pd", "Ps", "Pe"])))
def test_basic_loses_no_letter_and_changes_no_order(text: str) -> None:
    if REWRITTEN.isdisjoint(unicodedata.normalize("NFKC", text)) and "i\u0307" not in text.lower():
        assert letters(basic(text)) == letters(text)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(alphabet="abcдеж", min_size=1, max_size=5), max_size=8))
def test_words_keep_their_order(words: list[str]) -> None:
    for name in ("basic", "whisper_basic", "russian"):
        assert apply_pipeline(name, " ,. ".join(words)).split() == words


def test_russian_writes_yo_as_ye_and_leaves_short_i() -> None:
    assert apply_pipeline("russian", "Ёлка, йод; е\u0308ж!") == "елка йод еж"
    assert basic("Ёлка") == "ёлка"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UH SO <COMMA> STATE-OF-THE-ART <PERIOD>", "so state of the art"),
        ("So, state of the art.", "so state of the art"),
        ("UH-HUH <QUESTIONMARK> HE ER WENT <EXCLAMATIONPOINT>", "he went"),
        ("uhh um eh mm hm ah huh ha er oof hee ach eee ew", ""),
        ("<SIL>", ""),
        ("<music> <noise> <OTHER> <UNK>", ""),
        ("I'M HERE, AHA", "i'm here aha"),
    ],
)
def test_gigaspeech_scoring_rules(text: str, expected: str) -> None:
    assert apply_pipeline("gigaspeech", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Brown's colour, it won't do!", "mister brown is color it will not do"),
        ("twenty-five dollars", "$25"),
        ("um, the (laughs) theatre", "the theater"),
        ("", ""),
    ],
)
def test_whisper_english(text: str, expected: str) -> None:
    assert apply_pipeline("whisper_english", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Привет, мир! [шум]", "привет мир"),
        ("हिन्दी में।", "हिन्दी में"),
        ("don't", "don t"),
    ],
)
def test_whisper_basic_keeps_marks(text: str, expected: str) -> None:
    assert apply_pipeline("whisper_basic", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I SEE. YES, I'M HERE? NO", "I see. Yes, I'm here? No"),
        ('"WHY NOT," HE SAID. "IT IS."', '"Why not," he said. "It is."'),
        ("THAT IS, I.E., THIS", "That is, i.e., this"),
        ("3.5 PEOPLE", "3.5 people"),
        ("", ""),
    ],
)
def test_sentence_case(text: str, expected: str) -> None:
    assert apply_pipeline("sentence_case", text) == expected


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(sorted(TEXT_PIPELINES)), text=st.text() | st.text(alphabet="0123 .,$£%¢-oh one ten½²IV'"))
def test_no_pipeline_fails_on_any_text(name: str, text: str) -> None:
    assert isinstance(apply_pipeline(name, text), str)


def test_none_is_the_text_itself() -> None:
    assert apply_pipeline("none", " A\r\n") == " A\r\n"


def test_an_unknown_pipeline_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"russian.*did you mean basic"):
        apply_pipeline("basics", "x")


@pytest.mark.parametrize("name", sorted(TEXT_PIPELINES))
def test_pipelines_go_to_worker_processes(name: str) -> None:
    pipeline = pickle.loads(pickle.dumps(TEXT_PIPELINES[name]))
    assert pipeline("Ab") == apply_pipeline(name, "Ab")


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        (("zh-CN", "zh_TW", "JA", "th", "yue", "bo"), True),
        (("ru", "ko", "zha", "", None), False),
    ],
)
def test_languages_where_cer_comes_first(languages: tuple[str | None, ...], expected: bool) -> None:
    assert [cer_first(tag) for tag in languages] == [expected] * len(languages)


def test_the_module_is_light() -> None:
    code = (
        "import sys; from hf_asr.text import apply_pipeline; apply_pipeline('basic', 'x'); "
        "assert 'whisper_normalizer' not in sys.modules; apply_pipeline('whisper_english', 'x'); "
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
