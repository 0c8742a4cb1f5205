"""Classifiers and regressors on a speech encoder, frozen unless told otherwise: language, emotion, keyword, age ...

``model.name_or_path`` is a checkpoint of any speech model (its encoder is taken), ``config:NAME``, or a classifier that
was saved before. What it learns stands in ``data.columns.label``; what is put on the encoder, in the ``head`` section.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedModel

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.data.corpora import Split
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.collate import TargetCollator
from hf_asr.features.extract import ClipEncoder, Labeller
from hf_asr.models.checkpoints import (
    config_values,
    finish_random,
    is_config_name,
    load_weights,
    own_random_state,
    random_weights,
    reporting,
    revision_of,
)
from hf_asr.models.classifier_bank import freezes_encoder
from hf_asr.models.classifier_encoders import kind_of, load_encoder, read_encoder
from hf_asr.models.classifier_model import (
    MODELS,
    SpeechClassifier,
    SpeechClassifierConfig,
    SpeechRegressor,
    SpeechRegressorConfig,
    tell_kept_head,
)
from hf_asr.models.classifier_targets import (
    CLASSES,
    CLASSIFICATION,
    NUMBERS,
    REGRESSION,
    ClassLabels,
    NumberLabels,
    Targets,
    number_text,
    targets_of,
)
from hf_asr.models.family import ModelFamily

logger = logging.getLogger(__name__)

RECIPE = "finetune_classifier"
CLASSIFIER, REGRESSOR = "classifier", "regressor"
# The head is new, and trained whole; for the other see the same in hf_asr.models.ctc.
UNQUANTISED = ("head", r".*\.feature_projection")
FAMILY_OF_TASK = {CLASSIFICATION: CLASSIFIER, REGRESSION: REGRESSOR}
TASK_OF_TYPE = {"hf_asr_classifier": CLASSIFICATION, "hf_asr_regressor": REGRESSION}
# Of a clip: two windows of 25 ms, 10 ms apart, in every encoder's front end.
SHORTEST_SECONDS = 0.04
# What is frozen unless something is said.
FROZEN = ["encoder"]


@dataclass(frozen=True)
class ClassifierProcessor:
    """A feature extractor, and what the labels are.

    Attributes:
        feature_extractor: The encoder's own.
        encoder_config: Config of the encoder.
        targets: Of train; of a saved classifier, what its config says.
        guess: What one would say without listening.
    """

    feature_extractor: Any
    encoder_config: Any
    targets: Targets
    guess: str

    @property
    def classes(self) -> list[str]:
        """Names of the classes; none for numbers."""
        return self.targets.classes

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Save the extractor; the labels are in the model's config."""
        self.feature_extractor.save_pretrained(folder)


@dataclass(frozen=True)
class StatesOrFeatures:
    """Pads features as the encoder takes them, or states (K, S, D) of a bank, which stand in their place.

    Attributes:
        features: Pads features.
    """

    features: Any

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return the encoder's inputs; of states ``encoder_states`` (B, K, S, D) float16 and ``states_mask`` (B, S)."""
        if not clips or clips[0].ndim == 2:
            inputs: dict[str, torch.Tensor] = self.features(clips)
            return inputs
        layers, _, width = clips[0].shape
        longest = max(clip.shape[1] for clip in clips)
        states = np.zeros((len(clips), layers, longest, width), dtype=np.float16)
        mask = np.zeros((len(clips), longest), dtype=np.bool_)
        for index, clip in enumerate(clips):
            states[index, :, : clip.shape[1]] = clip
            mask[index, : clip.shape[1]] = True
        return {"encoder_states": torch.from_numpy(states), "states_mask": torch.from_numpy(mask)}


def classifier_arguments(arguments: Arguments) -> Arguments:
    """Return the configuration with what a classifier's recipe means when nothing is said.

    The family follows ``head.task``. The encoder is frozen unless ``freeze`` or ``peft`` says what of it is trained.
    """
    freeze = arguments.freeze
    silent = not freeze.groups and freeze.last_n_encoder_layers is None and arguments.peft.method == "none"
    family = FAMILY_OF_TASK[arguments.head.task]
    if arguments.model.family not in (None, family):
        raise UserError(
            f"model.family: expected {family}, as head.task is {arguments.head.task}, found {arguments.model.family}. "
            "Remove model.family, or change head.task."
        )
    if arguments.data.drop_suspicious is not None:
        raise UserError(
            "data.drop_suspicious: expected a model that writes text, whose errors it counts, found a classifier. "
            "Remove it."
        )
    return replace(
        arguments,
        model=replace(arguments.model, family=family),
        freeze=replace(freeze, groups=FROZEN) if silent else freeze,
    )


