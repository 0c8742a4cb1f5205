"""Validation and test speakers carved from train, the same ones on every machine, in every process and every order.

A speaker's place between 0 and 1 is a hash of the speaker's id, so nothing but that id decides the side: not the
seed, not the other speakers, not the release. A larger release of the same corpus keeps its test speakers, and two
models with different seeds are tested on the same clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hf_asr.errors import UserError
from hf_asr.utterance import Utterance

BY = ("speaker", "id")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """``data.splits.held_out``: how much of train becomes validation and test.

    Test takes the places from 0 to ``test``, validation those that follow, so that changing validation's share
    leaves test as it is.

    Attributes:
        validation: Share of the speakers that become validation, 0 to below 1.
        test: Share of the speakers that become test, 0 to below 1.
        by: ``speaker`` keeps a speaker on one side (a clip without one goes by its id), ``id`` deals out single clips.
    """

    validation: float = 0.05
    test: float = 0.0
    by: str = "speaker"

    def place(self, utterance: Utterance) -> float:
        """Return where a clip stands between 0 and 1; all clips of a speaker stand at one place."""
        by_speaker = self.by == "speaker" and utterance.speaker
        key = f"speaker\n{utterance.speaker}" if by_speaker else f"id\n{utterance.id}"
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def side(self, utterance: Utterance) -> str:
        """Return ``train``, ``validation`` or ``test``."""
        if self.test + self.validation == 0:
            return "train"
        place = self.place(utterance)
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"

    def share(self, split: str) -> float:
        """Return the share that is carved for ``validation`` or ``test``; 0 for train, which keeps the rest."""
        return {"validation": self.validation, "test": self.test}.get(split, 0.0)


def held_out_of(splits: Mapping[str, Any]) -> HeldOut:
    """Read ``data.splits.held_out`` and leave out the splits that ``data.splits`` gives itself.

    Raises:
        UserError: A key, a share or ``by`` is none that there is.
    """
    if splits.get("held_out") is None:
        return HeldOut(validation=0.0)
    given = _checked(splits["held_out"])
    return HeldOut(
        validation=0.0 if splits.get("validation") is not None else given.validation,
        test=0.0 if splits.get("test") is not None else given.test,
        by=given.by,
    )


def _checked(given: Any) -> HeldOut:
    known = [field.name for field in fields(HeldOut)]
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise UserError(
            f"data.splits.held_out: expected a mapping with some of {', '.join(known)}, found {given}. "
            "Write for example held_out: {validation: 0.05, test: 0.05, by: speaker}"
        )
    held_out = HeldOut(**given)
    if held_out.by not in BY:
        raise UserError(f"data.splits.held_out.by: expected one of {', '.join(BY)}, found {held_out.by}. Use speaker.")
    shares = (held_out.validation, held_out.test)
    if any(isinstance(share, bool) or not isinstance(share, int | float) for share in shares) or not (
        min(shares) >= 0 and sum(shares) < 1
    ):
        raise UserError(
            f"data.splits.held_out: expected shares of 0 or more that leave something to train on, found "
            f"validation {held_out.validation}, test {held_out.test}. Give fractions such as 0.05."
        )
    return held_out
