"""One owner per setting: keys of transformers that something else here sets, and keys that transformers has removed.

A key in one of these tables is an error whose text says where the setting is made.
"""

from __future__ import annotations

_LAUNCHER = "the YAML given to `accelerate launch --config_file` says how processes are laid out"
_COLLATOR = "nothing to set: the collators pick what the model takes"
_ONE_ROAD = "nothing to set: validation, baseline and test go through the same generation, scored over the whole set"
_LOADER = "nothing to set: batches are cut so that N processes see each clip exactly once an epoch"
_ALWAYS = "nothing to set: a recipe always trains, validates and tests"
_PUSH = "set hub.push_every: end or save"

# Names of Seq2SeqTrainingArguments.
TRAINING_OWNERS: dict[str, str] = {
    "output_dir": "set experiment.output_dir and experiment.name",
    "run_name": "set experiment.name",
    "seed": "set experiment.seed",
    "data_seed": "set experiment.seed",
    "per_device_eval_batch_size": "set evaluation.batch_size",
    "generation_max_length": "set evaluation.generation.max_length",
    "generation_num_beams": "set evaluation.generation.num_beams",
    "generation_config": "set evaluation.generation",
    "predict_with_generate": _ONE_ROAD,
    "prediction_loss_only": _ONE_ROAD,
    "eval_do_concat_batches": _ONE_ROAD,
    "eval_use_gather_object": _ONE_ROAD,
    "eval_accumulation_steps": _ONE_ROAD,
    "include_for_metrics": _ONE_ROAD,
    "batch_eval_metrics": _ONE_ROAD,
    "bf16_full_eval": "set evaluation.dtype: bfloat16",
    "fp16_full_eval": "set evaluation.dtype: float16",
    "lr_scheduler_type": "set training.scheduler.name",
    "lr_scheduler_kwargs": "set training.scheduler, whose other keys they are",
    "dataloader_num_workers": "set data.num_workers",
    "dataloader_prefetch_factor": "set data.prefetch_factor",
    "dataloader_persistent_workers": "nothing to set: workers persist whenever data.num_workers gives some",
    "dataloader_pin_memory": "nothing to set: memory is pinned where there is a GPU",
    "dataloader_drop_last": _LOADER,
    "dataloader_in_order": _LOADER,
    "dataloader_multiprocessing_context": "nothing to set: data.num_workers is all there is to choose",
    "accelerator_config": _LOADER,
    "sortish_sampler": "set training.train_sampling_strategy",
    "length_column_name": "set training.train_sampling_strategy",
    "ignore_data_skip": "nothing to set: a resumed run takes the clips that the interrupted one would have taken",
    "restore_callback_states_from_checkpoint": "nothing to set: a resumed run restores all its state",
    "average_tokens_across_devices": "nothing to set: the loss is always divided by the label tokens of all processes",
    "remove_unused_columns": _COLLATOR,
    "label_names": _COLLATOR,
    "disable_tqdm": "nothing to set: recipes show their own progress bars",
    "do_train": _ALWAYS,
    "do_eval": _ALWAYS + "; training.eval_strategy says how often it validates",
    "do_predict": _ALWAYS,
    "local_rank": _LAUNCHER,
    "parallelism_config": _LAUNCHER,
    "push_to_hub": "set hub.push",
    "hub_model_id": "set hub.repo",
    "hub_private_repo": "set hub.private",
    "hub_token": "log in with `hf auth login`, or set HF_TOKEN; a token never belongs in a YAML",
    "hub_strategy": _PUSH,
    "hub_always_push": _PUSH,
    "hub_revision": _PUSH,
}

