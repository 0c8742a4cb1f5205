"""Transcripts that the untouched model contradicts: found before training, left out of it, and listed for a person.

A CER above about 1 says that the text belongs to another clip, or that the model does not know the language at all: so
look at the list before believing it. Off unless ``data.drop_suspicious`` is given.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.evaluation.counts import count_errors
from hf_asr.features.cache import PreparedSplit
from hf_asr.inference.generate import Conditions, Generated, generate_dataset, on_main
from hf_asr.models.family import ModelFamily
from hf_asr.utterance import Drops

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

logger = logging.getLogger(__name__)

LIST = "suspicious.csv"
MADE_WITH = "suspicious.json"
COLUMNS = ("id", "text", "hypothesis", "cer")
REASON = "suspicious_transcript"

# Id, text, hypothesis and CER of a clip that is left out.
Suspicious = tuple[str, str, str, float]


def drop_suspicious(
    model: PreTrainedModel,
    family: ModelFamily,
    processor: ProcessorMixin,
    prepared: Mapping[str, PreparedSplit],
    conditions: Conditions,
    arguments: Arguments,
    run_dir: Path,
) -> dict[str, PreparedSplit]:
    """Return the splits with the training split rid of clips whose CER is above ``data.drop_suspicious``.

    Both sides pass ``evaluation.normalizer``. Clips that cannot be decoded stay: training leaves them out and says
    why. A resumed run reads the list that it has.

    Args:
        model: The untouched model, on its device.
        family: Its family.
        processor: Its feature extractor and tokenizer.
        prepared: The encoded splits; ``train`` is map-style.
        conditions: How it decodes.
        arguments: The whole configuration.
        run_dir: The run folder; ``suspicious.csv`` goes there.

    Raises:
        UserError: Nothing is left to train on, the family writes no text, or the list in the run folder was made under
            other conditions.
    """
    limit = arguments.data.drop_suspicious
    if limit is None:
        return dict(prepared)
    if family.scoring != "words":
        raise UserError(
            f"data.drop_suspicious: expected a model that writes texts, found a {family.name}, whose results are "
            f"{family.scoring}. Remove it."
        )
    train = prepared["train"]
    assert train.table is not None, "data.drop_suspicious with a stream is refused with the configuration"
    made_with = {
        "drop_suspicious": limit,
        "normalizer": arguments.evaluation.normalizer,
        "clips": len(train.table),
        **conditions.as_dict(),
    }
    listed: list[Suspicious] | None = on_main(read_list, run_dir, made_with)
    if listed is None:
        logger.info("data.drop_suspicious: decoding %d training clips with the untouched model", len(train.table))
        generated = generate_dataset(model, family, processor, train, conditions)
        listed = find_suspicious(train, generated, limit, arguments.evaluation.normalizer)
        on_main(write_list, run_dir, listed, made_with)
    return {**prepared, "train": without(train, listed, limit)}


def find_suspicious(train: PreparedSplit, generated: Generated, limit: float, normalizer: str) -> list[Suspicious]:
    """Return the clips whose CER is above ``limit``, the worst first.

    A reference without a character left counts as one long, so that whatever was written against it is an error.

    Args:
        train: The training split.
        generated: The untouched model's hypotheses of it.
        limit: Highest CER that is kept; a fraction.
        normalizer: Text pipeline of both sides.
    """
    texts = dict(zip(train.column("id"), train.column("text"), strict=True))
    hypotheses = generated.hypotheses
    references = [texts[hypothesis.id] for hypothesis in hypotheses]
    counts = count_errors(references, [hypothesis.text for hypothesis in hypotheses], normalizer=normalizer)
    rates = counts.characters.errors / np.maximum(1, counts.characters.reference_length)
    order = [int(row) for row in np.argsort(-rates, kind="stable") if rates[row] > limit]
    return [(hypotheses[row].id, references[row], hypotheses[row].text, float(rates[row])) for row in order]


def without(train: PreparedSplit, listed: list[Suspicious], limit: float) -> PreparedSplit:
    """Return the split without the listed clips, each counted and named among its drops.

    Raises:
        UserError: None is left.
    """
    assert train.table is not None
    dropped = {id for id, *_ in listed}
    keep = [place for place, id in enumerate(train.column("id")) if id not in dropped]
    if not keep:
        raise UserError(
            f"data.drop_suspicious: expected clips with a CER of at most {limit:g}, found {len(dropped)} clips and "
            f"none of them below; see {LIST}. Raise it, or use a model that knows the language."
        )
    drops = Drops()
    drops.merge(train.drops)
    for id, _, hypothesis, rate in listed:
        drops.add(REASON, id, f"CER {rate:.2f}: the model wrote '{hypothesis}'")
    logger.info("train: %d clips left out as suspicious, all in %s; %d are left", len(dropped), LIST, len(keep))
    rows: Any = copy.copy(train.rows)
    rows.table = rows.table.select(keep)
    return replace(train, rows=rows, table=train.table.select(keep), drops=drops)


def write_list(run_dir: Path, listed: list[Suspicious], made_with: Mapping[str, Any]) -> None:
    """Write the list for people, and after it what it was made with: so a list without that is not whole."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows([COLUMNS, *listed])
    for name, content in ((LIST, text.getvalue()), (MADE_WITH, json.dumps(made_with, indent=2) + "\n")):
        temporary = run_dir / f".{name}.tmp"
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
        temporary.replace(run_dir / name)


def read_list(run_dir: Path, made_with: Mapping[str, Any]) -> list[Suspicious] | None:
    """Return the list of an earlier part of this run; None where there is none.

    Raises:
        UserError: It was made under other conditions, so that the clips of this training would change.
    """
    if not (run_dir / MADE_WITH).is_file():
        return None
    before = json.loads((run_dir / MADE_WITH).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(made_with))
    changed = [f"{name} is {now[name]}, was {before.get(name)}" for name in now if now[name] != before.get(name)]
    if changed:
        raise UserError(
            f"data.drop_suspicious: expected the conditions under which {run_dir / LIST} was made, found that "
            f"{'; '.join(changed)}. Set it back, or train anew under another experiment.name."
        )
    with (run_dir / LIST).open(encoding="utf-8", newline="") as file:
        return [(row["id"], row["text"], row["hypothesis"], float(row["cer"])) for row in csv.DictReader(file)]
