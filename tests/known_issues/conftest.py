"""What every attack needs: a tiny checkpoint, a healthy corpus, and a way in."""

from __future__ import annotations

from helpers.attack_fixtures import attack, model, release

__all__ = ["attack", "model", "release"]
