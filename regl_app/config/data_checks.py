"""Rules of ``checks`` about what a source reads and how its images are spread over clients."""

from __future__ import annotations

from collections.abc import Callable

from regl_app.config.choices import SCHEMES
from regl_app.config.looks import parse_looks
from regl_app.config.partitioners import partitioner_problem
from regl_app.config.run_keys import RunKeys


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
    partition_keys_are_of_the_scheme,
    partition_arguments_are_an_object,
    partitioner_takes_its_arguments,
    looks_are_known,
)
