"""Qwen2-Audio: Whisper's encoder, a projector and a language model that reads audio states among its tokens.

Chosen among the audio language models of transformers because its tokenizer and chat template are plain files, its
audio tower is masked at a clip's true length, and its class takes a whole batch of text and audio in one forward.
The model is asked the same question of every clip, in the checkpoint's own chat template; only the answer is learnt.
Adapters go to the language model alone; the audio tower and the projector stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
)

from hf_asr.config.arguments import Arguments, DataArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.features.collate import WindowPadder
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels
from hf_asr.models.audio_prompt import (
    ANSWERS,
    AudioPromptCollator,
    Prompt,
    instruction_for,
    prompt_of,
    prompts_on_the_left,
)
from hf_asr.models.checkpoints import config_values, is_config_name, load_weights, reporting, revision_of
from hf_asr.models.family import ModelFamily
from hf_asr.models.generating import check_generation, generating, generation_options
from hf_asr.models.whisper_processor import check_extractor, content_of

# A clip of fewer frames than an audio state takes has none.
SHORTEST_SECONDS = 0.1
# 30 seconds of fast speech; published checkpoints sample, and stop after 20 tokens unless told.
GREEDY: Mapping[str, Any] = {"do_sample": False, "max_new_tokens": 256}
# transformers has no pipeline that asks an audio language model what its generation config holds.
USAGE = """import soundfile
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

processor = AutoProcessor.from_pretrained("{model}")
model = Qwen2AudioForConditionalGeneration.from_pretrained("{model}").eval()
audio, rate = soundfile.read("clip.wav", dtype="float32", always_2d=True)  # at 16 kHz
instruction = model.generation_config.instruction
question = [{{"type": "audio", "audio": ""}}, {{"type": "text", "text": instruction}}]
chat = [{{"role": "user", "content": question}}]
prompt = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
inputs = processor(text=prompt, audio=audio.mean(axis=1), sampling_rate=rate, return_tensors="pt")
tokens = model.generate(**inputs, do_sample=False, max_new_tokens=256)
print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""
KEPT_IN_CHECKPOINTS = ("instruction", "eos_token_id", "pad_token_id")


def load_processor(model: ModelArguments) -> Qwen2AudioProcessor:
    """Load extractor, tokenizer and chat template.

    Raises:
        UserError: Files are missing or of another kind, the template shows no audio, or another tokenizer is given.
    """
    if is_config_name(model) or model.tokenizer_name_or_path is not None:
        raise UserError(
            "model.name_or_path: expected a Qwen2-Audio checkpoint with its own tokenizer, found "
            f"{model.name_or_path} with model.tokenizer_name_or_path={model.tokenizer_name_or_path}. Leave that out."
        )
    with reporting("model.name_or_path", model.name_or_path, "a Qwen2-Audio processor with a chat template"):
        processor = Qwen2AudioProcessor.from_pretrained(model.name_or_path, revision=revision_of(model))
        prompt_of(processor, instruction_for(None))
    return processor


def load_config(model: ModelArguments) -> Qwen2AudioConfig:
    """Return the model's config without its weights; the dropouts are those of the ``model`` section.

    Raises:
        UserError: There is none.
    """
    values = config_values(model)
    with reporting("model.name_or_path", model.name_or_path, "a Qwen2-Audio config.json"):
        config = Qwen2AudioConfig.from_dict(values)
    audio, text = cast(Any, config.audio_config), cast(Any, config.text_config)
    audio.dropout = model.dropout
    audio.activation_dropout = model.activation_dropout
    audio.encoder_layerdrop = model.layerdrop
    audio.attention_dropout = text.attention_dropout = model.attention_dropout
    return config


def load_model(arguments: Arguments, processor: Qwen2AudioProcessor) -> PreTrainedModel:
    """Load a checkpoint and write the instruction into its generation config.

    Without ``data.language`` a checkpoint keeps the instruction that it was trained with, if any.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or tokenizer and model do not fit.
    """
    config = load_config(arguments.model)
    _check_vocabulary(config, processor)
    loaded = load_weights(Qwen2AudioForConditionalGeneration, arguments.model, config)
    loaded.generation_config._from_model_config = None  # made of config.json, it would be made anew when it is read
    configure_generation(loaded, processor, arguments.data)
    return cast(PreTrainedModel, loaded)


def configure_generation(model: PreTrainedModel, processor: Qwen2AudioProcessor, data: DataArguments) -> None:
    """Write the instruction and the special ids into a model's generation config; in place."""
    generation: Any = model.generation_config
    kept = generation.to_dict().get("instruction") if data.language is None else None
    generation.instruction = kept or instruction_for(data.language, data.task)
    known = generation.eos_token_id
    ends = {*(known if isinstance(known, list) else [known]), prompt_of(processor, generation.instruction).end} - {None}
    generation.eos_token_id = sorted(ends)
    generation.pad_token_id = processor.tokenizer.pad_token_id


