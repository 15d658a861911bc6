"""What keys must be to one another: one rule a function, tried in the order of ``RULES``.

A rule returns what is wrong, with the remedy, or None. A rule that needs another to hold stands
after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from regl_app.config.choices import (
    ADAPTERS,
    LABELS,
    POLICIES,
    SAYS,
    SITES,
    SOURCES,
    STRATEGIES,
    STRATEGY_KEYS,
    TRACKERS,
)
from regl_app.config.data_checks import DATA_RULES
from regl_app.config.external import is_external, method_choice
from regl_app.config.name_list import parse_names
from regl_app.config.or_auto import AUTO, NOT_YET
from regl_app.config.run_keys import RunKeys
from regl_app.config.training_checks import TRAINING_RULES

Rule = Callable[[RunKeys], str | None]


def check(config: RunKeys) -> None:
    """Raise for the first rule that ``config`` breaks.

    Raises:
        ValueError: names keys, values and the remedy.
    """
    for rule in RULES:
        if problem := rule(config):
            raise ValueError(problem)


def device_is_known(config: RunKeys) -> str | None:
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        return None
    apple = " (nothing here was ever tried on an Apple GPU: 'auto' is the processor there)"
    return (
        f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {config.device!r}"
        f"{apple * config.device.startswith('mps')}"
    )


def trackers_are_known(config: RunKeys) -> str | None:
    try:
        names = parse_names(config.trackers)
    except ValueError as error:
        return f"trackers: {error}"
    if all(name in TRACKERS for name in names):
        return None
    known = ", ".join(repr(name) for name in TRACKERS)
    return f"trackers must be of {known}, separated by commas, or '', got {config.trackers!r}"


def steps_or_epochs(config: RunKeys) -> str | None:
    if (config.train.steps == 0) != (config.train.epochs == 0):
        return None
    return (
        "exactly one of train.steps and train.epochs must be > 0, got "
        f"train.steps={config.train.steps} and train.epochs={config.train.epochs} "
        "(set the other one to 0)"
    )


def nothing_is_adapted_or_selected_without_images(config: RunKeys) -> str | None:
    policy = config.supplement.policy
    if POLICIES[policy].generates:
        return None
    for key, unused in (("adapter", "frozen"), ("selection", "none")):
        if (value := getattr(config.supplement, key)) != unused:
            return (
                f"supplement.policy={policy!r} contradicts supplement.{key}={value!r}: "
                f"there are no synthetic images (set supplement.{key}={unused!r})"
            )
    return None


def pictures_of_one_client_tell_its_own_adapter(config: RunKeys) -> str | None:
    if config.lora.image_tokens == 0 or not config.shares_adapter:
        return None
    return (
        f"lora.image-tokens={config.lora.image_tokens} are made of one client's pictures, and "
        f"supplement.adapter={config.supplement.adapter!r} is tuned by all clients (set "
        "lora.image-tokens=0, or supplement.adapter='lora')"
    )


def an_ip_adapter_shows_what_its_encoder_reads(config: RunKeys) -> str | None:
    keys = config.generator
    if not keys.ip_adapter or not config.uses_generator or keys.named_image_encoder:
        return None
    return (
        f"generator.ip-adapter={keys.ip_adapter!r} is shown what the encoder that it was trained "
        f"with reads from pictures, got generator.image-encoder={keys.image_encoder!r} (set it to "
        "that encoder's folder or hub id)"
    )


def an_ip_adapter_shows_a_clients_own_pictures(config: RunKeys) -> str | None:
    path, keys = config.generator.ip_adapter, config.supplement
    if not path or not config.uses_generator:
        return None
    what = f"generator.ip-adapter={path!r} shows the generator a client's own pictures, and "
    if not config.generates_at_client:
        return f"{what}supplement.site={keys.site!r} has none (set supplement.site='client')"
    if keys.selects and ADAPTERS[keys.adapter].unchanged:
        return (
            f"{what}the pool that supplement.selection={keys.selection!r} picks from is the same "
            f"for all with supplement.adapter={keys.adapter!r} (set supplement.selection='none')"
        )
    return None


def pool_makes_pairs(config: RunKeys) -> str | None:
    adapter, size = config.supplement.adapter, config.pool.per_class
    if not ADAPTERS[adapter].uses_pool or size == NOT_YET or size >= 2:
        return None
    return f"pool.per-class={size} makes no pair for supplement.adapter={adapter!r} (use 2 or more)"


def pool_leaves_a_choice(config: RunKeys) -> str | None:
    size = config.pool.per_class
    if not config.supplement.selects or size == NOT_YET or size >= config.supplement.cap:
        return None
    return (
        f"pool.per-class={size} is too small to select up to "
        f"supplement.cap={config.supplement.cap} images per class from (raise it; twice the "
        "cap leaves a choice)"
    )


def central_takes_no_supplement(config: RunKeys) -> str | None:
    if not config.central or not POLICIES[config.supplement.policy].generates:
        return None
    return (
        f"method={config.method!r} trains one model on all real images and takes no supplement, "
        f"got supplement.policy={config.supplement.policy!r} (use 'auto')"
    )


def central_has_nobody_to_ask(config: RunKeys) -> str | None:
    if not config.central or not config.teaches:
        return None
    keys = config.teaching
    return (
        f"method={config.method!r} trains one model on everybody's images and has no clients to "
        f"ask, got teaching.head={keys.head!r} and teaching.distill={keys.distill!r} (use 'auto')"
    )


def server_gets_whole_models(config: RunKeys) -> str | None:
    objective = config.objective
    if not config.supplements_at_server or method_choice(objective).shares_whole_model:
        return None
    of_them = "parts of them may" if is_external(objective) else "their heads"
    return (
        f"supplement.site={config.supplement.site!r} judges uploaded models, and with "
        f"objective={objective!r} {of_them} stay at the clients (use supplement.site='client')"
    )


def server_knows_no_labels(config: RunKeys) -> str | None:
    policy = config.supplement.policy
    if not config.supplements_at_server or not POLICIES[policy].needs_labels:
        return None
    return (
        f"supplement.site={config.supplement.site!r} contradicts supplement.policy={policy!r}: the "
        "server does not know the clients' labels (use 'discrepancy' or 'equal')"
    )


def server_has_no_client_images(config: RunKeys) -> str | None:
    if not config.supplements_at_server or not config.adapts_to_client_images:
        return None
    return (
        f"supplement.site={config.supplement.site!r} contradicts an adapter tuned on the client's "
        "images, which the server does not have (use supplement.adapter='frozen', 'guidance', or "
        "'dpo' with dpo.start='frozen')"
    )


def uploaded_models_hide_nothing(config: RunKeys) -> str | None:
    if not config.supplements_at_server or not config.hides_discrepancy:
        return None
    return (
        f"supplement.site={config.supplement.site!r} reads the discrepancy off the uploaded "
        "models, so privacy.noise and privacy.vector hide nothing (use supplement.site='client')"
    )


def only_synthetic_images_get_soft_labels(config: RunKeys) -> str | None:
    labels, site = config.labels.by, config.supplement.site
    if not LABELS[labels].soft:
        return None
    if not config.uses_generator:
        return (
            f"labels.by={labels!r} labels synthetic images, and supplement.policy="
            f"{config.supplement.policy!r} makes none (set labels.by='hard')"
        )
    if not (SITES[site].at_client or SITES[site].sends_images):
        return (
            f"labels.by={labels!r} labels images at the clients, and supplement.site={site!r} "
            "sends them none (set labels.by='hard' and teaching.distill='experts')"
        )
    if LABELS[labels].needs_uploads and SITES[site].at_client:
        return (
            f"labels.by={labels!r} needs all clients' models, which supplement.site={site!r} does "
            "not have (use labels.by='global' with teaching.distill='experts', or "
            "supplement.site='download')"
        )
    return None


def experts_send_whole_models(config: RunKeys) -> str | None:
    objective = config.objective
    if not config.asks_experts or method_choice(objective).shares_whole_model:
        return None
    return (
        f"labels.by, teaching.head and teaching.distill='experts' ask clients' whole models, and "
        f"with objective={objective!r} parts of them stay at the clients (set labels.by='hard', "
        "teaching.head='average' and teaching.distill='none')"
    )


def all_of_the_first_model_is_used(config: RunKeys) -> str | None:
    objective, steps = config.objective, config.teaching.first_steps
    if steps == 0 or method_choice(objective).shares_whole_model:
        return None
    return (
        f"teaching.first-steps={steps} trains a whole model before round 1, of which clients with "
        f"objective={objective!r} get a part (set teaching.first-steps=0)"
    )


def clients_match_their_images(config: RunKeys) -> str | None:
    site = SITES[config.supplement.site]
    if not config.matches_images or site.at_client or site.sends_images:
        return None
    return (
        f"supplement.match={config.supplement.match!r} gives images the look of a client's own, "
        f"and with supplement.site={config.supplement.site!r} they stay where there are none (set "
        "supplement.match='none', or supplement.site to 'client' or 'download')"
    )


def experts_are_told_of(config: RunKeys) -> str | None:
    if not config.asks_experts or not SAYS[config.say].tells_counts or config.share_diagnostics:
        return None
    return (
        f"teaching.say={config.say!r} takes label counts for who holds a class, and "
        "share-diagnostics=false tells nobody (set teaching.say to 'auto', 'updates' or 'noisy')"
    )


def noisy_counts_are_not_sent_openly(config: RunKeys) -> str | None:
    if not config.tells_noisy_counts or not config.share_diagnostics:
        return None
    return (
        f"teaching.say={config.say!r} hides label counts that share-diagnostics=true sends openly "
        "(set share-diagnostics=false)"
    )


def guesses_have_their_vectors(config: RunKeys) -> str | None:
    if not config.asks_experts or not SAYS[config.say].needs_vector:
        return None
    for key, seen, fits in (
        ("supplement.policy", config.supplement.policy, config.measures_discrepancy),
        ("supplement.site", config.supplement.site, config.generates_at_client),
        ("privacy.vector", config.privacy.vector, not config.plans_at_client),
    ):
        if not fits:
            return (
                f"teaching.say={config.say!r} reads clients' discrepancy vectors, and {key}="
                f"{seen!r} sends none (set teaching.say='updates', or supplement.policy="
                "'discrepancy' at supplement.site='client' with privacy.vector='server')"
            )
    return None


def correction_is_of_plain_sgd(config: RunKeys) -> str | None:
    needs_sgd = method_choice(config.objective).needs_sgd
    if not needs_sgd or config.train.optimizer == "sgd":
        return None
    return (
        f"objective={config.objective!r} corrects the steps of plain SGD, got train.optimizer="
        f"{config.train.optimizer!r} (set train.optimizer='sgd')"
    )


def statistics_are_told_openly(config: RunKeys) -> str | None:
    if not method_choice(config.objective).tells_statistics or config.share_diagnostics:
        return None
    return (
        f"objective={config.objective!r} sends how many images of each class a client holds, which "
        "share-diagnostics=false keeps to it (set share-diagnostics=true, or another objective)"
    )


def statistics_are_of_trusted_clients(config: RunKeys) -> str | None:
    strategy = config.server.strategy
    if not method_choice(config.objective).tells_statistics or not STRATEGIES[strategy].robust:
        return None
    fit = ", ".join(repr(name) for name, each in STRATEGIES.items() if not each.robust)
    return (
        f"objective={config.objective!r} trains the head on all clients' statistics, which "
        f"server.strategy={strategy!r} does not guard (use one of {fit})"
    )


def strategy_reads_its_keys(config: RunKeys) -> str | None:
    strategy, values = config.server.strategy, config.server.model_dump(by_alias=True)
    for key in STRATEGY_KEYS:
        name = key.removeprefix("server.")
        if values[name] == AUTO or name in STRATEGIES[strategy].settings:
            continue
        fit = " or ".join(
            repr(other) for other, each in STRATEGIES.items() if name in each.settings
        )
        return (
            f"{key}={values[name]:g} changes nothing with server.strategy={strategy!r} (leave "
            f"it at 'auto', or set server.strategy={fit})"
        )
    return None


def noise_needs_a_sent_vector(config: RunKeys) -> str | None:
    if config.privacy.noise == 0 or config.privacy.vector != "client":
        return None
    return (
        f"privacy.noise={config.privacy.noise:g} contradicts privacy.vector='client': a "
        "vector that is not sent needs no noise (set one of them back)"
    )


def hidden_labels_are_not_sent_openly(config: RunKeys) -> str | None:
    if not config.hides_discrepancy or not config.share_diagnostics:
        return None
    return (
        f"privacy.noise={config.privacy.noise:g} and privacy.vector={config.privacy.vector!r} "
        "hide labels that share-diagnostics=true sends openly (set share-diagnostics=false)"
    )


def source_has_its_path(config: RunKeys) -> str | None:
    source = SOURCES[config.data.source]
    if source.path and not config.data.path:
        return f"data.source={config.data.source!r} needs data.path, {source.path}"
    if config.data.path and not source.files:
        return (
            f"data.path={config.data.path!r} means nothing to data.source={config.data.source!r}, "
            "which reads no files (for images of your own set data.source=folder)"
        )
    return None


def sites_agree_on_classes(config: RunKeys) -> str | None:
    if not config.data.local:
        return None
    try:
        names = config.data.class_names
    except ValueError as error:
        return f"data.classes must be names, comma-separated or a JSON list of texts: {error}"
    if len(names) >= 2 and len(set(names)) == len(names):
        return None
    return (
        f"data.source={config.data.source!r} needs data.classes, the names of at least two "
        f"different classes, got {config.data.classes!r} (for example 'cat,dog')"
    )


def classes_are_subfolders(config: RunKeys) -> str | None:
    if not config.data.local:
        return None
    for name in config.data.class_names:
        if not name or name[0] == "." or set(name) & set("/\\"):
            return f"data.classes must be names of subfolders, got {name!r} (no '/', no '.' first)"
    return None


def nobody_has_all_sites_images(config: RunKeys) -> str | None:
    if not config.data.local:
        return None
    for key, seen, fits in (
        ("method", config.method, not config.central),
        ("long-tail.factor", config.long_tail.factor, config.long_tail.factor == 1),
        ("partition.looks", config.partition.looks, not config.partition.looks),
        ("data.public-fraction", config.data.public_fraction, config.data.public_fraction == 0),
    ):
        if not fits:
            return (
                f"data.source={config.data.source!r} contradicts {key}={seen!r}: nobody has "
                "all sites' images (leave it at its default)"
            )
    return None


def prompt_names_the_class(config: RunKeys) -> str | None:
    if "{concept}" in config.generator.prompt:
        return None
    return (
        "generator.prompt must contain '{concept}', got "
        f"{config.generator.prompt!r} (try 'a photo of {{concept}}')"
    )


def replies_can_be_reached(config: RunKeys) -> str | None:
    server = config.server
    if server.min_replies <= server.min_nodes or server.min_nodes == 1:
        return None
    return (
        f"server.min-replies={server.min_replies} can never be reached when a round "
        f"may start with server.min-nodes={server.min_nodes}"
    )


def distance_is_known(config: RunKeys) -> str | None:
    file = config.supplement.distance_file
    if not file and config.supplement.distance:
        return None if config.supplement.distance == "none" else _distance_is_measured(config)
    if not file.endswith(".safetensors"):
        return (
            "supplement.distance must be 'none', 'classifier', 'torch-fidelity' or the path of a "
            f".safetensors file with torchvision's inception_v3 weights, got {file!r}"
        )
    return _distance_is_measured(config)


def _distance_is_measured(config: RunKeys) -> str | None:
    if config.supplement.measure:
        return None
    return (
        f"supplement.distance={config.supplement.distance!r} is measured with the other numbers, "
        "and supplement.measure=false (set it to true, or supplement.distance=none)"
    )


RULES: tuple[Rule, ...] = (
    device_is_known,
    trackers_are_known,
    steps_or_epochs,
    *TRAINING_RULES,
    nothing_is_adapted_or_selected_without_images,
    pictures_of_one_client_tell_its_own_adapter,
    an_ip_adapter_shows_what_its_encoder_reads,
    an_ip_adapter_shows_a_clients_own_pictures,
    pool_makes_pairs,
    pool_leaves_a_choice,
    central_takes_no_supplement,
    central_has_nobody_to_ask,
    server_gets_whole_models,
    server_knows_no_labels,
    server_has_no_client_images,
    uploaded_models_hide_nothing,
    only_synthetic_images_get_soft_labels,
    experts_send_whole_models,
    all_of_the_first_model_is_used,
    clients_match_their_images,
    experts_are_told_of,
    noisy_counts_are_not_sent_openly,
    guesses_have_their_vectors,
    correction_is_of_plain_sgd,
    statistics_are_told_openly,
    statistics_are_of_trusted_clients,
    strategy_reads_its_keys,
    noise_needs_a_sent_vector,
    hidden_labels_are_not_sent_openly,
    *DATA_RULES,
    source_has_its_path,
    sites_agree_on_classes,
    classes_are_subfolders,
    nobody_has_all_sites_images,
    prompt_names_the_class,
    replies_can_be_reached,
    distance_is_known,
)
