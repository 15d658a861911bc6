"""What this machine has of what a run needs, found without starting one."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from regl_app.cli.doctor.finding import FREE_DISK_GB, Finding, not_cached, unread
from regl_app.cli.doctor.image_encoder import image_encoder
from regl_app.config import RunConfig
from regl_app.config.run_config import BUNDLED
from regl_app.core.errors import DataError, ReglError
from regl_app.core.files import folder_bytes

if TYPE_CHECKING:
    import torch

    from regl_app.data.source import Source

# Flower's managed local SuperLink listens there unless the variable says otherwise.
SUPERLINK_PORT = 39091
SUPERLINK_PORT_VARIABLE = "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT"


_LISTED = 20
"""Classes up to which each is listed."""
_WORTH_TELLING = 0.5
"""Gigabytes of weights from which on a person may run out of memory."""


def examine(config: RunConfig, *, counted: bool = True) -> list[Finding]:
    """Return what was found for a run of ``config``, in reading order.

    ``counted``: with the memory that its generator needs, which takes a minute for a large one.
    """
    return [
        *machine(config),
        *_data(config),
        *_generator(config, counted),
        *image_encoder(config),
        *_folders(config),
        *_flower(),
    ]


def machine(config: RunConfig) -> Iterator[Finding]:
    """Yield what any part of a federation needs: Python, packages, processor, GPU."""
    yield from _python()
    yield from _packages()
    yield from _device(config)


def _python() -> Iterator[Finding]:
    yield Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def _packages() -> Iterator[Finding]:
    try:
        lines = requires("regl-app") or []
        found = [f"regl-app {version('regl-app')}"]
    except PackageNotFoundError:
        yield Finding("packages", "fail", "regl-app is not installed", "pip install -e .")
        return
    missing = []
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            present = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"{requirement} (not installed)")
            continue
        if not requirement.specifier.contains(present, prereleases=True):
            missing.append(f"{requirement} (found {present})")
        elif requirement.name in {"flwr", "torch", "diffusers", "peft"}:
            found.append(f"{requirement.name} {present}")
    if missing:
        remedy = "pip install -c constraints.txt -e ."
        yield Finding("packages", "fail", "; ".join(missing), remedy)
    else:
        yield Finding("packages", "ok", ", ".join(found))


def _device(config: RunConfig) -> Iterator[Finding]:
    import torch

    from regl_app.core.devices import APPLE_GPU, has_apple_gpu, unusable_cards
    from regl_app.core.precision import trains_fast_in_bf16
    from regl_app.core.processors import usable_processors

    cores = usable_processors()
    bf16 = "fast bf16" if trains_fast_in_bf16("cpu") else "no fast bf16"
    yield Finding(
        "processor", "ok", f"{cores} cores, {bf16}; {config.threads} thread(s) per client"
    )
    count, asked = torch.cuda.device_count(), config.device.startswith("cuda")
    if trouble := unusable_cards():
        remedy = "a newer driver, or PyTorch for an older CUDA"
        yield Finding("GPU", "fail" if asked else "note", trouble, remedy)
    elif count:
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
        yield Finding("GPU", "ok", f"{count}: {names}")
    elif asked:
        yield Finding("GPU", "fail", f"device={config.device!r}, no CUDA device", "device=auto")
    elif has_apple_gpu():
        yield Finding("GPU", "note", APPLE_GPU)
    else:
        yield Finding("GPU", "ok", "none; the CPU is used")


def _data(config: RunConfig) -> Iterator[Finding]:
    from regl_app.data.picture_store import PictureStore
    from regl_app.data.sources.registry import load_source

    try:
        source = load_source(config.data, store=PictureStore.of(config))
    except ReglError as error:
        yield Finding("data", "fail", str(error), "see data.* in docs/configuration.md")
        return
    channels, height, width = source.train.shape
    missed = unread(source.unreadable, source.left_out)
    yield Finding(
        "data",
        "note" if missed else "ok",
        f"{source.name}: {len(source.train)} training and {len(source.test)} test images, "
        f"{source.num_classes} classes, {channels}x{height}x{width}{missed}",
    )
    if len(source.train) or len(source.test):
        yield _classes(source, config)
    if config.partition.column and not config.data.local:
        yield _column(source, config.partition.column)
    if config.partition.file and not config.data.local:
        yield _file(Path(config.partition.file).expanduser())


def _classes(source: Source, config: RunConfig) -> Finding:
    """Tell how many images each class has, or the smallest and the largest of many."""
    from regl_app.data.absent_classes import absent_classes

    sizes = [part.counts(source.num_classes).tolist() for part in (source.train, source.test)]
    told = [f"{train} + {test}" for train, test in zip(*sizes, strict=True)]
    names = source.class_names
    shown = ", ".join(f"{name} {count}" for name, count in zip(names, told, strict=True))
    if len(names) > _LISTED:
        order = sorted(range(len(names)), key=lambda label: (sizes[0][label], sizes[1][label]))
        least, most = (f"{names[at]!r} ({told[at]})" for at in (order[0], order[-1]))
        shown = f"{len(names)}, of {least} to {most}"
    absent = absent_classes(source, config.data)
    detail = "; ".join([f"{shown} (train + test)", *absent])
    return Finding("classes", "note" if absent else "ok", detail)


def _file(path: Path) -> Finding:
    from regl_app.data.partition_file import clients_named

    try:
        return Finding("partition", "ok", f"{path}: for {clients_named(path)} clients")
    except DataError as error:
        return Finding("partition", "fail", str(error))


def _column(source: Source, column: str) -> Finding:
    from regl_app.data.row_facts import in_order

    try:
        facts = source.train.facts
        if facts is None:
            raise DataError(f"{source.name} tells nothing of its images but labels")
        names = facts.names(column)
    except DataError as error:
        return Finding("partition", "fail", str(error))
    values = in_order(set(names))
    shown = ", ".join(values[:5]) + ", ..." * (len(values) > 5)
    return Finding(
        "partition", "ok", f"{column}: {len(values)} values, at most as many clients ({shown})"
    )


def _generator(config: RunConfig, counted: bool) -> Iterator[Finding]:
    from regl_app.core.devices import resolve_device
    from regl_app.data.prompt_table import run_source
    from regl_app.generator.card_precision import precision_on
    from regl_app.generator.checkpoint import resolve_generator
    from regl_app.generator.compatibility import check_source
    from regl_app.generator.fitting import fit_words, fitted, unheard_prompt
    from regl_app.generator.held_weights import held_precision
    from regl_app.generator.hub_checkpoint import NotCachedError
    from regl_app.generator.limits import blind_start_of, check_limits
    from regl_app.generator.weight_files import names_in
    from regl_app.generator.weights_size import weights_in_memory

    path = config.generator.path
    if not config.needs_generator:
        yield Finding("generator", "ok", f"not needed by method={config.method!r}")
        return
    try:
        # Only what is on this machine: the doctor fetches nothing.
        folder = resolve_generator(path, fetch=False)
        check_source(config, run_source(config))
    except DataError:
        pass  # told under its own topic
    except NotCachedError as error:
        yield not_cached(
            "generator",
            error,
            path,
            "when first used, its configurations, tokenizers and the safetensors of denoiser, VAE "
            "and text encoders are fetched, of large checkpoints tens of GB; what 'auto' means for "
            "it and the memory that it needs are told once it is here",
        )
        return
    except ReglError as error:
        yield Finding("generator", "fail", str(error))  # says the remedy itself
        return
    files = [folder / name for name in names_in(folder)] if folder.is_dir() else [folder]
    size = sum(file.stat().st_size for file in files)
    yield Finding("generator", "ok", f"{path}, {size / 1e6:.1f} MB ({folder})")
    if words := fit_words(config):
        yield Finding("settings", "ok", words)
    try:
        generator = fitted(config, fetch=False).generator
        check_limits(folder, generator)
        if config.starts_from_pictures and (words := blind_start_of(folder, generator)):
            yield Finding("image conditioning", "note", words)
    except ReglError as error:
        yield Finding("generator's limits", "fail", str(error))
    if words := unheard_prompt(config):
        yield Finding("negative prompt", "note", words)
    try:
        device = resolve_device(config.device)
        precision = precision_on(config.generator.precision, device, folder)
        held = held_precision(folder, precision)
        weights = weights_in_memory(folder) / (1e9 if held == "fp32" else 2e9)
    except ReglError as error:
        yield Finding("memory", "fail", str(error))
        return
    yield Finding("precision", "ok", f"{precision} on {device.type}, weights held in {held}")
    told = ""
    if weights >= _WORTH_TELLING:
        told = f"the generator's weights take {weights:.1f} GB of each worker's device, in {held}"
    count = counted and path != BUNDLED  # which takes some MB
    yield from counted_memory(config, folder, device, told) if count else _noted(told)
    if count:
        yield Finding(
            "time",
            "note",
            "not measured: regl doctor --time, with the same keys, loads the generator and times "
            "an image and a tuning step",
        )


def counted_memory(
    config: RunConfig, folder: Path, device: torch.device, told: str = ""
) -> Iterator[Finding]:
    """Yield what drawing and tuning take, by configs alone, after what is ``told`` already."""
    from regl_app.cli.doctor.memory import expected_memory
    from regl_app.generator.fitting import fitted
    from regl_app.generator.without_weights import foundation_of_configs

    try:
        here = fitted(config)
        foundation = foundation_of_configs(folder, here.generator, device, _prompts(here))
    except ReglError as error:
        yield Finding(
            "memory", "note", f"{told}{'; ' * bool(told)}the rest is not counted: {error}"
        )
        return
    found = expected_memory(foundation, here, device)
    status = "note" if told else found.status
    yield replace(found, status=status, detail=f"{told}{'; ' * bool(told)}{found.detail}")


def _prompts(config: RunConfig) -> int:
    """Return how many prompts the generator is told; 1 where the data do not say it."""
    from regl_app.data.prompt_table import run_source
    from regl_app.generator.prompts import class_phrasings

    try:
        concepts = run_source(config).concepts
        return sum(len(texts) for texts in class_phrasings(config.generator, concepts))
    except ReglError:  # told under its own topic
        return 1


def _noted(told: str) -> Iterator[Finding]:
    if told:
        yield Finding("memory", "note", f"{told}; what is computed with them comes on top")


def _folders(config: RunConfig) -> Iterator[Finding]:
    from regl_app.config.paths import cache_dir, with_absolute_paths

    out = Path(with_absolute_paths(config).out_dir)
    for topic, folder in (("run folders", out), ("cache", cache_dir(config))):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / 1e9
        detail = f"{folder}, {free:.0f} GB free"
        if topic == "cache":  # adapters and pools are never removed from it
            held = folder_bytes(folder) / 1e9
            detail += f", holds {held:.2f} GB that may be deleted while nothing runs"
        if not os.access(existing, os.W_OK):
            yield Finding(topic, "fail", f"{folder} is not writable", "out-dir=..., cache-dir=...")
        elif free < FREE_DISK_GB:
            yield Finding(topic, "note", detail, f"keep {FREE_DISK_GB:.0f} GB free")
        else:
            yield Finding(topic, "ok", detail)


def _flower() -> Iterator[Finding]:
    yield Finding("regl run", "ok", "starts a SuperLink of its own on a free port")
    port = int(os.environ.get(SUPERLINK_PORT_VARIABLE, SUPERLINK_PORT))
    home = os.environ.get("FLWR_HOME", str(Path.home() / ".flwr"))
    with socket.socket() as probe:
        probe.settimeout(1.0)
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken:
        yield Finding(
            "flwr run",
            "note",
            f"port {port} is taken: the SuperLink there is used, maybe another user's",
            f"another one: {SUPERLINK_PORT_VARIABLE}=<port> FLWR_HOME=<folder>",
        )
    else:
        yield Finding("flwr run", "ok", f"starts a SuperLink on port {port} (free), home {home}")
