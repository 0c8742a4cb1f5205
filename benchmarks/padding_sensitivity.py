"""How far does a clip's result move when a longer clip stands beside it in the batch? Every family, one line each.

    python benchmarks/padding_sensitivity.py [--families NAME ...] [--model DIR --manifest FILE --clips 16]

Each of eight clips is run alone and beside the longest one. "loss" is the largest relative change of the clip's own
loss, "text" the share of clips that are decoded to the same text. The models are the tests' tiny ones with random
weights, their matrices multiplied by 16: at 1 such a model writes the same whatever it hears. So "exact" is a fact
about the architecture, while the size of a change is that of a random model and says little about a pretrained one.
``--model`` adds a line for a real checkpoint on real clips.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers import tiny_ctc  # noqa: E402
from helpers.family_training import configuration, load  # noqa: E402
from helpers.tiny_families import TINY, Parts, tiny_arguments  # noqa: E402

from hf_asr.data.corpora import build_splits  # noqa: E402
from hf_asr.features.collate import IGNORED  # noqa: E402
from hf_asr.models import FAMILIES, get_family  # noqa: E402
from hf_asr.models.family import ModelFamily  # noqa: E402

GAIN = 16.0
# Differences below this are those of sums in another order.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Sensitivity:
    """What a longer neighbour changes.

    Attributes:
        loss: Largest relative change of a clip's own loss.
        text: Share of clips with the same text.
    """

    loss: float
    text: float

    def line(self, name: str) -> str:
        """Return a line of the table."""
        shown = "exact" if self.loss < ROUNDING else f"{100 * self.loss:.2g} %"
        return f"| {name} | {shown} | {100 * self.text:.0f} % |"


@torch.no_grad()
def loss_of_first(family: ModelFamily, processor: Any, model: Any, rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the loss per item of the first row of a batch, the others being heard but not scored."""
    batch = family.make_collator(processor, model)(rows)
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    inputs["labels"][1:] = IGNORED
    given = {name: value for name, value in inputs.items() if name != "labels"}
    total = family.loss.summed(model, inputs, model(**given), 0.0)
    return float(total / family.loss.items(inputs["labels"]).clamp(min=1))


def measure(
    family: ModelFamily, processor: Any, model: Any, rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> Sensitivity:
    """Compare every clip alone with the same clip beside the longest."""
    model.eval()
    longest = max(rows, key=lambda row: len(row["input_features"]))
    changes, same = [], []
    for row in rows:
        if row is longest:
            continue
        alone, beside = [row], [row, {**longest, "id": "neighbour"}]
        one, two = (loss_of_first(family, processor, model, batch) for batch in (alone, beside))
        changes.append(abs(two - one) / max(abs(one), 1e-6))
        same.append(
            text_of_first(family, processor, model, alone, options)
            == text_of_first(family, processor, model, beside, options)
        )
    return Sensitivity(max(changes), sum(same) / len(same))


@torch.no_grad()
def text_of_first(
    family: ModelFamily, processor: Any, model: Any, rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> str:
    """Return what is decoded of the first row of a batch."""
    return family.decode(model, processor, dict(family.make_collator(processor, model)(rows)), options)[0]


def tiny_lines(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each family, and one for each kind of CTC model."""
    for name in names:
        if name == "ctc":
            yield from (kind_line(kind) for kind in tiny_ctc.TINY)
            continue
        if name not in TINY:
            yield f"| {name} | no tiny model in tests/helpers/tiny_families.py | |"
            continue
        with tempfile.TemporaryDirectory() as folder:
            parts = Parts.of(name, Path(folder))
            options = parts.family.decoding_options(parts.arguments)
            yield measure(parts.family, parts.processor, parts.model(GAIN), parts.encoded, options).line(name)


def kind_line(kind: str) -> str:
    """Return the line of one kind of CTC model."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        arguments = tiny_arguments(place / "corpus", tiny_ctc.make_tiny_ctc(place / "model", kind))
        processor, model, encoder = load(FAMILIES["ctc"], arguments)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(GAIN if parameter.dim() > 1 else 1)
        rows = [encoder(row) for row in build_splits(arguments.data, seed=0, names=["train"])["train"].rows]
        options = FAMILIES["ctc"].decoding_options(arguments)
        return measure(FAMILIES["ctc"], processor, model, rows, options).line(f"ctc: {kind}")


def real_line(model_dir: str, manifest: str, clips: int) -> str:
    """Return the line of a real checkpoint on the first clips of a manifest."""
    data = {"corpus": "manifest", "path": manifest, "language": "en", "splits": {"test": manifest}}
    arguments = configuration(model_dir, data={**data, "limit": {"test": clips}})
    arguments.evaluation.generation = {"max_new_tokens": 32}
    family = get_family(arguments.model)
    processor, model, encoder = load(family, arguments)
    rows = [encoder(row) for row in build_splits(arguments.data, seed=0, names=["test"])["test"].rows]
    found = measure(family, processor, model, rows, family.decoding_options(arguments))
    return found.line(f"{family.name}, {Path(model_dir).name} ({clips} real clips)")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--model", help="a checkpoint to measure on real clips")
    parser.add_argument("--manifest", help="its clips")
    parser.add_argument("--clips", type=int, default=16)
    options = parser.parse_args()
    print("| model | change of the loss | same text |\n|---|---|---|", flush=True)
    for line in tiny_lines(options.families):
        print(line, flush=True)
    if options.model:
        print(real_line(options.model, options.manifest, options.clips), flush=True)


if __name__ == "__main__":
    main()
