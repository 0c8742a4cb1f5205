"""The characters of a CTC head: read from a checkpoint, built from the training texts, or extended by them.

A vocabulary is transformers' ``Wav2Vec2CTCTokenizer``: a character a token, ``|`` between words, and the padding token
as CTC's blank. A new one is ``[PAD]``, ``[UNK]``, ``|``, then the characters by their code points, so that the same
texts give the same ids. Multilingual checkpoints (MMS) hold a vocabulary a language in one file.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Wav2Vec2CTCTokenizer

from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.models.checkpoints import reporting
from hf_asr.text import apply_pipeline

logger = logging.getLogger(__name__)

BLANK = "[PAD]"
UNKNOWN = "[UNK]"
DELIMITER = "|"
# What vocab.json files call their blank and their unknown token.
BLANKS = (BLANK, "<pad>")
UNKNOWNS = (UNKNOWN, "<unk>")
KINDS = ("auto", "checkpoint", "train", "extend")


def spoken(text: str, pipeline: str) -> str:
    """Return a transcript as it is spelt for a CTC head: through the pipeline, one space between words."""
    return " ".join(apply_pipeline(pipeline, text).split())


def characters_of(texts: Iterable[str], pipeline: str) -> list[str]:
    """Return the characters of transcripts by their code points, without spaces.

    A ``|`` in a transcript is the boundary between words already.
    """
    found: set[str] = set()
    for text in texts:
        found.update(spoken(text, pipeline))
    return sorted(found - {" ", DELIMITER})


def texts_of(train: Dataset | Stream | None, wanted: str) -> Iterable[str]:
    """Return the transcripts of the training split, whose characters become a vocabulary.

    Args:
        train: Its rows; None where there is no training split.
        wanted: Why they are needed, for the message.

    Raises:
        UserError: They cannot be looked at beforehand.
    """
    if train is None or isinstance(train, Stream):
        found = "none" if train is None else "a stream (data.streaming), whose end nobody has seen"
        raise UserError(
            f"ctc.vocabulary: expected the texts of the training split, since {wanted}, found {found}. Give a "
            "checkpoint with a vocabulary, the path of a vocab.json (such as one of a run without streaming), or set "
            "data.streaming=false."
        )
    return (text for block in train.select_columns("text").iter(batch_size=10_000) for text in block["text"])


def new_vocabulary(characters: Iterable[str]) -> dict[str, int]:
    """Return token to id: blank, unknown, word boundary, then the characters in their order.

    Raises:
        UserError: There is not one character.
    """
    tokens = [BLANK, UNKNOWN, DELIMITER, *characters]
    if len(tokens) == 3:
        raise UserError(
            "ctc.vocabulary: expected characters in the training texts, found none after data.text_pipeline. Check "
            "data.columns.text and data.text_pipeline."
        )
    return {token: id for id, token in enumerate(tokens)}


def make_tokenizer(vocabulary: Mapping[str, int], language: str | None = None, **options: Any) -> Wav2Vec2CTCTokenizer:
    """Make a tokenizer of token to id.

    Args:
        vocabulary: With a blank, an unknown token and ``|``.
        language: Put it under this language's name, as multilingual checkpoints have it.
        options: Other options of the tokenizer.
    """
    named = {
        "pad_token": next(token for token in BLANKS if token in vocabulary),
        "unk_token": next(token for token in UNKNOWNS if token in vocabulary),
    }
    content = {language: dict(vocabulary)} if language else dict(vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "vocab.json")
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(file),
            word_delimiter_token=DELIMITER,
            target_lang=language,
            **{"bos_token": None, "eos_token": None, **named, **options},
        )


def read_vocabulary(path: str) -> dict[str, int]:
    """Return token to id of a vocab.json.

    Raises:
        UserError: There is none, or it lacks what CTC needs.
    """
    expected = f"{', '.join(KINDS)} or the path of a vocab.json"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"ctc.vocabulary: expected {expected}, found '{path}': {error}") from error
    whole = isinstance(content, dict) and all(isinstance(id, int) for id in content.values())
    if not whole or sorted(content.values()) != list(range(len(content))):
        raise UserError(f"ctc.vocabulary: expected a mapping of tokens to 0, 1, 2 ... in {path}, found another JSON.")
    for what, names in (("a blank", BLANKS), ("an unknown token", UNKNOWNS), ("a word boundary", (DELIMITER,))):
        if not any(name in content for name in names):
            raise UserError(f"ctc.vocabulary: expected {what} ({' or '.join(names)}) in {path}, found none. Add it.")
    return content


def load_tokenizer(name: str, revision: str, language: str | None) -> PreTrainedTokenizerBase:
    """Load a checkpoint's tokenizer, set to ``language`` where it has several.

    Raises:
        UserError: It has none.
    """
    with reporting("model.name_or_path", name, "a CTC vocabulary (vocab.json or tokenizer.json)"):
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    if tokenizer.pad_token_id is None:
        raise UserError(f"model.name_or_path: expected a padding token, which is CTC's blank, in {name}, found none.")
    if language is not None and language in languages_of(tokenizer):
        tokenizer.set_target_lang(language)
    return tokenizer


def languages_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the languages of a multilingual vocabulary; empty for one with a single vocabulary."""
    if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
        return []
    return sorted(name for name, value in tokenizer.vocab.items() if isinstance(value, dict))