def load_processor(arguments: Arguments, train: Dataset | Stream | None) -> ClassifierProcessor:
    """Read the encoder's config and extractor, and count train's labels; a saved classifier has both.

    Raises:
        UserError: There is no such checkpoint, train has no labels that can be learnt, or the checkpoint and
            ``head.task`` do not fit.
    """
    model, task = arguments.model, task_of(arguments)
    found = TASK_OF_TYPE.get(model_type_of(model))
    if found is None:
        config, extractor = read_encoder(model)
        targets = targets_of(train, task, arguments.data.columns.get("label", ""))
        return ClassifierProcessor(extractor, config, targets, targets.guess)
    if found != task:
        raise UserError(
            f"model.name_or_path: expected a model for {task} (head.task, model.family), found one for {found} in "
            f"{model.name_or_path}. Set head.task={found}."
        )
    saved = saved_config(model)
    assert saved is not None
    with reporting("model.name_or_path", model.name_or_path, "a classifier saved with its feature extractor"):
        extractor = AutoFeatureExtractor.from_pretrained(model.name_or_path, revision=revision_of(model))
    names: dict[Any, str] = dict(saved.id2label or {})
    counts = dict.fromkeys((names[index] for index in range(len(names))), 0)
    targets = Targets(task, {} if task == REGRESSION else counts, saved.target_mean, saved.target_std)
    return ClassifierProcessor(extractor, saved.encoder, targets, saved.guess)


def task_of(arguments: Arguments) -> str:
    """Return what is learnt: as the family says where it is given or the checkpoint's own, else ``head.task``."""
    tasks = {family: task for task, family in FAMILY_OF_TASK.items()}
    named = tasks.get(arguments.model.family or "")
    return named or TASK_OF_TYPE.get(model_type_of(arguments.model), arguments.head.task)


def model_type_of(model: ModelArguments) -> str:
    """Return a checkpoint's ``model_type``; empty for ``config:NAME``."""
    return "" if is_config_name(model) else str(config_values(model)["model_type"])


def saved_config(model: ModelArguments) -> SpeechClassifierConfig | None:
    """Return the config of a classifier that was saved before; None for any other checkpoint, and for config:NAME."""
    if model_type_of(model) not in TASK_OF_TYPE:
        return None
    with reporting("model.name_or_path", model.name_or_path, "a classifier's config.json"):
        saved: SpeechClassifierConfig = AutoConfig.from_pretrained(model.name_or_path, revision=revision_of(model))
    return saved


