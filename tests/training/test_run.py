"""The run folder's beginning, the log that starts before it, and what the environment tells."""

from __future__ import annotations

import getpass
import json
import logging
import socket
from pathlib import Path

import pytest

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.config.parser import load_arguments
from hf_asr.errors import UserError
from hf_asr.training.arguments import training_arguments
from hf_asr.training.run import begin_logging, begin_run, check_run_folder


@pytest.fixture
def arguments(tmp_path: Path) -> Arguments:
    return Arguments(
        experiment=ExperimentArguments(name="x", output_dir=str(tmp_path / "runs")),
        model=ModelArguments(name_or_path="m/m"),
        data=DataArguments(corpus="manifest", path=str(tmp_path / "a.csv")),
        training={"use_cpu": True},
    )


def test_a_begun_run_has_its_config_environment_and_earlier_log_lines(arguments: Arguments) -> None:
    begin_logging()
    logging.getLogger("hf_asr.data.corpora").info("3 clips left out")
    run_dir = begin_run(arguments, training_arguments(arguments))
    logging.getLogger("hf_asr.training").info("step 1")
    log = (run_dir / "training.log").read_text()
    assert "3 clips left out" in log and "step 1" in log
    assert load_arguments([run_dir / "config.yaml"]).experiment.name == "x"
    environment = (run_dir / "environment.json").read_text()
    assert {"packages", "device", "cores"} <= set(json.loads(environment))
    assert socket.gethostname() not in environment and f"/{getpass.getuser()}/" not in environment


def test_a_folder_with_a_run_is_refused_unless_resumed(arguments: Arguments) -> None:
    check_run_folder(arguments, training_arguments(arguments))
    begin_run(arguments, training_arguments(arguments))
    with pytest.raises(UserError, match="resume_from_checkpoint=true"):
        check_run_folder(arguments, training_arguments(arguments))
    arguments.training["resume_from_checkpoint"] = True
    check_run_folder(arguments, training_arguments(arguments))


def test_a_run_that_is_started_twice_at_once_is_begun_once(arguments: Arguments) -> None:
    training = training_arguments(arguments)
    assert check_run_folder(arguments, training) is check_run_folder(arguments, training) is None
    begin_run(arguments, training)
    with pytest.raises(UserError, match="found a run"):
        begin_run(arguments, training)


def test_a_file_in_the_way_is_a_message(arguments: Arguments, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match=r"experiment\.output_dir"):
        begin_run(arguments, training_arguments(arguments))
