"""Exported models in `hf-asr profile`: CTranslate2 and ONNX, in a temporary folder, run by their runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch

from hf_asr.errors import UserError
from hf_asr.export.formats import FORMATS
from hf_asr.export.graphs import ENCODER, FIRST, IDS, LOGITS, NEXT, STATES, STATES_MASK, WHOLE
from hf_asr.export.onnx import SEQ2SEQ, Session, write_graphs
from hf_asr.export.source import Source, stock_model
from hf_asr.export.verify import GREEDY, decode_instead
from hf_asr.profiling.clips import ProfileClip
from hf_asr.profiling.quality import FreeDecoding
from hf_asr.profiling.runners import Runner, Stopwatch, windows_of
from hf_asr.profiling.subject import Subject
from hf_asr.profiling.variants import NotAvailable
from hf_asr.utterance import Seconds

# Rows of other types would be those of these weights: --dtype does not reach them.
QUANTIZATION = "float32"


class Parts(Protocol):
    """An exported model, as far as a speed row asks."""

    def __call__(self, batch: Mapping[str, np.ndarray], tokens: int, watch: Stopwatch) -> np.ndarray:
        """Return token ids (B, L), greedy, as many as asked for; lap after each stage."""


@dataclass
class ExportRunner:
    """An exported model in its runtime.

    Attributes:
        subject: What was exported.
        format: Key of ``FORMATS``.
        parts: It, loaded, stage by stage.
        runtime: It in the place of the model in the family's ``decode``; None where there is no tokenizer.
    """

    subject: Subject
    format: str
    parts: Parts
    runtime: Any = None

    def __call__(self, clips: Sequence[np.ndarray], tokens: int, watch: Stopwatch) -> list[list[int]]:
        """Run a batch, see :class:`Runner`."""
        written = []
        for window in windows_of(self.subject, clips):
            batch = {name: value.numpy() for name, value in self.subject.inputs(self.subject.shapes, window).items()}
            watch.lap("features")
            written.append(self.parts(batch, tokens, watch))
        ids: list[list[int]] = np.concatenate(written, axis=1).tolist()
        if self.subject.writes:
            self.subject.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
            watch.lap("detokenise")
        return ids

    def write(self, clips: Sequence[ProfileClip]) -> list[str]:
        """Decode freely, as ``hf-asr export --verify`` does.

        Raises:
            ValueError: A clip is beyond the model's window: the decoding of long files is transformers' own.
        """
        longest: Seconds = max(len(clip.samples()) for clip in clips) / 16_000
        if longest > self.subject.longest_seconds:
            raise ValueError(f"no WER at {longest:g} s: {self.format} decodes single windows")
        family, format = self.subject.family, FORMATS[self.format]
        options = GREEDY if format.greedy and self.subject.has_decoder else {}
        format.check_decoding({**family.decoding_options(self.subject.arguments), **options})
        instead = replace(family, decode=partial(decode_instead, family, self.runtime))
        return FreeDecoding(replace(self.subject, family=instead), self.subject.load(), "full", options)(clips)

    def modules(self) -> None:
        """Return nothing: it is not made of torch's modules."""


@dataclass
class CTranslate2Parts:
    """A Whisper in CTranslate2; its decoder's first token cannot be told from the others.

    Attributes:
        model: ``ctranslate2.models.Whisper``.
        prompt: Start, and no timestamps: without it CTranslate2 looks for them at every token.
        end: Id that ends a text; it is never written, so that all texts are of one length.
    """

    model: Any
    prompt: Sequence[int]
    end: int

    def __call__(self, batch: Mapping[str, np.ndarray], tokens: int, watch: Stopwatch) -> np.ndarray:
        """Encode and write."""
        from ctranslate2 import StorageView

        features = np.ascontiguousarray(batch["input_features"])
        states = self.model.encode(StorageView.from_array(features))
        watch.lap("encoder")
        written = self.model.generate(
            states,
            [list(self.prompt)] * len(features),
            beam_size=1,
            # Of m it writes min(m / 2, m - p + 1) tokens behind a prompt of p, see hf_asr/export/ctranslate2.py.
            max_length=max(2 * tokens, tokens + len(self.prompt) - 1),
            suppress_blank=False,
            suppress_tokens=[self.end],
        )
        watch.lap("decoder")
        return np.array([result.sequences_ids[0] for result in written])


