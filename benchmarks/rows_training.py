"""Rows of the training step: everything trained, against the stock recipe clip for clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ours
import stock
import torch
from setting import Measured, Setting, alternate, step_timer, with_folder
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hf_asr.training.callbacks import SAMPLE_LOG

# Strides that the table shows: 10 is model.window_stride's default, ours.GATED_STRIDE passed gate b.
STRIDES = (5, 10, 20)
MATRIX = 2048
# Steps of ours of which a round takes the mean; of the stock side, and of models larger than tiny, it takes one.
TIMED = 3
# The shipped share of batches at the full window, and the timed steps of the run that has it; half of them when larger.
MIX, MIXED = 0.2, 10
# Tried until one draws that share.
SEEDS = 40


def stock_trainer(setting: Setting, *, frozen: bool = False, clips: int | None = None, **options: Any) -> Any:
    """Return the stock recipe's trainer, two steps long, its clips mapped."""
    model, processor = stock.load(setting.checkpoint)
    if frozen:
        model.freeze_encoder()
    rows = setting.speech.rows()[: clips or 3 * setting.batch]
    table = stock.prepare(rows, processor, setting.folder / "stock.arrow")
    return stock.make_trainer(
        model, processor, table, setting.folder / "stock", batch=setting.batch, **{"max_steps": 2, **options}
    )


def our_trainer(setting: Setting, *overrides: str) -> Any:
    """Return our trainer, on as many clips; a tiny model's step is short beside a stock one: more of them are timed."""
    steps = 1 + (TIMED if setting.size == "tiny" else 1)
    length = f"training.max_steps={steps}"
    return ours.assemble(setting, f"data.limit.train={steps * setting.batch}", length, *overrides).trainer


def seconds_a_clip(setting: Setting, variants: dict[str, Sequence[str]]) -> Measured:
    """Time the stock recipe and variants of ours in turn, in seconds a clip."""
    sides = {"stock": step_timer(stock_trainer(setting))}
    sides |= {name: step_timer(our_trainer(setting, *keys)) for name, keys in variants.items()}
    costs = alternate(sides, setting.rounds)
    each = {side: [cost / setting.batch for cost in values] for side, values in costs.items()}
    return Measured(each, "seconds a clip", {"what": "an optimiser step, everything trained, loading included"})


def train_full(setting: Setting) -> list[dict[str, Any]]:
    """Everything trained, silence thinned at the stride that passed gate b; two others beside it."""
    setting = with_folder(setting, "train_full")
    names = {f"stride {stride}": ["model.window=thinned", f"model.window_stride={stride}"] for stride in STRIDES}
    measured = seconds_a_clip(setting, names)
    measured.about["window"] = ours.trained_window(setting)
    return [measured.row("train_full", setting, ours=f"stride {ours.GATED_STRIDE}")]


def train_clip(setting: Setting) -> list[dict[str, Any]]:
    """Everything trained, the window cut to the clip; beside it the shipped mix, and the full window."""
    setting = with_folder(setting, "train_clip")
    mixed = mixed_trainer(setting)
    whole = WholeWindows(mixed)
    sides = {
        "stock": step_timer(stock_trainer(setting)),
        "ours": step_timer(our_trainer(setting, "model.window=clip")),
        f"window_mix {MIX}": step_timer(mixed),
        "ours, full window": step_timer(our_trainer(setting, "training.max_steps=2")),
    }
    costs = alternate(sides, setting.rounds)
    each = {side: [cost / setting.batch for cost in values] for side, values in costs.items()}
    about = {
        "what": "an optimiser step, everything trained, loading included",
        "whole_windows_of_mix": f"{whole.timed()} of {mixed_steps(setting)} steps",
    }
    return [Measured(each, "seconds a clip", about).row("train_clip", setting)]


def mixed_steps(setting: Setting) -> int:
    """Return how many steps of the mix are timed."""
    return MIXED if setting.size == "tiny" else MIXED // 2


