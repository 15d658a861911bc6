"""One client's round in the order of the paper: supplement, train, probe, keep, disclose."""

from __future__ import annotations

import torch

from regl_app.config.choices import LABELS
from regl_app.config.learning_rates import at_round
from regl_app.core.activity import Span, note, phase
from regl_app.core.finite import not_finite
from regl_app.core.types import Fact, Floats, Tensors, Weights
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.confusion import confusion_counts
from regl_app.learning.evaluation.metrics import evaluate, predict_log_probs, score
from regl_app.learning.methods.checks import check_kept, check_sent
from regl_app.learning.methods.method import personal
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import train_local
from regl_app.learning.training.soft_labels import opinion_share, soft_labels
from regl_app.rounds.client import Client
from regl_app.rounds.client_memory import own_part, recall, remember
from regl_app.rounds.client_quality import client_quality
from regl_app.rounds.client_supplement import (
    ClientSupplement,
    OnFirst,
    make_client_supplement,
)
from regl_app.rounds.disclosure import (
    cost_of_noisy_counts,
    shared_counts,
    shared_depth,
    shared_discrepancy,
    shared_facts,
    shared_noisy_counts,
    shared_quality,
    shared_quotas,
    shares_confusion,
)
from regl_app.rounds.exchange import (
    EvaluationResult,
    RoundResult,
    RoundTask,
    Validation,
    diverged,
)
from regl_app.rounds.method_state import most_sent
from regl_app.supplement.discrepancy import class_discrepancy
from regl_app.supplement.image_distance import DISTANCES
from regl_app.supplement.image_quality import ImageQuality


def train_round(
    client: Client,
    task: RoundTask,
    weights: Weights,
    *,
    images: ImageSet | None = None,
    on_first: OnFirst | None = None,
) -> RoundResult:
    """Supplement the client's data, train on it, measure what is still lacking.

    Args:
        client: whose round it is; without training images it only says so.
        task: the server's plan for it.
        weights: the global model G_{t-1}.
        images: the supplement, where it is not to be made here as planned.
        on_first: called in round 1 with the supplement and the probe set, to show samples.

    Raises:
        DivergedError: a model's weights are finite, and its answers on synthetic images are not.
        ReglError: generator, payload or what was kept cannot be used.
    """
    config, real = client.config, client.data.train
    if len(real) == 0:
        return _nothing_to_train_on(client, task)

    train = at_round(config.train, task.round, config.rounds)
    method = make_method(config, train)
    memory = recall(client, task, method)

    # 1. Supplement: the planned synthetic images of the classes this client lacks.
    phase("supplement")
    if images is None:
        supplement = make_client_supplement(client, task, weights, memory, on_first=on_first)
    else:
        supplement = ClientSupplement(images, images.counts(client.num_classes))
    note(real_images=len(real), synthetic_images=len(supplement.images))

    local = client.model(weights, memory.kept)
    started = Span()
    quality = client_quality(client, task.round, supplement.images, local)
    measuring = {} if quality is None else {"measure": started.seconds}

    # 2. Train the local model L_t from the global model G_{t-1} on real and synthetic images.
    phase("train")
    trained = train_local(
        local,
        ImageSet.concat([real, supplement.images]),
        train,
        method=method,
        seed=client.seed("train", task.round),
        device=client.device,
        real_images=len(real),
        targets=_soft_labels(client, task, supplement, weights, memory.kept),
        kept=memory.kept,
        received=task.received,
    )

    check_sent(trained.sent, most_sent(config, method, local), config.objective)

    # 3. Probe: where is the global model surer than the local one?
    phase("probe")
    started = Span()
    global_model = client.model(weights, memory.kept)
    # A model that is no numbers has no answers to compare: ``diverged`` says so to the server.
    sound = not_finite(local.state_dict()) is None
    discrepancy = _discrepancy(client, supplement, global_model, local) if sound else None
    own_test = evaluate(local, client.data.test, client.num_classes, client.device)

    # 4. Tell what may be told, and keep what the next round needs.
    state = local.state_dict()
    shared = method.shared(list(state))
    result = RoundResult(
        partition_id=client.partition_id,
        round=task.round,
        num_examples=len(real) + (len(supplement.images) if config.server.weights == "all" else 0),
        real_images=len(real),
        loss=trained.loss,
        # Not on the card: those of many clients would fill it.
        weights={name: state[name].cpu() for name in shared},
        discrepancy=shared_discrepancy(client, task, discrepancy),
        held=shared_quotas(config, supplement.quotas),
        real_counts=shared_counts(config, client.real_counts),
        synthetic_counts=shared_counts(config, supplement.images.counts(client.num_classes)),
        noisy_counts=shared_noisy_counts(client),
        quality=shared_quality(config, quality),
        adapter=supplement.adapter,
        seconds={
            **supplement.seconds,
            **measuring,
            "train": trained.seconds,
            "probe": started.seconds,
        },
        facts={
            **shared_facts(config, {**supplement.facts, **_facts(quality)}),
            **cost_of_noisy_counts(config),
            "loss": trained.loss,
            **({"local_accuracy": own_test.accuracy} if own_test.images else {}),
            **({"unreadable": client.data.unreadable} if client.data.unreadable else {}),
            **shared_depth(client),
        },
        sent=trained.sent,
    )
    if not diverged(result):  # nobody goes on from what the server refuses
        own = {name: state[name] for name in personal(method, list(state))}
        check_kept(method, trained.kept, own, config.objective)
        remember(client, task, method, state, trained.kept, supplement, discrepancy)
    return result


