"""``python -m hf_asr`` is ``hf-asr``, wherever PATH points."""

from __future__ import annotations

import sys

from hf_asr.cli import main

if __name__ == "__main__":
    sys.exit(main())
