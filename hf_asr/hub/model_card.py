"""The model card of a run: README.md with the metadata that the Hub reads, from plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_asr.config.arguments import Arguments, DataArguments
from hf_asr.evaluation.guardrails import Guardrail, change, rate_name
from hf_asr.evaluation.intervals import PairedDifference
from hf_asr.evaluation.screen import main_rate
from hf_asr.hub.privacy import cut_paths, last_part, public_value
from hf_asr.hub.provenance import provenance_rows
from hf_asr.hub.run_files import LOCAL_MODEL
from hf_asr.training.arguments import DEFAULTS, LEARNING_RATES, strategy
from hf_asr.utterance import Seconds

METRICS = ("wer", "cer", "mer", "wil")
CONDITIONS = ("window", "dtype", "batch_size", "batch_seconds", "generation")
COUNTS = ("substitutions", "deletions", "insertions", "hits")
# Keys of hub.card that are text of the card; every other key goes into its metadata.
TEXT_KEYS = ("title", "description", "limits")
# How the run was steered and watched; the weights are the same without them.
_NOT_SETTINGS = frozenset({"resume_from_checkpoint", "log_sample_ids", "report_to", "disable_tqdm"})
_NOT_SETTINGS_PREFIXES = ("logging_", "save_", "ddp_", "activation_checkpointing", "gradient_checkpointing")
# Keys of other sections that decide what a step is of; told where they are not the default.
_OF_A_STEP = {"model": ("window",), "data": ("batch_seconds", "pack")}  # and what begins like them: window_mix ...


USAGE = """import soundfile
from transformers import pipeline

