"""Rules of ``checks`` about what a source reads and how its images are spread over clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from regl_app.config.choices import SCHEMES, SOURCES
from regl_app.config.looks import parse_looks
from regl_app.config.partitioners import partitioner_problem
from regl_app.config.run_keys import RunKeys
from regl_app.core.types import Scalar


def splits_are_of_training_and_test(config: RunKeys) -> str | None:
    names = config.data.split_names
    if len(names) <= 2 and len(set(names)) == len(names):
        return None
    return (
        "data.splits must name the split to train on and another to test on, got "
        f"{config.data.splits!r} (such as 'train,validation')"
    )


def columns_are_of_images_and_labels(config: RunKeys) -> str | None:
    names = config.data.column_names
    if len(names) in (0, 2) and len(set(names)) == len(names):
        return None
    return (
        "data.columns must name the column of images and that of labels, got "
        f"{config.data.columns!r} (such as 'image,label')"
    )


def data_keys_are_of_the_source(config: RunKeys) -> str | None:
    keys = config.data
    for key, field in _not_taken(keys.source):
        if (value := getattr(keys, field)) != type(keys).model_fields[field].default:
            takers = " or ".join(repr(name) for name, of in SOURCES.items() if field in of.takes)
            return (
                f"{key}={value!r} means nothing to data.source={keys.source!r} (leave {key} at its "
                f"default, or set data.source to {takers})"
            )
    return None


def without_keys_of_other_sources(flat: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return all keys but those that their ``data.source`` does not read."""
    vain = {key for key, _ in _not_taken(str(flat.get("data.source", "digits")))}
    return {key: value for key, value in flat.items() if key not in vain}


def _not_taken(source: str) -> list[tuple[str, str]]:
    """Return keys that some sources take, and ``source`` does not, each with its field."""
    chosen = SOURCES[source].takes if source in SOURCES else ()
    every = dict.fromkeys(field for each in SOURCES.values() for field in each.takes)
    return [(f"data.{field.replace('_', '-')}", field) for field in every if field not in chosen]


def partition_keys_are_of_the_scheme(config: RunKeys) -> str | None:
    keys, chosen = config.partition, SCHEMES[config.partition.scheme]
    for field in dict.fromkeys(name for each in SCHEMES.values() for name in each.fields):
        key, value = f"partition.{field.replace('_', '-')}", getattr(keys, field)
        if value and field not in chosen.fields:
            takers = " or ".join(repr(name) for name, of in SCHEMES.items() if field in of.fields)
            return (
                f"{key}={value!r} means nothing to partition.scheme={keys.scheme!r} (set "
                f"partition.scheme to {takers}, or leave {key} at its default)"
            )
        if not value and field in chosen.needs:
            return f"partition.scheme={keys.scheme!r} needs {key} (docs/data.md has examples)"
    return None


def partition_arguments_are_an_object(config: RunKeys) -> str | None:
    try:
        config.partition.argument_values  # noqa: B018
    except ValueError as error:
        return (
            "partition.arguments must be a JSON object, got "
            f"{config.partition.arguments!r}: {error} (try '{{\"group_size\": 5}}')"
        )
    return None


def partitioner_takes_its_arguments(config: RunKeys) -> str | None:
    keys = config.partition
    if not keys.partitioner or partition_arguments_are_an_object(config):
        return None
    return partitioner_problem(keys.partitioner, keys.argument_values)


def looks_are_known(config: RunKeys) -> str | None:
    try:
        parse_looks(config.partition.looks)
    except ValueError as error:
        return str(error)
    return None


DATA_RULES: tuple[Callable[[RunKeys], str | None], ...] = (
    splits_are_of_training_and_test,
    columns_are_of_images_and_labels,
    data_keys_are_of_the_source,
    partition_keys_are_of_the_scheme,
    partition_arguments_are_an_object,
    partitioner_takes_its_arguments,
    looks_are_known,
)
