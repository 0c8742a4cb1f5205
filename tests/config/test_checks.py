from __future__ import annotations

from typing import Any

import pytest

from hf_asr.config.checks import check_tree
from hf_asr.config.names import GENERATION, TRAINING
from hf_asr.config.owners import GENERATION_OWNERS, TRAINING_OWNERS, TRAINING_REMOVED
from hf_asr.config.together import check_together


def problems_of(section: str, **values: Any) -> list[str]:
    return list(check_tree({section: values}))


FINE: list[tuple[str, dict[str, Any]]] = [
    ("experiment", {"name": "whisper-small-ru", "seed": 1, "tags": ["a", "b"], "description": "x"}),
    ("model", {"name_or_path": "config:whisper-tiny", "dtype": "bfloat16", "dropout": 0, "layerdrop": 0.1}),
    ("data", {"corpus": "manifest", "path": "a.csv", "limit": {"train": 10}, "num_workers": 2, "level": "rms"}),
    ("data", {"num_workers": "auto", "columns": {"audio": "wav", "text": "sentence", "id": "key"}}),
    ("data", {"splits": {"train": ["train", "other"], "validation": "dev", "test": {"corpus": "hub", "name": "a/b"}}}),
    ("data", {"splits": {"test": {"corpus": "manifest", "path": "x", "splits": {"test": ["a.csv", "b.csv"]}}}}),
    ("data", {"splits": {"held_out": {"validation": 0.05, "test": 0, "by": "id"}}}),
    ("data", {"splits": {"held_out": {}}}),
    ("data", {"sources": [{"corpus": "manifest", "path": "a", "weight": 2}, {"corpus": "hub", "weight": 0.5}]}),
    ("data", {"sources": [{"corpus": "manifest", "path": "a"}, {"corpus": "hub", "name": "b"}]}),
    ("data", {"min_seconds": 1, "max_seconds": 20.5, "limit": {"test": 1e2}}),
    ("features", {"cache": False, "num_proc": 4, "store_dtype": "float32"}),
    ("freeze", {"groups": ["encoder"], "last_n_encoder_layers": 4, "learning_rates": {"decoder": 1e-5}}),
    ("peft", {"method": "lora", "r": 8, "alpha": 16, "target_modules": ["q_proj"]}),
    ("training", {"learning_rate": 1e-5, "max_steps": -1, "warmup_steps": 0.1, "eval_steps": 100}),
    ("training", {"scheduler": "cosine", "early_stopping_patience": 0, "log_sample_ids": True}),
    ("training", {"scheduler": {"name": "polynomial", "power": 2, "lr_end": 1e-7}}),
    ("training", {"resume_from_checkpoint": True}),
    ("training", {"resume_from_checkpoint": "runs/a/checkpoints/checkpoint-5", "report_to": ["wandb", "mlflow"]}),
    ("training", {"activation_checkpointing_kwargs": {"use_reentrant": False}, "fsdp_config": {"version": 2}}),
    ("evaluation", {"normalizer": "russian", "metrics": ["wer", "cer"], "generation": {"num_beams": 5}}),
    ("hub", {"repo": "org/name-1.0", "push": True, "card": {"datasets": ["a"], "anything": {"b": 1}}}),
]


@pytest.mark.parametrize(("section", "values"), FINE)
def test_what_is_right_is_left_alone(section: str, values: dict[str, Any]) -> None:
    assert problems_of(section, **values) == []


