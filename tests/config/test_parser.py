from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, HubArguments, ModelArguments
from hf_asr.config.parser import ConfigError, load_arguments, parse_recipe, save_arguments
from hf_asr.errors import UserError

BASE = (
    "experiment: {name: a, output_dir: /runs}\nmodel: {name_or_path: openai/whisper-tiny}\ndata: {corpus: synthetic}\n"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(*arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_arguments(*arguments)
    return error.value.problems


def test_files_left_to_right_then_overrides(base: Path, tmp_path: Path) -> None:
    more = write(
        tmp_path, "more.yaml", "training: {max_steps: 5, learning_rate: 1e-4}\ndata: {limit: {train: 8, test: 9}}"
    )
    last = write(tmp_path, "last.yaml", "training: {max_steps: 6}\ndata: {limit: {train: 7}}")
    arguments = load_arguments([base, more, str(last)], ["training.max_steps=7", "data.level=rms", "data.level=peak"])
    assert arguments.training == {"max_steps": 7, "learning_rate": 1e-4}
    assert arguments.data.limit == {"train": 7, "test": 9}
    assert arguments.data.level == "peak"
    assert arguments.experiment == ExperimentArguments("a", "/runs")


def test_training_holds_only_what_was_given(base: Path) -> None:
    assert load_arguments([base]).training == {}


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.learning_rate=1e-5", "training", "learning_rate", 1e-5),
        ("training.max_steps=1e3", "training", "max_steps", 1000),
        ("training.eval_strategy=no", "training", "eval_strategy", "no"),
        ("training.save_strategy=off", "training", "save_strategy", "no"),
        ('training.logging_strategy="no"', "training", "logging_strategy", "no"),
        ("training={max_steps: 3, eval_strategy: no}", "training", "eval_strategy", "no"),
        ('data.language="no"', "data", "language", "no"),
        ("data.path=a=b", "data", "path", "a=b"),
        ("data.path=", "data", "path", None),
        ("data.path=null", "data", "path", None),
        ("data.splits.test=[a, b]", "data", "splits", {"test": ["a", "b"]}),
        ("freeze.groups=[encoder]", "freeze", "groups", ["encoder"]),
        ("experiment.description='a: b # c'", "experiment", "description", "a: b # c"),
        ("data.num_workers=2", "data", "num_workers", 2),
        ("hub.card={a: {b: [1, x]}}", "hub", "card", {"a": {"b": [1, "x"]}}),
    ],
)
def test_an_overrides_value_is_yaml(base: Path, override: str, section: str, key: str, value: Any) -> None:
    result = asdict(load_arguments([base], [override]))[section][key]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("training.max_steps", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("more.yaml", "Put YAML files behind --config"),
        ("data..path=3", "an empty name between its dots"),
        ("data.sources[0].weight=2", "a list is given whole: key=[a, b]"),
        ("data.level=[", "data.level: line"),
        ("experiment.description=a: b", "Quote it"),
        ("data.language=no", "'\"no\"' on the command line"),
        ("data.path=@here", "Quote the value"),
        ("data.path=\udcff", "expected YAML"),
        ("seed=3", "The right name is experiment.seed"),
        ("training.warmup_ratio=0.1", "training.warmup_steps"),
    ],
)
def test_overrides_that_are_wrong(base: Path, override: str, part: str) -> None:
    (problem,) = problems([base], [override])
    assert problem.startswith("command line: ")
    assert part in problem


def test_a_list_or_a_name_replaces_a_mapping_and_back(base: Path, tmp_path: Path) -> None:
    first = write(tmp_path, "1.yaml", "data: {splits: {test: {corpus: hub, name: org/name}, validation: dev}}")
    assert load_arguments([base, first], ["data.splits.test=[a, b]"]).data.splits["test"] == ["a", "b"]
    merged = load_arguments(
        [base, first], ["data.splits.validation={corpus: hub}", "data.splits.test.subset=ru"]
    ).data.splits
    assert merged == {"test": {"corpus": "hub", "name": "org/name", "subset": "ru"}, "validation": {"corpus": "hub"}}


