"""Commits to the Hub that survive it: what passes is tried again, what is there already is not sent twice.

The Hub stores large files by their SHA-256. A push that was cut, or a process that was killed, is therefore resumed by
pushing again: the client asks which of them are there and sends the others. Files that have not changed make no
commit. The client itself tries each upload again six times; here the calls that it makes only once are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from typing import Any, TypeVar

from httpx2 import TransportError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

from hf_asr.errors import UserError
from hf_asr.hub.run_files import MODEL_FILES, PushFile

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Seconds between tries; a server's own Retry-After comes before them, up to the longest wait.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_WAIT = 300.0
# 409 and 412: somebody else has just committed; then come too many requests, and servers that are down for a moment.
PASSING = frozenset((409, 412, 429, 500, 502, 503, 504))
# Files of one commit: what is in the repository already is safe when a later commit fails.
FILES_AT_ONCE = 20
FAILURES = (HTTPError, OSError, RuntimeError, ValueError)


def send(
    api: HfApi,
    repo: str,
    files: Sequence[PushFile],
    *,
    private: bool | None,
    message: str,
    repo_type: str = "model",
) -> str:
    """Create a repository when it is not there and commit files to it, in the order given.

    Args:
        api: The client, with its token.
        repo: ``ORG/NAME``.
        files: What is sent; a model's in one commit, a data set's in several.
        private: True makes a new repository private, and refuses one that is there and public; False makes it public;
            None leaves it to the account.
        message: Of the commits.
        repo_type: ``model`` or ``dataset``.

    Returns:
        The repository's address.

    Raises:
        UserError: The Hub refuses it, or cannot be reached; never with the token.
    """
    try:
        url = retried(
            partial(api.create_repo, repo, repo_type=repo_type, private=private, exist_ok=True), f"creating {repo}"
        )
        info: Any = retried(partial(api.repo_info, repo, repo_type=repo_type), f"asking for {repo}")
        _check_private(info, repo, bool(private))
        stale = stale_files([item.rfilename for item in info.siblings or []], files) if repo_type == "model" else []
        for number, part in enumerate(_parts(files, repo_type), start=1):
            told = message if number == 1 else f"{message}, part {number}"
            retried(partial(_commit, api, repo, part, told, repo_type, stale), f"committing to {repo}")
    except UserError:
        raise
    except FAILURES as error:
        raise UserError(explain(error, repo, api.endpoint).replace(str(api.token), "***")) from error
    return str(url)


def retried(call: Callable[[], Result], what: str) -> Result:
    """Return what a call gives, trying again when its failure is one that passes.

    Raises:
        HTTPError: It does not pass, or not in time.
    """
    for wait in WAITS:
        try:
            return call()
        except (HfHubHTTPError, TransportError) as error:
            if not passes(error):
                raise
            seconds = wait_asked(error) or wait
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else type(error).__name__
            logger.warning("%s: %s; again in %g s", what, status, seconds)
            time.sleep(seconds)
    return call()


def passes(error: Exception) -> bool:
    """Tell whether a failure may be gone in a moment: a cut connection, a busy server, somebody else's commit."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    return isinstance(error, TransportError) and not isinstance(error, OfflineModeIsEnabled)


def wait_asked(error: Exception) -> float:
    """Return the seconds that a server asks to wait; 0 when it does not say."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else 0.0


def stale_files(there: Sequence[str], files: Sequence[PushFile]) -> list[str]:
    """Return a model's files of an earlier push that this one has not: adapters beside merged weights, other shards."""
    names = {file.path for file in files}
    if not any(name.endswith(".safetensors") for name in names):
        return []
    of_a_model = [name for name in there if "/" not in name and any(fnmatch(name, form) for form in MODEL_FILES)]
    return [name for name in of_a_model if name not in names]


def _commit(
    api: HfApi, repo: str, files: Sequence[PushFile], message: str, repo_type: str, stale: Sequence[str]
) -> None:
    # Operations are used up by a commit, also by one that failed. Weights go by path, never wholly in memory.
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(file.path, str(file.source) if file.content is None else file.content) for file in files
    ]
    operations += [CommitOperationDelete(name) for name in stale]
    api.create_commit(repo, operations, commit_message=message, repo_type=repo_type)


def _parts(files: Sequence[PushFile], repo_type: str) -> Iterator[Sequence[PushFile]]:
    size = FILES_AT_ONCE if repo_type == "dataset" else max(len(files), 1)
    for first in range(0, len(files), size):
        yield files[first : first + size]


def _check_private(info: Any, repo: str, private: bool) -> None:
    """Refuse to put what should stay private into a repository that everybody reads."""
    if private and info.private is False:
        raise UserError(
            f"expected {repo} to be private, since hub.private is true or a corpus lies on this machine, found it "
            "public. Make it private in its settings, take another name, or say hub.private=false (`hf-asr push "
            "--public`)."
        )


def explain(error: Exception, repo: str, endpoint: str) -> str:
    """Return what was expected, found and to do for whatever stopped a push."""
    if isinstance(error, OfflineModeIsEnabled):
        return f"expected to reach {endpoint}, found HF_HUB_OFFLINE set. Unset it and push again."
    if isinstance(error, HFValidationError):
        return f"expected --repo ORG/NAME, found {repo!r}: {error}"
    if isinstance(error, HfHubHTTPError):
        status, told = error.response.status_code, error.server_message or "no reason given"
        if status in (401, 403):
            return (
                f"expected a token that may write to {repo}, found that {endpoint} refuses it ({status}: {told}). "
                "Make a token with write access to that account and give it with `hf auth login` or HF_TOKEN."
            )
        tried = f" after {len(WAITS) + 1} tries" if status in PASSING else ""
        return (
            f"expected {endpoint} to take the push to {repo}, found {status}{tried}: {told}. Mend that and push again: "
            "what has arrived is not sent twice."
        )
    if isinstance(error, ValueError):
        return f"expected files that {endpoint} takes, found: {error}. Change hub.card or hub.license and push again."
    return f"expected to reach {endpoint}, found: {error}. Check the network (and HF_ENDPOINT) and push again."