# Section, what is written, and parts of the one problem that must be told.
WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    # unknown keys, at any depth
    ("experiment", {"sed": 1}, ["experiment.sed", "'seed'"]),
    ("model", {"name_or_pth": "a"}, ["model.name_or_pth", "'name_or_path'"]),
    ("training", {"learning_rte": 1}, ["training.learning_rte", "'learning_rate'"]),
    ("training", {"scheduler": {"name": "polynomial", "powr": 2}}, ["training.scheduler.powr", "'power'"]),
    ("training", {"scheduler": {"name": "linear", "power": 2}}, ["training.scheduler.power"]),
    (
        "training",
        {"gradient_checkpointing_kwargs": {"use_reentrnt": False}},
        ["_kwargs.use_reentrnt", "'use_reentrant'"],
    ),
    ("evaluation", {"generation": {"num_beam": 2}}, ["evaluation.generation.num_beam", "'num_beams'"]),
    ("data", {"splits": {"trian": "a"}}, ["data.splits.trian", "'train'", "held_out"]),
    ("data", {"splits": {"test": {"corpus": "hub", "nme": "a"}}}, ["data.splits.test.nme", "'name'"]),
    ("data", {"splits": {"test": {"splits": {"tst": "a"}}}}, ["data.splits.test.splits.tst", "'test'"]),
    ("data", {"splits": {"held_out": {"validaton": 0.1}}}, ["held_out.validaton", "'validation'", "by"]),
    ("data", {"sources": [{"corpus": "hub", "weigth": 1}]}, ["data.sources[0].weigth", "'weight'"]),
    ("data", {"columns": {"txt": "a"}}, ["data.columns.txt", "'text'", "speaker", "duration", "label", "split"]),
    ("data", {"limit": {"dev": 3}}, ["data.limit.dev", "train, validation, test"]),
    # a key of another section, and one that holds for all clips
    ("data", {"normalizer": "basic"}, ["data.normalizer", "evaluation.normalizer"]),
    ("experiment", {"learning_rate": 1e-5}, ["experiment.learning_rate", "training.learning_rate"]),
    ("data", {"splits": {"test": {"streaming": True}}}, ["data.splits.test.streaming", "set data.streaming"]),
    ("data", {"sources": [{"corpus": "hub", "level": "rms"}]}, ["data.sources[0].level", "set data.level"]),
    ("data", {"sources": [{"corpus": "hub", "task": "translate"}]}, ["data.sources[0].task", "set data.task"]),
    ("training", {"data.language": "ru"}, ["dots are for the command line", "'data:'"]),
    # wrong kinds
    ("training", {"learning_rate": "abc"}, ["training.learning_rate", "a number", "'abc'"]),
    ("training", {"max_steps": 1.5}, ["training.max_steps", "whole number", "1.5"]),
    ("training", {"fp16": "yes please"}, ["training.fp16", "true or false"]),
    ("training", {"liger_kernel_config": {"rope": 1}}, ["liger_kernel_config", "a mapping to true or false"]),
    ("training", {"early_stopping_patience": "three"}, ["early_stopping_patience", "whole number"]),
    ("training", {"resume_from_checkpoint": 5}, ["resume_from_checkpoint", "true or false or a text"]),
    ("experiment", {"seed": True}, ["experiment.seed", "found true"]),
    ("experiment", {"tags": "a"}, ["experiment.tags", "a list of texts"]),
    ("experiment", {"name": 2024}, ["experiment.name", "Quote it", '"2024"']),
    ("model", {"revision": 1e51}, ["model.revision", "Quote it"]),
    ("experiment", {"description": {"a": "b"}}, ["experiment.description", "Quote it"]),
    ("data", {"columns": {"text": 3}}, ["data.columns.text", "a text"]),
    ("data", {"splits": {"train": 3}}, ["data.splits.train", "a name or file, a list of them, or a mapping"]),
    ("data", {"splits": {"train": []}}, ["data.splits.train", "a list ()"]),
    ("data", {"splits": {"train": ["a", 1]}}, ["data.splits.train", "a list (a, 1)"]),
    ("data", {"splits": {"train": False}}, ["data.splits.train", "Quote the word"]),
    ("data", {"splits": {"held_out": 0.1}}, ["data.splits.held_out", "{validation: 0.05, test: 0, by: speaker}"]),
    ("data", {"splits": "train"}, ["data.splits", "a mapping"]),
    ("data", {"sources": {"corpus": "hub"}}, ["data.sources", "a list of mappings"]),
    ("freeze", {"groups": "encoder"}, ["freeze.groups", "a list of texts"]),
    ("freeze", {"learning_rates": {"encoder": "small"}}, ["freeze.learning_rates.encoder", "a number"]),
    # words that YAML takes for true or false
    ("data", {"language": False}, ["data.language", "unquoted no", '"no"']),
    ("data", {"name": True}, ["data.name", "Quote the word"]),
    ("training", {"eval_strategy": True}, ["training.eval_strategy", "one of no, steps, epoch"]),
    # choices, every one of them named
    (
        "data",
        {"corpus": "common_voic"},
        ["common_voice, gigaspeech, manifest, audiofolder, hub, synthetic", "Did you mean"],
    ),
    ("data", {"task": "translat"}, ["transcribe, translate"]),
    ("data", {"level": "max"}, ["one of none, peak, rms"]),
    ("data", {"on_bad_clip": "drop"}, ["one of skip, raise"]),
    ("data", {"num_workers": "many"}, ["a whole number (at least 0) or auto"]),
    ("data", {"text_pipeline": "rusian"}, ["whisper_english", "sentence_case", "Did you mean russian"]),
    ("model", {"window": "thined"}, ["model.window", "full"]),
    ("model", {"dtype": "fp16"}, ["auto, float32, bfloat16, float16"]),
    ("model", {"attn_implementation": "flash"}, ["eager, sdpa, flash_attention_2"]),
    ("peft", {"method": "adlora"}, ["one of none, lora, dora, adalora", "Did you mean adalora"]),
    ("evaluation", {"metrics": ["wer", "rouge"]}, ["wer, cer, mer, wil", "'rouge'"]),
    ("evaluation", {"metrics": ["wer", "wer"]}, ["each name once"]),
    ("training", {"save_strategy": "bst"}, ["one of no, steps, epoch, best", "Did you mean best"]),
    ("training", {"train_sampling_strategy": "group_by_length"}, ["one of random, sequential"]),
    ("training", {"scheduler": "onecycle"}, ["training.scheduler.name", "cosine_with_min_lr", "warmup_stable_decay"]),
    ("training", {"scheduler": {"powr": 2}}, ["training.scheduler.powr", "'power'"]),
    ("training", {"metric_for_best_model": "bleu"}, ["one of wer, cer, mer, wil, loss"]),
    ("data", {"splits": {"held_out": {"by": "clip"}}}, ["held_out.by", "one of speaker, id"]),
    # ranges
    ("experiment", {"seed": -1}, ["experiment.seed", "at least 0"]),
    ("model", {"dropout": 1}, ["model.dropout", "less than 1"]),
    ("data", {"max_seconds": 0}, ["data.max_seconds", "more than 0"]),
    ("data", {"limit": {"train": 0}}, ["data.limit.train", "at least 1"]),
    ("data", {"num_workers": -1}, ["data.num_workers", "at least 0"]),
    ("data", {"splits": {"held_out": {"test": 1.5}}}, ["held_out.test", "less than 1"]),
    ("data", {"splits": {"held_out": {"test": 0.5, "validation": 0.5}}}, ["held_out", "a sum below 1"]),
    ("training", {"per_device_train_batch_size": 0}, ["per_device_train_batch_size", "at least 1"]),
    ("training", {"learning_rate": float("nan")}, ["training.learning_rate", "a number"]),
    ("evaluation", {"batch_size": 0}, ["evaluation.batch_size", "at least 1"]),
    ("evaluation", {"generation": {"num_beams": 0}}, ["generation.num_beams", "at least 1"]),
    ("peft", {"r": 0}, ["peft.r", "at least 1"]),
    # sources
    ("data", {"sources": []}, ["data.sources", "at least one source"]),
    ("data", {"sources": [{"path": "a"}]}, ["data.sources[0].corpus", "Every source names its corpus"]),
    ("data", {"sources": [{"corpus": "hub", "weight": 1}, {"corpus": "hub"}]}, ["every source or for none", "1 in 2"]),
    ("data", {"sources": [{"corpus": "hub", "weight": 0}]}, ["data.sources[0].weight", "more than 0"]),
    # hub
    ("hub", {"repo": "a b"}, ["hub.repo", "ORG/NAME"]),
    ("hub", {"repo": "a/b/c"}, ["hub.repo", "ORG/NAME"]),
]


