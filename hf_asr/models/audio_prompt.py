"""What an audio language model reads and writes: a chat with a clip and an instruction, and the answer alone as labels.

The chat template of the checkpoint is rendered once; what stands before and after the placeholder of the audio is then
the same for every clip, and the placeholder stands as often as the clip has audio states, as the processor writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.features.collate import IGNORED, Rows, WindowPadder, pad_labels
from hf_asr.models.losses import Loss, count_tokens, summed_cross_entropy

# Stands for the answer while the template is rendered; no template writes it.
ANSWER = "\u2402answer\u2403"
# A batch of nothing but broken clips is one filler with so many frames: 8 audio tokens.
FILLER_FRAMES = 32


def instruction_for(language: str | None, task: str = "transcribe") -> str:
    """Return what the model is asked to do, in English, which audio language models are instructed in.

    Args:
        language: ``data.language``; its name is given where it is known, else its code.
        task: ``transcribe`` or ``translate``.
    """
    code = (language or "").lower()
    name = LANGUAGES.get(code) or LANGUAGES.get(code.split("-")[0])
    spoken = f"this {name.title()} speech" if name else f"this speech ({language})" if language else "this speech"
    return f"Transcribe {spoken}." if task == "transcribe" else f"Translate {spoken} into English."


@dataclass(frozen=True)
class Prompt:
    """Everything of a chat but the audio and the answer.

    Attributes:
        before: Token ids before the audio.
        audio: Id of the placeholder that an audio state replaces.
        after: Token ids after the audio, up to where the answer begins.
        end: Id that ends the answer.
    """

    before: tuple[int, ...]
    audio: int
    after: tuple[int, ...]
    end: int

    def ids(self, frames: int) -> list[int]:
        """Return what the model reads of a clip with so many feature frames."""
        return [*self.before, *[self.audio] * audio_tokens(frames), *self.after]


def audio_tokens(frames: int) -> int:
    """Return the audio states of so many feature frames: a convolution, then a pooling halve them (Chu et al. 2024)."""
    return (((frames - 1) // 2 + 1) - 2) // 2 + 1


def prompt_of(processor: ProcessorMixin, instruction: str) -> Prompt:
    """Render the checkpoint's chat template and cut it where audio and answer stand.

    Raises:
        ValueError: The template does not show the audio once, or writes nothing after an answer.
    """
    own: Any = processor
    question = [{"type": "audio", "audio": ""}, {"type": "text", "text": instruction}]
    chat = [{"role": "user", "content": question}]
    asked = own.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    answered = [{"role": "assistant", "content": ANSWER}]
    whole = own.apply_chat_template([*chat, *answered], add_generation_prompt=False, tokenize=False)
    before, audio, after = asked.partition(own.audio_token)
    tail = whole.partition(ANSWER)[2]
    if not audio or own.audio_token in after or not tail or not whole.startswith(asked):
        raise ValueError(f"a chat template that shows {own.audio_token} once and ends an answer, found: {whole!r}")
    return Prompt(
        before=tuple(_ids(own.tokenizer, before)),
        audio=own.tokenizer.get_vocab()[own.audio_token],
        after=tuple(_ids(own.tokenizer, after)),
        end=_ids(own.tokenizer, tail)[0],
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@dataclass(frozen=True)
class AudioPromptCollator:
    """Makes batches of prompts and answers, padded on the right.

    Attributes:
        padder: Fills features up to the audio tower's window.
        prompt: The same for every clip.
        pad_token: Fills ``input_ids``; nothing attends to it.
        hop_length: Samples a feature frame.

    With the prompt ``[1, AUDIO, 2]`` and the end 9, clips of 12 and 8 frames (3 and 2 states) with the answers
    ``[7, 8, 9]`` and ``[9]`` give::

        input_ids [[1, AUDIO, AUDIO, AUDIO, 2, 7, 8, 9], [1, AUDIO, AUDIO, 2, 9, 0, 0, 0]]
        labels    [[-100, -100, -100, -100, -100, 7, 8, 9], [-100, -100, -100, -100, 9, -100, -100, -100]]
    """

    padder: WindowPadder
    prompt: Prompt
    pad_token: int
    hop_length: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows of :class:`hf_asr.features.extract.ClipEncoder`.

        A row with ``padding: True`` is a filler that gives a process a batch: all its labels are ignored.

        Returns:
            ``input_features`` float32 (B, F, M); ``feature_attention_mask`` int64 (B, M), 1 up to a clip's end;
            ``input_ids``, ``attention_mask`` and ``labels`` int64 (B, L), where labels stand in their own places (the
            loss shifts them); ``ids`` and ``skipped`` as other collators give them.
        """
        found = Rows.sorted_out(rows)
        frames = [self._frames(row) for row in found.kept] or [FILLER_FRAMES]
        answers = [[label for label in row["labels"] if label != IGNORED] for row in found.kept] or [[]]
        prompts = [self.prompt.ids(number) for number in frames]
        texts = [[*asked, *answer] for asked, answer in zip(prompts, answers, strict=True)]
        labels = pad_labels([[IGNORED] * len(asked) + answer for asked, answer in zip(prompts, answers, strict=True)])
        labels[found.fillers] = IGNORED
        return {
            **self.padder(found.clips()),
            "feature_attention_mask": lengths_to_mask(frames, self.padder.window_frames),
            "input_ids": pad_labels(texts, self.pad_token),
            "attention_mask": lengths_to_mask([len(text) for text in texts], labels.shape[1]),
            "labels": labels,
            "ids": found.ids,
            "skipped": found.skipped,
        }

    def _frames(self, row: Mapping[str, Any]) -> int:
        """Return the frames that the extractor's mask counts: fewer than those that a sample touches."""
        samples = round(row["duration"] * SAMPLE_RATE)
        return min(-(-samples // self.hop_length), self.padder.window_frames)


def lengths_to_mask(lengths: Sequence[int], longest: int) -> torch.Tensor:
    """Return int64 (B, longest), 1 up to each length."""
    return torch.arange(longest)[None, :].lt(torch.tensor(lengths)[:, None]).long()


def prompts_on_the_left(batch: Mapping[str, Any], pad_token: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prompts of a collated batch without their answers, padded on the left, and their attention mask.

    ``generate`` goes on from the last column, so that must be a prompt's last token in every row.
    """
    answered = batch["labels"].ne(IGNORED)
    # Without an answer that can be learnt, all of a text is its prompt.
    lengths = batch["attention_mask"].sum(-1)
    places = torch.where(answered.any(-1), answered.int().argmax(-1), lengths).tolist()
    longest = max(places)
    prompts = torch.full((len(places), longest), pad_token, dtype=torch.int64, device=batch["input_ids"].device)
    for row, place in enumerate(places):
        prompts[row, longest - place :] = batch["input_ids"][row, :place]
    mask = lengths_to_mask(places, longest).flip(-1)
    return prompts, mask.to(prompts.device)


def _summed_answers(model: Any, inputs: Mapping[str, Any], outputs: Any, smoothing: float) -> torch.Tensor:
    """Return the cross-entropy summed over answer tokens, each predicted from the place before it.

    Only those places are cast to float32: of 800 places with 150,000 entries each, some 30 are learnt from.
    """
    targets = inputs["labels"][:, 1:]
    wanted = targets.ne(IGNORED)
    return summed_cross_entropy(outputs.logits[:, :-1][wanted], targets[wanted], smoothing)


def _count_predicted(labels: torch.Tensor) -> torch.Tensor:
    """Return how many labels have a place before them that predicts them."""
    return count_tokens(labels[:, 1:])


ANSWERS = Loss(_summed_answers, _count_predicted)
