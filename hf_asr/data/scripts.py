"""Which script a language is written in: enough to notice Latin letters in a Russian corpus."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping

# Script (the first word of its letters' Unicode names) to languages, by Common Voice locale or ISO 639 code.
_LANGUAGES_OF: Mapping[str, str] = {
    "LATIN": (
        "af an ast az bas br bs ca ceb cs cy da de dyu ee en eo es et eu ff fi fil fo fr fy ga gl gn gsm gv ha haw hr "
        "hsb ht hu ia id ig is it jv kab kaa kmr kpv la lb lg lij ln lt luo lv mg mi ms mt nan nb nhi nl nn no nso oc "
        "om pap pl pt qu rm ro rw sc sk sl sn so sq st su sv sw tk tl tn tok tr ts tw uz vec vi vot wo xh yo zu"
    ),
    "CYRILLIC": (
        "ab av ba be bg bxr ce cv kbd kk kv ky lez mdf mhr mk mn mrj myv os ru sah tg tt tyv udm uk uz az sr bs"
    ),
    "ARABIC": "ar arz ary az bal brh ckb fa kk ks ku pa ps sd skr ug ur",
    "ARMENIAN": "hy hyw",
    "BENGALI": "as bn",
    "CJK": "ja ko nan wuu yue zh",
    "DEVANAGARI": "bho brx doi hi kok mai mr ne sa",
    "ETHIOPIC": "am ti tig",
    "GEORGIAN": "ka lzz xmf",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he yi",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MEETEI": "mni",
    "MONGOLIAN": "mn",
    "MYANMAR": "my",
    "OL": "sat",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAANA": "dv",
    "THAI": "th",
    "TIBETAN": "bo dz",
    "TIFINAGH": "ber tzm zgh",
}
# Languages that several scripts share beyond the table: Serbian and Kurdish are written in Latin letters too.
_ALSO_LATIN = frozenset({"sr", "ku"})


def scripts_of(language: str) -> frozenset[str]:
    """Return the scripts a language tag may be written in; empty when the language is not in the table."""
    primary = language.replace("_", "-").split("-")[0].lower()
    found = {script for script, languages in _LANGUAGES_OF.items() if primary in languages.split()}
    return frozenset(found | ({"LATIN"} if primary in _ALSO_LATIN else set()))


def count_scripts(text: str) -> Counter[str]:
    """Count a text's letters by script; digits, marks, signs and modifier letters have none."""
    letters = (char for char in text if unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lo"))
    return Counter(unicodedata.name(char, "UNNAMED").replace("-", " ").split()[0] for char in letters)


def is_in_scripts(text: str, scripts: frozenset[str]) -> bool:
    """Tell whether at least half of a text's letters are of these scripts; a text without letters is."""
    counts = count_scripts(text)
    return 2 * sum(counts[script] for script in scripts) >= counts.total()
