"""The model card of a classifier or a regressor: README.md with the metadata that the Hub reads, from plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_asr.config.arguments import Arguments
from hf_asr.hub.model_card import (
    base_model_text,
    corpus_name,
    data_row,
    decoding_sentence,
    hours,
    is_hub_id,
    limit_texts,
    metric_conditions,
    per_cent,
    reasons,
    settings,
)
from hf_asr.hub.privacy import cut_paths, public_value
from hf_asr.hub.provenance import provenance_rows
from hf_asr.hub.run_files import LOCAL_MODEL

# Our metrics and their names on the Hub.
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "rmse": "rmse", "r2": "r_squared"}
TEXT_KEYS = ("title", "description", "limits")
OPEN = 'audio, rate = soundfile.read("clip.wav", dtype="float32", always_2d=True)'
CLASS_SNIPPET = """from transformers import pipeline

classifier = pipeline("audio-classification", model="{model}")
{open}
print(classifier({{"raw": audio.mean(axis=1), "sampling_rate": rate}}))"""
NUMBER_SNIPPET = """from transformers import AutoFeatureExtractor, AutoModel

model, extractor = AutoModel.from_pretrained("{model}").eval(), AutoFeatureExtractor.from_pretrained("{model}")
{open}  # at 16 kHz
inputs = extractor(audio.mean(axis=1), sampling_rate=rate, return_tensors="pt", return_attention_mask=True)
print(float(model(**inputs).logits) * model.config.target_std + model.config.target_mean)"""


def write_classifier_card(
    run_dir: Path,
    arguments: Arguments,
    *,
    baseline: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    data_summary: Mapping[str, Mapping[str, Any]],
    trainable: str,
    notes: list[str],
) -> Path:
    """Write ``README.md`` into a run folder; it holds no local path, host or user name.

    Args:
        run_dir: The run folder.
        arguments: The whole configuration.
        baseline: Scores of what is said without listening; None when it was not scored.
        results: What ``test_results.json`` holds.
        data_summary: Split to ``utterances``, ``seconds`` and ``drops``.
        trainable: One line: what was trained.
        notes: Sentences for the section on limits.

    Returns:
        The card's path.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hf_asr.hub", "."),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, not HTML
    )
    values = _values(arguments, baseline, results, data_summary, trainable, notes)
    values["provenance"] = list(provenance_rows(run_dir, arguments))
    card = ModelCard(environment.get_template("classifier_card.md.jinja").render(values).strip() + "\n")
    path = run_dir / "README.md"
    path.write_text(str(card), encoding="utf-8")
    return path


def _values(
    arguments: Arguments,
    baseline: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    data_summary: Mapping[str, Mapping[str, Any]],
    trainable: str,
    notes: list[str],
) -> dict[str, Any]:
    texts, data, model = arguments.hub.card, arguments.data, arguments.hub.repo or LOCAL_MODEL
    named = "accuracy" in results
    snippet = (CLASS_SNIPPET if named else NUMBER_SNIPPET).format(model=model, open=OPEN)
    return {
        "card_data": _metadata(arguments, results).to_yaml(),
        "title": texts.get("title", arguments.experiment.name),
        "description": cut_paths(texts.get("description") or arguments.experiment.description)
        or f"It tells the {label_of(arguments)} of a clip. Trained with hf_asr on {corpus_name(data)}.",
        "task": "classification" if named else "regression",
        "label": label_of(arguments),
        "encoder": base_model_text(arguments.model.name_or_path),
        "corpus": corpus_name(data),
        "licence": arguments.hub.license or "not stated by the author; that of the encoder and of the data hold",
        "clips": f"{results['num_utterances']:,}",
        "hours": hours(results["seconds_of_audio"]),
        "speakers": f", {results['num_speakers']} speakers" if results["num_speakers"] else "",
        "drawn": results["interval_by"],
        "columns": ["accuracy, %", "macro F1, %"] if named else ["RMSE", "R2"],
        "result_rows": list(result_rows(baseline, results)),
        "matrix": list(matrix_rows(results)) if named else [],
        "classes": results.get("classes", []),
        "decoding": decoding_sentence(results),
        "snippet": snippet,
        "data_rows": [data_row(name, split) for name, split in data_summary.items()],
        "min_seconds": data.min_seconds,
        "max_seconds": data.max_seconds,
        "trainable": cut_paths(trainable),
        "settings": [*settings(arguments), *head_settings(arguments)],
        "limits": list(_limits(arguments, baseline, results, notes)),
    }


