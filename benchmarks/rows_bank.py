"""Rows of the bank: a frozen encoder's states are computed once, and every epoch reads them."""

from __future__ import annotations

from typing import Any

import ours
import stock
from setting import Measured, Setting, alternate, step_timer, timed, with_folder

from hf_asr.features.bank_rows import BankedRows

EPOCHS = 5
# Steps of an epoch.
BATCHES = 3
BANK = ("features.bank=on", "freeze.groups=[encoder]")
KEYS = (*BANK, "model.window=thinned", "evaluation.window=thinned")
# Beside the thinned states the full window's, which are the stock encoder's.
VARIANTS = {"ours": KEYS, "full window": BANK}


def train_bank(setting: Setting) -> list[dict[str, Any]]:
    """Epoch 2 of decoder-only training from the bank, against stock with its encoder frozen and run at every step."""
    setting = with_folder(setting, "train_bank")
    clips = BATCHES * setting.batch
    # Epoch 1 is not timed: it pays for the optimiser's states, and the system has read the bank.
    length = (f"data.limit.train={clips}", f"training.max_steps={2 * BATCHES}")
    made = {name: ours.assemble(setting, *keys, *length).trainer for name, keys in VARIANTS.items()}
    assert all(isinstance(trainer.train_split.rows, BankedRows) for trainer in made.values()), "a bank is not read"
    sides = {"stock": step_timer(_stock(setting, clips, max_steps=2))}
    sides |= {name: step_timer(trainer, untimed=BATCHES) for name, trainer in made.items()}
    costs = alternate(sides, setting.rounds)
    each = {side: [cost / setting.batch for cost in values] for side, values in costs.items()}
    about = {
        "what": "a step of decoder-only training, in epoch 2 from the bank",
        "window": ours.shipped_window(setting),
    }
    measured = Measured(each, "seconds a clip", about)
    return [measured.row("train_bank", setting)]


def job_bank(setting: Setting) -> list[dict[str, Any]]:
    """Five epochs of decoder-only training whole: preparation, building the bank, training."""
    setting = with_folder(setting, "job_bank")
    clips, numbers = BATCHES * setting.batch, iter(range(10**6))

    def our_job() -> None:
        fresh = with_folder(setting, f"ours{next(numbers)}")
        length = ("training.max_steps=-1", f"training.num_train_epochs={EPOCHS}", f"data.limit.train={clips}")
        ours.assemble(fresh, *KEYS, *length).trainer.train()

    def stock_job() -> None:
        fresh = with_folder(setting, f"stock{next(numbers)}")
        _stock(fresh, clips, num_train_epochs=EPOCHS).train()

    costs = alternate({"stock": timed(stock_job, clips), "ours": timed(our_job, clips)}, setting.rounds)
    about = {"what": f"{EPOCHS} epochs, preparation and bank included", "clips": clips}
    about["window"] = ours.shipped_window(setting)
    return [Measured(costs, "seconds a clip", about).row("job_bank", setting)]


def _stock(setting: Setting, clips: int, **length: Any) -> Any:
    model, processor = stock.load(setting.checkpoint)
    model.freeze_encoder()
    table = stock.prepare(setting.speech.rows()[:clips], processor, setting.folder / "stock.arrow")
    return stock.make_trainer(model, processor, table, setting.folder / "stock", batch=setting.batch, **length)
