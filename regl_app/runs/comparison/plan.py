"""Which runs a comparison needs, and which finished one already is one of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from regl_app.config import RunConfig
from regl_app.config.choices import ADAPTERS
from regl_app.config.identity import decisive_keys
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar

_OF_PRIVACY = "privacy."
_OF_SUPPLEMENT = (
    *("supplement.", "generator.", "lora.", "probe.", "pool.", "dpo.", "steering.", _OF_PRIVACY),
    "server.tune-",
)


_OF_ADAPTER = ("lora.", "generator.guide")
_OF_SHARED = ("lora.rounds",)


Variants = Mapping[str, Mapping[str, Scalar]]
"""What is compared: settings, 'method' among them, by the name of their row."""

CLIENTS, GENERATOR = "clients", "the generator"
"""What ``decisive`` names beside keys: how many clients there are, and what makes the images."""

SET_HERE: Mapping[str, str] = MappingProxyType(
    {
        "seed": "every row runs with each of --seeds: name them there",
        "name": "it is made of row and seed: name a row by NAME:METHOD",
        "out-dir": "all runs lie in the folder --out: name it there",
        "resume": "finished runs are reused, others run anew: one run goes on by regl run --resume",
    }
)
"""The keys that the comparison sets, and how to have what they are for."""


def configurations(
    base: Mapping[str, Scalar], variants: Variants, seeds: Sequence[int], *, vary_data: bool
) -> Iterator[RunConfig]:
    """Yield one configuration per seed and variant; seeds outermost, so early tables are fair.

    ``vary_data`` lets ``data.seed`` follow the seed: the interval then covers the split as well.

    Raises:
        ConfigError: nothing to run, something twice, a configuration is invalid, or sets what the
            comparison does.
    """
    if not variants:
        raise ConfigError("comparison needs at least one method, got none")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"comparison needs each seed once, got {list(seeds)}")
    _refuse_set_here("", base, vary_data)
    for name, settings in variants.items():
        _refuse_set_here(f"row {name!r}: ", settings, vary_data)
    for seed in seeds:
        for name, settings in variants.items():
            folder = re.sub(r"[^\w.+=@-]", "_", name)
            own: dict[str, Scalar] = {"seed": seed, "name": f"{folder}-s{seed}"}
            if vary_data:
                own["data.seed"] = seed
            yield RunConfig.from_flat({**base, **settings, **own})


def _refuse_set_here(where: str, settings: Mapping[str, Scalar], vary_data: bool) -> None:
    remedies = dict(SET_HERE)
    if vary_data:
        remedies["data.seed"] = "with --vary-data it follows the seed: leave one of the two out"
    for key, remedy in remedies.items():
        if key in settings:
            raise ConfigError(f"{where}{key}={settings[key]} is set by the comparison ({remedy})")


def decisive(config: RunConfig, clients: int, generator: str) -> dict[str, object]:
    """Return all that can change a result but code and data, by key.

    A run without supplement touches no generator and one with the frozen generator no adapter: its
    result stays valid whatever those are.

    Args:
        config: the run.
        clients: K.
        generator: the ``identity_of`` what it makes images with.
    """
    unused: tuple[str, ...] = () if config.needs_generator else _OF_SUPPLEMENT
    if config.tells_noisy_counts:
        unused = tuple(key for key in unused if key != _OF_PRIVACY)
    adapter = ADAPTERS[config.supplement.adapter]
    if adapter.unchanged:
        unused += _OF_ADAPTER
    if not adapter.for_all:
        unused += _OF_SHARED
    decisive = decisive_keys(config)
    relevant = {
        key: value
        for key, value in config.to_flat().items()
        if key in decisive and not key.startswith(unused)
    }
    used = generator if config.needs_generator else ""
    return {**relevant, CLIENTS: clients, GENERATOR: used}


def digest(config: RunConfig, clients: int, generator: str) -> str:
    """Return what identifies a result but for code and data: a hash of what ``decisive`` says."""
    text = json.dumps(decisive(config, clients, generator), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