def mixed_trainer(setting: Setting) -> Any:
    """Return the trainer of a run in which the shipped share of the timed steps has the full window.

    Which batches have it is drawn from the seed, so in a few steps as many as expected are there with few seeds: the
    first one of these is taken.
    """
    steps = mixed_steps(setting)
    keys = ("model.window=clip", f"model.window_mix={MIX}", f"training.max_steps={1 + steps}")
    for seed in range(SEEDS):
        trainer = ours.assemble(setting, *keys, f"experiment.seed={seed}").trainer
        batches = islice(trainer.get_train_dataloader(), 1, 1 + steps)
        full = 2 * trainer.model.config.max_source_positions
        if sum(batch["input_features"].shape[-1] == full for batch in batches) == round(MIX * steps):
            break
    return trainer


class WholeWindows:
    """Notes which steps of a run were given the whole window.

    Args:
        trainer: Ours; its encoder is watched from now on.
    """

    def __init__(self, trainer: Any) -> None:
        self.full = 2 * trainer.model.config.max_source_positions
        self.frames: list[int] = []
        trainer.model.get_encoder().register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        self.frames.append(int((inputs[0] if inputs else named["input_features"]).shape[-1]))

    def timed(self) -> int:
        """Return how many of the last run's timed steps had the whole window: all but its first."""
        return sum(frames == self.full for frames in self.frames[-MIXED:])


def train_pack(setting: Setting) -> list[dict[str, Any]]:
    """Everything trained, clips packed up to 30 seconds: clips a second against one by one."""
    setting = with_folder(setting, "train_pack")
    sides = {"stock": timed_by_clips(step_timer(stock_trainer(setting)), lambda: setting.batch)}
    logs = {}
    for name, keys in (("ours", ["data.pack_share=1"]), ("shipped share", [])):
        made = ours.assemble(setting, "data.pack=true", "training.log_sample_ids=true", *keys)
        logs[name] = Path(made.arguments.run_dir) / SAMPLE_LOG
        sides[name] = timed_by_clips(step_timer(made.trainer), partial(clips_of_last_step, logs[name]))
    measured = Measured(alternate(sides, setting.rounds), "seconds a clip")
    measured.about = {
        "what": "an optimiser step of as many windows, everything trained, loading included",
        "clips_a_step": {"stock": setting.batch} | {name: clips_of_last_step(log) for name, log in logs.items()},
    }
    return [measured.row("train_pack", setting)]


def timed_by_clips(seconds: Callable[[], float], clips: Callable[[], int]) -> Callable[[], float]:
    """Return what gives a step's seconds over its clips, which are counted once it is done."""
    return lambda: seconds() / clips()


def clips_of_last_step(log: Path) -> int:
    """Return the clips that a run's last step was trained on, each piece of a packed window counted."""
    return len(json.loads(log.read_text("utf-8").splitlines()[-1])["ids"])


def roofline(setting: Setting) -> list[dict[str, Any]]:
    """Floating-point operations a second of a training step, over what a large matrix product reaches."""
    setting = with_folder(setting, "roofline")
    made = {"stock": stock_trainer(setting), "ours": our_trainer(setting, *ours.GATED)}
    operations = {side: _operations(trainer) for side, trainer in made.items()}
    costs = alternate({side: step_timer(trainer) for side, trainer in made.items()}, setting.rounds)
    reached = _matrix_product(setting.rounds)
    share = {side: [operations[side] / cost / reached for cost in values] for side, values in costs.items()}
    about = {"window": ours.trained_window(setting)}
    measured = Measured({"ours": share["ours"]}, "share of a large matrix product's FLOP/s", about)
    row, stock_side = measured.row("roofline", setting), Measured({"stock": share["stock"]}, "")
    row["spread"]["stock"] = [min(share["stock"]), max(share["stock"])]
    return [row | {"stock": stock_side.median("stock"), "flop_a_step": operations, "matrix_product_flops": reached}]


def _operations(trainer: Any) -> int:
    """Count a step's operations, forward and backward; under the math backend, the others are not seen on a CPU."""
    batch = next(iter(trainer.get_train_dataloader()))
    inputs = trainer._prepare_inputs({name: value for name, value in batch.items() if name not in ("ids", "skipped")})
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        trainer.compute_loss(trainer.model.train(), inputs).backward()
    trainer.model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def _matrix_product(rounds: int) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = MATRIX if device == "cpu" else 4 * MATRIX
    left = torch.randn(size, size, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    from setting import timed

    times = [timed(lambda: left @ left)() for _ in range(rounds + 1)]
    return 2 * size**3 / min(times)