transcriber = pipeline("automatic-speech-recognition", model="{model}")
audio, rate = soundfile.read("clip.wav", dtype="float32", always_2d=True)
print(transcriber({{"raw": audio.mean(axis=1), "sampling_rate": rate}})["text"])"""


def write_model_card(
    run_dir: Path,
    arguments: Arguments,
    *,
    baseline: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    data_summary: Mapping[str, Mapping[str, Any]],
    trainable: str,
    notes: list[str],
    difference: PairedDifference | None = None,
    usage: str | None = None,
    guardrails: Sequence[Guardrail] = (),
) -> Path:
    """Write ``README.md`` into a run folder; it holds no local path, host or user name.

    Args:
        run_dir: The run folder.
        arguments: The whole configuration.
        baseline: What ``test_results.json`` holds for the untouched model; None when it was not scored.
        results: What ``test_results.json`` holds for the fine-tuned model.
        data_summary: Split to ``utterances`` (a number, or None for a stream), ``seconds`` (or None) and ``drops``
            (reason to number).
        trainable: One line: which parameters were trained, and how many.
        notes: Sentences for the section on limits, such as a language that the checkpoint has no token for.
        difference: The paired comparison of both, of the language's main rate; None when it was not made.
        usage: Python that transcribes ``clip.wav`` with ``{model}``, where the pipeline cannot.
        guardrails: The other sets that were scored.

    Returns:
        The card's path.
    """
    path = run_dir / "README.md"
    card = render_model_card(
        arguments,
        baseline=baseline,
        results=results,
        data_summary=data_summary,
        trainable=trainable,
        notes=notes,
        difference=difference,
        usage=usage,
        provenance=list(provenance_rows(run_dir, arguments)),
        guardrails=guardrails,
    )
    path.write_text(card, encoding="utf-8")
    return path


def render_model_card(
    arguments: Arguments,
    *,
    baseline: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    data_summary: Mapping[str, Mapping[str, Any]],
    trainable: str,
    notes: list[str],
    difference: PairedDifference | None = None,
    usage: str | None = None,
    provenance: Sequence[tuple[str, str]] = (),
    guardrails: Sequence[Guardrail] = (),
) -> str:
    """Return the card's text; see :func:`write_model_card` for the arguments.

    ``provenance`` is what :func:`hf_asr.hub.provenance.provenance_rows` tells of the run.

    Raises:
        ValueError: The metadata are not what the Hub's own reader takes.
    """
    texts = arguments.hub.card
    values = {
        "card_data": card_metadata(arguments, results).to_yaml(),
        "title": texts.get("title", arguments.experiment.name),
        "description": cut_paths(texts.get("description") or arguments.experiment.description)
        or default_description(arguments),
        "task": arguments.data.task,
        "language": arguments.data.language or "not given",
        "base_model": base_model_text(arguments.model.name_or_path),
        "corpus": corpus_name(arguments.data),
        "licence": arguments.hub.license or "not stated by the author; that of the base model and of the data hold",
        "test": test_values(results),
        "result_rows": list(result_rows(baseline, results)),
        "change": change_sentence(main_rate(arguments.data.language), baseline, results, difference),
        "decoding": decoding_sentence(results),
        "usage": (usage or USAGE).format(model=arguments.hub.repo or LOCAL_MODEL),
        "data_rows": [data_row(name, split) for name, split in data_summary.items()],
        "text_pipeline": arguments.data.text_pipeline,
        "min_seconds": arguments.data.min_seconds,
        "max_seconds": arguments.data.max_seconds,
        "trainable": cut_paths(trainable),
        "settings": list(settings(arguments)),
        "provenance": list(provenance),
        "limits": list(limits(arguments, baseline, results, notes, difference, guardrails)),
        "other_sets": [other_set_row(item) for item in guardrails],
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hf_asr.hub", "."),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, not HTML
    )
    card = ModelCard(environment.get_template("model_card.md.jinja").render(values).strip() + "\n")
    return str(card)


def interim_card(arguments: Arguments, step: int, steps: int, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the card of a run that still trains: what it is, how far it is, and its last validation."""
    name, language = arguments.model.name_or_path, arguments.data.language
    known: dict[str, Any] = {
        "language": language.replace("_", "-").split("-")[0].lower() if language else None,
        "license": arguments.hub.license,
        "library_name": "transformers",
        "base_model": name if is_hub_id(name) else None,
        "tags": ["hf-asr", *arguments.experiment.tags],
    }
    evaluations = [entry for entry in history if "eval_loss" in entry]
    last = {key: value for key, value in (evaluations[-1] if evaluations else {}).items() if key.startswith("eval_")}
    lines = [f"- {key.removeprefix('eval_')}: {value:.4g}" for key, value in last.items() if isinstance(value, float)]
    validation = "\n".join(["Its last validation:", "", *lines]) if lines else "It was not validated yet."
    return (
        f"---\n{ModelCardData(**known).to_yaml()}\n---\n\n# {arguments.experiment.name}\n\n"
        f"Training goes on: these are the weights of step {step} of {steps}, not chosen and not tested. "
        f"{default_description(arguments)}\n\n{validation}\n"
    )


def corpus_name(data: DataArguments) -> str:
    """Return the corpus as a reader knows it: its kind with language and subset, or the parts of a mixture."""
    if data.sources:
        return "mixture of " + ", ".join(str(source.get("corpus", data.corpus)) for source in data.sources)
    parts = [data.corpus, cut_paths(data.name or ""), data.subset or "", data.language or ""]
    return " ".join(part for part in parts if part)


def is_hub_id(name: str) -> bool:
    """Tell whether a model's name is an id on the Hub: neither ``config:NAME`` nor something on this disk."""
    return not name.startswith("config:") and not Path(name).exists() and cut_paths(name) == name


def base_model_text(name: str) -> str:
    """Return what the card says about where the weights came from."""
    if name.startswith("config:"):
        return f"none: random weights in the shape of {name.removeprefix('config:')}"
    if is_hub_id(name):
        return f"[{name}](https://huggingface.co/{name})"
    return f"a local checkpoint, {last_part(name)}"


def default_description(arguments: Arguments) -> str:
    """Return the first sentence of a card whose author gave none."""
    start = base_model_text(arguments.model.name_or_path)
    return f"A speech recognition model fine-tuned with hf_asr on {corpus_name(arguments.data)}, starting from {start}."


