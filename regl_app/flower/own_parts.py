"""What a client of a run keeps of its model, where this machine has it."""

from __future__ import annotations

import json

from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.core.errors import RunError
from regl_app.core.types import Tensors
from regl_app.flower.messages.handshake import config_digest
from regl_app.learning.methods.method import personal
from regl_app.learning.methods.registry import make_method
from regl_app.rounds.client_state import ClientState
from regl_app.runs.folder import RunFolder

_MEMORY = "texts"
"""Name of what the server remembers of a run in words, in its checkpoints."""


def own_part(run: RunFolder, client: int) -> Tensors:
    """Return the tensors that ``client`` kept in the last round of ``run``.

    They never leave a client, so they are found in the cache of the machine that it ran on.

    Raises:
        RunError: the run's models are shared whole, or nothing is kept here.
    """
    config, weights = run.read_config(), run.load_model()
    names = personal(make_method(config), list(weights))
    if not names:
        raise RunError(
            f"{run.path}: objective={config.objective!r} shares whole models, and a client's own "
            "is not kept: leave --client out for the global model"
        )
    checkpoint = run.read_checkpoint()
    if checkpoint is None or _MEMORY not in checkpoint.state:
        raise RunError(f"{run.path}: has no checkpoint, which says where clients keep their part")
    memory = json.loads(bytes(checkpoint.state[_MEMORY].tolist()))
    local = with_absolute_paths(config)
    identity = (memory["code"], config_digest(config))
    state = ClientState.at(cache_dir(local), memory["run"], identity, client)
    kept = state.before(checkpoint.round + 1, {}).kept
    if missing := sorted(names - set(kept)):
        raise RunError(
            f"{run.path}: this machine has nothing that client {client} kept ({missing[0]}, ...): "
            "such a part stays where the client ran, for a day after the run "
            f"(looked in {state.folder})"
        )
    return {name: kept[name] for name in names}
