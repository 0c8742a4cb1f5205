"""Named text pipelines: what is done to transcripts before training, and to both sides before scoring.

=================  =====================================================================================
``none``           nothing; the text as it is
``basic``          compatibility forms, case, punctuation and spaces unified, for every script
``russian``        ``basic``, then ё to е, which Russian texts write or leave out at will
``gigaspeech``     GigaSpeech's scoring rules: no tags, no fillers, hyphens split; then ``basic``
``whisper_basic``  the multilingual normaliser of the Whisper paper, marks kept
``whisper_english``  the English normaliser of the Whisper paper with its spelling table; English only
``sentence_case``  label side for upper-case English corpora: "I SEE. YES" becomes "I see. Yes"
=================  =====================================================================================

The label side (``data.text_pipeline``, default none) and the scoring side (``evaluation.normalizer``, default basic)
are chosen apart.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable

from hf_asr.errors import UserError

# Typed for one another in don't, м'ята, oʻzbek, ג׳ירפה: all become "'" inside a word. ʼ and ʻ are letters in Unicode
# (Navajo, Hawaiian) and therefore stay elsewhere; the others are punctuation there.
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛`´′＇՚׳"), "'")

# Punctuation that stands on or within a word without ending it: Armenian stress, exclamation, question and abbreviation
# marks (ինչո՞ւ), the Mongolian stem extender.
_WITHIN_WORDS = dict.fromkeys(map(ord, "՛՜՞՟᠊"), "")
# Myanmar's ၌ ၍ ၎ ၏ are punctuation to Unicode but words to a reader; · is decided by its neighbours.
_READ_ALOUD = {ord(char): char for char in "၌၍၎၏·"}
# Emoji presentation and keycap: marks no script spells with; left behind, they would be words of their own.
_EMOJI_PARTS = dict.fromkeys((0xFE0E, 0xFE0F, 0x20E3), "")
# Format characters are neither heard nor seen, but for these: Khmer and Thai mark word ends with a zero-width space,
# Persian and Indic spelling uses the two joiners, Mongolian its vowel separator.
_FORMAT = {0x200B: " ", 0x200C: "\u200c", 0x200D: "\u200d", 0x180E: "\u180e"}

_JOINERS = "\u200c\u200d\u180e"
_STRAY_JOINER = re.compile(rf"(?<![^\s'ʼʻ{_JOINERS}])[{_JOINERS}]+|[\u200c\u180e](?![^\s'ʼʻ{_JOINERS}])")
_INNER_LETTER_APOSTROPHE = re.compile(r"(?<=[^\s'ʼʻ])[ʼʻ](?=[^\s'ʼʻ])")
_STRAY_APOSTROPHE = re.compile(r"(?<![^\s'])'+|'+(?![^\s'])|''+")
_STRAY_MIDDLE_DOT = re.compile(r"(?<![lL])·|·(?![lL])")  # Catalan spells col·lecció with it
_GERSHAYIM = re.compile('(?<=[\u05d0-\u05f2])["״”](?=[\u05d0-\u05f2])')  # Hebrew acronyms: צה״ל
_DOTTED_I = re.compile("i\u0307+")
# Han, kana and bopomofo.
_UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_CJK_SPACE = re.compile(rf"(?<=[{_UNSPACED}\u3099\u309a\U000e0100-\U000e01ef]) (?=[{_UNSPACED}])")

_GIGASPEECH_TAG = re.compile(
    "<(?:COMMA|PERIOD|QUESTIONMARK|EXCLAMATIONPOINT|SIL|MUSIC|NOISE|OTHER|UNK)>", re.IGNORECASE
)
_GIGASPEECH_FILLERS = frozenset(
    ("uh", "uhh", "um", "eh", "mm", "hm", "ah", "huh", "ha", "er", "oof", "hee", "ach", "eee", "ew")
)

_SENTENCE_START = re.compile(r"(^\W*|[.!?…][^\w\s,;:]*\s\W*)(\w)")
_ENGLISH_I = re.compile(r"\bi\b(?!\.\w)")  # not in i.e.

# Languages written without spaces between words, so that a "word" is whatever a writer left unbroken. Macrolanguage
# members have tags of their own.
_CHINESE = ("zh", "cmn", "yue", "wuu", "nan", "hak", "gan", "hsn", "cdo", "lzh")
_CER_FIRST = frozenset((*_CHINESE, "ja", "th", "lo", "km", "my", "shn", "bo", "dz", "adx"))


class _SymbolTable(dict[int, str]):
    """``str.translate`` table that decides by Unicode category, once a character."""

    def __missing__(self, code: int) -> str:
        self[code] = value = _without_symbol(chr(code))
        return value


def _without_symbol(char: str) -> str:
    """Return a space for punctuation, symbols and controls, nothing for what is invisible, else the character."""
    category = unicodedata.category(char)
    if category[0] in "PS":
        # ™, ㎏ or Ⓐ are spelt out by NFKC afterwards; ´ would leave its accent behind, so it goes before NFKC.
        spelt = unicodedata.normalize("NFKC", char)
        return char if spelt != char and any(unicodedata.category(part)[0] in "LN" for part in spelt) else " "
    if category == "Cf":
        return ""
    return " " if category in ("Cc", "Cs") else char


_SYMBOLS = _SymbolTable(_APOSTROPHES | _WITHIN_WORDS | _READ_ALOUD | _EMOJI_PARTS | _FORMAT)


def none(text: str) -> str:
    """Return the text as it is."""
    return text


def basic(text: str) -> str:
    """Unify what is not heard, in every script, and keep every letter, combining mark and digit.

    * Compatibility forms become plain ones (NFKC: ﬁ, ｆｕｌｌ, ™, ½).
    * Case goes by ``str.lower``, not by ``casefold``: German ß stays apart from ss (it is another spelling and, after a
      long vowel, another sound) and Greek final ς stays as it is written. Turkish İ becomes a plain i, where ``lower``
      alone would add a combining dot; the pipeline knows no language, so I becomes i in Turkish too, on both sides.
    * Punctuation, symbols and hyphens become spaces. Between Han characters or kana, which are written without spaces,
      spaces go as well, so that a comma instead of a space costs nothing in CER.
    * An apostrophe of any form between two letters becomes ', elsewhere it is a quotation mark and becomes a space;
      Catalan l·l and the marks inside Armenian words and Hebrew acronyms do not split them.
    * Characters that are neither heard nor seen go (soft hyphen, direction marks); Persian and Indic joiners stay
      inside words.

    It is idempotent and changes no order.
    """
    text = _GERSHAYIM.sub("", text).translate(_SYMBOLS)
    text = unicodedata.normalize("NFKC", text).translate(_SYMBOLS)
    text = _STRAY_JOINER.sub("", _STRAY_MIDDLE_DOT.sub(" ", text))
    text = _STRAY_APOSTROPHE.sub(" ", _INNER_LETTER_APOSTROPHE.sub("'", text))
    text = _DOTTED_I.sub("i", text.replace("İ", "i").lower())
    return _CJK_SPACE.sub("", " ".join(unicodedata.normalize("NFKC", text).split()))


def russian(text: str) -> str:
    """Apply :func:`basic` and write ё as е: most Russian texts leave its dots out, so they are not an error."""
    return basic(text).replace("ё", "е")


def gigaspeech(text: str) -> str:
    """Apply GigaSpeech's scoring rules, then :func:`basic`.

    Punctuation tags, garbage tags and <UNK> go, hyphens split words, and the conversational fillers (uh, um, mm ...)
    are not scored. The published script compares in upper case; here it is lower case, like in the other pipelines.
    Source: SpeechColab/GigaSpeech, utils/gigaspeech_scoring.py.
    """
    words = basic(_GIGASPEECH_TAG.sub(" ", text)).split()
    return " ".join(word for word in words if word not in _GIGASPEECH_FILLERS)


def whisper_english(text: str) -> str:
    """Apply the English normaliser of the Whisper paper (appendix C), with its British to American spelling table.

    For English only: it drops diacritics, writes numbers in digits and expands contractions. Spaces at the ends go.
    """
    return _english_normalizer()(text).strip()


def whisper_basic(text: str) -> str:
    """Apply the multilingual normaliser of the Whisper paper (appendix C), keeping combining marks.

    The paper's own replaces marks by spaces, which tears the words of Hindi, Tamil or Bengali apart; where a text has
    no marks after NFKC the result is the same. Words in brackets go, and spaces at the ends.
    """
    return _multilingual_normalizer()(text).strip()


def sentence_case(text: str) -> str:
    """Lower-case a text and capitalise its sentence starts and the English pronoun I.

    For labels from upper-case English corpora (GigaSpeech, LibriSpeech), so that a model that writes sentences is not
    taught to shout. Names lose their capitals.
    """
    lowered = _ENGLISH_I.sub("I", text.lower())
    return _SENTENCE_START.sub(_capitalise, lowered)


def _capitalise(match: re.Match[str]) -> str:
    return match[1] + match[2].title()


@functools.cache
def _english_normalizer() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


@functools.cache
def _multilingual_normalizer() -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    normalizer: Callable[[str], str] = BasicTextNormalizer(preserve_marks=True)
    return normalizer


TEXT_PIPELINES: dict[str, Callable[[str], str]] = {
    "none": none,
    "basic": basic,
    "whisper_english": whisper_english,
    "whisper_basic": whisper_basic,
    "russian": russian,
    "gigaspeech": gigaspeech,
    "sentence_case": sentence_case,
}


def get_pipeline(name: str) -> Callable[[str], str]:
    """Return the pipeline called ``name``.

    Raises:
        UserError: There is none of that name; the message has the known ones and the nearest.
    """
    if name not in TEXT_PIPELINES:
        near = difflib.get_close_matches(name, TEXT_PIPELINES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"expected a text pipeline ({', '.join(TEXT_PIPELINES)}), found {name!r}{hint}")
    return TEXT_PIPELINES[name]


def apply_pipeline(name: str, text: str) -> str:
    """Apply the pipeline called ``name`` to one text.

    Raises:
        UserError: There is no pipeline of that name.
    """
    return get_pipeline(name)(text)


def cer_first(language: str | None) -> bool:
    """Whether CER says more than WER: the language is written without spaces between words.

    Args:
        language: BCP-47 tag or Common Voice locale (``zh-CN``, ``yue``); None when unknown.
    """
    return re.split("[-_]", (language or "").lower())[0] in _CER_FIRST