@dataclass
class OnnxParts:
    """Three graphs: an encoder, a decoder for the prompt, a decoder with a past.

    Attributes:
        encoder: Features to states.
        first: The prompt and states to logits, keys and values.
        following: One token and those of the past to logits and longer ones.
        start: Id that a text begins with.
    """

    encoder: Session
    first: Session
    following: Session
    start: int

    def __call__(self, batch: Mapping[str, np.ndarray], tokens: int, watch: Stopwatch) -> np.ndarray:
        """Encode and write, the end token treated as any other."""
        encoded = self.encoder(batch)
        watch.lap("encoder")
        known = {STATES: encoded["last_hidden_state"]}
        known |= {name: encoded[name] for name in (STATES_MASK,) if name in encoded}
        outputs = self.first({IDS: np.full((len(known[STATES]), 1), self.start), **known})
        ids = [outputs[LOGITS][:, -1].argmax(-1)]
        watch.lap("first_token")
        for _ in range(tokens - 1):
            known |= {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
            outputs = self.following({**known, IDS: ids[-1][:, None]})
            ids.append(outputs[LOGITS][:, -1].argmax(-1))
        watch.lap("tokens")
        return np.stack(ids, axis=1)


@dataclass
class OnnxFrames:
    """One graph of a CTC model.

    Attributes:
        graph: Inputs to logits.
    """

    graph: Session

    def __call__(self, batch: Mapping[str, np.ndarray], tokens: int, watch: Stopwatch) -> np.ndarray:
        """Return the best path (B, S)."""
        ids: np.ndarray = self.graph(batch)[LOGITS].argmax(-1)
        watch.lap("encoder")
        return ids


def ctranslate2(folder: Path, subject: Subject, device: torch.device) -> Runner:
    """Export a Whisper to CTranslate2 and load it.

    Args:
        folder: Where the export lies while it is loaded.
        subject: The model.
        device: A CPU.

    Raises:
        NotAvailable: It cannot be exported, or not without a tokenizer.
    """
    source = _source("ctranslate2", subject, device)
    if not subject.writes:
        raise NotAvailable("CTranslate2's converter reads a tokenizer, config:NAME has none; give --tokenizer")
    with TemporaryDirectory(dir=folder, prefix="export-") as temporary:
        out = Path(temporary, "ctranslate2")
        FORMATS["ctranslate2"].write(stock_model(source), source, out, QUANTIZATION)
        writer = FORMATS["ctranslate2"].open(out, source)
    tokenizer = subject.processor.tokenizer
    prompt = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
    parts = CTranslate2Parts(writer.model, prompt, tokenizer.eos_token_id)
    return ExportRunner(subject, "ctranslate2", parts, writer)


def onnx(folder: Path, subject: Subject, device: torch.device) -> Runner:
    """Export a model to ONNX and load it into onnxruntime.

    Args:
        folder: Where the graphs lie while they are loaded.
        subject: The model; it needs no tokenizer.
        device: A CPU.

    Raises:
        NotAvailable: It cannot be exported.
    """
    source = _source("onnx", subject, device)
    with TemporaryDirectory(dir=folder, prefix="export-") as temporary:
        out = Path(temporary)
        write_graphs(stock_model(source), source, out)
        runtime = FORMATS["onnx"].open(out, source)
        if subject.family.name not in SEQ2SEQ:
            return ExportRunner(subject, "onnx", OnnxFrames(Session(out / f"{WHOLE}.onnx")), runtime)
        encoder, first, following = (Session(out / f"{name}.onnx") for name in (ENCODER, FIRST, NEXT))
    start = int(source.model.config.decoder_start_token_id)
    return ExportRunner(subject, "onnx", OnnxParts(encoder, first, following, start), runtime)


def _source(name: str, subject: Subject, device: torch.device) -> Source:
    """Load a model that a format can hold."""
    if device.type != "cpu":
        raise NotAvailable(f"{name} is timed on a CPU, where hf-asr export runs what it wrote; not on {device.type}")
    format = FORMATS[name]
    try:
        format.require()
        format.check(subject.family.name, subject.config.model_type)
    except UserError as error:
        raise NotAvailable(str(error)) from error
    return Source(subject.family, subject.arguments, subject.processor, subject.load())
