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
        named: (speaker, side) of speakers that were listed in place of a share; they stand before the shares.
    """

    validation: float = 0.05
    test: float = 0.0
    by: str = "speaker"
    named: tuple[tuple[str, str], ...] = ()

    @property
    def divides(self) -> bool:
        """Whether anything is carved from train."""
        return self.validation + self.test > 0 or bool(self.named)

    def place(self, utterance: Utterance) -> float:
        """Return where a clip stands between 0 and 1; all clips of a speaker stand at one place."""
        by_speaker = self.by == "speaker" and utterance.speaker
        key = f"speaker\n{utterance.speaker}" if by_speaker else f"id\n{utterance.id}"
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def side(self, utterance: Utterance) -> str:
        """Return ``train``, ``validation`` or ``test``."""
        for speaker, side in self.named:
            if utterance.speaker == speaker:
                return side
        if self.test + self.validation == 0:
            return "train"
        place = self.place(utterance)
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"

    def share(self, split: str) -> float:
        """Return the share that is carved for ``validation`` or ``test``; 0 for train, which keeps the rest.

        Listed speakers count as 1: how many clips they have is not known here.
        """
        if any(side == split for _, side in self.named):
            return 1.0
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
        named=tuple(item for item in given.named if splits.get(item[1]) is None),
    )


def _checked(given: Any) -> HeldOut:
    known = [field.name for field in fields(HeldOut) if field.name != "named"]
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise UserError(
            f"data.splits.held_out: expected a mapping with some of {', '.join(known)}, found {given}. "
            "Write for example held_out: {validation: 0.05, test: 0.05, by: speaker}"
        )
    lists = {side: names for side, names in given.items() if side != "by" and isinstance(names, list | tuple)}
    named = [(str(name), side) for side, names in lists.items() for name in names]
    if len({name for name, _ in named}) < len(named):
        raise UserError(f"data.splits.held_out: expected each speaker on one side, found one twice in {lists}.")
    held_out = HeldOut(**{**given, **dict.fromkeys(lists, 0.0)}, named=tuple(named))
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
