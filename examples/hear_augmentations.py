"""Hear and see every augmentation: a WAV of one clip through each, a picture of their log-mel spectra, and their cost.

python examples/hear_augmentations.py [CLIP [NEIGHBOUR]] [--output-dir augmentations] [--repeats 5]

Without a clip a voice of the demo speaks one (pip install 'hf_asr[demo]'). The neighbour is what `concatenate` and
`mix` take; by default another voice, or the clip itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import WhisperFeatureExtractor

from hf_asr.config.augmentations import TRANSFORMS, AugmentArguments
from hf_asr.data.audio import SAMPLE_RATE, encode, load, resample
from hf_asr.data.augment import Clip, build_augmenter, random_of
from hf_asr.data.augment_features import masked
from hf_asr.data.espeak import speak
from hf_asr.features.extract import log_mel
from hf_asr.utterance import AudioRef

# One value in place of each range, so that the transform is plainly heard; a configuration has the defaults.
SETTINGS = {
    "speed": {"factor": [1.2, 1.2]},
    "pitch": {"semitones": [3, 3]},
    "concatenate": {"gap_seconds": [0.3, 0.3]},
    "mix": {"snr_db": [5, 5]},
    "shift": {"seconds": [0.4, 0.4]},
    "reverb": {"rt60": [0.8, 0.8], "wet_db": [0, 0]},
    "noise": {"snr_db": [5, 5], "kinds": ["pink"]},
    "gain": {"db": [-10, -10]},
    "clipping": {"share": [0.1, 0.1]},
    "band_limit": {"low_hz": [300, 300], "high_hz": [3400, 3400]},
    "codec": {"formats": ["opus"], "compression": [1.0, 1.0]},
    "spec_augment": {"time_share": 0.15, "frequency_bins": 16},
}
SENTENCE, OTHER = "The quick brown fox jumps over the lazy dog.", "She sells sea shells by the shore."
SEED, COLUMNS = 26, 5


def spoken(text: str, variant: str) -> np.ndarray:
    """Return (T,) samples of a voice of the demo."""
    return resample(*speak(text, "en", rate=150, variant=variant))


def timed(name: str, clip: Clip, neighbour: Clip, repeats: int) -> float:
    """Return the milliseconds of one core (mean) for 5 seconds of audio, with the default ranges.

    Decoding what ``concatenate`` and ``mix`` take is not in it.
    """
    settings = AugmentArguments(enabled=True, **{name: {"probability": 1.0}}).chosen()
    five_seconds = np.resize(clip.samples, 5 * SAMPLE_RATE)
    augmenter = build_augmenter(settings, SEED, neighbours=lambda clip, random, same_speaker: neighbour)
    spectrum = log_mel(five_seconds, WhisperFeatureExtractor())
    took = []
    for epoch in range(repeats):
        start = time.process_time()
        if name == "spec_augment":
            masked(spectrum, settings[name], random_of(SEED, epoch, clip.id, name))
        else:
            augmenter(Clip(clip.id, five_seconds), epoch)
        took.append(1000 * (time.process_time() - start))
    return statistics.mean(took)


def draw(spectra: dict[str, np.ndarray], path: Path) -> None:
    """Draw log-mel spectra (M, F) in a grid, all with the same scales."""
    rows = -(-len(spectra) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.2 * rows), layout="constrained")
    longest = max(len(spectrum) for spectrum in spectra.values())
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in panels[len(spectra) :]:
        panel.set_visible(False)
    for panel, (name, spectrum) in zip(panels, spectra.items(), strict=False):
        panel.imshow(
            spectrum.T, origin="lower", aspect="auto", vmin=-1, vmax=1.5, extent=(0, len(spectrum) / 100, 0, 80)
        )
        panel.set(title=name, xlim=(0, longest / 100), facecolor="0.9")
        panel.tick_params(labelbottom=True)
    figure.supxlabel("seconds")
    figure.supylabel("mel bin")
    figure.savefig(path, dpi=65)


def main() -> None:
    """Write the files and print what each transform costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", help="an audio file, and one to concatenate and mix with")
    parser.add_argument("--output-dir", type=Path, default=Path("augmentations"))
    parser.add_argument("--repeats", type=int, default=5, help="how often a transform is timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [load(AudioRef(path=path)) for path in options.clips] or [spoken(SENTENCE, "f2"), spoken(OTHER, "m3")]
    clip, neighbour = (Clip("clip", samples) for samples in (found[0], found[-1]))

    options.output_dir.mkdir(parents=True, exist_ok=True)
    extractor = WhisperFeatureExtractor()
    sounds, spectra = {"original": clip.samples}, {"original": log_mel(clip.samples, extractor)}
    print(f"{'transform':<14}ms for 5 s of audio")
    for name in TRANSFORMS:
        print(f"{name:<14}{timed(name, clip, neighbour, options.repeats):.1f}")
        settings = AugmentArguments(enabled=True, **{name: {"probability": 1.0} | SETTINGS[name]}).chosen()
        if name == "spec_augment":
            spectra[name] = masked(spectra["original"], settings[name], random_of(SEED, 0, clip.id, name))
            continue
        augmenter = build_augmenter(settings, SEED, neighbours=lambda clip, random, same_speaker: neighbour)
        sounds[name] = augmenter(clip, 0).samples
        spectra[name] = log_mel(sounds[name], extractor)
    for name, samples in sounds.items():
        (options.output_dir / f"{name}.wav").write_bytes(encode(samples, SAMPLE_RATE, "wav"))
    draw(spectra, options.output_dir / "augmentations.png")
    print(f"{len(sounds)} WAV files and augmentations.png are in {options.output_dir}")


if __name__ == "__main__":
    main()
