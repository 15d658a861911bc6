"""One run in words and numbers: headline, findings, tiles, settings, tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from regl_app.config import RunConfig, default_flat
from regl_app.config.or_auto import AUTO
from regl_app.config.parsing import parse_settings
from regl_app.config.run_config import BUNDLED_FIT
from regl_app.core.errors import ConfigError
from regl_app.core.formats import NONE, duration, percent, size
from regl_app.core.types import Scalar
from regl_app.data.concepts import prompts_line
from regl_app.generator.fitting import open_keys
from regl_app.generator.negative_prompt import unheard
from regl_app.runs.depths import depth_words, depths_of
from regl_app.runs.folder import UNHEARD
from regl_app.runs.kept import kept_words
from regl_app.runs.records import RoundRecord
from regl_app.runs.report.choice import early_words, kept_note, warm_up
from regl_app.runs.report.run_data import RunData
from regl_app.runs.statistics import TARGET_ACCURACY, largest_supplement, supplement_size
from regl_app.supplement.privacy import PER_IMAGE, budget_words, epsilon, histogram_epsilon


@dataclass(frozen=True)
class Tile:
    """One number of the result."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


def how_it_ended(run: RunData) -> str:
    """Return 'failed' or 'was stopped', '' of a run that finished or goes on."""
    words = {"failed": "failed", "stopped": "was stopped", "finished": ""}
    return words[run.result.status] if run.result else ""


def how_far(run: RunData) -> str:
    """Return how a run ended, or that it goes on, and after which of its rounds."""
    ended = f"{how} in " if (how := how_it_ended(run)) else ""
    return f"{ended}round {run.summary.rounds} of {run.config.rounds}"


def outcome(run: RunData) -> str:
    """Return a run's result in a few words."""
    if not run.finished:
        return how_it_ended(run) or how_far(run)
    if run.whole:
        return f"{percent(run.summary.accuracy)} accuracy"
    return f"{percent(run.summary.personalized)} at its clients"


def headline(run: RunData) -> Markup:
    """Return the result in one line."""
    config = run.config
    if run.kept is None:
        ended = how_it_ended(run)
        end = Markup("<em>{}</em>").format(ended) if ended else "has no finished round yet"
        return Markup("{} on {} {}").format(config.method, _data(config), end)
    reached, where = run.summary.accuracy, ""
    if not run.whole:
        if run.summary.personalized is None:
            words = Markup("{} on {}, <em>not measured</em> at its clients yet")
            return words.format(config.method, _data(config))
        reached, where = run.summary.personalized, " at its clients"
    return Markup("{} reaches <em>{}</em>{} on {}").format(
        config.method, percent(reached), where, _data(config)
    )


def _data(config: RunConfig) -> str:
    return "its sites' data" if config.data.local else config.data.source


def lede(run: RunData) -> Markup:
    """Return the finding in a few sentences."""
    text = [
        Markup("{} clients, {}, {} of {} rounds.").format(
            run.num_clients or "No", _scheme(run.config), run.summary.rounds, run.config.rounds
        )
    ]
    if run.unreadable:
        text.append(
            Markup("<b>{} pictures</b> could not be read and were left out.").format(run.unreadable)
        )
    client = run.showcase_client
    row = run.real[client] if client is not None else None
    if row and not run.config.central:
        held = sum(value > 0 for value in row)
        made = run.synthetic[client] if client is not None and client < len(run.synthetic) else None
        more = Markup(" and is given up to <b>{:.0f} synthetic images</b> a round").format(
            sum(made or [])
        )
        text.append(
            Markup("The most skewed client holds <b>{} of {} classes</b>{}.").format(
                held, len(row), more if made and sum(made) else ""
            )
        )
    if run.model_round is not None:
        text.append(Markup("Its model is that of {}.").format(kept_words(run.result)))
    if early := early_words(run):
        text.append(Markup("{}").format(early.strip()))
    kept = run.kept.metrics.per_class if run.kept and run.whole else []
    known = [(value, c) for c, value in enumerate(kept) if value is not None]
    if known:
        worst, label = min(known)
        text.append(
            Markup("The global model's weakest class is <b>{}</b>, with {} recognized.").format(
                run.class_names[label], percent(worst, 0)
            )
        )
    return Markup(" ").join(text)


def _schedule(run: RunData) -> str:
    schedule = run.config.train.schedule
    said = ("" if schedule == "constant" else schedule, warm_up(run))
    return "".join(f", {each}" for each in said if each)


def _supplement(config: RunConfig) -> str:
    keys = config.supplement
    if not config.uses_generator:
        return "none"
    place = {"client": "", "download": ", downloaded", "server": ", at the server"}[keys.site]
    return f"{keys.policy}, {keys.adapter}{place}"


def _scheme(config: RunConfig) -> str:
    if config.data.local:
        return "each with data of its own"
    return config.partition.words


