"""What trackers get beside the Trainer's own log: the configuration, the test's results and report, and predictions.

The Trainer's callbacks (``training.report_to``) log losses and validation. Predictions are logged as a table with the
clips' audio. Everything stays on this machine while HF_HUB_OFFLINE is set: wandb then runs in its offline mode; MLflow
writes files beside the runs unless MLFLOW_TRACKING_URI says otherwise; trackio keeps its data in its own folder.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml
from huggingface_hub.constants import is_offline_mode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_asr.config.arguments import Arguments
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, encode, load
from hf_asr.hub.privacy import public_value
from hf_asr.utterance import Utterance

logger = logging.getLogger(__name__)

TRACKERS = ("wandb", "mlflow", "trackio")
# Utterances of the table: enough to hear what goes wrong, few enough to be kept with every run.
SAMPLES = 20
COLUMNS = ("id", "reference", "hypothesis")
LONGEST = 30 * SAMPLE_RATE


def used_trackers(trainer: Any) -> list[str]:
    """Return which of :data:`TRACKERS` this run reports to; none on other processes than the main one."""
    return [name for name in TRACKERS if name in trainer.args.report_to] if trainer.args.should_save else []


class TrackerConfig(TrainerCallback):
    """Gives trackers the whole configuration when training begins, and keeps what their runs are taken up again with.

    Args:
        trackers: Some of :data:`TRACKERS`.
        config: The configuration.
    """

    def __init__(self, trackers: list[str], config: Mapping[str, Any]) -> None:
        self.trackers = trackers
        self.config = dict(config)
        self.mlflow_run: str | None = None
        self.trackio_config: dict[str, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log it; the trackers' own callbacks, which come first, have begun their runs."""
        if "wandb" in self.trackers:
            import wandb

            wandb.config.update({"hf_asr": self.config}, allow_val_change=True)
        if "mlflow" in self.trackers:
            import mlflow

            run: Any = mlflow.active_run()
            self.mlflow_run = run.info.run_id
            mlflow.log_dict(self.config, "config.yaml")
        if "trackio" in self.trackers:
            import trackio

            trackio.config.update({"hf_asr": self.config}, allow_val_change=True)
            own = ("_Username", "_Created", "_Group")
            self.trackio_config = {name: value for name, value in trackio.config.items() if name not in own}


def begin_trackers(trainer: Any, arguments: Arguments) -> None:
    """Point the trackers at places on this machine where nothing else is said, and give them the configuration."""
    trackers = used_trackers(trainer)
    if not trackers:
        return
    place = Path(arguments.experiment.output_dir).resolve()
    place.mkdir(parents=True, exist_ok=True)
    if is_offline_mode():
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_DIR", str(place))
    if "mlflow" in trackers and "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ["MLFLOW_TRACKING_URI"] = (place / "mlruns").as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    path = arguments.run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    trainer.add_callback(TrackerConfig(trackers, public_value(config)))


def end_trackers(trainer: Any, arguments: Arguments, results: Mapping[str, Any], rows: Any) -> None:
    """Log the test's results, the report page and a table of predictions, and end the trackers' runs.

    Args:
        trainer: After training.
        arguments: The whole configuration.
        results: What test_results.json holds.
        rows: The test split's rows, for their audio.
    """
    trackers = used_trackers(trainer)
    if not trackers:
        return
    numbers = {f"test/{name}": float(value) for name, value in results.items() if _is_number(value)}
    samples = list(sample_predictions(arguments.run_dir / "test" / "test_predictions.csv", rows))
    report = arguments.run_dir / "test" / "report.html"
    page = report if report.is_file() else None
    if "wandb" in trackers:
        _end_wandb(numbers, samples, page)
    if "mlflow" in trackers:
        _end_mlflow(trainer, numbers, samples, page)
    if "trackio" in trackers:
        _end_trackio(trainer, numbers, samples, page)
    logger.info("%s: %d test results and %d predictions", ", ".join(trackers), len(numbers), len(samples))