def make_encoder(processor: Qwen2AudioProcessor, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: Whisper's log-mel, and the answer with one end token.

    Raises:
        UserError: Extractor and model do not fit.
    """
    extractor, data = processor.feature_extractor, arguments.data
    check_extractor(extractor, cast(Any, model_config).audio_config)
    prompt = prompt_of(processor, instruction_for(data.language, data.task))
    return ClipEncoder(
        front_end=LogMel(extractor),
        labeller=TokenLabels(
            tokenizer=processor.tokenizer,
            prefix=(),
            end_token=prompt.end,
            max_tokens=_positions_left(model_config, prompt, extractor.nb_max_frames),
            text_pipeline=data.text_pipeline,
        ),
        identity=content_of(processor),
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=max(data.min_seconds, SHORTEST_SECONDS),
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: Qwen2AudioProcessor, model: PreTrainedModel) -> AudioPromptCollator:
    """Make the collator of prompts with the model's instruction."""
    extractor, generation = processor.feature_extractor, cast(Any, model.generation_config)
    return AudioPromptCollator(
        padder=WindowPadder(extractor.nb_max_frames, extractor.feature_size),
        prompt=prompt_of(processor, generation.instruction),
        pad_token=generation.pad_token_id,
        hop_length=extractor.hop_length,
    )


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], generation: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip: the answer, without the question.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: From :func:`make_collator`, on the model's device; the answers in it are not looked at.
        generation: Options of ``generate``.

    Raises:
        UserError: ``generate`` refuses an option's value.
    """
    writer = cast(Any, model)
    prompts, mask = prompts_on_the_left(batch, writer.generation_config.pad_token_id)
    audio = {name: batch[name] for name in ("input_features", "feature_attention_mask")}
    options = {"use_cache": True, **generation}  # training with checkpointing leaves config.use_cache off
    with generating(options):
        tokens = writer.generate(input_ids=prompts, attention_mask=mask, **audio, **options)
    texts = cast(Any, processor).batch_decode(tokens[:, prompts.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def decoding_options(arguments: Arguments) -> dict[str, Any]:
    """Return ``evaluation.generation``; greedy and long enough for 30 seconds unless it says otherwise."""
    return {**GREEDY, **generation_options(arguments)}


def check_saved(folder: Path, model: PreTrainedModel) -> None:
    """See that a saved model is asked what the one in memory is, and stops where it does.

    Raises:
        ValueError: Something was lost on the way.
    """
    saved, ours = GenerationConfig.from_pretrained(folder).to_dict(), model.generation_config.to_dict()
    lost = [name for name in KEPT_IN_CHECKPOINTS if saved.get(name) != ours.get(name)]
    if lost:
        found = "; ".join(f"{name} is {saved.get(name)}, was {ours.get(name)}" for name in lost)
        raise ValueError(f"generation_config.json in {folder} does not hold what was trained: {found}")


def notes(arguments: Arguments) -> list[str]:
    """Return what the model is asked, and what is unusual about training it fully."""
    data = arguments.data
    said = [f'The model is asked "{instruction_for(data.language, data.task)}" in its chat template.']
    if arguments.peft.method == "none" and not arguments.freeze.groups:
        said.append(
            "All weights of an audio language model are trained: AdamW takes 16 bytes each (134 GB for 8.4 billion),"
            " and a small corpus makes it forget what it can do. Set peft.method=lora to adapt its language model."
        )
    return said


def _positions_left(config: PreTrainedConfig, prompt: Prompt, window_frames: int) -> int:
    """Return the positions of the language model behind the longest prompt, and the one before the answer."""
    positions: int = cast(Any, config).text_config.max_position_embeddings
    return positions - len(prompt.ids(window_frames)) + 1


def _check_vocabulary(config: Qwen2AudioConfig, processor: Qwen2AudioProcessor) -> None:
    entries, vocabulary = cast(Any, config.text_config).vocab_size, processor.tokenizer.get_vocab()
    found = (vocabulary[processor.audio_token], max(vocabulary.values()))
    if found[0] != config.audio_token_id or found[1] >= entries or processor.tokenizer.pad_token_id is None:
        raise UserError(
            f"model.name_or_path: expected a tokenizer with a pad token, the audio token {config.audio_token_id} and "
            f"ids below {entries}, as config.json has it, found the audio token {found[0]} and ids up to {found[1]}. "
            "Give the tokenizer of this checkpoint."
        )


FAMILY = ModelFamily(
    name="audio_llm",
    recipe="finetune_seq2seq",
    model_types=("qwen2_audio",),
    config_names=(),
    usage=USAGE,
    load_processor=lambda arguments, train: load_processor(arguments.model),
    load_config=lambda arguments, processor: load_config(arguments.model),
    load_model=load_model,
    build=Qwen2AudioForConditionalGeneration,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode,
    decoding_options=decoding_options,
    check_decoding=check_generation,
    check_saved=check_saved,
    notes=lambda arguments, processor: notes(arguments),
    loss=ANSWERS,
    head="lm_head",
    lora_targets=("q_proj", "k_proj", "v_proj", "o_proj"),
    lora_excluded=("audio_tower", "multi_modal_projector"),
    freezable={
        "encoder": ("model.audio_tower.*",),
        "feature_encoder": ("model.audio_tower.conv?.*",),
        "encoder_layers": ("model.audio_tower.layers.*",),
        "encoder_self_attention": ("model.audio_tower.layers.*.self_attn*",),
        "encoder_feed_forward": ("model.audio_tower.layers.*.fc?.*",),
        "projector": ("model.multi_modal_projector.*",),
        "decoder": ("model.language_model.*",),
        "decoder_layers": ("model.language_model.layers.*",),
        "decoder_self_attention": ("model.language_model.layers.*.self_attn*",),
        "decoder_feed_forward": ("model.language_model.layers.*.mlp*",),
        "embeddings": ("model.language_model.embed_tokens.*",),
        "head": ("lm_head.*",),
        "layer_norms": ("*norm*",),
    },
    encoder_layers_prefix="model.audio_tower.layers",
    set_language=lambda model, processor, arguments: configure_generation(model, processor, arguments.data),
)