def tiles(run: RunData) -> list[Tile]:
    """Return the six numbers of the result, first the one that the run is judged by."""
    result, target = run.summary, f"{TARGET_ACCURACY:.0%}".replace("%", " %")
    made, real = result.synthetic_images, _beside(run)
    traffic = result.bytes_down + result.bytes_up
    reached = result.rounds_to_target
    everywhere, clients = _everywhere(run), _at_clients(run)
    return [
        everywhere if run.whole else clients,
        Tile(
            "Macro-F1, all classes the same weight",
            *_split(percent(result.macro_f1)),
        ),
        clients if run.whole else everywhere,
        Tile(
            f"Rounds to {target} accuracy",
            NONE if reached is None else str(reached),
            note=(f"of {result.rounds}" + ", never reached" * (not reached)) * run.whole,
        ),
        Tile(
            "Synthetic images, largest round",
            str(made or 0),
            note=f"beside {real:.0f} real ones" if real else "",
        ),
        Tile(
            "Time, start to end",
            *_split(duration(result.seconds)),
            note=f"{size(traffic)} sent" if traffic else "",
        ),
    ]


def _everywhere(run: RunData) -> Tile:
    """Return the global model's accuracy, unknown where it is no whole one."""
    if not run.whole:
        return Tile("Global accuracy", NONE, note="a part of the model stays at the clients")
    result = run.summary
    note = kept_note(run)
    if result.tail_accuracy is not None:
        note = f"{percent(result.tail_accuracy)} on the long tail"
    elif not note and result.best_accuracy is not None:
        note = f"best {percent(result.best_accuracy)}"
    kept = run.model_round
    label = "Final global accuracy" if kept is None else f"Global accuracy, round {kept}, kept"
    return Tile(label, *_split(percent(result.accuracy)), note=note)


def _at_clients(run: RunData) -> Tile:
    worst = run.summary.personalized_worst
    return Tile(
        "Personalized accuracy, mean of clients",
        *_split(percent(run.summary.personalized)),
        note=f"worst client {percent(worst)}" if worst is not None else "not measured",
    )


def _beside(run: RunData) -> float:
    """Return the real images of the clients that the largest supplement is of, as far as known."""
    largest = largest_supplement(run.history)
    made = (largest.synthetic_counts if largest else None) or [[]] * len(run.real)
    return sum(
        sum(row) for row, own in zip(run.real, made, strict=False) if row and own is not None
    )


def _split(text: str) -> tuple[str, str]:
    """Split the last unit off a number, to be set smaller."""
    parts = text.split(" ")
    return (parts[0], parts[1]) if len(parts) == 2 else (text, "")


def key_settings(run: RunData) -> list[tuple[str, str]]:
    """Return the settings that explain a result, in words."""
    config = _fitted(run)
    train, lora, generator = config.train, config.lora, config.generator
    amount = f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"
    settings = [
        ("Method", config.method),
        ("Supplement", _supplement(config)),
        ("Objective", config.objective),
        *([("Teaching", config.teaching_words)] if config.teaching_words else []),
        ("Data", f"{config.data.source}, {config.data.image_size} px"),
        ("Clients", str(run.num_clients or NONE)),
        ("Partition", _scheme(config)),
        ("Model", config.model.name),
        ("Local training", f"{amount} of {train.batch_size}"),
        ("Optimizer", f"{train.optimizer}, lr {train.lr:g}{_schedule(run)}"),
        ("Server", f"{config.server.strategy}, {config.rounds} rounds"),
        ("Seed", f"{config.seed} (data {config.data.seed})"),
    ]
    if deep := depth_words(depths_of(run.facts, run.history)):
        settings.append(("Deep greyscale", deep))
    if config.long_tail.factor > 1:
        settings.append(("Global long tail", f"factor {config.long_tail.factor:g}"))
    if config.privacy.noise > 0:
        settings.append(("Discrepancy vectors", budget_words(config, epsilon(config))))
    elif config.plans_at_client:
        settings.append(("Discrepancy vectors", "stay at the clients"))
    if config.tells_noisy_counts:
        words = budget_words(config, histogram_epsilon(config), PER_IMAGE)
        settings.append(("Label counts", words))
    if config.needs_generator:
        where = "bundled" if generator.path == "bundled" else generator.path.rsplit("/", 1)[-1]
        guided = _guidance(config.to_flat())
        settings.append(("Generator", f"{where}, {generator.steps} steps, {guided}"))
        if precision := run.environment.get("generator-precision"):
            settings.append(("Precision", precision))
        if run.facts is not None and run.facts.prompts:
            away = "" if _unheard(run, config) else generator.negative_prompt
            texts = prompts_line(run.facts.prompts, away, most=3)
            settings.append(("Prompts", texts))
        if config.matches_images:
            settings.append(("Matched", "to the mean spectrum of each client's own images"))
        if config.supplement.adapter == "lora":
            settings.append(("Adapter", f"rank {lora.rank}, {lora.steps} steps"))
        if config.shares_adapter:
            amount = f"rank {lora.rank}, {lora.steps} steps, averaged over clients"
            often = f" in {lora.rounds} rounds" if lora.rounds > 1 else ""
            settings.append(("Adapter", amount + often))
        if config.supplement.adapter == "dpo":
            dpo = config.dpo
            settings.append(
                (
                    "Preferences",
                    f"{dpo.steps} steps on {dpo.start}, {dpo.rounds} rounds, β {_shown(dpo.beta)}",
                )
            )
        if config.supplement.adapter == "guidance":
            settings.append(("Discrepancy guidance", f"{config.steering.strength:g}"))
        if config.supplement.selects:
            settings.append(("Selection", f"from {config.pool.per_class} per class"))
    return settings


