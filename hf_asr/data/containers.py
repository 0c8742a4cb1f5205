"""Is an encoded clip whole? Read from its container alone, nothing is decoded.

libsndfile reports a cut WAV, Ogg or headerless MP3 as a shorter clip and raises nothing, so a half-downloaded
clip would be trained on with its whole sentence. Each container tells by itself that its end is missing:

* WAV: the ``data`` chunk is longer than what follows it.
* Ogg (Vorbis, Opus): the last page is longer than what follows its header.
* MP3: the last MPEG frame is incomplete, or the Xing/Info header counts more frames than there are. All 400 clips
  of the Common Voice 6.1 sample end exactly on a frame; a cut at a random byte does so once in about 192 bytes
  (64 kbit/s at 48 kHz), and is then a clip like any other: nothing in the file tells.
* Ogg holding several streams one after the other (a recorded radio stream): libsndfile decodes the first only.
* FLAC needs no check: its decoder raises.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_asr.utterance import Seconds

# A segment may end this much after its file does: corpora round their times (GigaSpeech to 1 ms, others to 0.1 s).
SEGMENT_SLACK: Seconds = 0.1
# MPEG-1 layer III bit rates in kbit/s by index; MPEG-2 and 2.5 share the second row. 0 is "free format", -1 invalid.
_BIT_RATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, -1),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, -1),
)
# Sampling rates by version bits (0: MPEG 2.5, 2: MPEG 2, 3: MPEG 1; 1 is reserved).
_RATES = {0: (11025, 12000, 8000), 2: (22050, 24000, 16000), 3: (44100, 48000, 32000)}
# A streamed WAV (ffmpeg, sox, arecord into a pipe) carries a length near one of the 32-bit limits.
_STREAMED_WAV = 0x7FFF0000


@dataclass(frozen=True, slots=True)
class Container:
    """What a clip's container says.

    Attributes:
        fault: Why the file is not whole; empty when nothing speaks against it.
        samples: Samples a channel that MPEG frames hold; None for other formats, where the header knows.
        rate: Their sampling rate in Hz; 0 where ``samples`` is None.
        frame: Samples of one MPEG frame; 0 where ``samples`` is None.
        has_length: False for MPEG frames without a Xing or Info header before them.
    """

    fault: str = ""
    samples: int | None = None
    rate: int = 0
    frame: int = 0
    has_length: bool = True


def inspect(data: bytes) -> Container:
    """Look at an encoded file's container.

    Args:
        data: The whole encoded file.

    Returns:
        What it says; an empty :class:`Container` for formats that are not looked into.
    """
    if data[:4] == b"RIFF":
        return Container(fault=_wav_fault(data))
    if data[:4] == b"OggS":
        return Container(fault=_ogg_fault(data))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # MPEG-1 layer I begins so as well, and mpg123 makes noise of it
        return Container(fault="UTF-16 text, no audio")
    if data[:3] == b"ID3" or _frame_header(data, 0) is not None:
        return _inspect_mp3(data)
    return Container()


def with_length(data: bytes, container: Container) -> bytes:
    """Put a Xing header before an MP3 that has none.

    libsndfile estimates the length of such an MP3 from its size and first bit rate, and reads no further: of a variable
    bit rate that begins high, or of two files joined, the end would be missing.

    Args:
        data: The whole file.
        container: What :func:`inspect` said of it.

    Returns:
        ``data`` as it was, where it is no MP3 or has the header.
    """
    if container.has_length or container.samples is None:
        return data
    position = _id3_length(data)
    # No checksum; bit rate 9, 128 or 80 kbit/s, makes a frame large enough at every rate; no padding.
    head = bytes((0xFF, data[position + 1] | 1, 0x90 | data[position + 2] & 0x0C, data[position + 3]))
    header = _frame_header(head, 0)
    assert header is not None
    is_mono, is_mpeg1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    side_information = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    count = (container.samples // container.frame).to_bytes(4, "big")
    return (head + bytes(side_information) + b"Xing\0\0\0\1" + count).ljust(header[0], b"\0") + data[position:]


def _wav_fault(data: bytes) -> str:
    """Compare the length of the ``data`` chunk with the bytes that follow it."""
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        there = len(data) - position - 8
        if data[position : position + 4] == b"data":
            cut = there < size < _STREAMED_WAV
            return f"truncated: its header promises {size} bytes of samples, {there} are there" if cut else ""
        position += 8 + size + size % 2  # chunks are padded to even lengths
    return ""


def _ogg_fault(data: bytes) -> str:
    """Compare the length of the last Ogg page with the bytes that follow its start (RFC 3533, section 6)."""
    if (streams := data.count(b"OpusHead") + data.count(b"\x01vorbis")) > 1:
        return f"a chain of {streams} Ogg streams, of which only the first would be heard"
    start = data.rfind(b"OggS")
    segments = data[start + 26] if start + 26 < len(data) else 0
    header = 27 + segments
    needed = header + sum(data[start + 27 : start + header])
    there = len(data) - start
    return f"truncated: its last page has {needed} bytes, {there} are there" if there < needed else ""


def _frame_header(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Read an MPEG layer III frame header: (bytes, samples, sampling rate in Hz), or None where there is none."""
    head = int.from_bytes(data[position : position + 4], "big")
    version, bit_rate, rate = head >> 19 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or head >> 17 & 3 != 1 or bit_rate in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    hertz = _RATES[version][rate]
    kilobits = _BIT_RATES[version != 3][bit_rate]
    return samples // 8 * kilobits * 1000 // hertz + (head >> 9 & 1), samples, hertz


def _inspect_mp3(data: bytes) -> Container:
    """Walk an MP3's frames, about 1 microsecond each, and see whether the last one is whole."""
    position = _id3_length(data)
    header = _frame_header(data, position)
    if header is None:  # free format, another layer, or bytes before the first frame: the decoder's business
        return Container()
    size, frame, rate = header
    promised = _xing_frames(data[position : position + size])
    position += size if promised is not None else 0
    count = 0
    while (header := _frame_header(data, position)) is not None and position + header[0] <= len(data):
        position += header[0]
        count += 1
    rest = data[position:]
    fault = ""
    if header is not None or (len(rest) < 4 and rest[:1] == b"\xff"):
        fault = f"truncated: of its last MPEG frame only {len(rest)} bytes are there"
    elif promised is not None and promised > count + 1 and not rest:
        fault = f"truncated: its header promises {promised} MPEG frames, {count} are there"
    return Container(fault, count * frame, rate, frame, promised is not None)


def _id3_length(data: bytes) -> int:
    """Return how many bytes the ID3v2 tag at the beginning takes (its length is stored in 7-bit bytes)."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if data[5] & 0x10 else 0)


def _xing_frames(frame: bytes) -> int | None:
    """Return the number of frames that a Xing or Info header promises; None where the frame is audio."""
    for name in (b"Xing", b"Info"):
        # It stands behind the side information: 4 + 9 to 4 + 32 bytes into the frame, 2 more with a checksum.
        found = frame.find(name, 0, 64)
        if found >= 0:
            counted = frame[found + 7 : found + 8] and frame[found + 7] & 1
            return int.from_bytes(frame[found + 8 : found + 12], "big") if counted else 0
    return None