def sample_predictions(path: Path, rows: Any) -> Iterator[tuple[dict[str, str], np.ndarray | None]]:
    """Yield (columns, samples) of predictions spread evenly over the test; None for a clip that cannot be heard."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    chosen = [table[round(place)] for place in np.linspace(0, len(table) - 1, min(SAMPLES, len(table)))]
    places = {id: index for index, id in enumerate(rows["id"])} if isinstance(rows, datasets.Dataset) else {}
    for line in chosen:
        yield (
            {name: line[name] for name in COLUMNS if name in line},
            _audio(rows[places[line["id"]]] if line["id"] in places else None),
        )


def _audio(row: Mapping[str, Any] | None) -> np.ndarray | None:
    if row is None:
        return None
    try:
        return load(Utterance.from_row(row).audio)[:LONGEST]
    except BrokenAudio:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Samples = list[tuple[dict[str, str], np.ndarray | None]]


def _end_wandb(numbers: Mapping[str, float], samples: Samples, report: Path | None) -> None:
    import wandb

    assert wandb.run is not None
    wandb.run.summary.update(dict(numbers))
    names = list(samples[0][0]) if samples else list(COLUMNS)
    table = wandb.Table(columns=[*names, "audio"])
    for line, audio in samples:
        clip = None if audio is None else wandb.Audio(audio, sample_rate=SAMPLE_RATE)
        table.add_data(*line.values(), clip)
    heard = [
        wandb.Audio(audio, sample_rate=SAMPLE_RATE, caption=f"{line['id']}: {line.get('hypothesis', '')}")
        for line, audio in samples
        if audio is not None
    ]
    # Offline, a table's audio stays in wandb's staging folder until it is synchronised; a list's is in the run.
    wandb.log({"test/predictions": table, **({"test/audio": heard} if heard else {})})
    if report is not None:
        wandb.log({"test/report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
    wandb.finish()


def _end_mlflow(trainer: Any, numbers: Mapping[str, float], samples: Samples, report: Path | None) -> None:
    import mlflow

    with mlflow.start_run(run_id=_begun(trainer).mlflow_run):
        mlflow.log_metrics(dict(numbers))
        lines = []
        for number, (line, audio) in enumerate(samples):
            name = "" if audio is None else f"predictions/{number:02d}.wav"
            if audio is not None:
                _log_bytes(mlflow, encode(audio, SAMPLE_RATE, "wav"), name)
            lines.append({**line, "audio": name})
        mlflow.log_dict({"columns": [*COLUMNS, "audio"], "data": lines}, "predictions/predictions.json")
        if report is not None:
            mlflow.log_artifact(str(report))


def _begun(trainer: Any) -> TrackerConfig:
    return next(item for item in trainer.callback_handler.callbacks if isinstance(item, TrackerConfig))


def _log_bytes(mlflow: Any, content: bytes, name: str) -> None:
    """Log a file that is in memory: MLflow takes paths."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(content)
        mlflow.log_artifact(str(path), str(Path(name).parent))


def _end_trackio(trainer: Any, numbers: Mapping[str, float], samples: Samples, report: Path | None) -> None:
    import pandas
    import trackio

    args = trainer.args
    # Its callback has ended the run with the training; the same name goes on, and writes its configuration anew.
    config = _begun(trainer).trackio_config
    trackio.init(
        project=args.project, name=args.run_name, space_id=args.trackio_space_id, config=config, resume="allow"
    )
    lines = []
    for line, audio in samples:
        heard = None if audio is None else trackio.Audio(audio, sample_rate=SAMPLE_RATE)
        lines.append({**line, "audio": heard})
    logged: dict[str, Any] = dict(numbers)
    if lines:
        logged["test/predictions"] = trackio.Table(dataframe=pandas.DataFrame(lines))
    if report is not None:
        logged["test/report"] = trackio.Html(report, inject=False)
    trackio.log(logged)
    trackio.finish()
