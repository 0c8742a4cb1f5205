"""Names that other libraries own: what ``training:`` and ``evaluation.generation:`` may say, with types and ranges.

The lists are generated from transformers 5.23 and held to the installed one by tests/config/test_names.py, so that a
YAML is checked whole without importing transformers (5 s). A type is what may be written: ``None`` is left out
because null always means "not given". Keys that something else of ours owns are in :mod:`hf_asr.config.owners`.
"""

from __future__ import annotations

from hf_asr.config.options import AT_LEAST_0, AT_LEAST_1, FINITE, POSITIVE, SHARE, Bounds

# Seq2SeqTrainingArguments.
TRAINING: dict[str, str] = {
    "per_device_train_batch_size": "int",
    "num_train_epochs": "float",
    "max_steps": "int",
    "learning_rate": "float",
    "warmup_steps": "float",
    "optim": "str",
    "optim_args": "str",
    "weight_decay": "float",
    "adam_beta1": "float",
    "adam_beta2": "float",
    "adam_epsilon": "float",
    "optim_target_modules": "str | list[str]",
    "gradient_accumulation_steps": "int",
    "max_grad_norm": "float",
    "label_smoothing_factor": "float",
    "bf16": "bool",
    "fp16": "bool",
    "tf32": "bool",
    "activation_checkpointing": "bool",
    "activation_checkpointing_kwargs": "dict[str, Any] | str",
    "gradient_checkpointing": "bool",
    "gradient_checkpointing_kwargs": "dict[str, Any] | str",
    "torch_compile": "bool",
    "torch_compile_backend": "str",
    "torch_compile_mode": "str",
    "use_liger_kernel": "bool",
    "liger_kernel_config": "dict[str, bool]",
    "use_cache": "bool",
    "neftune_noise_alpha": "float",
    "torch_empty_cache_steps": "int",
    "auto_find_batch_size": "bool",
    "logging_strategy": "str",
    "logging_steps": "float",
    "logging_first_step": "bool",
    "log_on_each_node": "bool",
    "logging_nan_inf_filter": "bool",
    "include_num_input_tokens_seen": "str | bool",
    "log_level": "str",
    "log_level_replica": "str",
    "report_to": "str | list[str]",
    "project": "str",
    "trackio_space_id": "str",
    "trackio_bucket_id": "str",
    "trackio_static_space_id": "str | bool",
    "eval_strategy": "str",
    "eval_steps": "float",
    "eval_delay": "float",
    "eval_on_start": "bool",
    "save_only_model": "bool",
    "save_strategy": "str",
    "save_steps": "float",
    "save_on_each_node": "bool",
    "save_total_limit": "int",
    "enable_jit_checkpoint": "bool",
    "load_best_model_at_end": "bool",
    "metric_for_best_model": "str",
    "greater_is_better": "bool",
    "full_determinism": "bool",
    "use_cpu": "bool",
    "train_sampling_strategy": "str",
    "ddp_find_unused_parameters": "bool",
    "ddp_bucket_cap_mb": "int",
    "ddp_broadcast_buffers": "bool",
    "ddp_static_graph": "bool",
    "ddp_backend": "str",
    "ddp_timeout": "int",
    "fsdp": "str",
    "fsdp_config": "dict[str, Any] | str",
    "deepspeed": "dict[str, Any] | str",
    "debug": "str | list[str]",
    "skip_memory_metrics": "bool",
}

# When a text of Whisper's is decoded again at the next of several temperatures: arguments of its own generate.
FALLBACK: dict[str, str] = {
    "compression_ratio_threshold": "float",
    "logprob_threshold": "float",
    "no_speech_threshold": "float",
}

# GenerationConfig, and Whisper's fallback.
GENERATION: dict[str, str] = {
    **FALLBACK,
    "max_length": "int",
    "max_new_tokens": "int",
    "min_length": "int",
    "min_new_tokens": "int",
    "early_stopping": "bool | str",
    "max_time": "float",
    "stop_strings": "str | list[str]",
    "do_sample": "bool",
    "num_beams": "int",
    "use_mtp": "bool",
    "use_cache": "bool",
    "cache_implementation": "str",
    "cache_config": "dict[str, Any]",
    "max_cache_len": "int",
    "temperature": "float | list[float]",
    "top_k": "int",
    "top_p": "float",
    "min_p": "float",
    "top_h": "float",
    "typical_p": "float",
    "epsilon_cutoff": "float",
    "eta_cutoff": "float",
    "repetition_penalty": "float",
    "encoder_repetition_penalty": "float",
    "length_penalty": "float",
    "no_repeat_ngram_size": "int",
    "bad_words_ids": "list[list[int]]",
    "renormalize_logits": "bool",
    "remove_invalid_values": "bool",
    "exponential_decay_length_penalty": "list[float]",
    "suppress_tokens": "list[int]",
    "begin_suppress_tokens": "list[int]",
    "sequence_bias": "list[list[Any]]",
    "token_healing": "bool",
    "guidance_scale": "float",
    "watermarking_config": "dict[str, Any]",
    "encoder_no_repeat_ngram_size": "int",
    "is_assistant": "bool",
    "num_assistant_tokens": "int",
    "num_assistant_tokens_schedule": "str",
    "assistant_confidence_threshold": "float",
    "prompt_lookup_num_tokens": "int",
    "max_matching_ngram_size": "int",
    "assistant_early_exit": "int",
    "assistant_lookbehind": "int",
    "target_lookbehind": "int",
    "assistant_ensemble_weight": "float",
    "speculation_type": "str",
    "compile_config": "dict[str, Any]",
    "disable_compile": "bool",
    "prefill_chunk_size": "int",
}

