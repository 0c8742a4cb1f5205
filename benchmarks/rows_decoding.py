"""The row of evaluation: loss and hypotheses of a split, the same number of tokens written on both sides."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import ours
import stock
from setting import Measured, Setting, alternate, timed, with_folder

from hf_asr.inference.generate import generate_dataset

CLIPS = 24


def evaluate(setting: Setting) -> list[dict[str, Any]]:
    """``trainer.evaluate()`` on both sides: stock with ``predict_with_generate``, in row order, 30-second windows."""
    setting = with_folder(setting, "evaluate")
    setting = replace(setting, checkpoint=setting.decoder or setting.checkpoint)
    clips = min(CLIPS, setting.speech.clips)
    made = {name: _ours(setting, clips, *keys) for name, keys in VARIANTS.items()}
    sides = {"stock": timed(_stock(setting, clips), clips)}
    sides |= {name: timed(side.trainer.evaluate, clips) for name, side in made.items()}
    measured = Measured(alternate(sides, setting.rounds), "seconds a clip")
    measured.about = {
        "what": "loss and greedy hypotheses of a validation, metrics included",
        "window": ours.shipped_window(setting),
        "new_tokens": setting.new_tokens,
        # An English-only decoder has neither language nor task.
        "label_tokens": len(made["ours"].prepared["validation"].rows[0]["labels"]),
        "identical_to_unsorted_and_unbatched": {name: _identical(side) for name, side in made.items()},
    }
    return [measured.row("evaluate", setting)]


EVALUATED = ("training.eval_strategy=epoch", "training.save_strategy=epoch")
THINNED = ("model.window=thinned", "evaluation.window=thinned")
VARIANTS: dict[str, tuple[str, ...]] = {
    "ours": THINNED,
    "stride 5": (*THINNED, "model.window_stride=5"),
    "full window": (),
}


def _ours(setting: Setting, clips: int, *keys: str) -> ours.Ours:
    tokens = [f"evaluation.generation.{name}={setting.new_tokens}" for name in ("max_new_tokens", "min_new_tokens")]
    limits = [f"data.limit.{split}={clips}" for split in ("train", "validation")]
    return ours.assemble(setting, *EVALUATED, *limits, *tokens, *keys, splits=("train", "validation"))


def _stock(setting: Setting, clips: int) -> Any:
    model, processor = stock.load(setting.checkpoint)
    table = stock.prepare(setting.speech.rows()[:clips], processor, setting.folder / "stock.arrow")
    trainer = stock.make_trainer(model, processor, table, setting.folder / "stock", batch=setting.batch)
    length = {"max_new_tokens": setting.new_tokens, "min_new_tokens": setting.new_tokens}
    return lambda: trainer.evaluate(num_beams=1, **length)


def _identical(side: ours.Ours) -> float:
    """Return the share of clips whose text is the same as decoded alone, in row order."""
    model, family = side.trainer.model, side.family
    found = generate_dataset(model, family, side.processor, side.prepared["validation"], side.conditions)
    alone = replace(side.conditions, batch_size=1)
    others = generate_dataset(model, family, side.processor, side.prepared["validation"], alone)
    return statistics.mean(a == b for a, b in zip(found.hypotheses, others.hypotheses, strict=True))
