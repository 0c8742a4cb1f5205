"""Which of a Whisper checkpoint's language tokens a corpus language trains and decodes under."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from hf_asr.errors import UserError

DEFAULT_STAND_IN = "en"
# Language, extended language, script, region, variants (RFC 5646), in any case: Common Voice has nan-tw, rm-sursilv.
TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(-[a-z]{3}){0,3}(-[a-z]{4})?(-(?P<region>[a-z]{2}|\d{3}))?"
    r"(-([a-z0-9]{5,8}|\d[a-z0-9]{3}))*(-[a-wyz0-9](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?",
    re.ASCII,
)
# A tag's language to Whisper's, best first, where they differ: old and new codes, members of a macrolanguage.
WHISPER_CODES: dict[str, tuple[str, ...]] = {
    "nb": ("no",),
    "fil": ("tl",),
    "iw": ("he",),
    "in": ("id",),
    "ji": ("yi",),
    "jv": ("jw",),
    "mo": ("ro",),
    "cmn": ("zh",),
    "yue": ("yue", "zh"),
    "arb": ("ar",),
    "pes": ("fa",),
    "swh": ("sw",),
    "ekk": ("et",),
    "lvs": ("lv",),
    "npi": ("ne",),
    "khk": ("mn",),
    "zsm": ("ms",),
    "azj": ("az",),
    "uzn": ("uz",),
    "als": ("sq",),
    "plt": ("mg",),
    "ydd": ("yi",),
}
CANTONESE_REGIONS = ("hk", "mo")


@dataclass(frozen=True)
class LanguagePlan:
    """What a model is told about the language.

    Attributes:
        token: Whisper's code, such as ``ru``; None for English-only models and when nothing was said.
        warning: A sentence for the log and the model card; empty when all is as one would expect.
    """

    token: str | None
    warning: str = ""


def language_plan(
    language: str | None, available: Collection[str], stand_in: str | None = None, multilingual: bool = True
) -> LanguagePlan:
    """Choose the language token.

    Args:
        language: ``data.language``, a BCP-47 tag or Common Voice locale.
        available: Codes that the checkpoint has tokens for.
        stand_in: ``model.language_token``, for languages without one.
        multilingual: False for the ``.en`` checkpoints, which take no language.

    Raises:
        UserError: ``language`` is no tag, or the checkpoint has no token for ``stand_in``.
    """
    if not multilingual:
        return _english_only(language, stand_in)
    chosen = None if stand_in is None else _checked_stand_in(stand_in, available)
    if language is None:
        return LanguagePlan(chosen)
    own = next((code for code in whisper_codes(language) if code in available), None)
    if own is not None:
        unused = f"model.language_token={stand_in} is not used: the model has the token {own} for {language}."
        return LanguagePlan(own, unused if chosen not in (None, own) else "")
    token = chosen or _checked_stand_in(DEFAULT_STAND_IN, available)
    how = "as model.language_token says" if chosen else "set model.language_token to a related language for another"
    return LanguagePlan(
        token, f"The model has no token for the language {language}: it is trained and decoded under {token} ({how})."
    )


def whisper_codes(language: str) -> tuple[str, ...]:
    """Return Whisper's codes for a tag, best first; they need not be in a given checkpoint.

    Raises:
        UserError: It is no tag.
    """
    found = TAG.fullmatch(language.lower().replace("_", "-"))
    if found is None:
        raise UserError(
            f"data.language: expected a BCP-47 tag or Common Voice locale such as ru, zh-CN or sv-SE, found "
            f"'{language}'{_suggestion(language)}."
        )
    code = found["language"]
    if code == "zh" and found["region"] in CANTONESE_REGIONS:
        return WHISPER_CODES["yue"]
    return WHISPER_CODES.get(code, (code,))


def languages_of(vocabulary: Collection[str]) -> list[str]:
    """Return the codes of Whisper's languages that have a token in a vocabulary."""
    return [code for code in LANGUAGES if f"<|{code}|>" in vocabulary]


def _english_only(language: str | None, stand_in: str | None) -> LanguagePlan:
    if stand_in is not None:
        raise UserError(
            f"model.language_token: expected none for an English-only model, found '{stand_in}'. Remove it, or choose "
            "a multilingual checkpoint (without .en)."
        )
    if language is None or whisper_codes(language) == ("en",):
        return LanguagePlan(None)
    return LanguagePlan(None, f"The model is English-only and takes no language, data.language is {language}.")


def _checked_stand_in(stand_in: str, available: Collection[str]) -> str:
    code = stand_in.lower().removeprefix("<|").removesuffix("|>")
    code = TO_LANGUAGE_CODE.get(code, code)
    if code not in available:
        raise UserError(
            f"model.language_token: expected a language that the model has a token for ({', '.join(available)}), "
            f"found '{stand_in}'. Choose the one closest to your language."
        )
    return code


def _suggestion(language: str) -> str:
    code = TO_LANGUAGE_CODE.get(language.lower())
    return f". Write {code}" if code else ". Write the language's code"
