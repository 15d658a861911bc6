"""How far a client's preference tuning has come, kept from round to round."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdapterState:
    """What the next round goes on with.

    ``preferred`` names the preference-tuned adapter, '' if none; ``tuned`` counts the rounds that
    tuned it.
    """

    preferred: str = ""
    tuned: int = 0