def missing_characters(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], pipeline: str) -> list[str]:
    """Return the characters of ``texts`` that a character vocabulary lacks."""
    assert isinstance(tokenizer, Wav2Vec2CTCTokenizer)
    known = set(tokenizer.encoder)
    # A vocabulary of capitals takes lower-case texts as well and writes them back in lower case.
    shown = str.upper if tokenizer.do_lower_case else str
    return [char for char in characters_of(texts, pipeline) if not set(shown(char)) <= known]


def tell_missing(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], pipeline: str) -> None:
    """Warn of characters of the training texts that the vocabulary lacks: they are learnt as the unknown token.

    Raises:
        UserError: It lacks all of them.
    """
    spelt = characters_of(texts, pipeline)
    missing = missing_characters(tokenizer, spelt, "none")
    advice = "ctc.vocabulary=extend (or train), or another data.text_pipeline"
    if missing and len(missing) == len(spelt):
        raise UserError(
            f"ctc.vocabulary: expected characters of the training texts in the checkpoint's own vocabulary, found none "
            f"of {''.join(missing[:40])} . Set {advice}."
        )
    if missing:
        logger.warning(
            "ctc.vocabulary: %d of %d characters of the training texts are unknown to it: %s . %s gives them a place",
            len(missing),
            len(spelt),
            "".join(missing[:40]),
            advice,
        )


def extended(tokenizer: PreTrainedTokenizerBase, characters: Iterable[str]) -> Wav2Vec2CTCTokenizer:
    """Return a character vocabulary with more characters after its own, whose ids stay.

    Raises:
        UserError: Its tokens are pieces of words.
    """
    if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
        raise UserError(
            "ctc.vocabulary: extend expects a vocabulary of characters (Wav2Vec2CTCTokenizer), found "
            f"{type(tokenizer).__name__}. Use checkpoint, or train for a new head."
        )
    own = dict(sorted(tokenizer.encoder.items(), key=lambda item: item[1]))
    first = max(own.values()) + 1
    shown = str.upper if tokenizer.do_lower_case else str
    more = {shown(char): first + place for place, char in enumerate(characters)}
    kept = {
        name: tokenizer.init_kwargs[name]
        for name in ("bos_token", "eos_token", "do_lower_case")
        if name in tokenizer.init_kwargs
    }
    return make_tokenizer({**own, **more}, tokenizer.target_lang, **kept)
