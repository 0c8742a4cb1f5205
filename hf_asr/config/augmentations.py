"""The augment section: one group of settings a transform, each with a probability and its ranges.

The fields of :class:`AugmentArguments` stand in the order in which the transforms act, that of the sound's way: the
voice, what is heard beside it, the room, the microphone, the line, the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hf_asr.config.kinds import is_number, tidy
from hf_asr.config.options import AT_LEAST_0, AT_LEAST_1, POSITIVE, Bounds, group, option, pair

PROBABILITY = Bounds(0, 1)
FACTOR = Bounds(0.25, 4)
SEMITONES = Bounds(-12, 12)
EDGE = Bounds(10, 8000)
NOISES = ("white", "pink")
CODECS = ("opus", "mp3")


@dataclass(frozen=True)
class Speed:
    """Speech is made faster or slower, its pitch with it (resampling)."""

    probability: float = option(0.5, "Share of clips.", bounds=PROBABILITY)
    factor: list[float] = pair(0.9, 1.1, "Above 1 is faster and shorter; taken to 1/200.", FACTOR)


@dataclass(frozen=True)
class Pitch:
    """The pitch is moved, the length kept."""

    probability: float = option(0.3, "Share of clips.", bounds=PROBABILITY)
    semitones: list[float] = pair(-2, 2, "Semitones up or down.", SEMITONES)


@dataclass(frozen=True)
class Concatenate:
    """Another clip, of the same speaker where there is one, is put behind the clip, its text behind the text."""

    probability: float = option(0.2, "Share of clips.", bounds=PROBABILITY)
    gap_seconds: list[float] = pair(0.1, 0.5, "Silence between the two, in seconds.", AT_LEAST_0)


@dataclass(frozen=True)
class Mix:
    """Another clip is added quietly below the clip; the label stays. For classifiers."""

    probability: float = option(0.3, "Share of clips.", bounds=PROBABILITY)
    snr_db: list[float] = pair(5, 20, "Level of the clip above the other one, in dB.")


@dataclass(frozen=True)
class Shift:
    """Silence is put before the clip and after it, each drawn by itself."""

    probability: float = option(0.3, "Share of clips.", bounds=PROBABILITY)
    seconds: list[float] = pair(0, 0.5, "Silence at each end, in seconds.", AT_LEAST_0)


@dataclass(frozen=True)
class Reverb:
    """A room is put around the speaker."""

    probability: float = option(0.3, "Share of clips.", bounds=PROBABILITY)
    rt60: list[float] = pair(0.1, 0.8, "Reverberation time of generated rooms, in seconds.", POSITIVE)
    wet_db: list[float] = pair(-20, -5, "Level of a generated room's reverberation against the direct sound, in dB.")
    folder: str | None = option(
        None, "Folder of impulse responses, in place of generated rooms; each has its own level."
    )


@dataclass(frozen=True)
class Noise:
    """Noise is added."""

    probability: float = option(0.5, "Share of clips.", bounds=PROBABILITY)
    snr_db: list[float] = pair(5, 30, "Signal-to-noise ratio in dB.")
    kinds: list[str] = field(
        default_factory=lambda: list(NOISES),
        metadata={"help": "Generated noise to draw from; [] with a folder for that alone.", "members": NOISES},
    )
    folder: str | None = option(None, "Folder of noise recordings to draw from as well.")


@dataclass(frozen=True)
class Gain:
    """The level is changed."""

    probability: float = option(0.5, "Share of clips.", bounds=PROBABILITY)
    db: list[float] = pair(-10, 6, "Gain in dB; a peak above full scale is scaled back to it.")


@dataclass(frozen=True)
class Clipping:
    """The loudest samples are cut off."""

    probability: float = option(0.1, "Share of clips.", bounds=PROBABILITY)
    share: list[float] = pair(0.001, 0.05, "Share of samples that are cut.", PROBABILITY)


@dataclass(frozen=True)
class BandLimit:
    """Only a band is left, as on a telephone."""

    probability: float = option(0.2, "Share of clips.", bounds=PROBABILITY)
    low_hz: list[float] = pair(100, 400, "Lower edge, in Hz.", EDGE)
    high_hz: list[float] = pair(3000, 4000, "Upper edge, in Hz.", EDGE)


@dataclass(frozen=True)
class Codec:
    """The clip is encoded at a low rate and decoded again."""

    probability: float = option(0.2, "Share of clips.", bounds=PROBABILITY)
    formats: list[str] = field(
        default_factory=lambda: list(CODECS), metadata={"help": "Codecs to draw from.", "members": CODECS}
    )
    compression: list[float] = pair(
        0.8, 1.0, "Compression level: 0.8 is 59 kbit/s of Opus and 17 of MP3, 1 is 7 and 16.", PROBABILITY
    )


@dataclass(frozen=True)
class SpecAugment:
    """Stretches and bands of the features are masked (Park et al. 2019); lengths follow the clip's own length."""

    probability: float = option(1.0, "Share of clips.", bounds=PROBABILITY)
    time_masks: int = option(2, "Stretches that are masked.", bounds=AT_LEAST_0)
    time_share: float = option(0.1, "Longest stretch, as a share of the clip.", bounds=PROBABILITY)
    frequency_masks: int = option(2, "Bands that are masked.", bounds=AT_LEAST_0)
    frequency_bins: int = option(16, "Widest band, in bins.", bounds=AT_LEAST_1)