# Schedules of transformers.optimization and what each takes beside warm-up and length.
_PLATEAU = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
_STABLE = ("num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles")
SCHEDULERS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
    "reduce_lr_on_plateau": _PLATEAU,
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": _STABLE,
    "wsd": _STABLE,
    "one_cycle": ("div_factor", "final_div_factor", "anneal_strategy", "three_phase"),  # ours, over torch's OneCycleLR
    "plateau": _PLATEAU,  # reduce_lr_on_plateau
    "greedy": (*_PLATEAU, "warmup", "max_lr", "verbose", "smooth", "window_size", "reset_start"),
}

# torch.utils.checkpoint.checkpoint; context_fn is a function, which no YAML can hold.
CHECKPOINTING: tuple[str, ...] = (
    "use_reentrant",
    "preserve_rng_state",
    "determinism_check",
    "debug",
    "early_stop",
    "respect_saved_tensors_hooks",
)

OPTIMIZERS: tuple[str, ...] = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adafactor",
    "adamw_anyprecision",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "ademamix",
    "sgd",
    "adagrad",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "ademamix_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "galore_adamw",
    "galore_adamw_8bit",
    "galore_adafactor",
    "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise",
    "lomo",
    "adalomo",
    "grokadamw",
    "schedule_free_radam",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "apollo_adamw",
    "apollo_adamw_layerwise",
    "stable_adamw",
)

LOG_LEVELS: tuple[str, ...] = ("detail", "debug", "info", "warning", "error", "critical", "passive")

TRAINING_CHOICES: dict[str, tuple[str, ...]] = {
    "optim": OPTIMIZERS,
    "logging_strategy": ("no", "steps", "epoch"),
    "eval_strategy": ("no", "steps", "epoch"),
    "save_strategy": ("no", "steps", "epoch", "best"),
    "include_num_input_tokens_seen": ("no", "all", "non_padding"),
    "log_level": LOG_LEVELS,
    "log_level_replica": LOG_LEVELS,
    # What our validation reports.
    "metric_for_best_model": ("wer", "cer", "mer", "wil", "loss", "accuracy", "macro_f1", "rmse", "r2"),
    # The other two of transformers make the order depend on how a step is cut into batches.
    "train_sampling_strategy": ("random", "sequential"),
}

# YAML 1.1 reads an unquoted no or off as false, on as true; these keys have the words among their values.
# Section to key to the words that false and true stand for.
WORDS_FOR_BOOLEANS: dict[str, dict[str, dict[bool, str]]] = {
    "training": {
        "eval_strategy": {False: "no"},
        "save_strategy": {False: "no"},
        "logging_strategy": {False: "no"},
        "ema": {False: "off"},
    },
    "features": {"bank": {False: "off", True: "on"}},
    "model": {"quantization": {False: "none"}},
}

TRAINING_BOUNDS: dict[str, Bounds] = {
    "per_device_train_batch_size": AT_LEAST_1,
    "num_train_epochs": POSITIVE,
    "max_steps": Bounds(-1),
    "learning_rate": FINITE,
    "warmup_steps": AT_LEAST_0,
    "weight_decay": AT_LEAST_0,
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "adam_epsilon": AT_LEAST_0,
    "gradient_accumulation_steps": AT_LEAST_1,
    "max_grad_norm": AT_LEAST_0,
    "label_smoothing_factor": SHARE,
    "logging_steps": POSITIVE,
    "eval_steps": POSITIVE,
    "eval_delay": AT_LEAST_0,
    "save_steps": POSITIVE,
    "save_total_limit": AT_LEAST_1,
    "torch_empty_cache_steps": AT_LEAST_1,
    "ddp_timeout": AT_LEAST_1,
}

GENERATION_BOUNDS: dict[str, Bounds] = {
    "max_length": AT_LEAST_1,
    "max_new_tokens": AT_LEAST_1,
    "min_length": AT_LEAST_0,
    "min_new_tokens": AT_LEAST_0,
    "max_time": POSITIVE,
    "num_beams": AT_LEAST_1,
    "temperature": AT_LEAST_0,
    "top_k": AT_LEAST_0,
    "top_p": Bounds(0, 1),
    "repetition_penalty": POSITIVE,
    "no_repeat_ngram_size": AT_LEAST_0,
}

# Languages in words, for "did you mean": transformers.models.whisper.tokenization_whisper.LANGUAGES.
_LANGUAGES = """
en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese
tr:turkish pl:polish ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi
fi:finnish vi:vietnamese he:hebrew uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish
hu:hungarian ta:tamil no:norwegian th:thai ur:urdu hr:croatian bg:bulgarian lt:lithuanian la:latin
mi:maori ml:malayalam cy:welsh sk:slovak te:telugu fa:persian lv:latvian bn:bengali sr:serbian
az:azerbaijani sl:slovenian kn:kannada et:estonian mk:macedonian br:breton eu:basque is:icelandic
hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh sq:albanian sw:swahili gl:galician mr:marathi
pa:punjabi si:sinhala km:khmer sn:shona yo:yoruba so:somali af:afrikaans oc:occitan ka:georgian
be:belarusian tg:tajik sd:sindhi gu:gujarati am:amharic yi:yiddish lo:lao uz:uzbek fo:faroese
ht:haitian_creole ps:pashto tk:turkmen nn:nynorsk mt:maltese sa:sanskrit lb:luxembourgish my:myanmar
bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar haw:hawaiian ln:lingala ha:hausa ba:bashkir
jw:javanese su:sundanese yue:cantonese
"""
LANGUAGES: dict[str, str] = {
    name.replace("_", " "): code for code, name in (pair.split(":") for pair in _LANGUAGES.split())
}
