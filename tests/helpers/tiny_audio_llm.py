"""A whole Qwen2-Audio checkpoint of a few thousand parameters, made in a test, in a folder like a published one."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

CHAT = ("<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
END_OF_TEXT = "<|endoftext|>"


def tiny_audio_llm_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer: 256 bytes, then the end of text (which pads) and the chat's special tokens."""
    vocabulary = {byte: place for place, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT, *CHAT])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=list(CHAT),
    )


def make_tiny_audio_llm(folder: str | Path, *, chunk_length: int = 4, seed: int = 0, layers: int = 1) -> Path:
    """Write a random Qwen2-Audio with its tokenizer, chat template and extractor into ``folder`` and return it.

    Args:
        folder: Where to write; made when missing.
        chunk_length: Window in seconds; 4 gives 400 frames, 200 encoder states and 100 audio tokens.
        seed: The weights are a function of it.
        layers: Of the audio tower and of the language model.
    """
    tokenizer = tiny_audio_llm_tokenizer()
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 32,
        "max_position_embeddings": 256,
    }
    audio = {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 16,
        "d_model": 16,
        "encoder_layers": layers,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "max_source_positions": chunk_length * 50,
    }
    token = tokenizer.get_vocab()["<|AUDIO|>"]
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=token)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2AudioForConditionalGeneration(config)
    ids = tokenizer.convert_tokens_to_ids([END_OF_TEXT, "<|im_end|>"])
    # As published: it samples unless told otherwise.
    model.generation_config = GenerationConfig(do_sample=True, top_k=20, pad_token_id=ids[0], eos_token_id=ids)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=chunk_length)
    model.save_pretrained(folder)
    Qwen2AudioProcessor(extractor, tokenizer).save_pretrained(folder)
    return Path(folder)