@dataclass
class AugmentArguments:
    """Changes of training clips, in this order; validation, test and cached features never see them."""

    enabled: bool = option(False, "Master switch: the groups below act only with it.")
    speed: dict[str, Any] = group(Speed, "Faster and slower.")
    pitch: dict[str, Any] = group(Pitch, "Higher and lower.")
    concatenate: dict[str, Any] = group(Concatenate, "Two clips in one; not for classifiers, not in a stream.")
    mix: dict[str, Any] = group(Mix, "Another clip below; for classifiers alone, not in a stream.")
    shift: dict[str, Any] = group(Shift, "Silence around the clip.")
    reverb: dict[str, Any] = group(Reverb, "Rooms.")
    noise: dict[str, Any] = group(Noise, "Noise at a signal-to-noise ratio.")
    gain: dict[str, Any] = group(Gain, "Louder and quieter.")
    clipping: dict[str, Any] = group(Clipping, "Overdriven microphones.")
    band_limit: dict[str, Any] = group(BandLimit, "Telephone bands.")
    codec: dict[str, Any] = group(Codec, "Opus and MP3 at low rates.")
    spec_augment: dict[str, Any] = group(SpecAugment, "Masks on the features.")

    def chosen(self) -> dict[str, Any]:
        """Return the transforms that act: name to its settings, in the order of the fields; empty when switched off.

        A group without a key is not used, and neither is one with probability 0.
        """
        given = {name: vars(self)[name] for name in TRANSFORMS if self.enabled and vars(self)[name]}
        return {name: settings_of(name, values) for name, values in given.items() if values.get("probability", 1)}


TRANSFORMS: dict[str, type[Any]] = {
    item.name: item.metadata["transform"] for item in fields(AugmentArguments) if "transform" in item.metadata
}


def settings_of(name: str, values: Mapping[str, Any]) -> Any:
    """Return a transform's settings, defaults filled in."""
    kinds = {item.name: str(item.type) for item in fields(TRANSFORMS[name])}
    return TRANSFORMS[name](**{key: tidy(value, kinds[key]) for key, value in values.items() if value is not None})


def check_augment(augment: Mapping[str, Any], data: Mapping[str, Any], features: Mapping[str, Any]) -> Iterator[str]:
    """Check what the sections only tell together; values that are wrong by themselves are told elsewhere.

    Args:
        augment: The augment section as written.
        data: The data section.
        features: The features section.

    Yields:
        A sentence for each problem.
    """
    if augment.get("enabled") is not True:
        return
    used = {name: values for name in TRANSFORMS if isinstance(values := augment.get(name), dict) and values}
    if not any(values.get("probability", 1) for values in used.values()):
        yield (
            "augment.enabled: expected a transform that acts beside it, found none, so nothing would happen. Add one, "
            "such as augment.noise={probability: 0.5}, or set augment.enabled=false."
        )
    if used and features.get("bank") == "on":
        yield (
            f"features.bank: stored states cannot be augmented, found it on with augment.{next(iter(used))}. Set "
            "features.bank=off or augment.enabled=false."
        )
    if data.get("streaming") is True:
        for name in ("concatenate", "mix"):
            if name in used:
                yield f"augment.{name}: a stream has no second clip to take: set data.streaming=false, or remove it."
    for name, values in used.items():
        if name in WITHIN:
            yield from WITHIN[name](values)


def check_noise(values: Mapping[str, Any]) -> Iterator[str]:
    """Noise comes from somewhere."""
    if values.get("kinds") == [] and not values.get("folder"):
        yield f"augment.noise.kinds: expected names among {', '.join(NOISES)}, or augment.noise.folder, found neither."


def check_codec(values: Mapping[str, Any]) -> Iterator[str]:
    """There is a codec."""
    if values.get("formats") == []:
        yield f"augment.codec.formats: expected names among {', '.join(CODECS)}, found none. Remove the key for all."


def check_band(values: Mapping[str, Any]) -> Iterator[str]:
    """Every lower edge is below every upper one."""
    low, high = (values.get(key, vars(BandLimit())[key]) for key in ("low_hz", "high_hz"))
    given = isinstance(low, list) and isinstance(high, list) and len(low) == len(high) == 2
    if given and all(map(is_number, [*low, *high])) and low[1] >= high[0]:
        yield f"augment.band_limit.low_hz: expected edges below those of high_hz ({high[0]}), found {low[1]}."


WITHIN = {"noise": check_noise, "codec": check_codec, "band_limit": check_band}
