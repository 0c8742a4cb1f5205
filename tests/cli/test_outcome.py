"""How recipes end."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from hf_asr.cli.outcome import run_recipe
from hf_asr.errors import UserError


def mistaken(argv: Sequence[str]) -> None:
    raise UserError(f"expected nothing, found {argv[0]}")


def disk_full(argv: Sequence[str]) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "weights")


def read_only(argv: Sequence[str]) -> None:
    raise OSError(errno.EROFS, "Read-only file system", "weights")


def our_bug(argv: Sequence[str]) -> None:
    raise OSError(errno.EBADF, "Bad file descriptor")


@pytest.mark.parametrize(
    ("main", "code", "words"),
    [
        (mistaken, 2, "expected nothing, found x"),
        (disk_full, 2, "resume_from_checkpoint"),
        (read_only, 2, "Read-only"),
        (lambda argv: None, 0, ""),
    ],
)
def test_one_message_and_a_code(main, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert run_recipe(main, ["x"]) == code
    shown = capsys.readouterr().err
    assert words in shown and "Traceback" not in shown and shown.count("\n") == (1 if code else 0)


def test_our_own_bugs_stay_loud() -> None:
    with pytest.raises(OSError, match="Bad file"):
        run_recipe(our_bug, ["x"])


def test_other_ranks_say_which_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "3")
    run_recipe(mistaken, ["x"])
    assert capsys.readouterr().err.startswith("process 3: ")
