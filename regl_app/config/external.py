"""Local learning rules of other packages: entry points of the group ``regl.methods``.

A package offers ``name = "module:Class"`` there, a ``Method`` that is made of a ``TrainConfig``.
Its code is in no bundle, and nodes would run it because a run names it: ``is_external`` is for who
has to refuse that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata

from regl_app.config.choices import METHODS, MethodChoice
from regl_app.core.errors import ConfigError

GROUP = "regl.methods"


@cache
def offered() -> Mapping[str, tuple[str, ...]]:
    """Return what is offered under each name: one dotted implementation, unless names collide.

    Read once per process, as it looks through all installed packages; none is imported.
    """
    found: dict[str, set[str]] = {}
    for entry in metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, set()).add(entry.value)
    return {name: tuple(sorted(values)) for name, values in sorted(found.items())}


def is_external(name: str) -> bool:
    """Return whether objective ``name`` is another package's."""
    return name not in METHODS and name in offered()


def method_choice(name: str) -> MethodChoice:
    """Return the choice that objective ``name`` names, built in or another package's.

    What another package's method needs is unknown before it is imported. It may keep a part of the
    model at the client, and have a loss that knows no class weights.

    Raises:
        ConfigError: nothing has that name, or several have.
    """
    if problem := collision(name):
        raise ConfigError(problem)
    if name in METHODS:
        return METHODS[name]
    if name not in offered():
        known = ", ".join(map(repr, (*METHODS, *offered())))
        raise ConfigError(f"objective must be one of {known}, got {name!r}")
    return MethodChoice(offered()[name][0], shares_whole_model=False, weighs_classes=False)


def keeps_parts(name: str) -> bool:
    """Return whether objective ``name`` is known to leave a part of the model at its clients.

    Of another package's nobody knows: then the global model's own accuracy is told as well.
    """
    return not is_external(name) and not method_choice(name).shares_whole_model


def collision(name: str) -> str | None:
    """Return what is wrong where several methods have ``name``, else None."""
    found = offered().get(name, ())
    if found and name in METHODS:
        return (
            f"objective={name!r} is built in, and an installed package offers {found[0]!r} under "
            f"that name in {GROUP!r} (rename its entry point, or uninstall it)"
        )
    if len(found) > 1:
        return (
            f"objective={name!r} is offered by several installed packages in {GROUP!r}: "
            f"{', '.join(found)} (uninstall all but one)"
        )
    return None
