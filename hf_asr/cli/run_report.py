"""From run folders to report.html: reads them, fetches the audio of the worst utterances, writes one file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.errors import UserError

if TYPE_CHECKING:
    import datasets

    from hf_asr.evaluation.page_run import Run

logger = logging.getLogger(__name__)

REPORT = "report.html"
# Utterances that can be listened to. Speech of 5 s is about 20 kB of Opus, a third more in the page.
CLIPS = 40
MOST_AUDIO_BYTES = 6 * 2**20
# A whole recording would take the place of all the others.
LONGEST_CLIP = 60.0
# libsndfile's scale from 0 (best) to 1 (smallest): speech at 16 kHz stays clear at about 30 kbit/s.
COMPRESSION = 0.9
NOT_KEPT = "Test clips cannot be listened to here: "


def write_report(
    folders: Sequence[str | Path], output: str | Path | None = None, *, rows: Any = None, most_clips: int = CLIPS
) -> Path:
    """Write the page about one run, or about several side by side.

    Args:
        folders: Run folders, or folders of ``hf-asr evaluate``.
        output: The file; by default beside the results of a single run, ``report.html`` here for several.
        rows: The test split's rows, where they are at hand; else the corpus is read from the run's config.yaml.
        most_clips: Utterances whose audio is put into the page; 0 for none.

    Returns:
        The file.

    Raises:
        UserError: A folder holds no results, or the file cannot be written.
    """
    from hf_asr.evaluation.page_report import clips_wanted, report_page
    from hf_asr.evaluation.page_run import read_run
    from hf_asr.evaluation.report import replace_file

    runs = [read_run(folder) for folder in folders]
    wanted = clips_wanted(runs, most_clips)
    clips, why = audio_of(runs, wanted, rows) if wanted else ({}, "")
    path = Path(output) if output else default_place(runs)
    replace_file(path, report_page(runs, clips, without_audio=why))
    return path


def default_place(runs: Sequence[Run]) -> Path:
    """Return where a report goes when nothing was said."""
    if len(runs) > 1:
        return Path(REPORT)
    test = runs[0].folder / "test"
    return (test if test.is_dir() else runs[0].folder) / REPORT


def audio_of(runs: Sequence[Run], wanted: Sequence[str], rows: Any) -> tuple[dict[str, bytes], str]:
    """Return the audio of utterances, and why there is none where there is none."""
    if rows is None:
        try:
            rows = rows_of(runs[-1])
        except UserError as error:
            logger.warning("report: no audio: %s", error)
            return {}, NOT_KEPT + f"the corpus could not be read when this page was made ({first_line(error)})."
    clips = encoded_clips(rows, wanted)
    return clips, "" if clips else NOT_KEPT + "none of them was found in the corpus, or none could be decoded."


def rows_of(run: Run) -> Any:
    """Return the rows of the split that a run was scored on, from the corpus in its config.yaml.

    Raises:
        UserError: There is no config.yaml, or the corpus cannot be read here.
    """
    config = run.folder / "config.yaml"
    if not config.is_file():
        raise UserError(f"expected {config}, found none; without it the corpus is unknown")
    from hf_asr.config.parser import load_arguments
    from hf_asr.data.corpora import build_splits

    arguments = load_arguments([config])
    split = str(run.after.results.get("split", "test"))
    if arguments.data.streaming and split == "train":
        raise UserError("expected a split that is no stream, found train with data.streaming; score another split")
    return build_splits(arguments.data, seed=arguments.experiment.seed, names=(split,))[split].rows


def encoded_clips(
    rows: datasets.Dataset, wanted: Sequence[str], most_bytes: int = MOST_AUDIO_BYTES
) -> dict[str, bytes]:
    """Return Ogg Opus of the wanted rows, in their order, until the bytes are used up; broken clips are left out.

    Args:
        rows: Rows of ``utterance.ROW_TYPES``.
        wanted: Ids.
        most_bytes: Bytes of all clips together.
    """
    places = {id: place for place, id in enumerate(rows.select_columns("id")["id"][:])}
    clips: dict[str, bytes] = {}
    used = 0
    for id in wanted:
        data = encoded_clip(rows[places[id]]) if id in places else None
        if data is not None and used + len(data) <= most_bytes:
            clips[id] = data
            used += len(data)
    return clips


def encoded_clip(row: Mapping[str, Any]) -> bytes | None:
    """Return a row's audio as Ogg Opus; None where it cannot be decoded, or is a whole recording."""
    from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, encode, load
    from hf_asr.utterance import AudioRef

    if (row["duration"] or 0) > LONGEST_CLIP:
        return None
    try:
        samples = load(AudioRef(**row["audio"]))
    except BrokenAudio as error:
        logger.warning("report: %s cannot be listened to: %s", row["id"], error)
        return None
    return encode(samples, SAMPLE_RATE, "opus", compression=COMPRESSION)


def first_line(error: UserError) -> str:
    """Return the beginning of a message, local paths and all that follows cut: the page is passed on."""
    return str(error).splitlines()[0].partition(",")[0][:120]
