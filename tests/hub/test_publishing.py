"""Pushing while training goes on: every save, beside the training, and never at its cost."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.finished_run import make_finished_run
from helpers.hub_stand_in import HubStandIn, hub_stand_in
from transformers import TrainerControl, TrainerState

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, HubArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.hub import publishing, sending
from hf_asr.hub.publishing import PushSaves, publish_run, publish_while_training
from hf_asr.hub.push import check_push

TOKEN = "hf_" + "aTokenThatNobodyMaySee"


@pytest.fixture
def arguments(tmp_path: Path) -> Arguments:
    return Arguments(
        experiment=ExperimentArguments(name="tiny", output_dir=str(tmp_path)),
        model=ModelArguments(name_or_path="openai/whisper-tiny"),
        data=DataArguments(corpus="manifest", path="clips.csv", language="en"),
        hub=HubArguments(repo="org/tiny", push=True, push_every="save"),
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(sending, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_stand_in() as stand_in:
        yield stand_in


class Training:
    """Saves checkpoints as the Trainer does, and tells the callback."""

    def __init__(self, arguments: Arguments, hub: HubStandIn) -> None:
        make_finished_run(arguments.run_dir)
        self.args = SimpleNamespace(output_dir=str(arguments.run_dir / "checkpoints"))
        self.callback = PushSaves(arguments, endpoint=hub.endpoint)
        self.run_dir = arguments.run_dir

    def save(self, step: int) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        shutil.copytree(self.run_dir / "best_checkpoint", folder)
        self.tell("on_save", step)

    def tell(self, event: str, step: int) -> None:
        history = [{"step": step, "eval_loss": 1.5, "eval_wer": 0.25}]
        state = TrainerState(global_step=step, max_steps=9, log_history=history, is_world_process_zero=True)
        calls: Any = {
            "on_save": self.callback.on_save,
            "on_step_end": self.callback.on_step_end,
            "on_train_end": self.callback.on_train_end,
        }
        calls[event](self.args, state, TrainerControl())


def test_every_save_is_pushed_with_a_card_that_says_how_far_it_is(arguments: Arguments, hub: HubStandIn) -> None:
    training = Training(arguments, hub)
    training.save(3)
    training.tell("on_train_end", 9)
    assert training.callback.pushed == [3]
    card = hub.files["README.md"].decode()
    assert "step 3 of 9" in card
    assert "wer: 0.25" in card
    assert hub.files["model.safetensors"] == (training.run_dir / "best_checkpoint/model.safetensors").read_bytes()
    assert hub.created[0]["visibility"] == "private"
    assert "optimizer.pt" not in hub.files
    assert not (training.run_dir / ".pushing").exists()


def test_training_goes_on_while_a_push_is_slow_and_the_newest_save_comes_next(
    arguments: Arguments, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, real = threading.Event(), sending.send
    monkeypatch.setattr(publishing, "send", lambda *a, **k: (free.wait(20), real(*a, **k))[1])
    training = Training(arguments, hub)
    for step in (3, 6, 9):
        training.save(step)
        shutil.rmtree(Path(training.args.output_dir) / f"checkpoint-{step}")  # as save_total_limit does
    assert training.callback.pushed == []
    free.set()
    assert training.callback.running is not None
    training.callback.running.result()
    training.tell("on_step_end", 9)
    training.tell("on_train_end", 9)
    assert training.callback.pushed == [3, 9]
    assert len(hub.files["model.safetensors"]) > 10_000


def test_a_failed_push_is_told_and_training_goes_on(
    arguments: Arguments, hub: HubStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(arguments, hub)
    hub.refuse_with = 403
    training.save(3)
    training.tell("on_train_end", 9)
    assert training.callback.failed == [3]
    assert TOKEN not in caplog.text


def test_it_is_added_only_where_it_is_asked_for(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[Any] = []
    trainer = SimpleNamespace(args=SimpleNamespace(should_save=True, report_to=[]), add_callback=added.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    publish_while_training(trainer, arguments)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    publish_while_training(trainer, replace(arguments, hub=replace(arguments.hub, push_every="end")))
    assert added == []
    publish_while_training(trainer, arguments)
    assert [type(callback) for callback in added] == [PushSaves]


def test_offline_the_end_of_a_run_writes_what_would_be_pushed(
    arguments: Arguments, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    make_finished_run(arguments.run_dir)
    check_push(arguments.hub)
    publish_run(arguments, {})
    assert (arguments.run_dir / "to_push" / "model.safetensors").is_file()


def test_a_push_that_fails_at_the_end_says_that_the_run_is_whole(arguments: Arguments, hub: HubStandIn) -> None:
    (make_finished_run(arguments.run_dir) / "README.md").unlink()
    with pytest.raises(UserError, match="The run itself is whole"):
        publish_run(arguments, {})


def test_without_a_token_it_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("hf_asr.hub.push.get_token", lambda: None)
    with pytest.raises(UserError, match="no token with write access"):
        check_push(HubArguments(repo="org/tiny", push=True))
    check_push(HubArguments())
