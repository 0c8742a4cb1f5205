"""The page about runs: what is on it comes from the files, worst first, and nothing in a text is read as HTML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.html_elements import EVIL, Elements
from helpers.scored_run import AFTER, BEFORE, REFERENCES, make_classifier_run, make_scored_run, write_scored

from hf_asr.errors import UserError
from hf_asr.evaluation.page_report import clips_wanted, report_page, systems_of
from hf_asr.evaluation.page_run import difference, edits, rate_of, read_run
from hf_asr.evaluation.page_utterances import aligned_words, worst_first
from hf_asr.evaluation.report import compare_results
from hf_asr.utterance import Drops

SCRIPTS = ("смешной текст", "שלום עולם", "مرحبا بالعالم", "你好世界", "नमस्ते दुनिया", "á combining", "😀 smile")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of six clips, before and after."""
    return make_scored_run(tmp_path / "tiny")


def test_the_page_shows_both_rates_and_every_section(run_dir: Path) -> None:
    page = report_page([read_run(run_dir)])
    before, after = (json.loads((run_dir / part / "test_results.json").read_text()) for part in ("baseline", "test"))
    assert f"{100 * after['wer']:.1f} %" in page
    assert f"before {100 * before['wer']:.1f} %" in page
    for title in ("Summary", "Where it errs", "Training", "Confusions", "Utterances", "How it was made"):
        assert f"<h2>{title}</h2>" in page
    for chart in ("Loss", "WER and CER on validation", "Word errors on validation", "Learning rate", "Gradient norm"):
        assert f"<span>{chart}</span>" in page


def test_the_worst_utterance_comes_first_and_changes_are_signed(run_dir: Path) -> None:
    listed = worst_first(systems_of([read_run(run_dir)]))
    assert [item.errors for item in listed] == sorted((item.errors for item in listed), reverse=True)
    changes = {item.row["id"]: item.change for item in listed}
    assert changes == {"clip0": -2, "clip1": 0, "clip2": -1, "clip3": 0, "clip4": -1, "clip5": 0}


def test_a_cut_list_keeps_the_worst_and_the_most_changed(tmp_path: Path) -> None:
    references = ["a b c d"] * 30
    before = ["a b c d"] * 15 + ["x x x x"] * 15
    after = ["x y z d"] * 6 + ["a b c d"] * 24
    listed = worst_first(
        systems_of([read_run(make_scored_run(tmp_path, references=references, before=before, after=after))]), 9
    )
    assert len(listed) == 9
    assert sum(item.errors > 0 for item in listed) == 6
    assert all(item.change < 0 for item in listed if not item.errors)
    page = report_page([read_run(tmp_path)], most_listed=9)
    assert "The 9 of 30 utterances" in page and "21 are in test_predictions.csv" in page


def test_the_change_is_that_of_the_pairwise_comparison(run_dir: Path) -> None:
    found = difference(read_run(run_dir))
    known = compare_results(run_dir / "baseline", run_dir / "test")
    assert found is not None
    assert found.difference == pytest.approx(known.difference)
    assert found.by == known.by


def test_an_alignment_is_marked_word_by_word() -> None:
    text = str(aligned_words([("=", "a b", "a b"), ("S", "c", "x"), ("D", "d", None), ("I", None, "e")]))
    assert "<s>c</s> <b>x</b>" in text
    assert '<del title="deletion">d</del>' in text
    assert '<ins title="insertion">e</ins>' in text


def test_a_long_recording_is_cut_on_the_page() -> None:
    assert len(str(aligned_words([("=", "word " * 10_000, "word " * 10_000), ("D", "end", None)]))) < 5000


@pytest.mark.parametrize("text", [EVIL, *SCRIPTS])
def test_texts_of_every_script_are_shown_and_none_is_html(tmp_path: Path, text: str) -> None:
    plain_run = make_scored_run(tmp_path / "plain", references=["text a", "b"], before=["c", "d"], after=["e", "f"])
    names = {"ids": [text, "2"], "speakers": [text, "other"]}
    run = make_scored_run(
        tmp_path / "evil",
        references=[f"{text} a", "b"],
        before=[f"c {text}", "d"],
        after=["e", text],
        name=text,
        **names,
    )
    pages = [report_page([read_run(folder)]) for folder in (plain_run, run)]
    scripts = [[tag for tag, _ in Elements(page).found if tag in ("script", "img", "style")] for page in pages]
    assert scripts[0] == scripts[1] == ["style", "script"]
    assert not any(name.startswith("on") for _, attributes in Elements(pages[1]).found for name in attributes)


def test_no_local_path_is_on_the_page(run_dir: Path) -> None:
    assert str(run_dir.parent) not in report_page([read_run(run_dir)])


def test_ids_that_are_paths_are_cut_to_their_names(tmp_path: Path) -> None:
    ids = ["/home/anna/clips/one.wav", "clips/two.wav", "three"]
    run = make_scored_run(
        tmp_path / "run", references=["a b", "c d", "e f"], before=["x"] * 3, after=["y"] * 3, ids=ids
    )
    page = report_page([read_run(run)], {ids[0]: b"OggS"})
    assert "/home/anna" not in page
    assert all(f"<code>{name}</code>" in page for name in ("one.wav", "clips/two.wav", "three"))
    assert page.count("<audio") == 1


