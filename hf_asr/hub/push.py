"""A run to the Hub: its card, its best checkpoint and its test results, in one commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

from hf_asr.config.arguments import HubArguments
from hf_asr.errors import UserError
from hf_asr.hub.privacy import public_value

# The card's snippet names this folder while it lies in the run folder, and the repository once it is pushed.
LOCAL_MODEL = "best_checkpoint"
# What plain from_pretrained reads. Everything else of a checkpoint (optimizer, training_args.bin with its pickled
# paths, random states) is for resuming here and is nobody else's.
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.spm",
    "*.model",
)
# Of those, the ones that may hold a local path (name_or_path and its like); the rest are weights and vocabularies.
SCRUBBED = ("*config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class PushFile:
    """One file of the repository to be: a file on disk, or bytes made for it.

    Attributes:
        path: Where it will be in the repository.
        source: The file it is or was made from.
        content: Its bytes when they differ from the file's; None to send the file as it is.
    """

    path: str
    source: Path
    content: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes that will be sent."""
        return self.source.stat().st_size if self.content is None else len(self.content)


def list_push_files(run_dir: Path, repo: str = "") -> list[PushFile]:
    """Return what a push of this run sends, best checkpoint first.

    Texts are sent with local paths cut to names and speakers' ids hashed; the run folder stays as it is.

    Args:
        run_dir: A run folder.
        repo: Name of the repository, for the card's snippet; empty leaves the card as it is.

    Raises:
        UserError: The folder is no finished run.
    """
    best, card, results = run_dir / LOCAL_MODEL, run_dir / "README.md", run_dir / "test" / "test_results.json"
    missing = [str(path.relative_to(run_dir)) for path in (best, card, results) if not path.exists()]
    if missing:
        raise UserError(
            f"expected the folder of a finished run, found {run_dir} without {', '.join(missing)}. "
            "Let the recipe run to its end, then push again."
        )
    files = [_model_file(path) for path in sorted(best.iterdir()) if _matches(path, MODEL_FILES)]
    if not any(file.path.endswith(".safetensors") for file in files):
        raise UserError(
            f"expected weights as safetensors in {best}, found none. Train again or copy the checkpoint there."
        )
    return [*files, *_texts(run_dir, card, results, repo)]


def _texts(run_dir: Path, card: Path, results: Path, repo: str) -> Iterator[PushFile]:
    text = card.read_text(encoding="utf-8")
    if repo:
        text = text.replace(f'model="{LOCAL_MODEL}"', f'model="{repo}"')
    yield PushFile("README.md", card, text.encode())
    scored = public_value(json.loads(results.read_text(encoding="utf-8")))
    yield PushFile("test_results.json", results, _json_bytes(scored))
    config = run_dir / "config.yaml"
    if config.exists():
        values = public_value(yaml.safe_load(config.read_text(encoding="utf-8")))
        content = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
        yield PushFile("config.yaml", config, content.encode())


def _model_file(path: Path) -> PushFile:
    if not _matches(path, SCRUBBED):
        return PushFile(path.name, path)
    return PushFile(path.name, path, _json_bytes(public_value(json.loads(path.read_text(encoding="utf-8")))))


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def check_push(hub: HubArguments) -> None:
    """See, before hours of training, that a push at its end has what it needs.

    Raises:
        UserError: A push is asked for, and this machine is offline or has no token.
    """
    found = "HF_HUB_OFFLINE set" if is_offline_mode() else "" if get_token() else "no token with write access"
    if hub.push and found:
        raise UserError(
            f"hub.push: expected to reach the Hub at the end of the training, found {found}. Mend that (`hf auth "
            "login` stores a token), or set hub.push=false and push later with `hf-asr push`."
        )


def push_run(run_dir: Path, repo: str | None, private: bool, token: str | None = None) -> str:
    """Create the repository when it is not there, and commit the run's files to it.

    Args:
        run_dir: A run folder.
        repo: ``ORG/NAME`` on the Hub that ``HF_ENDPOINT`` names (default huggingface.co).
        private: Whether a new repository is private; one that is there keeps its visibility.
        token: Token with write access; None takes the one of ``hf auth login`` or ``HF_TOKEN``. It is neither
            printed nor stored.

    Returns:
        The repository's address.

    Raises:
        UserError: No repository, no finished run, no token, no permission, no network, or a card that the Hub refuses.
    """
    if repo is None:
        raise UserError("expected hub.repo: ORG/NAME, found none. Set it, or push later with `hf-asr push`.")
    files = list_push_files(run_dir, repo)
    secret = token or get_token()
    if secret is None:
        raise UserError(
            "expected a Hub token with write access, found none. Run `hf auth login`, or set HF_TOKEN, and push again."
        )
    api = HfApi(token=secret)
    # Weights go by path, so that they are never wholly in memory.
    operations = [CommitOperationAdd(file.path, file.content or str(file.source)) for file in files]
    try:
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        api.create_commit(repo, operations, commit_message=f"Push {run_dir.resolve().name} with hf_asr")
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise UserError(_explain(error, repo, api.endpoint).replace(secret, "***")) from error
    return str(url)


def _explain(error: Exception, repo: str, endpoint: str) -> str:
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
        return f"expected {endpoint} to take the push to {repo}, found {status}: {told}. Mend that and push again."
    if isinstance(error, ValueError):
        return f"expected files that {endpoint} takes, found: {error}. Change hub.card or hub.license and push again."
    return f"expected to reach {endpoint}, found: {error}. Check the network (and HF_ENDPOINT) and push again."
