"""The other side: run_speech_recognition_seq2seq.py's way, with transformers' and datasets' own parts.

Every clip is mapped to the features of a whole 30-second window and stored so; its collator pads labels; a plain
Seq2SeqTrainer trains and evaluates with ``predict_with_generate``. It is fairly tuned: the same attention kernel,
dtype, loader workers, processes, fused AdamW and batch as ours. MP3s are decoded by soundfile and resampled by
torchaudio, as ours are; datasets' own decoder needs FFmpeg.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
import jiwer
import soundfile
import torch
import torchaudio
from transformers import (
    GenerationConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

RATE = 16_000


@lru_cache
def resampler(rate: int) -> torchaudio.transforms.Resample:
    """Return the filter from a rate to 16 kHz, made once."""
    return torchaudio.transforms.Resample(rate, RATE)


def prepare_clip(row: dict[str, Any], processor: WhisperProcessor) -> dict[str, Any]:
    """Decode a clip; return the window's features and the labels."""
    samples, rate = soundfile.read(row["path"], dtype="float32", always_2d=True)
    mono = resampler(rate)(torch.from_numpy(samples.mean(axis=1))).numpy()
    inputs = processor.feature_extractor(mono, sampling_rate=RATE)
    labels = processor.tokenizer(row["text"]).input_ids
    return {"input_features": inputs["input_features"][0], "input_length": len(mono), "labels": labels}


def prepare_in_one_thread(row: dict[str, Any], processor: WhisperProcessor) -> dict[str, Any]:
    """The same in a process beside others: with twice the threads they would be 10 to 20 times slower."""
    torch.set_num_threads(1)
    return prepare_clip(row, processor)


def prepare(
    rows: list[dict[str, Any]], processor: WhisperProcessor, cache: Path, processes: int = 1
) -> datasets.Dataset:
    """Map all clips, into an Arrow file at ``cache``."""
    table = datasets.Dataset.from_list(rows)
    return table.map(
        partial(prepare_clip if processes == 1 else prepare_in_one_thread, processor=processor),
        remove_columns=table.column_names,
        num_proc=processes if processes > 1 else None,
        cache_file_name=str(cache),
        load_from_cache_file=False,
    )


@dataclass
class DataCollatorSpeechSeq2SeqWithPadding:
    """The example script's collator."""

    processor: WhisperProcessor
    decoder_start_token_id: int

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        """Stack the windows, pad the labels with -100, cut the start token that the model adds again."""
        inputs = [{"input_features": feature["input_features"]} for feature in features]
        batch = self.processor.feature_extractor.pad(inputs, return_tensors="pt")
        labels = self.processor.tokenizer.pad(
            [{"input_ids": feature["labels"]} for feature in features], return_tensors="pt"
        )
        ids = labels["input_ids"].masked_fill(labels.attention_mask.ne(1), -100)
        if (ids[:, 0] == self.decoder_start_token_id).all().cpu().item():
            ids = ids[:, 1:]
        batch["labels"] = ids
        return batch


def load(checkpoint: Path) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Load model and processor; English where the model has languages."""
    processor = WhisperProcessor.from_pretrained(checkpoint)
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, attn_implementation="sdpa", dtype=torch.float32)
    generation: GenerationConfig = model.generation_config
    if generation.is_multilingual:
        processor.tokenizer.set_prefix_tokens(language="en", task="transcribe")
        generation.language, generation.task = "en", "transcribe"
    generation.forced_decoder_ids = None
    return model, processor


def word_errors(prediction: Any, processor: WhisperProcessor) -> dict[str, float]:
    """Return the WER, as the script's ``compute_metrics`` does."""
    prediction.label_ids[prediction.label_ids == -100] = processor.tokenizer.pad_token_id
    said = processor.batch_decode(prediction.label_ids, skip_special_tokens=True)
    heard = processor.batch_decode(prediction.predictions, skip_special_tokens=True)
    return {"wer": jiwer.wer(said, heard)}


def make_trainer(
    model: Any, processor: WhisperProcessor, table: datasets.Dataset, folder: Path, *, batch: int, **options: Any
) -> Seq2SeqTrainer:
    """Return a Seq2SeqTrainer over the mapped clips.

    Args:
        model: From :func:`load`.
        processor: From :func:`load`.
        table: From :func:`prepare`; trained on and evaluated on.
        folder: The output directory.
        batch: Clips of a step.
        options: Other names of Seq2SeqTrainingArguments.
    """
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        learning_rate=1e-5,
        optim="adamw_torch_fused",
        bf16=torch.cuda.is_available(),
        predict_with_generate=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    return Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=table,
        eval_dataset=table,
        data_collator=DataCollatorSpeechSeq2SeqWithPadding(processor, model.config.decoder_start_token_id),
        compute_metrics=partial(word_errors, processor=processor),
        processing_class=processor,
    )
