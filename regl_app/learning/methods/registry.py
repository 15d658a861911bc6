"""Local learning rules by name: adding a method adds its file and one line of config/choices.py."""

from __future__ import annotations

from regl_app.config import RunConfig
from regl_app.config.external import method_choice
from regl_app.config.sections import TrainConfig
from regl_app.core.dotted import resolve
from regl_app.core.errors import ConfigError
from regl_app.learning.methods.method import Method


def method_class(name: str) -> type[Method]:
    """Return the local learning rule ``name``, built in or of another package.

    Raises:
        ConfigError: there is none of that name, or what another package offers is no ``Method``.
    """
    dotted = method_choice(name).implementation
    try:
        found = resolve(dotted)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"objective={name!r} cannot be imported from {dotted!r}: {error} (repair or reinstall "
            "the package that offers it)"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ConfigError(
            f"objective={name!r}: {dotted!r} must be a subclass of "
            f"regl_app.learning.methods.Method, got {found!r}"
        )
    return found


def make_method(config: RunConfig, train: TrainConfig | None = None) -> Method:
    """Return the local learning rule that ``config.objective`` names.

    ``train`` is how it trains, where that is not as ``config`` says: a round has its own rate.
    """
    return method_class(config.objective)(train or config.train).for_run(config)


make_objective = make_method
"""The former name, as notebooks know it."""
