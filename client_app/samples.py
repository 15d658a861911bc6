"""A client's sample pictures and its adapter, for the run folder where it is on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from client_app.node import Node
from regl_app.core.files import atomic_path
from regl_app.core.log import logger
from regl_app.data.images import ImageSet
from regl_app.runs.samples import PER_CLASS, save_samples
from regl_app.supplement.make_supplement import Supplement
from regl_app.supplement.synthesizer import Synthesizer


def leave_samples(
    node: Node,
    run_dir: Path,
    synthesizer: Synthesizer,
    made: Supplement,
    probe: ImageSet,
) -> None:
    """Write a few pictures and the adapter into ``run_dir``, if the operator allows that folder.

    They are for looking at: what keeps them from there is a warning, and training goes on.
    """
    client = node.client
    try:
        if not node.settings.roots.holds(run_dir) or not (run_dir / "config.json").is_file():
            return
        # A prefix of the client's own sequence: later rounds reuse what is made here.
        few = np.full(client.num_classes, PER_CLASS, dtype=np.int64)
        generator, real = made.client_generator, client.data.train
        save_samples(
            run_dir,
            client.partition_id,
            real=real,
            frozen=probe,
            adapted=synthesizer.generate(few, generator, real).images if generator.path else None,
            matched=made.images if client.config.matches_images else None,
            class_names=client.source.class_names,
        )
        if generator.path is not None:
            own = run_dir / "adapters" / f"client-{client.partition_id:02d}"
            with atomic_path(own) as temporary:
                shutil.copytree(generator.path, temporary)
    except Exception as error:  # the folder may be another user's, or its disk full
        logger.warning(
            "%s: no sample pictures in %s, training goes on without: %s: %s",
            client.label,
            run_dir,
            type(error).__name__,
            error,
        )
