"""Rules of ``checks`` about the classifier and how it is trained and chosen."""

from __future__ import annotations

from collections.abc import Callable

from regl_app.config.choices import MODELS
from regl_app.config.external import is_external, method_choice
from regl_app.config.learning_rates import LEAST, faint_from, learning_rate
from regl_app.config.model_name import library_of
from regl_app.config.run_keys import RunKeys


def warming_up_ends(config: RunKeys) -> str | None:
    warm = config.train.warmup_rounds
    if warm < config.rounds:
        return None
    return (
        f"train.warmup-rounds={warm} leaves none of rounds={config.rounds} at train.lr (use "
        f"{config.rounds - 1} at most)"
    )


def rates_train_something(config: RunKeys) -> str | None:
    rates: dict[str, float | str] = {
        "train.lr": config.train.lr,
        "server.eta": config.server.eta,
        "server.tune-lr": config.server.tune_lr,
        "lora.lr": config.lora.lr,
        "dpo.lr": config.dpo.lr,
        "teaching.lr": config.teaching.lr,
    }
    for key, rate in rates.items():
        if isinstance(rate, float) and rate < LEAST:
            return f"{key}={rate:g} changes no weight in float32 (take {LEAST:.2g} or more)"
    train = config.train
    if learning_rate(train, config.rounds, config.rounds) >= LEAST:
        return None
    faint = faint_from(train, config.rounds)
    since = f", and to 1e-8 of train.lr in round {faint}" if faint else ""
    return (
        f"train.schedule={train.schedule!r} with train.decay={train.decay:g} each "
        f"train.decay-every={train.decay_every} rounds comes to a learning rate of 0 within rounds="
        f"{config.rounds}{since}: nothing would be trained any more (raise train.decay or "
        "train.decay-every, or take train.schedule='cosine', which spreads over all rounds)"
    )


def label_counts_are_corrected_once(config: RunKeys) -> str | None:
    weights, choice = config.train.class_weights, method_choice(config.objective)
    if weights == "none":
        return None
    if choice.corrects_label_counts:
        return (
            f"train.class-weights={weights!r} and objective={config.objective!r} both make up for "
            "how many images of a class a client has, together twice (set one of them back: "
            "train.class-weights='none', or objective='fedavg')"
        )
    if not choice.weighs_classes:
        return (
            f"train.class-weights={weights!r} is for the losses of built-in objectives, and "
            f"objective={config.objective!r} is another package's (set train.class-weights='none')"
        )
    return None


def choosing_has_its_images(config: RunKeys) -> str | None:
    keys = config.validation
    if keys.used or (keys.patience == 0 and keys.keep == "last"):
        return None
    return (
        f"validation.patience={keys.patience} and validation.keep={keys.keep!r} choose by images "
        "that validation.fraction=0 does not hold out (try 0.1)"
    )


def best_model_is_whole(config: RunKeys) -> str | None:
    objective = config.objective
    if config.validation.keep == "last" or method_choice(objective).shares_whole_model:
        return None
    own = "may keep" if is_external(objective) else "keep"
    return (
        f"validation.keep='best' is a round's global model, and with objective={objective!r} "
        f"clients {own} their parts of the last round's (set validation.keep='last')"
    )


def others_models_have_their_own_keys(config: RunKeys) -> str | None:
    model = config.model
    if model.name not in MODELS:
        return None
    for key, seen, default in (("norm", model.norm, "auto"), ("input-size", model.input_size, 0)):
        if seen != default:
            return (
                f"model.{key}={seen!r} is for models of others, and model.name={model.name!r} has "
                f"GroupNorm and takes images as they are (set model.{key}={default!r})"
            )
    return None


def frozen_statistics_come_from_somewhere(config: RunKeys) -> str | None:
    model = config.model
    if model.norm != "frozen" or model.weights or not library_of(model.name):
        return None
    return (
        f"model.norm='frozen' keeps the statistics of pretrained weights, and model.name="
        f"{model.name!r} has none without model.weights (give them, or set model.norm='group')"
    )


def weights_of_the_hub_are_timms(config: RunKeys) -> str | None:
    model = config.model
    if model.weights != "hub" or library_of(model.name) == "timm":
        return None
    return (
        f"model.weights='hub' is where timm has a model's own, and model.name={model.name!r} is "
        "not timm's (give a .safetensors file or 'owner/name': docs/models.md)"
    )


TRAINING_RULES: tuple[Callable[[RunKeys], str | None], ...] = (
    warming_up_ends,
    rates_train_something,
    label_counts_are_corrected_once,
    choosing_has_its_images,
    best_model_is_whole,
    others_models_have_their_own_keys,
    frozen_statistics_come_from_somewhere,
    weights_of_the_hub_are_timms,
)
