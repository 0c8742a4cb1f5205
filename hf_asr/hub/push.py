"""A run to the Hub: its card, its best checkpoint, its results and curves, in one commit; or, offline, to a folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.constants import is_offline_mode

from hf_asr.config.arguments import HubArguments
from hf_asr.errors import UserError
from hf_asr.hub.run_files import LOCAL_MODEL, PushFile, list_push_files, read_run_file
from hf_asr.hub.secrets import check_secrets
from hf_asr.hub.sending import send

__all__ = ["LOCAL_MODEL", "PushFile", "check_push", "hub_api", "is_private", "list_push_files", "push_run"]

logger = logging.getLogger(__name__)

TO_PUSH = "to_push"
# Corpora that come as files of the user's own.
LOCAL_CORPORA = frozenset(("common_voice", "manifest", "audiofolder"))


def check_push(hub: HubArguments) -> None:
    """See, before hours of training, that a push has what it needs; while offline, say what will be done instead.

    Raises:
        UserError: A push is asked for, and this machine has no token.
    """
    if not (hub.push or hub.push_features):
        return
    if is_offline_mode():
        logger.warning("hub.push: HF_HUB_OFFLINE is set: what would be pushed is written to %s/ instead", TO_PUSH)
    elif not get_token():
        raise UserError(
            "hub.push: expected to reach the Hub at the end of the training, found no token with write access. Mend "
            "that (`hf auth login` stores a token), or set hub.push=false and push later with `hf-asr push`."
        )


def is_private(private: bool | None, data: Mapping[str, Any]) -> bool | None:
    """Return whether a new repository is made private: as given, else where a corpus lies on this machine.

    Args:
        private: ``hub.private``.
        data: The ``data`` section.

    Returns:
        None when nothing is given and nothing is local: then the account's own setting holds.
    """
    if private is not None:
        return private
    return True if any(map(_is_local, _sections(data))) else None


def _sections(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a section and those inside it: sources, splits of other corpora."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _sections(item)


def _is_local(section: Mapping[str, Any]) -> bool:
    if section.get("corpus") == "synthetic":
        return False
    places = [str(section[key]) for key in ("path", "transcripts") if section.get(key)]
    local = any("://" not in place for place in places)
    name = section.get("name")
    return local or section.get("corpus") in LOCAL_CORPORA or (isinstance(name, str) and os.path.exists(name))


def data_of(run_dir: Path) -> Mapping[str, Any]:
    """Return the data section of a run; a run without its configuration counts as one on local data."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        return {"corpus": "manifest"}
    config = read_run_file(path)
    if not isinstance(config, Mapping):
        raise UserError(f"expected the sections of a run in {path}, found none; put back the run's own")
    data: Mapping[str, Any] = config.get("data") or {}
    return data


def hub_api(endpoint: str | None = None) -> HfApi:
    """Return the client with the token that the Hub's own places hold.

    Raises:
        UserError: They hold none, or HF_HUB_OFFLINE is set.
    """
    api = HfApi(endpoint=endpoint, token=get_token())
    if api.token is None:
        raise UserError(
            "expected a Hub token with write access, found none. Run `hf auth login`, or set HF_TOKEN, and push again."
        )
    return api


def push_run(
    run_dir: Path,
    repo: str | None,
    private: bool | None = None,
    *,
    report: bool | None = None,
    endpoint: str | None = None,
) -> str:
    """Commit a finished run to its repository; while offline write what would be sent to ``to_push`` in its folder.

    Args:
        run_dir: A run folder.
        repo: ``ORG/NAME`` on the Hub that ``HF_ENDPOINT`` names (default huggingface.co).
        private: Whether a new repository is private; None: where a corpus of the run lies on this machine.
        report: Whether the report page is sent; None: to a private repository.
        endpoint: Address of the Hub in place of ``HF_ENDPOINT``.

    Returns:
        The repository's address; offline, the folder's path.

    Raises:
        UserError: No repository, no finished run, a secret in it, no token, no permission, no network, or a card that
            the Hub refuses.
    """
    if repo is None:
        raise UserError("expected hub.repo: ORG/NAME, found none. Set it, or push later with `hf-asr push`.")
    private = is_private(private, data_of(run_dir))
    files = list_push_files(run_dir, repo, report=bool(private) if report is None else report)
    check_secrets(files)
    if is_offline_mode():
        return str(write_files(files, run_dir / TO_PUSH))
    message = f"Push {run_dir.resolve().name} with hf_asr"
    return send(hub_api(endpoint), repo, files, private=private, message=message)


def write_files(files: Sequence[PushFile], folder: Path) -> Path:
    """Write what would be pushed into a folder, in place of what an earlier call wrote; weights as hard links."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.content is not None:
            target.write_bytes(file.content)
        else:
            link_or_copy(file.source, target)
    logger.info("%d files that would be pushed are in %s", len(files), folder)
    return folder


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def listing(files: Iterable[PushFile]) -> str:
    """Return names and sizes, one line a file."""
    return "\n".join(f"{file.size:>14,}  {file.path}" for file in files)