def load_config(arguments: Arguments, processor: ClassifierProcessor) -> SpeechClassifierConfig:
    """Return the model's config: a saved one as it is, else of the encoder and the ``head`` section."""
    saved = saved_config(arguments.model)
    if saved is not None:
        return saved
    head, targets = arguments.head, processor.targets
    names = targets.classes or ["value"]
    balanced = head.class_weights == "balanced" and targets.task == CLASSIFICATION
    config_class = SpeechRegressorConfig if targets.task == REGRESSION else SpeechClassifierConfig
    config = config_class(
        encoder=processor.encoder_config,
        layers=head.layers,
        scales=list(head.scales),
        blocks=head.blocks,
        stochastic_depth=head.stochastic_depth,
        pooling=head.pooling,
        head_dropout=head.dropout,
        norm=head.norm,
        class_weights=targets.balanced_weights() if balanced else None,
        target_mean=targets.mean,
        target_std=targets.std,
        guess=targets.guess,
        round_states=freezes_encoder(arguments),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    config.problem_type = "regression" if targets.task == REGRESSION else "single_label_classification"
    return config


def load_model(arguments: Arguments, processor: ClassifierProcessor) -> PreTrainedModel:
    """Load a saved classifier; or build one: the head random, the encoder read from its checkpoint or random as well.

    Raises:
        UserError: Weights are missing, damaged or of another shape.
    """
    model, config = arguments.model, load_config(arguments, processor)
    model_class = MODELS[config.model_type]
    if saved_config(model) is not None:
        tell_kept_head(arguments.head, config)
        loaded: PreTrainedModel = load_weights(model_class, model, config, unquantised=UNQUANTISED)
        return loaded
    # Not the name of a folder: the head would be another one wherever the checkpoint lies.
    with own_random_state(arguments.experiment.seed, model.name_or_path if is_config_name(model) else "head"):
        built = random_weights(model_class, config, model.attn_implementation)
    if not is_config_name(model):
        built.encoder = load_encoder(model, config.encoder)
    return built if model.quantization == "none" else finish_random(built, model, UNQUANTISED)


def make_encoder(processor: ClassifierProcessor, model_config: Any, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the features of its encoder, each waveform normalised over itself, and its label."""
    extractor, data = processor.feature_extractor, arguments.data
    labeller: Labeller = NumberLabels() if processor.targets.task == REGRESSION else ClassLabels(processor.classes)
    return ClipEncoder(
        front_end=kind_of(model_config.encoder).front_end(extractor, model_config.encoder),
        labeller=labeller,
        identity={"extractor": hashlib.sha256(extractor.to_json_string().encode()).hexdigest()},
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=max(data.min_seconds, SHORTEST_SECONDS),
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: ClassifierProcessor, model: PreTrainedModel) -> TargetCollator:
    """Make the collator of features, or of a bank's states, and targets."""
    features = kind_of(model.config.encoder).padder(processor.feature_extractor, model.config.encoder)
    dtype = torch.float32 if processor.targets.task == REGRESSION else torch.int64
    return TargetCollator(StatesOrFeatures(features), dtype)


def decode_classes(
    model: PreTrainedModel, processor: ClassifierProcessor, batch: Mapping[str, Any], options: Mapping[str, Any]
) -> list[str]:
    """Return the name of each clip's likeliest class."""
    logits = model(**inputs_of(batch)).logits.float()
    return [processor.classes[index] for index in logits.argmax(-1).tolist()]


def decode_numbers(
    model: PreTrainedModel, processor: ClassifierProcessor, batch: Mapping[str, Any], options: Mapping[str, Any]
) -> list[str]:
    """Return each clip's number as text, in the units of the labels."""
    standard = model(**inputs_of(batch)).logits.float()[:, 0]
    numbers = standard * model.config.target_std + model.config.target_mean
    return [number_text(number) for number in numbers.tolist()]


def inputs_of(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return what ``forward`` takes of a batch."""
    return {name: value for name, value in batch.items() if name not in ("labels", "ids", "skipped")}


def check_decoding(model: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """See that nothing is asked of generation, which there is none of.

    Raises:
        UserError: Options of generation are given.
    """
    if options:
        raise UserError(
            f"evaluation.generation: expected nothing, since a classifier does not write text, found "
            f"{', '.join(options)}. Remove the section."
        )


def check_saved(folder: Path, model: PreTrainedModel) -> None:
    """See that a saved classifier tells its classes, or its numbers' scale, as the one in memory does.

    Raises:
        ValueError: Something was lost on the way.
    """
    saved = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    ours = json.loads(model.config.to_json_string(use_diff=False))
    kept = ("model_type", "id2label", "target_mean", "target_std", "class_weights", "layers", "pooling")
    lost = [name for name in kept if saved.get(name) != ours.get(name)]
    if lost:
        found = "; ".join(f"{name} is {saved.get(name)}, was {ours.get(name)}" for name in lost)
        raise ValueError(f"config.json in {folder} does not hold what was trained: {found}")


def check_classes(splits: Mapping[str, Split], classes: Sequence[str]) -> None:
    """See that no split asks for a class that train never showed.

    Raises:
        UserError: One does; such clips can only be wrong.
    """
    known = set(classes)
    for name, split in splits.items():
        if not known or not isinstance(split.rows, Dataset):
            continue
        found = {label for label in split.rows["label"] if label} - known
        if found:
            raise UserError(
                f"{name}: expected the classes of train ({', '.join(sorted(known))}), found {', '.join(sorted(found))} "
                "as well. Add clips of them to train, or leave them out."
            )


def notes(arguments: Arguments, processor: ClassifierProcessor) -> list[str]:
    """Return what a reader of the card should know."""
    frozen = "The encoder was frozen." if freezes_encoder(arguments) else "Parts of the encoder were trained as well."
    if processor.targets.task == REGRESSION:
        mean, std = processor.targets.mean, processor.targets.std
        return [f"{frozen} Its numbers had mean {mean:.4g} and standard deviation {std:.4g} in training."]
    return [f"{frozen} It knows these classes alone and always names one of them: {', '.join(processor.classes)}."]


FREEZABLE = {
    "encoder": ("encoder.*",),
    "feature_encoder": (
        "encoder.feature_extractor.*",
        "encoder.conv*",
        "encoder.subsampling.*",
        "encoder.feature_projection.*",
        "encoder.groupnorm.*",
    ),
    "encoder_layers": ("encoder.layers.*", "encoder.encoder.layers.*"),
    "head": ("head.*",),
    "layer_weights": ("head.weights.*",),
    "layer_norms": ("*norm*",),
}

FAMILY = ModelFamily(
    name=CLASSIFIER,
    recipe=RECIPE,
    model_types=("hf_asr_classifier",),
    config_names=(),
    load_processor=load_processor,
    load_config=load_config,
    load_model=load_model,
    build=SpeechClassifier,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode_classes,
    decoding_options=lambda arguments: dict(arguments.evaluation.generation),
    check_decoding=check_decoding,
    check_saved=check_saved,
    notes=notes,
    loss=CLASSES,
    head="head",
    # The names that the encoders' attentions have: Whisper, wav2vec2 and its kin, Moonshine.
    lora_targets=("q_proj", "v_proj"),
    freezable=FREEZABLE,
    encoder_layers_prefix="encoder.layers|encoder.encoder.layers",
    scoring="classes",
    needs_train=True,
)
REGRESSOR_FAMILY = replace(
    FAMILY,
    name=REGRESSOR,
    model_types=("hf_asr_regressor",),
    build=SpeechRegressor,
    decode=decode_numbers,
    loss=NUMBERS,
    scoring="numbers",
)
