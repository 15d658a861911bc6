"""Step 0 and step 4 of a client's round: what it finds of earlier rounds, and keeps for later."""

from __future__ import annotations

import logging

from regl_app.core.log import logger
from regl_app.core.types import Floats, Tensors, Weights
from regl_app.learning.methods.method import Method, personal
from regl_app.rounds.client import Client
from regl_app.rounds.client_state import ClientState, Memory
from regl_app.rounds.client_supplement import ClientSupplement
from regl_app.rounds.exchange import RoundTask


def recall(client: Client, task: RoundTask, method: Method) -> Memory:
    """Return what the last round before this one left; empty where nothing is to be kept."""
    if not _remembers(client, method):
        return Memory()
    memory = ClientState.of(client, task.run).before(task.round, client.template)
    if task.round > 1 and memory.round == 0:
        # Where a fraction takes part, this may well be a client's first round.
        lost = client.config.server.fraction >= 1
        logger.log(
            logging.WARNING if lost else logging.INFO,
            "%s: nothing of an earlier round is kept here, so round %d goes as a first one",
            client.label,
            task.round,
        )
    return memory


def remember(
    client: Client,
    task: RoundTask,
    method: Method,
    local: Weights,
    kept: Tensors,
    supplement: ClientSupplement,
    discrepancy: Floats | None,
) -> None:
    """Keep what the next round needs: the local model to compare, the plan if it is the client's
    own, and what the method keeps."""
    if not _remembers(client, method):
        return
    state, last = ClientState.of(client, task.run), task.round == client.config.rounds
    if not last or personal(method, list(local)):
        compared, planned = client.config.compares_models, client.config.plans_at_client
        state.save(
            Memory(
                task.round,
                local if compared else {},
                supplement.adapter_state.preferred,
                supplement.adapter_state.tuned,
                supplement.quotas if planned else None,
                discrepancy if planned else None,
                kept,
            )
        )
    if last:
        state.finish()


def own_part(client: Client, run: str, round_number: int, method: Method) -> Tensors:
    """Return what this client keeps of its model, as its last round up to this one left it.

    Empty where models are shared whole, or the client has not trained yet.
    """
    if not personal(method, list(client.template)):
        return {}
    return ClientState.of(client, run).before(round_number + 1, client.template).kept


def _remembers(client: Client, method: Method) -> bool:
    return client.config.compares_models or client.config.plans_at_client or method.keeps