def prompts(run: RunData) -> list[tuple[str, str]]:
    """Return every class with its prompts; nothing where nothing is generated."""
    facts = run.facts
    if facts is None:
        return []
    return [(run.class_names[label], " | ".join(each)) for label, each in enumerate(facts.prompts)]


def _unheard(run: RunData, config: RunConfig) -> bool:
    """Return whether the negative prompt is known to have had no effect."""
    if UNHEARD in run.environment:
        return True
    # What nobody here knows is taken to be heard, as by default.
    known = config.updated({key: BUNDLED_FIT[key] for key in open_keys(config)})
    return bool(unheard(known.generator, embeds_guidance=False))


def _fitted(run: RunData) -> RunConfig:
    """Return the run's configuration with what 'auto' became, where the server could tell."""
    flat = run.config.to_flat()
    settings = run.environment.get("generator-settings", "").partition(" px: ")[2]
    try:
        told = parse_settings(settings.split(", ") if settings else [])
        known = {key: value for key, value in told.items() if flat.get(key) == AUTO}
        return run.config.updated(known)
    except ConfigError:  # a folder from elsewhere
        return run.config


_COLUMNS = (
    "round",
    "accuracy",
    "macro-F1",
    "loss",
    "personalized",
    "synthetic",
    "seconds",
    "down",
    "up",
    "refused",
)


def _has_rates(run: RunData) -> bool:
    return any(record.lr is not None for record in run.history)


def _has_validation(run: RunData) -> bool:
    return any(record.validation is not None for record in run.history)


def columns(run: RunData) -> list[str]:
    """Return what stands in the cells of `rows`: what only some runs have comes last."""
    more = ["validation"] * _has_validation(run) + ["rate"] * _has_rates(run)
    return [*_COLUMNS, *more]


def _number(run: RunData, number: int) -> str:
    said = [
        word
        for word, which in (("best", run.best_round), ("kept", run.model_round))
        if which == number
    ]
    return f"{number} ({', '.join(said)})" if said else str(number)


def rows(run: RunData) -> list[list[str]]:
    """Return a row of text per round, for `columns`."""
    rates, validated = _has_rates(run), _has_validation(run)
    table = []
    for record in run.history:
        scored = record.metrics
        globally = [
            percent(scored.accuracy, 2),
            percent(scored.macro_f1, 2),
            NONE if scored.loss is None else f"{scored.loss:.4f}",
        ]
        table.append(
            [
                _number(run, record.round),
                *(globally if run.whole else [NONE] * len(globally)),
                percent(record.personalized.mean, 2) if record.personalized else NONE,
                NONE if record.synthetic_counts is None else str(supplement_size(record)),
                f"{record.seconds.wall:.1f}",
                size(record.bytes.down),
                size(record.bytes.up),
                str(len(record.failures)),
                *([_validation(record)] if validated else []),
                *([NONE if record.lr is None else f"{record.lr:.3g}"] if rates else []),
            ]
        )
    return table


def _validation(record: RoundRecord) -> str:
    return percent(record.validation.accuracy, 2) if record.validation else NONE


def keys(config: RunConfig) -> list[tuple[str, str, bool]]:
    """Return every key with its value and whether it was changed."""
    defaults = default_flat()
    # 'auto' is always expanded: only a deviation from what the method implies is a change.
    own: dict[str, Scalar] = {"method": config.method, "generator.path": config.generator.path}
    plain = RunConfig.from_flat(own).to_flat()
    return [
        (
            key,
            _shown(value),
            value != (plain[key] if defaults.get(key) == "auto" else defaults[key]),
        )
        for key, value in config.to_flat().items()
    ]


def _guidance(flat: Mapping[str, Scalar]) -> str:
    scale, stop = flat["generator.guidance"], flat["generator.guidance-stop"]
    guided = f"guidance {_shown(scale)}"
    # What 'auto' became stands with what the run was made on.
    if isinstance(scale, str) or isinstance(stop, str) or scale <= 1 or stop >= 1:
        return guided
    return f"{guided} in the first {100 * stop:.0f} %"


def _shown(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"
