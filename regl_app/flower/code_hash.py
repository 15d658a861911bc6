"""One number for the code that runs: server and clients must have the same.

Flower can load another app's ``client_app`` (see ``regl_app.config.paths``) and a site can have an
old version installed; either would spoil a run without any error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

from regl_app.config.external import is_external
from regl_app.config.model_name import is_own_module
from regl_app.config.named_code import named_code
from regl_app.core.app_code import own_code_hash
from regl_app.core.errors import ConfigError
from regl_app.core.log import is_deployed

if TYPE_CHECKING:  # a message's process needs the digest alone
    from regl_app.config import RunConfig


def run_code_hash(config: RunConfig) -> str:
    """Return the digest of all code that a run depends on: the app's, and of what it names.

    The packages of ``model.name='package.module:Class'`` and of another package's ``objective`` are
    in no bundle, so that two nodes, or a run and its resumption, could have two versions of them.
    """
    return named_code_hash(config.model.name, config.objective)


def named_code_hash(model: str, objective: str = "") -> str:
    """Return ``run_code_hash`` of a run whose ``model.name`` and ``objective`` are these; any other
    text: as for what is ours.

    Raises:
        ConfigError: a module that is named is in no file.
    """
    named = named_code(model, objective)
    if not named:
        return own_code_hash()
    return hashlib.sha256(f"{own_code_hash()} {named}".encode()).hexdigest()[:16]


def refuse_uncovered(config: RunConfig, models: Collection[str] | None = None) -> None:
    """Refuse in a deployment what runs code that no hash covers, or that no operator allowed.

    In a simulation whoever starts the run has installed another package's method himself.

    Args:
        config: the run's.
        models: the dotted names of modules that a node's operator allows; None: no node asks.

    Raises:
        ConfigError: ``objective`` is another package's, or ``model.name`` is code of this node that
            is not in ``models``, and this process serves a deployment.
    """
    name = config.model.name
    if models is not None and is_deployed() and is_own_module(name) and name not in models:
        raise ConfigError(
            f"model.name={name!r} names code of this node, which it runs only if its operator "
            f"allows that: flower-supernode --node-config 'models=\"{name}\"' (allowed: "
            f"{', '.join(map(repr, models)) or 'nothing'})"
        )
    if is_deployed() and is_external(config.objective):
        raise ConfigError(
            f"objective={config.objective!r} is another package's: a deployment takes built-in "
            "methods only (add its file to regl_app/learning/methods, or run it in a simulation)"
        )