@pytest.mark.parametrize(("section", "values", "parts"), WRONG)
def test_what_is_wrong_is_told_with_its_place_and_what_to_do(
    section: str, values: dict[str, Any], parts: list[str]
) -> None:
    problems = problems_of(section, **values)
    assert len(problems) == 1, problems
    assert [part for part in parts if part not in problems[0]] == [], problems[0]


@pytest.mark.parametrize("name", ["a", "Whisper small, ru", "2024-11-01_x", "опыт", "a" * 200])
def test_run_names_that_are_folder_names(name: str) -> None:
    assert problems_of("experiment", name=name) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "/a", "C:x", "a\n", " a", "a ", "a.", "a\0b", "a?", "x" * 201, "ж" * 101]
)
def test_run_names_that_are_none(name: str) -> None:
    (problem,) = problems_of("experiment", name=name)
    assert "experiment.name: expected a plain folder name" in problem


@pytest.mark.parametrize(
    "tag",
    [
        "ru",
        "en",
        "zh-CN",
        "pt-BR",
        "sv-SE",
        "cmn",
        "yue",
        "sah",
        "ky",
        "rw",
        "nan-tw",
        "zh-Hant-TW",
        "sr-Latn",
        "rm-sursilv",
        "be-tarask",
        "es-419",
        "zh-yue",
        "haw",
        "de-CH-1901",
        "NN-no",
    ],
)
def test_languages_that_are_tags(tag: str) -> None:
    assert problems_of("data", language=tag) == []


