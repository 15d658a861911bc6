"""Methods by name: each is a point in policy x adapter x site x objective.

Any single key still overrides its preset. Choose ``regl-dpd`` when the global label distribution is
unknown, ``regl`` when balancing is known to be right, ``regl-shared`` when moreover an adapter may
leave the clients, ``regl-ccvr`` when class statistics may, ``regl-free`` when a client cannot
afford to tune, ``fedavg``, ``fedprox``, ``scaffold`` and ``moon`` as baselines (``fedlc``,
``fedrs``, ``balanced-softmax`` and ``fedntd`` as those that meet label skew by their loss alone,
``ccvr`` as the one that trains the head again on class statistics), ``fedrep`` where each client
wants a model of its own and ``central`` as a reference: all images in one place, and the steps that
one client takes in a round. That is no upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Preset:
    """One method's choices; ``PRESET_KEYS`` names the keys they expand to."""

    policy: str
    adapter: str
    site: str = "client"
    selection: str = "none"
    objective: str = "fedavg"
    central: bool = False
    """One model is trained on everybody's images, by one client's number of steps a round."""


PRESET_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "objective": "objective",
        **{f"supplement.{key}": key for key in ("policy", "adapter", "selection", "site")},
    }
)
"""Which field of a preset each key is expanded from."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fedavg": Preset("none", "frozen"),
        "fedprox": Preset("none", "frozen", objective="fedprox"),
        "scaffold": Preset("none", "frozen", objective="scaffold"),
        "moon": Preset("none", "frozen", objective="moon"),
        "fedlc": Preset("none", "frozen", objective="fedlc"),
        "fedrs": Preset("none", "frozen", objective="fedrs"),
        "balanced-softmax": Preset("none", "frozen", objective="balanced-softmax"),
        "fedntd": Preset("none", "frozen", objective="fedntd"),
        "ccvr": Preset("none", "frozen", objective="ccvr"),
        "fedrep": Preset("none", "frozen", objective="fedrep"),
        "central": Preset("none", "frozen", central=True),
        "regl-free": Preset("balance", "frozen"),
        "regl": Preset("balance", "lora"),
        "regl-shared": Preset("balance", "shared"),
        "regl-ccvr": Preset("balance", "lora", objective="ccvr"),
        "regl-dpd": Preset("discrepancy", "lora"),
        "feddpd": Preset("discrepancy", "dpo", "server", "discrepancy"),
    }
)
