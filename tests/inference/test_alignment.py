"""When words are said: on made-up frames with known answers, and on a tiny model that was taught tones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.family_training import configuration, encoded, spoken
from helpers.tiny_ctc import make_tiny_ctc

from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.errors import UserError
from hf_asr.inference.alignment import TextSpan, align, best_spans, characters, forced_spans, words
from hf_asr.inference.transcribe import load_transcriber
from hf_asr.inference.transcribe_ctc import segments_of
from hf_asr.models.ctc import FAMILY
from hf_asr.models.ctc_decoding import pieces_of
from hf_asr.models.ctc_processor import make_front_end, seconds_per_state
from hf_asr.models.ctc_vocabulary import make_tokenizer, new_vocabulary
from hf_asr.training.loss import summed_loss

VOCABULARY = new_vocabulary("ab")  # blank 0, | 2, a 3, b 4
PIECES = pieces_of(make_tokenizer(VOCABULARY))


def frames(path: list[int], sure: float = 0.9) -> torch.Tensor:
    """Return log-probabilities (S, V) in which every frame is ``sure`` of one token."""
    scores = torch.full((len(path), len(VOCABULARY)), (1 - sure) / (len(VOCABULARY) - 1))
    scores[range(len(path)), path] = sure
    return scores.log()


# Frames:  0  1  2  3  4  5  6  7  8  9
PATH = [0, 3, 3, 0, 3, 2, 2, 0, 4, 4]  # "aa b"


def spans_of(found: list[Any]) -> list[tuple[int, int, int]]:
    return [(span.token, span.first, span.end) for span in found]


def test_the_best_path_is_cut_into_runs() -> None:
    found = best_spans(frames(PATH), 0)
    assert spans_of(found) == [(3, 1, 3), (3, 4, 5), (2, 5, 7), (4, 8, 10)]
    assert found[0].score == pytest.approx(np.log(0.9), abs=1e-5)


def test_a_text_that_is_what_was_said_is_found_where_it_was_said() -> None:
    assert spans_of(forced_spans(frames(PATH), [3, 3, 2, 4], 0)) == spans_of(best_spans(frames(PATH), 0))


def test_another_text_is_put_where_it_fits_best() -> None:
    scores = frames([0, 3, 3, 0, 4, 0])
    (only,) = forced_spans(scores, [4], 0)
    assert (only.first, only.end) == (4, 5)
    ((first, second),) = [forced_spans(scores, [3, 4], 0)]
    assert (first.first, second.end) == (1, 5)


def test_no_text_has_no_spans_and_too_long_a_text_is_told() -> None:
    assert forced_spans(frames(PATH), [], 0) == []
    with pytest.raises(UserError, match="expected at least 3 frames for 2 tokens, found 2"):
        forced_spans(frames([3, 3]), [3, 3], 0)


def test_words_and_characters_have_seconds() -> None:
    spans = best_spans(frames(PATH), 0)
    assert [(span.text, round(span.start, 3), round(span.end, 3)) for span in characters(spans, PIECES, 0.02)] == [
        ("a", 0.02, 0.06),
        ("a", 0.08, 0.1),
        ("b", 0.16, 0.2),
    ]
    assert [(span.text, round(span.start, 3), round(span.end, 3)) for span in words(spans, PIECES, 0.02)] == [
        ("aa", 0.02, 0.1),
        ("b", 0.16, 0.2),
    ]


@pytest.mark.parametrize(("name", "seconds"), [("wav2vec2", 0.01), ("w2v_bert", 0.02), ("parakeet", 0.04)])
def test_a_state_lasts(name: str, seconds: float, tmp_path: Path) -> None:
    processor = FAMILY.load_processor(configuration(make_tiny_ctc(tmp_path, name)), None)
    config = FAMILY.load_config(configuration(tmp_path), processor)
    found = seconds_per_state(config, make_front_end(processor.feature_extractor))
    assert found == pytest.approx(seconds, rel=1e-6)


@pytest.mark.parametrize(
    ("ends", "texts"),
    [
        ([(0.0, 0.5), (0.6, 1.0), (2.0, 2.5)], ["w0 w1", "w2"]),
        ([(0.0, 3.0), (3.1, 6.0), (6.1, 8.0)], ["w0 w1", "w2"]),
        ([], []),
    ],
    ids=["pause", "long", "nothing"],
)
def test_segments_end_at_pauses_and_when_they_are_long(ends: list[tuple[float, float]], texts: list[str]) -> None:
    spoken_words = [TextSpan(f"w{place}", start, end, 0.0) for place, (start, end) in enumerate(ends)]
    segments = segments_of(spoken_words)
    assert [segment.text for segment in segments] == texts
    assert all(segment.start < segment.end for segment in segments)


TAUGHT = ("ab", "ba ab", "a b", "bb a")
LETTER = 0.32


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes a for one tone and b for another."""
    folder = tmp_path_factory.mktemp("taught")
    arguments = configuration(make_tiny_ctc(folder / "random", "w2v_bert", letters="ab"))
    processor = FAMILY.load_processor(arguments, None)
    model: Any = FAMILY.load_model(arguments, processor)
    encoder = FAMILY.make_encoder(processor, model.config, arguments)
    batch = FAMILY.make_collator(processor, model)(encoded(encoder, TAUGHT, seconds_a_letter=LETTER))
    tensors = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        (summed_loss(FAMILY.loss, model.train(), tensors)[0] / FAMILY.loss.items(tensors["labels"])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(folder / "taught")
    processor.save_pretrained(folder / "taught")
    return folder / "taught"


def test_words_of_a_known_text_are_found_in_the_clip(taught: Path) -> None:
    arguments = configuration(taught)
    processor = FAMILY.load_processor(arguments, None)
    model: Any = FAMILY.load_model(arguments, processor).eval()
    labeller: Any = FAMILY.make_encoder(processor, model.config, arguments).labeller
    samples = spoken("ba ab", seconds_a_letter=LETTER)
    found = align(model, FAMILY, processor, labeller, samples, "ba ab")
    assert [span.text for span in found] == ["ba", "ab"]
    # Two letters, a gap, two letters, 0.32 s each; a span is where a word is written, within where it is heard.
    assert -0.1 < found[0].start < 0.32 <= found[0].end < 3 * LETTER
    assert 2 * LETTER < found[1].start < 4 * LETTER <= found[1].end <= 5 * LETTER + 0.1
    assert all(span.score > -1 for span in found)


def test_files_longer_than_a_window_are_transcribed_with_times(taught: Path, tmp_path: Path) -> None:
    # The pauses are the faint noise that the model was taught: features are normalised over a clip, and what it makes
    # of digital silence, which it never heard, depends on how a machine rounded the steps that taught it.
    phrase = spoken("ba ab   ", seconds_a_letter=LETTER)
    count = 17  # 2.6 s each: 43.5 s, two windows
    (tmp_path / "long.wav").write_bytes(encode(np.tile(phrase, count), SAMPLE_RATE, "wav"))
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    transcriber = load_transcriber(str(taught))
    files = [(tmp_path / "long.wav", "long.wav"), (tmp_path / "bad.wav", "bad.wav")]
    (found,), drops = transcriber.transcribe(files, progress=False)
    assert drops.counts() == {"broken_audio": 1}
    assert found.duration == pytest.approx(count * len(phrase) / SAMPLE_RATE)
    starts = [segment.start for segment in found.segments]
    assert starts == sorted(starts)
    assert found.segments[-1].end <= found.duration
    assert found.segments[-1].start > 35
    assert set(found.text) <= set("ab ")
    assert len(found.text.replace(" ", "")) == pytest.approx(4 * count, abs=count)
