"""One tiny checkpoint and one tiny corpus for each family, for the tests that every family must pass.

A family joins with one line in ``TINY``; its checkpoint is made by a file of its own, ``helpers/tiny_NAME.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from helpers.family_training import spoken
from helpers.tiny_audio_llm import make_tiny_audio_llm
from helpers.tiny_classifier import make_tiny_wav2vec2
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_moonshine import make_tiny_moonshine
from helpers.tiny_parakeet import make_tiny_parakeet
from helpers.tiny_speech2text import make_tiny_speech2text
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.corpora import build_splits
from hf_asr.features.extract import ClipEncoder
from hf_asr.models import FAMILIES
from hf_asr.models.family import ModelFamily

# Eight clips whose labels are of eight lengths, spoken by tones: 0.6 s to 1.6 s.
TEXTS = ("one", "two six", "three", "four nine", "five", "six seven", "seven", "eight ten")


def make_family_corpus(folder: Path) -> Path:
    """Write eight clips and ``manifest.csv`` (path, text, label, number, speaker, split); return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,text,label,number,speaker,split"]
    for index, text in enumerate(TEXTS):
        clip = encode(spoken(text, seconds_a_letter=0.2), SAMPLE_RATE, "wav")
        (folder / f"clip{index}.wav").write_bytes(clip)
        lines.append(f"clip{index}.wav,{text},{('low', 'high')[index % 2]},{index / 4},speaker{index % 3},train")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def tiny_arguments(folder: Path, checkpoint: Path, *, label: str | None = None, **model: Any) -> Arguments:
    """Return the configuration of a checkpoint on a corpus made in ``folder``.

    Args:
        folder: Where the corpus goes.
        checkpoint: The model.
        label: Column of the corpus that a classifier learns (``label``, ``number``).
        model: Other keys of the model section.
    """
    columns = {"split": "split"} | ({"label": label} if label else {})
    data = DataArguments(corpus="manifest", path=str(make_family_corpus(folder)), language="en", columns=columns)
    data.splits, data.max_seconds = {"train": "train"}, 4.0
    arguments = Arguments(ExperimentArguments("tiny"), ModelArguments(str(checkpoint), **model), data)
    arguments.features.cache_dir, arguments.features.num_proc = str(folder / "cache"), 1
    arguments.evaluation.generation = {}
    return arguments


def _whisper(folder: Path) -> Arguments:
    return tiny_arguments(folder / "corpus", make_tiny_whisper(folder / "model", chunk_length=2))


def _speech2text(folder: Path) -> Arguments:
    return tiny_arguments(folder / "corpus", make_tiny_speech2text(folder / "model", max_target_positions=40))


def _moonshine(folder: Path) -> Arguments:
    return tiny_arguments(folder / "corpus", make_tiny_moonshine(folder / "model"))


def _parakeet_tdt(folder: Path) -> Arguments:
    return tiny_arguments(folder / "corpus", make_tiny_parakeet(folder / "model"))


def _audio_llm(folder: Path) -> Arguments:
    arguments = tiny_arguments(folder / "corpus", make_tiny_audio_llm(folder / "model", chunk_length=2))
    arguments.evaluation.generation = {"max_new_tokens": 8}
    return arguments


def _ctc(folder: Path) -> Arguments:
    return tiny_arguments(folder / "corpus", make_tiny_ctc(folder / "model", "mms"))


def _classifier(folder: Path) -> Arguments:
    checkpoint = make_tiny_whisper(folder / "model", chunk_length=2)
    arguments = tiny_arguments(folder / "corpus", checkpoint, label="text", family="classifier")
    arguments.experiment.seed = 0
    return _with_head(arguments)


def _regressor(folder: Path) -> Arguments:
    arguments = tiny_arguments(
        folder / "corpus", make_tiny_wav2vec2(folder / "model"), label="number", family="regressor"
    )
    arguments.head.task = "regression"
    return _with_head(arguments)


def _with_head(arguments: Arguments) -> Arguments:
    arguments.head.dropout, arguments.head.scales, arguments.head.blocks = 0.0, [1, 2], 1
    return arguments


TINY: Mapping[str, Callable[[Path], Arguments]] = {
    "whisper": _whisper,
    "speech2text": _speech2text,
    "moonshine": _moonshine,
    "parakeet_tdt": _parakeet_tdt,
    "audio_llm": _audio_llm,
    "classifier": _classifier,
    "regressor": _regressor,
    "ctc": _ctc,
}


@dataclass
class Parts:
    """A family at work.

    Attributes:
        family: The family.
        arguments: The configuration.
        processor: Its processor.
        encoder: Rows to features and labels.
        rows: The corpus's rows, undecoded.
        encoded: The same rows encoded.
    """

    family: ModelFamily
    arguments: Arguments
    processor: Any
    encoder: ClipEncoder
    rows: Any
    encoded: list[dict[str, Any]]

    @classmethod
    def of(cls, name: str, folder: Path) -> Parts:
        """Build a family's checkpoint and corpus in ``folder`` and load what a recipe loads before the weights."""
        family, arguments = FAMILIES[name], TINY[name](folder)
        split = build_splits(arguments.data, seed=0, names=["train"])["train"]
        processor = family.load_processor(arguments, split.rows)
        config = family.load_config(arguments, processor)
        encoder = family.make_encoder(processor, config, arguments)
        encoded = [encoder(row) for row in split.rows]
        assert [row["error"] for row in encoded] == [""] * len(TEXTS)
        return cls(family, arguments, processor, encoder, split, encoded)

    def model(self, gain: float = 1.0) -> Any:
        """Load a fresh model.

        Args:
            gain: Factor on all matrices; at 1 a random model writes the same whatever it hears.
        """
        model = self.family.load_model(self.arguments, self.processor).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1 and gain != 1:  # a quantised matrix takes no factor
                    parameter.mul_(gain)
        return model

    def collate(self, model: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate encoded rows."""
        return dict(self.family.make_collator(self.processor, model)(rows))

    def decoded(self, model: Any, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Decode encoded rows as one batch."""
        with torch.no_grad():
            options = self.family.decoding_options(self.arguments)
            return self.family.decode(model, self.processor, self.collate(model, rows), options)


def tensors_of(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return what the model is given of a batch: all tensors but the labels."""
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor) and name != "labels"}
