"""test_detailed_analysis.json: held to its schema, whatever the set is like."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.errors import UserError
from hf_asr.evaluation.analysis import ANALYSIS, SCHEMA, About, read_analysis
from hf_asr.evaluation.report import PREDICTIONS, read_predictions, write_results
from hf_asr.utterance import Drops, Hypothesis

ROWS: dict[str, list[Any]] = {
    "id": ["one", "two", "three", "four"],
    "text": ["Hello, World of Anna!", "a 12 c", "", "we say\tno no no"],
    "duration": [1.5, math.nan, 0.5, None],
    "speaker": ["s1", "s2", "s1", ""],
    "gender": ["female", "male", "", "male"],
    "snr": [12.5, None, -3.0, 40.0],
}
TEXTS = ["hello world of hannah", "a c", "oh", "we say no no no no no no no"]


def analysed(folder: Path, rows: dict[str, list[Any]], texts: list[str], about: About) -> dict[str, Any]:
    """Write the analysis of a set, hold it to the schema and return it."""
    write_results(
        folder,
        rows=rows,
        hypotheses=[Hypothesis(id, text) for id, text in zip(rows["id"], texts, strict=True)],
        skipped=Drops(),
        conditions={},
        wall_seconds=None,
        analysis=about,
        metrics=[],
    )
    found = read_analysis(folder)
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")), jsonschema.Draft202012Validator)
    return found


def test_an_analysis_holds_to_its_schema(tmp_path: Path) -> None:
    found = analysed(tmp_path, ROWS, TEXTS, About(model="tiny", language="en"))
    assert (found["model"], found["language"], found["rate"], found["split"]) == ("tiny", "en", "wer", "test")
    assert found["overall"]["num_empty_references"] == 1
    assert found["overall"]["wer"] == found["normalization"]["wer"]
    assert found["overall"]["raw_wer"] == found["normalization"]["raw_wer"] > found["overall"]["wer"]
    assert [one["name"] for one in found["slices"]] == [
        *("duration", "reference_length", "speaking_rate", "snr", "speaker", "gender")
    ]
    duration = found["slices"][0]
    assert (duration["unknown"], [one["utterances"] for one in duration["groups"]]) == (2, [2])
    assert found["findings"]["words_on_silence"]["utterances"] == 1
    assert found["words"]["names"]["words"] == 2
    assert found["worst_utterances"][0]["id"] == "four"


def test_predictions_carry_the_columns_that_slices_are_made_of(tmp_path: Path) -> None:
    analysed(tmp_path, ROWS, TEXTS, About())
    rows = read_predictions(tmp_path)
    assert [(row["gender"], row["snr"]) for row in rows] == [
        ("female", "12.5"),
        ("male", ""),
        ("", "-3.0"),
        ("male", "40.0"),
    ]
    assert read_predictions(tmp_path / PREDICTIONS) == rows


def test_a_language_without_spaces_goes_by_characters(tmp_path: Path) -> None:
    rows = {"id": ["a"], "text": ["我们今天去"], "duration": [1.0], "speaker": [""]}
    found = analysed(tmp_path, rows, ["我们明天来"], About(language="zh-CN", rate="cer"))
    (worst,) = found["worst_utterances"]
    assert (worst["errors"], worst["rate"]) == (2, 0.4)
    assert worst["alignment"] == [["=", "我们", "我们"], ["S", "今", "明"], ["=", "天", "天"], ["S", "去", "来"]]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4))
def test_any_text_gives_a_valid_analysis(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    rows = {
        "id": [str(number) for number in range(len(pairs) + 1)],
        "text": ["word", *(one for one, _ in pairs)],
        "duration": [1.0] * (len(pairs) + 1),
        "speaker": ["s"] * (len(pairs) + 1),
    }
    analysed(tmp_path_factory.mktemp("any"), rows, ["word", *(other for _, other in pairs)], About())


def test_a_missing_column_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluation.slices: expected a column accent of the corpus, found gender, snr"
    ):
        analysed(tmp_path / "out", ROWS, TEXTS, About(slices=["accent"]))
    assert not (tmp_path / "out" / ANALYSIS).exists()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "expected test_detailed_analysis.json"), ("{", "expected JSON")]
)
def test_an_analysis_that_is_not_there_is_told(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / ANALYSIS).write_text(content)
    with pytest.raises(UserError, match=message):
        read_analysis(tmp_path)


def test_the_page_of_outputs_names_every_key() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    page = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")
    nested = [part["properties"] for part in schema["properties"].values() if "properties" in part]
    keys = {*schema["properties"], *schema["$defs"]["group"]["properties"], *(key for part in nested for key in part)}
    assert [key for key in sorted(keys) if key not in page] == []