# Names that older releases of transformers had (its MIGRATION_GUIDE_V5.md), and arguments of its Trainer.
TRAINING_REMOVED: dict[str, str] = {
    "evaluation_strategy": "it is training.eval_strategy today",
    "warmup_ratio": "it is training.warmup_steps today, where a number below 1 is a share of all steps",
    "overwrite_output_dir": "a run folder is never overwritten: give another experiment.name, or set "
    "training.resume_from_checkpoint: true",
    "group_by_length": "it is training.train_sampling_strategy today, which is random or sequential here",
    "logging_dir": "TensorBoard's files are always in the run folder's tensorboard/",
    "tokenizer": "set model.tokenizer_name_or_path",
    "processing_class": "set model.tokenizer_name_or_path",
    "model_path": "it is training.resume_from_checkpoint today",
    "no_cuda": "it is training.use_cpu today",
    "use_mps_device": "Apple's GPU is used where there is one; training.use_cpu: true turns it off",
    "per_gpu_train_batch_size": "it is training.per_device_train_batch_size today",
    "per_gpu_eval_batch_size": "set evaluation.batch_size",
    "fp16_backend": "set training.fp16 or training.bf16; there is one backend today",
    "half_precision_backend": "set training.fp16 or training.bf16; there is one backend today",
    "fp16_opt_level": "set training.fp16; its levels went with apex",
    "use_legacy_prediction_loop": _ONE_ROAD,
    "include_inputs_for_metrics": _ONE_ROAD,
    "include_tokens_per_second": "it is training.include_num_input_tokens_seen today",
    "adafactor": "it is training.optim: adafactor today",
    "save_safetensors": "weights are always saved as safetensors",
    "jit_mode_eval": "set training.torch_compile",
    "use_ipex": "torch does this itself today; leave it out",
    "torchdynamo": "it is training.torch_compile_backend today",
    "tpu_num_cores": "set the environment variable TPU_NUM_CORES",
    "tpu_metrics_debug": "it is training.debug: tpu_metrics_debug today",
    "ray_scope": "set the environment variable RAY_SCOPE",
    "past_index": "no model here keeps past states between batches; leave it out",
    "mp_parameters": "it was for SageMaker only; leave it out",
    "dispatch_batches": _LOADER,
    "split_batches": _LOADER,
    "sharded_ddp": "it is training.fsdp today",
    "fsdp_min_num_params": "it is a key of training.fsdp_config today",
    "fsdp_transformer_layer_cls_to_wrap": "it is a key of training.fsdp_config today",
    "push_to_hub_model_id": "set hub.repo",
    "push_to_hub_organization": "set hub.repo: ORG/NAME",
    "push_to_hub_token": "log in with `hf auth login`, or set HF_TOKEN; a token never belongs in a YAML",
}

_ONE_HYPOTHESIS = "nothing to set: a clip gets one hypothesis, as text"
_TOKENS = "nothing to set: the checkpoint's own special tokens are used"
_HUB_CODE = "transformers has moved it to code on the Hub, and nothing here executes remote code"
_NO_TIMES = "nothing to set: clips are decoded without timestamps; for recordings set evaluation.long_form"
_BATCHING = "evaluation.batch_size is the one way of batching"

# Names of GenerationConfig, and arguments of Whisper's generate.
GENERATION_OWNERS: dict[str, str] = {
    "num_return_sequences": _ONE_HYPOTHESIS,
    "return_dict_in_generate": _ONE_HYPOTHESIS,
    "output_attentions": _ONE_HYPOTHESIS,
    "output_hidden_states": _ONE_HYPOTHESIS,
    "output_scores": _ONE_HYPOTHESIS,
    "output_logits": _ONE_HYPOTHESIS,
    "pad_token_id": _TOKENS,
    "bos_token_id": _TOKENS,
    "eos_token_id": _TOKENS,
    "decoder_start_token_id": _TOKENS,
    "forced_bos_token_id": _TOKENS,
    "forced_eos_token_id": _TOKENS,
    "low_memory": _HUB_CODE,
    "penalty_alpha": _HUB_CODE,
    "dola_layers": _HUB_CODE,
    "diversity_penalty": _HUB_CODE,
    "num_beam_groups": _HUB_CODE,
    "constraints": _HUB_CODE,
    "force_words_ids": _HUB_CODE,
    "continuous_batching_config": _BATCHING,
    "return_timestamps": _NO_TIMES,
    "return_token_timestamps": _NO_TIMES,
    "language": "set data.language",
    "task": "set data.task",
    "forced_decoder_ids": "set data.language and data.task",
}
