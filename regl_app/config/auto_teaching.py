"""What 'auto' makes of ``labels.by``, ``teaching.head`` and ``teaching.distill``.

Who generates decides who can know better than a prompt, so it follows the site. A table of its own,
as it is chosen by what was measured (docs/teaching-results.md), not by either paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from regl_app.config.choices import METHODS, POLICIES, STRATEGIES
from regl_app.config.section import Section

_ChoiceT = TypeVar("_ChoiceT")


@dataclass(frozen=True)
class Taught:
    """One choice of the three keys; without arguments the papers' own, hard labels."""

    labels: str = "hard"
    head: str = "average"
    distill: str = "none"


TAUGHT_KEYS: Mapping[str, str] = MappingProxyType(
    {"labels.by": "labels", "teaching.head": "head", "teaching.distill": "distill"}
)
"""Which field of ``Taught`` each key is expanded from."""

AT_SITE: Mapping[str, Taught] = MappingProxyType(
    {
        "client": Taught("global", "bounded"),
        "download": Taught("global", "bounded"),
        "server": Taught(distill="experts"),
    }
)


def auto_teaching(values: Mapping[str, Any]) -> Taught:
    """Return what a run is taught by, given the tables of all other keys.

    By nothing where ``labels.by='hard'`` asks for the papers' form, where nothing is generated or
    one model is trained, where no whole model reaches the server, and under a strategy that guards
    against hostile clients: who claims many images of a class would speak for it. What no table
    knows is reported by its own field.
    """
    supplement = partial(_get, values, "supplement")
    policy = _found(POLICIES, supplement("policy"))
    objective = _found(METHODS, values.get("objective"))
    strategy = _found(STRATEGIES, _get(values, "server", "strategy", "fedavg"))
    if (
        _get(values, "labels", "by") == "hard"
        or (policy is None or not policy.generates or supplement("cap") == 0)
        or (objective is None or not objective.shares_whole_model)
        or (strategy is None or strategy.robust)
        or values.get("method") == "central"
    ):
        return Taught()
    return _found(AT_SITE, supplement("site")) or Taught()


def _get(values: Mapping[str, Any], group: str, key: str, otherwise: Any = None) -> Any:
    table = values.get(group, {})
    if isinstance(table, Section):
        return getattr(table, key)
    return table.get(key, otherwise) if isinstance(table, dict) else otherwise


def _found(table: Mapping[str, _ChoiceT], name: Any) -> _ChoiceT | None:
    return table.get(name) if isinstance(name, str) else None