def test_a_scheduler_with_a_name_replaces_the_other_with_its_numbers(base: Path) -> None:
    first = ["training.scheduler={name: polynomial, power: 2}"]
    assert load_arguments([base], [*first, "training.scheduler.lr_end=0"]).training["scheduler"]["power"] == 2
    assert load_arguments([base], [*first, "training.scheduler={name: linear}"]).training["scheduler"] == {
        "name": "linear"
    }
    assert load_arguments([base], [*first, "training.scheduler=cosine"]).training["scheduler"] == "cosine"


def test_null_takes_a_value_back(base: Path, tmp_path: Path) -> None:
    first = write(
        tmp_path,
        "1.yaml",
        "training: {max_steps: 5, bf16: true}\nevaluation: {normalizer: russian}\nfreeze: {groups: [x]}",
    )
    arguments = load_arguments(
        [base, first], ["training.max_steps=null", "evaluation.normalizer=", "freeze.groups=null"]
    )
    assert arguments.training == {"bf16": True}
    assert arguments.evaluation.normalizer == "basic"
    assert arguments.freeze.groups == []


def test_an_empty_section_takes_nothing_back(base: Path, tmp_path: Path) -> None:
    first = write(tmp_path, "1.yaml", "training: {max_steps: 5}")
    second = write(tmp_path, "2.yaml", "training:\ndata:\n")
    assert load_arguments([base, first, second]).training == {"max_steps": 5}


def test_placeholders_and_interpolations_are_filled_by_later_files(
    base: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("CLIPS", "/clips")
    first = write(
        tmp_path,
        "1.yaml",
        "data: {path: '${oc.env:CLIPS}/ru', language: '???'}\ntraining: {max_steps: '${experiment.seed}'}",
    )
    arguments = load_arguments([base, first], ["data.language=ru", "experiment.seed=7"])
    assert (arguments.data.path, arguments.data.language, arguments.training) == ("/clips/ru", "ru", {"max_steps": 7})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("data: {path: '${oc.env:NOT_SET_ANYWHERE}'}", "data.path"),
        ("data: {path: '${nowhere.at_all}'}", "data.path"),
        ("data: {path: '${'}", "expected YAML"),
        ("training: {max_steps: '${experiment.name}'}", "training.max_steps: expected a whole number"),
        ("data:\n  language: ???", "data.language: expected a value, found ???"),
    ],
)
def test_interpolations_that_lead_nowhere(base: Path, tmp_path: Path, text: str, part: str) -> None:
    (problem,) = problems([base, write(tmp_path, "1.yaml", text)])
    assert part in problem


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a: [1", "line 2, column 1: expected YAML"),
        ("data:\n\tlevel: rms", "line 2, column 1: expected YAML"),
        ("data: {level: rms}\ndata: {level: peak}", "found duplicate key data"),
        ("data: {level: rms, level: peak}", "found duplicate key level"),
        ("data: &a [*a]", "expected YAML"),
        ("data: !!python/object/apply:os.system ['true']", "expected YAML"),
        ("just words", "expected sections (experiment:, model:, data:, ...), found str"),
        ("- a\n- b", "found list"),
        ("12", "found int"),
        ("null: 3", "expected YAML"),
        ("? [a]\n: 3", "expected YAML"),
        (b"data:\n  path: a\0b", "line 2: expected text, found a NUL byte"),
        (b"data: {path: \xff\xfe}", "expected UTF-8, found byte 13"),
        ("data: {}".encode("utf-16"), "expected UTF-8"),
        ("data: {path: \x07}", "expected YAML"),
        ("[" * 5000, "expected YAML"),
        (f"training: {{max_steps: {'9' * 5000}}}", "expected YAML"),
        ('data: {path: "\\ud800"}', "expected YAML"),
    ],
)
def test_files_that_are_no_configuration(base: Path, tmp_path: Path, content: str | bytes, part: str) -> None:
    path = write(tmp_path, "bad.yaml", content)
    (problem,) = problems([base, path])
    assert problem.startswith(f"{path}: ")
    assert part in problem


@pytest.mark.parametrize("content", ["", "\n# nothing\n", "---\n", "{}", "null"])
def test_an_empty_file_says_nothing(base: Path, tmp_path: Path, content: str) -> None:
    assert load_arguments([base, write(tmp_path, "empty.yaml", content)]) == load_arguments([base])


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + BASE.encode(), BASE.replace("\n", "\r\n").encode()])
def test_a_byte_order_mark_and_windows_line_ends_are_fine(base: Path, tmp_path: Path, content: bytes) -> None:
    assert load_arguments([write(tmp_path, "windows.yaml", content)]) == load_arguments([base])