def test_audio_is_put_beside_its_utterance(run_dir: Path) -> None:
    run = read_run(run_dir)
    wanted = clips_wanted([run], 2)
    assert len(wanted) == 2
    page = report_page([run], {wanted[0]: b"sound"})
    assert page.count("<audio") == 1
    assert "no corpus here" in report_page([run], {}, without_audio="no corpus here")


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    first = make_scored_run(tmp_path / "a" / "one", name="one")
    second = make_scored_run(tmp_path / "b" / "one", name="one", after=BEFORE)
    page = report_page([read_run(first), read_run(second)])
    assert "2 runs side by side" in page
    assert str(first) in page, "two runs of one name are told apart by their folders"
    assert "say nothing about which is better" not in page


def test_runs_on_other_clips_are_called_so(tmp_path: Path) -> None:
    first = make_scored_run(tmp_path / "one")
    second = make_scored_run(tmp_path / "two", name="two", ids=[f"other{index}" for index in range(6)])
    assert "two: scored on other clips than tiny" in report_page([read_run(first), read_run(second)])


def test_a_folder_of_evaluate_is_enough(tmp_path: Path) -> None:
    page = report_page([read_run(write_scored(tmp_path / "scores", REFERENCES, AFTER))])
    assert "<h1>scores</h1>" in page
    assert "<h2>Training</h2>" not in page


def test_without_predictions_there_are_rates_and_no_list(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "scores", REFERENCES, AFTER, save_predictions=False)
    page = report_page([read_run(folder)])
    assert "<h2>Summary</h2>" in page and "<h2>Utterances</h2>" not in page
    assert clips_wanted([read_run(folder)], 5) == []


def test_characters_count_where_words_have_no_spaces(tmp_path: Path) -> None:
    run = read_run(
        make_scored_run(
            tmp_path,
            references=["你好世界", "早上好"],
            before=["你", ""],
            after=["你好是界", "早上好"],
            data={"language": "zh-CN"},
        )
    )
    assert rate_of(run.after) == "cer"
    assert [edits(row) for row in run.after.predictions] == [1, 0]
    page = report_page([run])
    assert "<s>世</s> <b>是</b>" in page
    assert "4 characters" in page


@pytest.mark.parametrize(("scoring", "shown"), [("classes", "true class"), ("numbers", "RMSE")])
def test_a_classifier_has_a_page_too(tmp_path: Path, scoring: str, shown: str) -> None:
    assert shown in report_page([read_run(make_classifier_run(tmp_path, scoring))])


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    skipped = Drops()
    skipped.add("broken_audio", "clip99", "truncated")
    page = report_page([read_run(write_scored(tmp_path / "scores", REFERENCES, AFTER, skipped=skipped))])
    assert "broken audio" in page and "clip99" in page


def test_the_detailed_analysis_is_read_where_it_is(run_dir: Path) -> None:
    group = {"utterances": 3, "words": 9, "wer": 0.5, "interval": [0.4, 0.6], "worse": True, "small": False}
    groups = [{**group, "label": label} for label in ("accent of Leeds", "accent of York")]
    analysis = {
        "rate": "wer",
        "slices": [{"name": "accent", "kind": "value", "unit": None, "unknown": 0, "left_out": 0, "groups": groups}],
        "tested_slices": 2,
        "confusions": {"words": {"substitutions": [{"reference": "b", "hypothesis": "p", "count": 7, "examples": []}]}},
        "findings": {
            "loops": {
                "utterances": 1,
                "words": 4,
                "share": 0.1,
                "examples": [{"id": "clip1", "reference": "a dog", "hypothesis": "a a a a", "detail": "a, 4 times"}],
            }
        },
        "normalization": {"normalizer": "basic", "wer": 0.2, "raw_wer": 0.3, "differences": []},
        "writing": {"case": {"words": 10, "errors": 1, "rate": 0.1}, "punctuation": None},
        "words": {"numbers": None, "names": None},
    }
    (run_dir / "test" / "test_detailed_analysis.json").write_text(json.dumps(analysis))
    page = report_page([read_run(run_dir)])
    for text in (
        "accent of Leeds",
        "worse than the rest",
        "Loops, words written over and over",
        "a, 4 times",
        "30.0 % as written",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, "", "expected a run folder with test/test_results.json"),
        ("test/test_results.json", "{", "expected JSON in"),
        ("metrics_on_all_epochs.json", "[{", "expected a whole file"),
        ("config.yaml", "a: [", "expected a whole file"),
        ("test/test_predictions.csv", "id,other\n", "expected the columns"),
    ],
)
def test_what_cannot_be_read_is_named(run_dir: Path, name: str | None, content: str, message: str) -> None:
    if name is not None:
        (run_dir / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(run_dir if name else run_dir / "nothing")
