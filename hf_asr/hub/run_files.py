"""What a push of a run sends: which files, under which names, and what is left of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from hf_asr.errors import UserError
from hf_asr.hub.curves import scalar_events
from hf_asr.hub.privacy import last_part, public_value

# The card's snippet names this folder while it lies in the run folder, and the repository once it is pushed.
LOCAL_MODEL = "best_checkpoint"
ADAPTER = "adapter"
REPORT = "report.html"
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
# Of a run's own files, the ones that a reader of the card may want.
RUN_TEXTS = ("environment.json", "resources.json", "metrics_on_all_epochs.json")


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

    def read(self) -> bytes:
        """Return what will be sent."""
        return self.source.read_bytes() if self.content is None else self.content


def list_push_files(run_dir: Path, repo: str = "", *, report: bool = False) -> list[PushFile]:
    """Return what a push of this run sends, best checkpoint first.

    Texts are sent with local paths cut to names and speakers' ids hashed; the run folder stays as it is.

    Args:
        run_dir: A run folder.
        repo: Name of the repository, for the card's snippet; empty leaves the card as it is.
        report: Whether the report page is sent, which shows texts and plays voices of clips.

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
    files = list(model_files(best))
    if not any(file.path.endswith(".safetensors") for file in files):
        raise UserError(
            f"expected weights as safetensors in {best}, found none. Train again or copy the checkpoint there."
        )
    if (run_dir / ADAPTER).is_dir():
        files += model_files(run_dir / ADAPTER, f"{ADAPTER}/")
    return [*files, *_texts(run_dir, card, results, repo), *_curves(run_dir), *_pages(run_dir, report)]


def model_files(folder: Path, prefix: str = "") -> Iterator[PushFile]:
    """Yield what plain ``from_pretrained`` reads of a checkpoint, by name; ``prefix`` is its folder on the Hub."""
    for path in sorted(folder.iterdir()):
        if _matches(path, MODEL_FILES):
            scrubbed = _matches(path, SCRUBBED)
            content = json_bytes(public_value(read_run_file(path))) if scrubbed else None
            yield PushFile(f"{prefix}{path.name}", path, content)


def public_config(path: Path) -> PushFile:
    """Return a run's ``config.yaml`` as it may be published."""
    values = public_value(read_run_file(path))
    return PushFile("config.yaml", path, yaml.safe_dump(values, allow_unicode=True, sort_keys=False).encode())


def _texts(run_dir: Path, card: Path, results: Path, repo: str) -> Iterator[PushFile]:
    text = card.read_text(encoding="utf-8")
    if repo:
        text = text.replace(f'"{LOCAL_MODEL}"', f'"{repo}"')
    yield PushFile("README.md", card, text.encode())
    yield PushFile("test_results.json", results, json_bytes(public_value(read_run_file(results))))
    for name in RUN_TEXTS:
        if (run_dir / name).is_file():
            yield PushFile(name, run_dir / name, json_bytes(public_value(read_run_file(run_dir / name))))
    if (run_dir / "config.yaml").exists():
        yield public_config(run_dir / "config.yaml")


def _curves(run_dir: Path) -> Iterator[PushFile]:
    """Yield the TensorBoard traces, numbers alone, under names that do not tell the machine's."""
    traces = sorted((run_dir / "tensorboard").glob("events.out.tfevents.*"))
    for number, path in enumerate(traces):
        seconds = path.name.removeprefix("events.out.tfevents.").split(".")[0]
        if content := scalar_events(path):
            yield PushFile(f"runs/events.out.tfevents.{seconds}.hf-asr.{number}", path, content)


def _pages(run_dir: Path, report: bool) -> Iterator[PushFile]:
    page = run_dir / "test" / REPORT
    if report and page.is_file():
        yield PushFile(REPORT, page, _without_places(page.read_text(encoding="utf-8"), run_dir).encode())


def _without_places(page: str, run_dir: Path) -> str:
    """Return a page without the folders that this run knows: slashes of HTML look like paths to a pattern."""
    folders = {str(Path.home()), str(run_dir.resolve()), os.getcwd()}
    config = run_dir / "config.yaml"
    if config.is_file():
        folders |= set(_absolute_paths(read_run_file(config)))
    for folder in sorted(folders, key=len, reverse=True):
        if len(folder) > 1:
            page = page.replace(folder, last_part(folder))
    return page


def _absolute_paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _absolute_paths(item)
    elif isinstance(value, str) and os.path.isabs(value):
        yield value
        yield os.path.dirname(value)


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)


def read_run_file(path: Path) -> Any:
    """Return what a JSON or YAML file of a run holds.

    Raises:
        UserError: It is not whole.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"expected a whole file, found {path} that cannot be read ({error}); put back the run's own"
        ) from error


def json_bytes(value: Any) -> bytes:
    """Return a value as a JSON file has it."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