def label_of(arguments: Arguments) -> str:
    """Return what the model tells, by the name of the column."""
    return arguments.data.columns.get("label", "label")


def head_settings(arguments: Arguments) -> Iterator[tuple[str, str]]:
    """Yield what was put on the encoder."""
    head = arguments.head
    yield "layers", head.layers
    yield "pooling", head.pooling
    if list(head.scales) != [1]:
        yield "scales", ", ".join(map(str, head.scales))
    if head.blocks:
        yield "blocks", f"{head.blocks}, stochastic depth {head.stochastic_depth}"
    yield "head's dropout and norm", f"{head.dropout}, {head.norm}"
    if head.class_weights != "none":
        yield "class weights", head.class_weights


def result_rows(baseline: Mapping[str, Any] | None, results: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the table's rows: without listening, when it was scored, and the model."""
    for scored in (baseline, results):
        if scored is not None and "accuracy" in scored:
            name = "the model" if scored is results else f"always '{scored['majority_class']}'"
            yield [name, *(_with_interval(scored, metric, per_cent) for metric in ("accuracy", "macro_f1"))]
        elif scored is not None:
            name = "the model" if scored is results else f"always {scored['mean_of_train']:.4g}, the mean of train"
            yield [name, *(_with_interval(scored, metric, _plain) for metric in ("rmse", "r2"))]


def matrix_rows(results: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the confusion matrix with each class's recall."""
    for name, counts in zip(results["classes"], results["confusion_matrix"], strict=True):
        recall = results["recall"][name]
        yield [name, *map(str, counts), "" if recall is None else f"{per_cent(recall)} %"]


def _with_interval(scored: Mapping[str, Any], metric: str, text: Any) -> str:
    if scored[metric] is None:
        return "not defined"
    low, high = scored[f"{metric}_interval"]
    return f"{text(scored[metric])} [{text(low)}, {text(high)}]"


def _plain(number: float) -> str:
    return f"{number:.4g}"


def _metadata(arguments: Arguments, results: Mapping[str, Any]) -> ModelCardData:
    name = arguments.model.name_or_path
    language = arguments.data.language
    metrics = [metric for metric in HUB_METRICS if results.get(metric) is not None]
    known: dict[str, Any] = {
        "language": language.replace("_", "-").split("-")[0].lower() if language else None,
        "license": arguments.hub.license,
        "library_name": "transformers",
        "pipeline_tag": "audio-classification",
        "base_model": name if is_hub_id(name) else None,
        "tags": ["audio-classification", "hf-asr", *arguments.experiment.tags],
        "metrics": [HUB_METRICS[metric] for metric in metrics],
        "model_name": arguments.experiment.name,
        "eval_results": [
            EvalResult(
                task_type="audio-classification",
                task_name="Audio classification",
                dataset_type=arguments.data.corpus or "mixture",
                dataset_name=corpus_name(arguments.data),
                dataset_split="test",
                metric_type=HUB_METRICS[metric],
                metric_name=metric,
                metric_value=results[metric],
                metric_args=metric_conditions(results, metric),
            )
            for metric in metrics
        ],
    }
    given = {key: value for key, value in arguments.hub.card.items() if key not in TEXT_KEYS}
    return ModelCardData(**(known | public_value(given)))


def _limits(
    arguments: Arguments, baseline: Mapping[str, Any] | None, results: Mapping[str, Any], notes: list[str]
) -> Iterator[str]:
    yield "The scores hold for this test set; other speakers, microphones, languages and rooms were not measured."
    if not results["num_speakers"]:
        yield "Speakers of the test clips are not known: the interval takes every clip for independent evidence."
    elif results["num_speakers"] < 10:
        yield f"The interval draws {results['num_speakers']} speakers: with so few it is too narrow."
    if baseline is not None and not beats_guess(results):
        yield "This test set does not prove that the model is better than saying the same every time."
    if results["skipped"]:
        yield f"Clips of the test split that were left out: {reasons(results['skipped'])}."
    yield from (cut_paths(note) for note in [*notes, *limit_texts(arguments.hub.card)])


def beats_guess(results: Mapping[str, Any]) -> bool:
    """Tell whether the interval leaves out what is reached without listening."""
    if "accuracy" in results:
        return bool(results["accuracy_interval"][0] > results["majority_accuracy"])
    return bool(results["rmse_interval"][1] < results["rmse_of_mean"])