def evaluate_round(
    client: Client, round_number: int, weights: Weights, *, run: str = ""
) -> EvaluationResult:
    """Measure the global model on the client's own test set: personalization; and on its
    validation images, where a run chooses by these.

    What of the model stays at clients is the client's own; ``run`` is the server's name for the
    run that kept it.
    """
    test, confusion, held_out = client.data.test, None, client.data.validation
    if len(test) == 0 and not held_out:
        return EvaluationResult(client.partition_id, round_number, 0)
    kept = own_part(client, run, round_number, make_method(client.config))
    model = client.model(weights, kept)
    validation = _validation(client, model, held_out) if held_out else None
    if len(test) == 0:
        return EvaluationResult(client.partition_id, round_number, 0, validation=validation)
    log_probs = predict_log_probs(model, test.pixels, client.device)
    found = score(log_probs, test.labels, client.num_classes)
    if shares_confusion(client.config):
        predicted = log_probs.argmax(dim=1).numpy()
        confusion = confusion_counts(test.labels.numpy(), predicted, client.num_classes)
    return EvaluationResult(
        client.partition_id,
        round_number,
        found.images,
        found.accuracy,
        found.macro_f1,
        found.loss,
        confusion,
        validation,
    )


def _validation(client: Client, model: Classifier, images: ImageSet) -> Validation:
    found = evaluate(model, images, client.num_classes, client.device)
    return Validation(found.images, found.accuracy, found.loss)


def _soft_labels(
    client: Client, task: RoundTask, supplement: ClientSupplement, weights: Weights, kept: Tensors
) -> torch.Tensor | None:
    """Return labels ``(M, C)`` of the synthetic images; None where they are hard.

    By the global model G_{t-1}, or by the class experts, if the server sent what they say.
    """
    keys, images = client.config.labels, supplement.images
    share = opinion_share(keys, task.round)
    if not LABELS[keys.by].soft or share == 0 or len(images) == 0:
        return None
    found = supplement.opinion
    if not LABELS[keys.by].needs_uploads:
        found = predict_log_probs(client.model(weights, kept), images.images, client.device).exp()
    return None if found is None else soft_labels(images.labels, found, share)


def _discrepancy(
    client: Client, supplement: ClientSupplement, global_model: Classifier, local: Classifier
) -> Floats | None:
    """Return d_k, ``(C,)``: FedDPD's comparison of both models on the shared probe set."""
    if supplement.probe is None:
        return None
    return class_discrepancy(
        predict_log_probs(global_model, supplement.probe.images, client.device).numpy(),
        predict_log_probs(local, supplement.probe.images, client.device).numpy(),
        supplement.probe.labels.numpy(),
        client.num_classes,
    )


def _facts(quality: ImageQuality | None) -> dict[str, Fact]:
    """Return what is told of all synthetic images together, in a thousandth; distances finer."""
    found = {} if quality is None else quality.overall()
    return {
        f"images_{name}": round(value, 6 if name in DISTANCES else 3)
        for name, value in found.items()
    }


def _nothing_to_train_on(client: Client, task: RoundTask) -> RoundResult:
    counts = shared_counts(client.config, client.real_counts)
    return RoundResult(
        partition_id=client.partition_id,
        round=task.round,
        num_examples=0,
        real_images=0,
        loss=0.0,
        weights=None,
        real_counts=counts,
        synthetic_counts=counts,
        # It needs no adapter, so none has to be sent again.
        adapter="" if task.adapter is None else task.adapter.digest,
    )