@pytest.mark.parametrize(
    ("tag", "part"),
    [
        ("russian", "Write ru."),
        ("Haitian Creole", "Write ht."),
        ("zh_CN", "Write zh-CN."),
        ("r u", "BCP-47"),
        ("r", "BCP-47"),
        ("", "BCP-47"),
        ("ru-", "BCP-47"),
        ("klingonese", "Write the language's code."),
        ("ру", "BCP-47"),
        ("<|ru|>", "BCP-47"),
        ("ru\n", "BCP-47"),
    ],
)
def test_languages_that_are_no_tags(tag: str, part: str) -> None:
    (problem,) = problems_of("data", language=tag)
    assert "data.language" in problem
    assert part in problem


@pytest.mark.parametrize("key", [*TRAINING_OWNERS])
def test_a_setting_of_another_owner_names_it(key: str) -> None:
    (problem,) = problems_of("training", **{key: 1})
    assert problem == f"training.{key}: this setting has another owner: {TRAINING_OWNERS[key]}."


@pytest.mark.parametrize("key", [*TRAINING_REMOVED])
def test_a_removed_name_is_answered_with_todays(key: str) -> None:
    (problem,) = problems_of("training", **{key: 1})
    assert TRAINING_REMOVED[key] in problem


@pytest.mark.parametrize("key", [*GENERATION_OWNERS])
def test_a_generation_setting_of_another_owner_names_it(key: str) -> None:
    (problem,) = problems_of("evaluation", generation={key: 1})
    assert GENERATION_OWNERS[key] in problem