def card_metadata(arguments: Arguments, results: Mapping[str, Any]) -> ModelCardData:
    """Return the YAML block: language, licence, base model and the model-index with every rate as a fraction."""
    name = arguments.model.name_or_path
    language = arguments.data.language
    known: dict[str, Any] = {
        # The Hub takes ISO 639 codes in lower case, no regions: zh-CN is zh.
        "language": language.replace("_", "-").split("-")[0].lower() if language else None,
        "license": arguments.hub.license,
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "base_model": name if is_hub_id(name) else None,
        "tags": ["automatic-speech-recognition", "hf-asr", *arguments.experiment.tags],
        "metrics": [metric for metric in METRICS if metric in results],
        "model_name": arguments.experiment.name,
        "eval_results": list(eval_results(arguments, results)),
    }
    given = {key: value for key, value in arguments.hub.card.items() if key not in TEXT_KEYS}
    return ModelCardData(**(known | public_value(given)))


def eval_results(arguments: Arguments, results: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Yield one entry of the model-index for every rate there is."""
    for metric in METRICS:
        if metric in results:
            yield EvalResult(
                task_type="automatic-speech-recognition",
                task_name="Speech recognition",
                dataset_type=arguments.data.corpus or "mixture",
                dataset_name=corpus_name(arguments.data),
                dataset_config=arguments.data.language,
                dataset_split="test",
                metric_type=metric,
                metric_name=f"{metric.upper()} (normaliser: {results['normalizer']})",
                metric_value=results[metric],
                metric_args=metric_conditions(results, metric),
            )


def metric_conditions(results: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return what stands beside a rate in the model-index: its normaliser, and its interval where it has one."""
    conditions = {"normalizer": results["normalizer"]} if "normalizer" in results else {}
    interval = results.get(f"{metric}_interval")
    if interval is None:
        return conditions
    drawn = results.get("wer_interval_by") or results.get("interval_by")
    return conditions | {"interval": list(interval), "interval_level": 0.95, "interval_by": drawn}


def test_values(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the sentence above the results."""
    return {
        "clips": f"{results['num_utterances']:,}",
        "hours": hours(results["seconds_of_audio"]),
        "words": f"{results['num_words']:,}",
        "normalizer": results["normalizer"],
        "drawn": results["wer_interval_by"],
    }


def hours(seconds: Seconds | None) -> str:
    """Return a length as a person reads it."""
    return "not counted" if seconds is None else f"{seconds / 3600:.2f}"


def per_cent(rate: float) -> str:
    """Return a fraction as a person reads it."""
    return f"{100 * rate:.2f}"


def result_rows(baseline: Mapping[str, Any] | None, results: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the table's rows: before, when it was scored, and after."""
    for name, scored in (("before fine-tuning", baseline), ("after", results)):
        if scored is not None:
            rates = [per_cent(scored[metric]) if metric in scored else "" for metric in METRICS]
            for column, metric in enumerate(("wer", "cer")):
                low, high = scored[f"{metric}_interval"]
                rates[column] += f" [{per_cent(low)}, {per_cent(high)}]"
            yield [name, *rates, *(f"{scored[count]:,}" for count in COUNTS)]


def change_sentence(
    rate: str, baseline: Mapping[str, Any] | None, results: Mapping[str, Any], difference: PairedDifference | None
) -> str:
    """Return how the main rate changed, in points and relative to the untouched model; empty without one."""
    if baseline is None:
        return ""
    points = 100 * (results[rate] - baseline[rate])
    interval = ""
    if difference is not None:
        low, high = 100 * difference.low, 100 * difference.high
        interval = f" [{low:+.2f}, {high:+.2f}; paired, by {difference.by}]"
    relative = f", {points / baseline[rate]:+.1f} % relative" if baseline[rate] else ""
    return (
        f"{rate.upper()} changed by {points:+.2f} points{interval}{relative}; the same clips, scored by the same code."
    )


def decoding_sentence(results: Mapping[str, Any]) -> str:
    """Return under which conditions both rows were decoded."""
    conditions = public_value({name: results[name] for name in CONDITIONS if name in results})
    return ", ".join(f"{name} `{json.dumps(value, ensure_ascii=False)}`" for name, value in conditions.items())


def data_row(name: str, split: Mapping[str, Any]) -> list[str]:
    """Return one split's row: clips, hours and what was left out, by reason."""
    clips, seconds = split["utterances"], split["seconds"]
    return [
        name,
        "streamed" if clips is None else f"{clips:,}",
        hours(seconds),
        reasons(split["drops"]) or "none",
    ]


def reasons(drops: Mapping[str, int]) -> str:
    """Return what was left out, by reason."""
    return ", ".join(f"{reason.replace('_', ' ')}: {number:,}" for reason, number in sorted(drops.items()))


def settings(arguments: Arguments) -> Iterator[tuple[str, str]]:
    """Yield what one has to set to repeat the training: what the user gave, over our defaults."""
    yield "seed", str(arguments.experiment.seed)
    rate = {"learning_rate": LEARNING_RATES[strategy(arguments)]}
    # Batches by seconds have no size.
    without = _NOT_SETTINGS | ({"per_device_train_batch_size"} if arguments.data.batch_seconds else set())
    for name, value in sorted({**DEFAULTS, **rate, **arguments.training}.items()):
        if name not in without and not name.startswith(_NOT_SETTINGS_PREFIXES):
            yield name, cut_paths(str(value))
    for section, prefixes in _OF_A_STEP.items():
        given: Any = vars(arguments)[section]
        for key in fields(given):
            if key.name.startswith(prefixes) and vars(given)[key.name] != key.default:
                yield f"{section}.{key.name}", str(vars(given)[key.name])
    if arguments.model.language_token:
        yield "language token", f"`<|{arguments.model.language_token}|>`"
    if arguments.freeze.groups:
        yield "frozen", ", ".join(arguments.freeze.groups)
    if arguments.peft.method != "none":
        peft = arguments.peft
        yield "adapters", f"{peft.method}, r {peft.r}, alpha {peft.alpha}, dropout {peft.dropout}, merged {peft.merge}"


def limits(
    arguments: Arguments,
    baseline: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    notes: list[str],
    difference: PairedDifference | None,
    guardrails: Sequence[Guardrail] = (),
) -> Iterator[str]:
    """Yield what the numbers above do not show, the author's own sentences last."""
    yield "The rates hold for this test set; other microphones, accents, noise and topics were not measured."
    if baseline is not None and not is_proven(main_rate(arguments.data.language), baseline, results, difference):
        yield "This test set is too small to prove that the change is more than chance."
    invented = next((item for item in guardrails if item.words_per_minute is not None), None)
    yield (
        "It writes one token after the other and can write fluent text that nobody said, above all in silence, noise "
        f"and music; {invention(invented)}."
    )
    if results["skipped"]:
        yield f"Clips of the test split that were left out: {reasons(results['skipped'])}."
    yield from (cut_paths(note) for note in [*notes, *limit_texts(arguments.hub.card)])


def invention(item: Guardrail | None) -> str:
    """Return what is known of text where nobody speaks."""
    if item is None or item.words_per_minute is None:
        return "that was not measured"
    return (
        f"on {item.clips} synthetic clips without speech it wrote text in {per_cent(item.after)} % of them, "
        f"{item.words_per_minute[1] or 0:.1f} words a minute; recorded noise was not measured"
    )


def other_set_row(item: Guardrail) -> list[str]:
    """Return a set's row: before, after, and how far it moved."""
    low, high = item.after_interval
    return [
        item.name,
        item.language or "",
        f"{item.clips:,}",
        rate_name(item.rate),
        "" if item.before is None else per_cent(item.before),
        f"{per_cent(item.after)} [{per_cent(low)}, {per_cent(high)}]",
        "" if item.difference is None else change(item),
    ]


def is_proven(
    rate: str, baseline: Mapping[str, Any], results: Mapping[str, Any], difference: PairedDifference | None
) -> bool:
    """Tell whether the paired comparison leaves out chance; without one, whether the two intervals are apart."""
    if difference is not None:
        return difference.significant
    before, after = baseline[f"{rate}_interval"], results[f"{rate}_interval"]
    return bool(after[1] < before[0] or before[1] < after[0])


def limit_texts(card: Mapping[str, Any]) -> list[str]:
    """Return ``hub.card.limits``, one sentence or a list of them."""
    texts = card.get("limits", [])
    return [texts] if isinstance(texts, str) else list(texts)
