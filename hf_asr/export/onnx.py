"""ONNX: encoder and two decoders of an encoder-decoder, one graph of a CTC model; run greedily by onnxruntime.

The window of a Whisper is always the full one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedConfig, PreTrainedModel
from transformers.generation.logits_process import (
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from hf_asr.export.decoding import SHARED, Rules, check_options, rules_of
from hf_asr.export.format import Format, not_served
from hf_asr.export.graphs import (
    ENCODER,
    FIRST,
    IDS,
    LOGITS,
    MASK,
    NEXT,
    STATES,
    STATES_MASK,
    WHOLE,
    ctc_graph,
    seq2seq_graphs,
)
from hf_asr.export.source import Source

# Families with an encoder and a decoder to the encoder's input and whether it takes a mask.
SEQ2SEQ: Mapping[str, tuple[str, bool]] = {
    "whisper": ("input_features", False),
    "speech2text": ("input_features", True),
}
# Beam and language model of a CTC model: they work on the graph's logits, in Python, as the original's.
CTC_OPTIONS = ("beam", "lm", "lm_weight", "word_score")


@dataclass(frozen=True)
class Emissions:
    """What a CTC model returns, as far as decoding looks at it."""

    logits: torch.Tensor


def check(family: str, model_type: str) -> None:
    """See that there is a graph for a model.

    Raises:
        UserError: There is none.
    """
    if family not in SEQ2SEQ and family != "ctc":
        served = f"a {', '.join(SEQ2SEQ)} or ctc model"
        raise not_served("onnx", family, served, "No graph is made of it. Use --format merged.")


def write(model: PreTrainedModel, source: Source, folder: Path, quantization: str) -> None:
    """Write a model's graphs, with configs, tokenizer and extractor beside them.

    Args:
        model: From :func:`hf_asr.export.source.stock_model`.
        source: Where it comes from.
        folder: A folder that exists.
        quantization: ``float32``.
    """
    write_graphs(model, source, folder)
    if source.family.name != "ctc":
        model.generation_config.save_pretrained(folder)
    model.config.save_pretrained(folder)
    source.processor.save_pretrained(folder)


def write_graphs(model: PreTrainedModel, source: Source, folder: Path) -> None:
    """Write a model's graphs alone, for which no tokenizer is needed.

    Args:
        model: From :func:`hf_asr.export.source.stock_model`.
        source: Where it comes from.
        folder: A folder that exists.
    """
    if source.family.name == "ctc":
        padder: Any = source.family.make_collator(source.processor, model)
        ctc_graph(model, padder.padder.name, padder.padder.with_mask).write(folder)
        return
    for graph in seq2seq_graphs(model, *SEQ2SEQ[source.family.name]):
        graph.write(folder)


class Session:
    """A graph in onnxruntime, on the CPU, with torch's number of threads."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [place.name for place in self._session.get_inputs()]
        self._outputs = [place.name for place in self._session.get_outputs()]

    def __call__(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph; of ``values`` it takes what it knows. Return its outputs by their names."""
        found = self._session.run(None, {name: values[name] for name in self.inputs})
        return dict(zip(self._outputs, found, strict=True))


class Writer:
    """Three graphs in the place of a transformers encoder-decoder, as far as a family's ``decode`` asks.

    Attributes:
        config: The original's config.
        generation_config: The original's generation config.
    """

    def __init__(self, folder: Path, config: PreTrainedConfig, generation_config: GenerationConfig) -> None:
        self.config = config
        self.generation_config = generation_config
        self._encoder, self._first, self._next = (Session(folder / f"{name}.onnx") for name in (ENCODER, FIRST, NEXT))

    def generate(self, **given: Any) -> torch.Tensor:
        """Write greedily.

        Args:
            given: ``input_features`` or ``input_values``, ``attention_mask``, and options of ``generate``.

        Returns:
            Ids int64 (B, L), the prompt first; what follows an end is filled.
        """
        names = ("input_features", "input_values", MASK)
        inputs = {name: _array(given.pop(name)) for name in names if name in given}
        rules = rules_of(self.config, self.generation_config, given)
        encoded = self._encoder(inputs)
        known = {STATES: encoded["last_hidden_state"], **_only(encoded, STATES_MASK)}
        ids = np.tile(np.array(rules.prompt, dtype=np.int64), (len(known[STATES]), 1))
        return torch.from_numpy(self._write(ids, known, rules))

    def _write(self, ids: np.ndarray, known: dict[str, np.ndarray], rules: Rules) -> np.ndarray:
        """Append tokens (B, 1) to ``ids`` (B, L) until every row has ended."""
        processors, ended = processors_of(rules), np.zeros(len(ids), dtype=bool)
        outputs = self._first({IDS: ids, **known})
        for step in range(rules.new_tokens):
            written: Any = torch.from_numpy(ids)
            scores = processors(written, torch.from_numpy(outputs[LOGITS][:, -1]))
            best = np.where(ended, rules.pad, scores.argmax(-1).numpy())
            ids = np.concatenate([ids, best[:, None]], axis=1)
            ended |= best == rules.end
            if ended.all() or step + 1 == rules.new_tokens:
                break
            # The first step gives all keys and values, later ones the decoder's own, which have grown.
            known |= {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
            outputs = self._next({**known, IDS: ids[:, -1:]})
        return ids


class Frames:
    """One graph in the place of a transformers CTC model.

    Attributes:
        config: The original's config.
    """

    def __init__(self, folder: Path, config: PreTrainedConfig) -> None:
        self.config = config
        self._graph = Session(folder / f"{WHOLE}.onnx")

    def __call__(self, **inputs: torch.Tensor) -> Emissions:
        """Return the logits (B, S, V)."""
        return Emissions(torch.from_numpy(self._graph({name: _array(value) for name, value in inputs.items()})[LOGITS]))


def processors_of(rules: Rules) -> LogitsProcessorList:
    """Return what changes the scores of each step, in transformers' order."""
    generation, found = rules.generation, LogitsProcessorList()
    if generation.repetition_penalty not in (None, 1.0):
        found.append(RepetitionPenaltyLogitsProcessor(generation.repetition_penalty))
    if generation.no_repeat_ngram_size:
        found.append(NoRepeatNGramLogitsProcessor(generation.no_repeat_ngram_size))
    if generation.begin_suppress_tokens:
        begin = SuppressTokensAtBeginLogitsProcessor(generation.begin_suppress_tokens, begin_index=len(rules.prompt))
        found.append(begin)
    if generation.suppress_tokens:
        found.append(SuppressTokensLogitsProcessor(generation.suppress_tokens))
    return found


def open_exported(folder: Path, source: Source) -> Writer | Frames:
    """Load what was written."""
    if source.family.name == "ctc":
        return Frames(folder, source.model.config)
    return Writer(folder, source.model.config, source.model.generation_config)


def computed(graphs: Writer | Frames) -> str:
    """Return the type that the graphs compute in."""
    return "float32"


def check_decoding(options: dict[str, Any]) -> None:
    """See that the graphs can be decoded as asked.

    Raises:
        UserError: They cannot.
    """
    check_options(options, (*SHARED, *CTC_OPTIONS), "greedy decoding of ONNX graphs")


def _array(tensor: torch.Tensor) -> np.ndarray:
    values = tensor.detach().cpu()
    found: np.ndarray = (values.float() if values.is_floating_point() else values).numpy()
    return found


def _only(values: Mapping[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    return {name: values[name] for name in names if name in values}


FORMAT = Format(
    name="onnx",
    quantizations=("float32",),
    packages=("onnx", "onnxscript", "onnxruntime"),
    runtime="onnxruntime",
    check=check,
    write=write,
    open=open_exported,
    computed=computed,
    check_decoding=check_decoding,
    greedy=True,
)