def test_files_that_cannot_be_read(base: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    (missing,) = problems([tmp_path / "bse.yaml"])
    assert f"expected a YAML file, found nothing there. Did you mean {base}?" in missing
    assert "There is no folder" in problems([tmp_path / "none" / "a.yaml"])[0]
    assert "found a directory" in problems([tmp_path])[0]
    assert "expected a YAML file that can be read" in problems([loop])[0]


def test_what_an_unreadable_file_would_give_is_not_called_missing(tmp_path: Path) -> None:
    assert len(problems([tmp_path / "none.yaml"])) == 1
    assert len(problems([write(tmp_path, "empty.yaml", "")])) == 3


def test_all_is_told_at_once_each_with_its_file(base: Path, tmp_path: Path) -> None:
    bad = write(
        tmp_path,
        "bad.yaml",
        "experiment: {sed: 1}\ntraining: {seed: 1, learning_rate: abc, evaluation_strategy: no}\n"
        "data: {language: no, splits: {test: {pth: a}}, min_seconds: 40}\nevaluation: {generation: {num_beam: 2}}",
    )
    found = problems([base, bad], ["data.levl=rms", "hub.push=true"])
    keys = [
        "experiment.sed",
        "training.seed",
        "training.learning_rate",
        "training.evaluation_strategy",
        "data.language",
    ]
    keys += ["data.splits.test.pth", "evaluation.generation.num_beam"]
    assert [problem.split(": ")[1] for problem in found[:7]] == keys
    assert all(problem.startswith(f"{bad}: ") for problem in found[:7])
    assert found[7].startswith("command line: data.levl: ")
    assert [problem.split(":")[0] for problem in found[8:]] == ["data.max_seconds", "hub.push"]


def test_the_message_numbers_the_problems_and_is_for_users(base: Path) -> None:
    with pytest.raises(UserError) as error:
        load_arguments([base], ["data.levl=rms", "data.pth=a"])
    lines = str(error.value).splitlines()
    assert lines[0] == "the configuration has 2 problems:"
    assert [line[:5] for line in lines[1:]] == ["  1. ", "  2. "]


def test_relative_local_paths_become_absolute(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    arguments = load_arguments(
        [], ["experiment.name=a", "model.name_or_path=clips", "data.corpus=manifest", "data.path=clips"]
    )
    assert arguments.experiment.output_dir == str(tmp_path / "runs")
    assert arguments.model.name_or_path == arguments.data.path == str(tmp_path / "clips")


def test_a_saved_configuration_is_read_back_equal(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    overrides = [
        "training={learning_rate: 1e-5, eval_strategy: no, scheduler: {name: polynomial, power: 2}}",
        "training.resume_from_checkpoint=true",
        'data.language="no"',
        "data.splits={train: [a, b], validation: {corpus: hub, name: org/name}, held_out: {test: 0.1}}",
        "data.limit.train=5",
        "experiment.tags=[1e-5x, 'no', '007', '']",
        "experiment.description='12:30'",
        "evaluation.generation={num_beams: 2, suppress_tokens: [1, 2]}",
        "freeze.learning_rates={encoder: 1e-6}",
        "hub.card={datasets: [a], model-index: [{name: b}]}",
    ]
    arguments = load_arguments([base], overrides)
    save_arguments(arguments, tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path.parent)
    assert load_arguments([tmp_path / "config.yaml"]) == arguments


def test_a_saved_mixture_is_read_back_equal(base: Path, tmp_path: Path) -> None:
    arguments = load_arguments([base], ["data={corpus: null, sources: [{corpus: hub, weight: 1}]}"])
    assert arguments.data.corpus == ""
    save_arguments(arguments, tmp_path / "config.yaml")
    assert load_arguments([tmp_path / "config.yaml"]) == arguments


def test_saving_replaces_the_file_in_one_step(base: Path, tmp_path: Path) -> None:
    arguments, path = load_arguments([base]), tmp_path / "run" / "config.yaml"
    path.parent.mkdir()
    path.write_text("old")
    save_arguments(arguments, path)
    assert [item.name for item in path.parent.iterdir()] == ["config.yaml"]
    assert "name_or_path: openai/whisper-tiny" in path.read_text()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=40)
@example(text="${data.path}", number=1e-5, tags=["a\\${b}", "c\\\\${d}", "e\\f", "$", "no", "1e-5"])
@example(text="no", number=1e22, tags=["1e5", "0777", "1_000", "12:30", "null", "~", "2020-01-01", "\x85", "\u2028"])
@given(text=TEXTS, number=st.floats(allow_nan=False), tags=st.lists(TEXTS, max_size=3))
def test_every_text_and_number_survives_saving(
    tmp_path_factory: Any, text: str, number: float, tags: list[str]
) -> None:
    path = tmp_path_factory.mktemp("saved") / "config.yaml"
    arguments = Arguments(
        ExperimentArguments("a", "/runs", description=text, tags=tags),
        ModelArguments("b"),
        DataArguments("synthetic"),
        training={"optim_args": text, "max_grad_norm": abs(number)},
        hub=HubArguments(card={"a": text, "b": number}),
    )
    save_arguments(arguments, path)
    assert load_arguments([path]) == replace(arguments)


HEAVY = ("torch", "transformers", "datasets", "numpy", "pandas", "accelerate")


def test_parsing_imports_nothing_heavy(base: Path) -> None:
    script = (
        "import sys; from hf_asr.config.parser import parse_recipe, save_arguments; import hf_asr.config.reference; "
        f"arguments, _ = parse_recipe(['--config', {str(base)!r}], ''); save_arguments(arguments, {str(base)!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "argv",
    [
        ["--config", "BASE", "data.level=rms", "training.max_steps=3"],
        ["data.level=rms", "--config", "BASE", "training.max_steps=3"],
        ["data.level=peak", "training.max_steps=3", "--config", "BASE", "data.level=rms"],
        ["data.level=rms", "--config=BASE", "training.max_steps=3"],
        ["--config", "BASE", "data.level=rms", "--config", "MORE", "training.max_steps=3"],
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_overrides_may_stand_anywhere(base: Path, tmp_path: Path, argv: list[str], dry_run: bool) -> None:
    more = write(tmp_path, "more.yaml", "data: {level: peak}")
    words = [word.replace("BASE", str(base)).replace("MORE", str(more)) for word in argv]
    arguments, options = parse_recipe([*words, *(["--dry-run"] if dry_run else [])], "")
    assert (arguments.data.level, arguments.training, options.dry_run) == ("rms", {"max_steps": 3}, dry_run)


def test_several_files_and_one_with_an_equals_sign_in_its_name(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "lr=3.yaml", "training: {max_steps: 3}")
    arguments, options = parse_recipe(["--config", "base.yaml", "lr=3.yaml", "data.level=rms"], "")
    assert arguments.training == {"max_steps": 3}
    assert (options.config, options.overrides) == (["base.yaml", "lr=3.yaml"], ["data.level=rms"])


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "--config"),
        (["data.level=rms"], "--config"),
        (["--config"], "--config"),
        (["--config", "data.level=rms"], "expected a YAML file, found none"),
        (["--confg", "a.yaml", "--config", "BASE"], "or --config, found the unknown option --confg"),
        (["--config", "BASE", "--dryrun"], "or --dry-run, found the unknown option --dryrun"),
        (["--config", "BASE", "--learning_rate=3"], "found the unknown option --learning_rate=3"),
        (["more.yaml", "--config", "BASE"], "Put YAML files behind --config"),
        (["--config", "BASE", "a/b=c.yaml"], "a/b=c.yaml: expected a YAML file"),
        (["--config", "BASE", "data.sources[0].weight=2"], "a list is given whole"),
    ],
)
def test_command_lines_that_are_wrong(base: Path, argv: list[str], part: str) -> None:
    with pytest.raises(UserError) as error:
        parse_recipe([word.replace("BASE", str(base)) for word in argv], "")
    assert part in str(error.value)


def test_a_recipe_without_dry_run_refuses_it(base: Path) -> None:
    with pytest.raises(UserError, match="unknown option --dry-run"):
        parse_recipe(["--config", str(base), "--dry-run"], "", allow_dry_run=False)
    assert parse_recipe(["--config", str(base)], "", allow_dry_run=False)[1].dry_run is False


def test_help_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        parse_recipe(["--help"], "Fine-tunes something.")
    text = capsys.readouterr().out
    assert done.value.code == 0
    assert all(part in text for part in ("Fine-tunes something.", "--config", "--dry-run", "section.key=value"))
