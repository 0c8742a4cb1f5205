"""What an unadapted model gives under each setting of gate (a): NLL and hypothesis of every clip, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from gate_clips import GateClip, later

from hf_asr.config.arguments import Arguments
from hf_asr.data.audio import BrokenAudio
from hf_asr.errors import UserError
from hf_asr.features.collate import IGNORED
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.positions import WindowChoice
from hf_asr.files import write_whole
from hf_asr.inference.generate import progress_bar, to_device
from hf_asr.inference.states import encoding_once
from hf_asr.models import get_family
from hf_asr.models.family import ModelFamily, collator_for

# The floor: full windows of the same audio, this much later.
FLOOR_SECONDS = 0.02


@dataclass(frozen=True)
class Setting:
    """One way to run the model.

    Attributes:
        name: ``full``, ``floor``, or ``thinned KEEP/STRIDE/RUN``.
        window: What is computed of the window.
        delay: Silence before each clip, in seconds.
    """

    name: str
    window: WindowChoice
    delay: float = 0.0

    @property
    def file(self) -> str:
        """Name of the file that keeps its clips."""
        return self.name.replace(" ", "-").replace("/", "-") + ".jsonl"


def settings(keeps: Sequence[float], strides: Sequence[int], runs: Sequence[int]) -> list[Setting]:
    """Return the full window, the floor, and a thinned one for each choice of the three."""
    thinned = [
        Setting(f"thinned {keep:g}/{stride}/{run}", WindowChoice("thinned", keep, stride, run))
        for keep, stride, run in product(keeps, strides, runs)
    ]
    return [Setting("full", WindowChoice()), Setting("floor", WindowChoice(), FLOOR_SECONDS), *thinned]


@dataclass
class Rig:
    """A model that is measured.

    Attributes:
        family: Its family.
        processor: Its processor.
        model: The model, taking plans.
        encoder: Clips to features and labels.
        generation: Options of ``generate``, the same for every setting.
        batch_size: Clips computed together.
    """

    family: ModelFamily
    processor: Any
    model: Any
    encoder: ClipEncoder
    generation: Mapping[str, Any]
    batch_size: int

    @classmethod
    def of(cls, arguments: Arguments, generation: Mapping[str, Any], batch_size: int, device: str) -> Rig:
        """Load what a configuration names."""
        arguments.evaluation.window = "thinned"  # loads a model that takes plans; without one it is the stock model
        family = get_family(arguments.model)
        processor = family.load_processor(arguments, None)
        model = family.load_model(arguments, processor).eval().to(device)  # type: ignore[arg-type]
        encoder = family.make_encoder(processor, model.config, arguments)
        family.check_decoding(model, generation)
        return cls(family, processor, model, encoder, generation, batch_size)

    def measure(self, clips: Sequence[GateClip], setting: Setting) -> Iterator[dict[str, Any]]:
        """Yield what each clip gives, or why it cannot be used; clips of like length together."""
        collate = collator_for(self.family, self.processor, self.model, setting.window)
        ordered = sorted(clips, key=lambda clip: (-clip.seconds, clip.id))
        for first in range(0, len(ordered), self.batch_size):
            part = ordered[first : first + self.batch_size]
            rows = {clip.id: self._encoded(clip, setting.delay) for clip in part}
            kept = [clip for clip in part if not rows[clip.id]["error"]]
            yield from ({"id": clip.id, "error": rows[clip.id]["error"]} for clip in part if clip not in kept)
            if kept:
                yield from self._of_batch(kept, collate([rows[clip.id] for clip in kept]))

    def _encoded(self, clip: GateClip, delay: float) -> dict[str, Any]:
        row = {"id": clip.id, "text": clip.text, "label": "", "speaker": clip.speaker}
        try:
            samples = clip.samples(self.encoder.level, self.encoder.trim_silence)
        except BrokenAudio as error:
            return row | {"error": f"broken_audio: {error}"}
        return self.encoder.encode(row, later(samples, delay))

    @torch.no_grad()
    def _of_batch(self, clips: Sequence[GateClip], batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        given = to_device(batch, self.model)
        plan = {name: given[name] for name in ("positions", "log_weights") if name in given}
        with encoding_once(self.model, self.family.encoder_inputs):
            outputs = self.model(given["input_features"], decoder_input_ids=given["decoder_input_ids"], **plan)
            texts = self.family.decode(self.model, self.processor, given, self.generation)
        labels = given["labels"]
        each = torch.nn.functional.cross_entropy(
            outputs.logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        whole = torch.full((len(clips),), self.model.config.max_source_positions)
        if "log_weights" in plan:
            positions = plan["log_weights"].isfinite().sum(1)
        else:  # nothing is thinned or padded: every clip of the batch keeps equally many
            positions = torch.full((len(whole),), plan["positions"].shape[1]) if plan else whole
        columns = (each.sum(1).tolist(), labels.ne(IGNORED).sum(1).tolist(), positions.tolist(), texts)
        for clip, nll, tokens, computed, text in zip(clips, *columns, strict=True):
            yield {"id": clip.id, "nll": nll, "tokens": tokens, "positions": computed, "hypothesis": text}


def measured(folder: Path, rig: Rig, clips: Sequence[GateClip], setting: Setting) -> dict[str, dict[str, Any]]:
    """Return what a setting gives for each clip; what is in the folder already is not run again.

    A line is written a clip, so that a run that is killed goes on where it was.
    """
    path = folder / setting.file
    done = read_lines(path)
    left = [clip for clip in clips if clip.id not in done]
    with path.open("a", encoding="utf-8") as file, progress_bar(enabled=True) as bar:
        task = bar.add_task(f"{folder.name}: {setting.name}", total=len(left))
        for record in rig.measure(left, setting):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            done[record["id"]] = record
            bar.advance(task)
    return {clip.id: done[clip.id] for clip in clips}


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Return the whole lines of a file by their ids, and cut off one that a kill left unfinished."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines.pop():
        write_whole(path, "".join(line + "\n" for line in lines))
    return {record["id"]: record for record in map(json.loads, lines)}


def check_same_run(folder: Path, made_with: Mapping[str, Any]) -> None:
    """See that a folder's clips were measured with the same model, in the same way; a new folder notes it down.

    Raises:
        UserError: They were not.
    """
    path = folder / "made_with.json"
    now = json.loads(json.dumps(made_with))
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(now, indent=2) + "\n")
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [f"{name} is {now[name]}, was {before.get(name)}" for name in now if now[name] != before.get(name)]
    if changed:
        raise UserError(
            f"--output: expected what {folder} was made with, found that {'; '.join(changed)}. Take another."
        )
