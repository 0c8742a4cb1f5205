"""What libraries warn of that is meant here, and that a user would take for a mistake of the run."""

from __future__ import annotations

import logging

# Logger to parts of its messages.
KNOWN = {
    # Tied to the embedding: it is not stored twice.
    "transformers.trainer": ("missing keys in the checkpoint model loaded: ['proj_out.weight']",),
    # Whisper's own generate passes both.
    "transformers.generation.utils": ("Passing `generation_config` together with generation-related",),
    # A faster kernel from the Hub: nothing here runs code from there.
    "bitsandbytes.backends.cpu.ops": ("Failed to load CPU gemm_4bit_forward",),
}


class _Known(logging.Filter):
    """Drops the known ones."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(part in record.getMessage() for part in KNOWN[record.name])


def drop_known_warnings() -> None:
    """Leave out what :data:`KNOWN` names; to be called before the libraries are imported."""
    for name in KNOWN:
        logger = logging.getLogger(name)
        if not any(isinstance(item, _Known) for item in logger.filters):
            logger.addFilter(_Known())