def test_owners_that_the_contract_names() -> None:
    contract = {
        "seed": "experiment.seed",
        "data_seed": "experiment.seed",
        "output_dir": "experiment.output_dir",
        "run_name": "experiment.name",
        "push_to_hub": "hub.push",
        "hub_model_id": "hub.repo",
        "hub_private_repo": "hub.private",
        "dataloader_num_workers": "data.num_workers",
        "dataloader_prefetch_factor": "data.prefetch_factor",
        "per_device_eval_batch_size": "evaluation.batch_size",
        "generation_max_length": "evaluation.generation.max_length",
        "lr_scheduler_type": "training.scheduler",
        "lr_scheduler_kwargs": "training.scheduler",
    }
    assert [key for key, owner in contract.items() if owner not in TRAINING_OWNERS[key]] == []


@pytest.mark.parametrize("value", [None, "???", "${experiment.seed}"])
def test_null_and_open_values_are_not_checked_yet(value: Any) -> None:
    assert problems_of("training", **dict.fromkeys(TRAINING, value)) == []
    assert problems_of("evaluation", generation=dict.fromkeys(GENERATION, value)) == []


@pytest.mark.parametrize(
    ("tree", "part"),
    [
        ({"trainig": {}}, "'training'"),
        ({"seed": 1}, "The right name is experiment.seed."),
        ({"dropout": 1}, "model.dropout or peft.dropout"),
        ({"data": [1]}, "data: expected a mapping of keys, found a list (1)"),
        ({"data": "x"}, "data: expected a mapping of keys, found 'x'"),
        ({False: {}}, "top level: expected a name as key, found false"),
        ({"data": {1: 2}}, "data: expected a name as key, found the number 1"),
        ({"training": {False: 2}}, "training: expected a name as key, found false"),
        ({"experiment.name": "x"}, "nest the keys below 'experiment:'"),
    ],
)
def test_sections(tree: dict[Any, Any], part: str) -> None:
    (problem,) = check_tree(tree)
    assert part in problem


def test_an_empty_section_is_fine() -> None:
    assert list(check_tree({"training": None, "data": {}})) == []


WHOLE: dict[str, dict[str, Any]] = {
    "experiment": {"name": "a"},
    "model": {"name_or_path": "b"},
    "data": {"corpus": "synthetic"},
}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"experiment": {}}, "experiment.name: required"),
        ({"model": {}}, "model.name_or_path: required"),
        ({"data": {}}, "data.corpus: expected one of common_voice"),
        ({"data": "wrong"}, "data.corpus: expected one of common_voice"),
        ({"data": {"corpus": "hub", "sources": [{"corpus": "hub"}]}}, "data.sources: it stands in place of"),
        ({"data": {"path": "x", "sources": [{"corpus": "hub"}]}}, "data.sources: it stands in place of"),
        ({"data": {"corpus": "hub", "min_seconds": 30}}, "data.max_seconds: expected more than data.min_seconds (30)"),
        ({"training": {"bf16": True, "fp16": True}}, "bf16 or fp16, found both"),
        ({"training": {"scheduler": {"power": 2}}}, "training.scheduler.name: expected one of linear, cosine"),
        ({"hub": {"push": True}}, "hub.push: expected hub.repo"),
        ({"peft": {"method": "lora"}, "freeze": {"groups": ["encoder"]}}, "freeze: peft.method lora already freezes"),
        ({"peft": {"method": "lora"}, "freeze": {"last_n_encoder_layers": 0}}, "freeze: peft.method lora already"),
        ({"model": {"name_or_path": "???"}}, "model.name_or_path: expected a value, found ???"),
        ({"data": {"sources": [{"corpus": "hub", "path": "???"}]}}, "data.sources[0].path: expected a value"),
    ],
)
def test_what_only_the_whole_tells(changes: dict[str, Any], part: str) -> None:
    (problem,) = check_together({**WHOLE, **changes})
    assert part in problem


def test_a_whole_configuration_has_no_problems() -> None:
    assert list(check_together(WHOLE)) == []
    sources = {"sources": [{"corpus": "synthetic"}]}
    assert list(check_together({**WHOLE, "data": sources})) == []
