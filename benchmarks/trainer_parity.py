"""Do the same 16 clips give the same training, however they are cut into batches? Ours and the stock Trainer.

Each case takes two optimiser steps of 8 clips with unequal label lengths: batch x accumulation (8,1) (4,2) (2,4)
(1,8), and (2,2) on two processes started with torchrun. Gradient norm, logged loss, eval_loss and the weights
after the steps must agree with case (8,1) within 1e-5 relative; the stock Seq2SeqTrainer's numbers stand beside.
Exit 1 when ours do not agree.

    python benchmarks/trainer_parity.py [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOLERANCE = 1e-5
CASES = {"8x1": (8, 1, 1), "4x2": (4, 2, 1), "2x4": (2, 4, 1), "1x8": (1, 8, 1), "2x2 on 2 processes": (2, 2, 2)}
FRAMES, MELS, VOCABULARY = 200, 16, 500
START, PAD, END = 497, 498, 499


def build_model() -> Any:
    """Return a small random Whisper without dropout."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=MELS,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=FRAMES // 2,
        max_target_positions=64,
        decoder_start_token_id=START,
        bos_token_id=START,
        pad_token_id=PAD,
        eos_token_id=END,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    return WhisperForConditionalGeneration(config)


def build_rows() -> list[dict[str, Any]]:
    """Return 16 encoded clips of random features and 3 to 33 label tokens."""
    import numpy as np

    generator = np.random.default_rng(0)
    rows = []
    for index in range(16):
        labels = [*generator.integers(0, START, 2 + 2 * index).tolist(), END]
        features = generator.standard_normal((FRAMES, MELS)).astype(np.float32)
        rows.append({"id": f"clip{index}", "input_features": features, "labels": labels, "error": "", "text": "x"})
    return rows


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Pad labels with -100 and shift them for the decoder: what both sides are given."""
    import torch

    longest = max(len(row["labels"]) for row in rows)
    labels = torch.full((len(rows), longest), -100)
    for i, row in enumerate(rows):
        if not row.get("padding"):
            labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
    inputs = torch.where(labels == -100, PAD, labels).roll(1, dims=1)
    inputs[:, 0] = START
    features = torch.stack([torch.as_tensor(row["input_features"]).T for row in rows])
    return {"input_features": features, "labels": labels, "decoder_input_ids": inputs}


class OurCollator:
    """What our trainer wants beside the tensors: ids, and a padder by which validation is cut into batches."""

    padder = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The same with the ids that our trainer logs."""
        ids = [row["id"] for row in rows if not row.get("padding")]
        return collate(rows) | {"ids": ids, "skipped": []}


def training_arguments(folder: str, batch: int, accumulation: int) -> Any:
    """Return arguments that both trainers share: plain SGD, so that weights move in proportion to gradients."""
    from transformers import Seq2SeqTrainingArguments

    return Seq2SeqTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=2,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=1e9,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        train_sampling_strategy="sequential",
    )


def measured(trainer: Any, before: dict[str, Any], eval_loss: float) -> dict[str, Any]:
    """Return what a training gave: losses, gradient norms, eval_loss and the weights' update as one vector."""
    import torch

    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    model = trainer.accelerator.unwrap_model(trainer.model)
    update = torch.cat([(value.detach() - before[name]).flatten() for name, value in model.named_parameters()])
    return {
        "loss": [entry["loss"] for entry in history],
        "grad_norm": [entry["grad_norm"] for entry in history],
        "eval_loss": eval_loss,
        "update": update,
    }


def run_ours(folder: str, batch: int, accumulation: int) -> dict[str, Any]:
    """Train with hf_asr's trainer."""
    from datasets import Dataset

    from hf_asr.features.cache import PreparedSplit
    from hf_asr.inference.generate import Conditions
    from hf_asr.models.whisper import FAMILY
    from hf_asr.training.trainer import SpeechTrainer
    from hf_asr.utterance import Drops

    model = build_model()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    rows = build_rows()
    table = Dataset.from_dict({"duration": [FRAMES / 100] * len(rows)})
    split = PreparedSplit(name="train", rows=rows, table=table, drops=Drops())
    trainer = SpeechTrainer(
        family=FAMILY,
        train=split,
        validation=split,
        conditions=Conditions(window="full", dtype="float32", batch_size=batch, generation={}),
        normalizer="basic",
        model=model,
        args=training_arguments(folder, batch, accumulation),
        data_collator=OurCollator(),
    )
    trainer.train()
    return measured(trainer, before, trainer.validation_loss())


def run_stock(folder: str, batch: int, accumulation: int) -> dict[str, Any]:
    """Train with transformers' Seq2SeqTrainer as it comes."""
    from transformers import Seq2SeqTrainer

    model = build_model()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    rows = build_rows()
    trainer = Seq2SeqTrainer(
        model=model,
        args=training_arguments(folder, batch, accumulation),
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows,
    )
    trainer.train()
    return measured(trainer, before, trainer.evaluate()["eval_loss"])


def worker(side: str, case: str, output: Path) -> None:
    """Run one case in this process; rank 0 saves what was measured."""
    import torch

    torch.set_num_threads(1)
    batch, accumulation, _ = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        result = {"ours": run_ours, "stock": run_stock}[side](folder, batch, accumulation)
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(result, output)


def launch(side: str, case: str, folder: Path) -> dict[str, Any]:
    """Run one case in fresh processes and read its result."""
    import torch

    output = folder / f"{side}-{case}.pt".replace(" ", "_")
    processes = CASES[case][2]
    program = [sys.executable]
    if processes > 1:
        program += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*program, str(Path(__file__).resolve()), "--worker", side, case, str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"{side}, {case} ended with {finished.returncode}:\n{finished.stderr[-3000:]}")
    return torch.load(output)


def difference(result: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """Return the relative differences to the reference case, the largest of the steps."""
    pairs = {
        name: max(abs(a - b) / abs(b) for a, b in zip(result[name], reference[name], strict=True))
        for name in ("loss", "grad_norm")
    }
    pairs["eval_loss"] = abs(result["eval_loss"] - reference["eval_loss"]) / abs(reference["eval_loss"])
    pairs["update"] = float((result["update"] - reference["update"]).norm() / reference["update"].norm())
    return pairs


def report(side: str, results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Print one side's table; return its rows."""
    reference = results["8x1"]
    rows = []
    print(f"\n{side}\n{'case':<20}{'loss':>10}{'grad-norm':>11}{'eval_loss':>11}   largest relative difference to 8x1")
    for case, result in results.items():
        apart = difference(result, reference)
        worst = ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
        print(
            f"{case:<20}{result['loss'][0]:>10.4f}{result['grad_norm'][0]:>11.4f}{result['eval_loss']:>11.4f}   {worst}"
        )
        rows.append({"side": side, "case": case, "relative_difference": apart, "loss": result["loss"]})
    return rows


def main() -> int:
    """Run all cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the rows as JSON")
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "CASE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker[0], options.worker[1], Path(options.worker[2]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        sides = {side: {case: launch(side, case, Path(folder)) for case in CASES} for side in ("ours", "stock")}
    rows = [row for side, results in sides.items() for row in report(side, results)]
    worst = max(value for row in rows if row["side"] == "ours" for value in row["relative_difference"].values())
    agrees = worst <= TOLERANCE
    print(f"\nours: largest relative difference {worst:.1e}: {'agrees' if agrees else 'DOES NOT AGREE'} ({TOLERANCE})")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
