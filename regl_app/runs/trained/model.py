"""A finished run's classifier, and the form in which it takes pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from regl_app.config import RunConfig
from regl_app.config.model_name import is_own_module
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.core.torch_defaults import plain_torch
from regl_app.data.depth import UsedDepth, agreed
from regl_app.data.images import ImageSet
from regl_app.data.resize import Fitted
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.methods.method import personal
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import build_model, forget_networks
from regl_app.learning.models.classifier import Classifier
from regl_app.runs.depths import depths_of, site_name
from regl_app.runs.folder import DATA, RunFolder

_CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The final model of a run, for images ``(N, channels, size, size)`` of ``class_names``.

    ``depths`` are the scales by which the run read deep greyscale, by whose pictures they were.
    """

    model: Classifier
    class_names: tuple[str, ...]
    channels: int
    size: int
    config: RunConfig
    num_clients: int
    depths: Mapping[str, UsedDepth] = field(default_factory=dict)
    files: str | None = None
    """The state of the files that the run saw (``RunFiles.words``), if its folder says so."""

    @property
    def depth(self) -> UsedDepth | None:
        """Return the scales to read deep greyscale by, None if there are none, or several."""
        return agreed(self.depths.values())

    @classmethod
    @plain_torch()
    def of(
        cls,
        run: RunFolder,
        own: Mapping[str, torch.Tensor] | None = None,
        client: int | None = None,
        *,
        trust: bool = False,
    ) -> TrainedModel:
        """Return the global model of ``run``, or a client's with ``own``, the part that it keeps.

        Args:
            run: the finished run.
            own: the part of a client.
            client: whose it is: deep greyscale is read as that one read it.
            trust: whether code that the run's config.json names may be imported and run.

        Raises:
            ConfigError: that code cannot be imported.
            RunError: that code may not be run; the run left no model, or its model is not that of
                its configuration; clients keep a part of it, and ``own`` is not given.
        """
        config, facts, weights = run.read_config(), run.read_facts(), run.load_model()
        if facts is None:
            raise RunError(f"{run.path}: has no federation.json, which names the classes")
        if is_own_module(config.model.name):
            _check_trust(run, config.model.name, trust)
        weights |= dict(own or {})
        names = personal(make_method(config), list(weights))
        if names and not own:
            raise RunError(
                f"{run.path}: with objective={config.objective!r} each client keeps a part of the "
                f"model ({', '.join(sorted(names))}), so the run has no model for all: name a "
                "client (--client)"
            )
        depths = depths_of(facts, run.read_history())
        if client is not None and site_name(client) in depths:
            depths = {site_name(client): depths[site_name(client)]}
        forget_networks()
        # Classifiers of others take gray and colour by the same weights.
        for channels in (facts.channels,) if facts.channels else _CHANNELS:
            model = build_model(
                config.model, len(facts.class_names), channels, config.data.image_size, config.seed
            )
            shapes = {name: value.shape for name, value in model.state_dict().items()}
            if shapes == {name: value.shape for name, value in weights.items()}:
                model.load_state_dict(weights)
                size = config.data.image_size
                names_of = tuple(facts.class_names)
                total, files = facts.num_clients, run.read_environment().get(DATA)
                return cls(model.eval(), names_of, channels, size, config, total, depths, files)
        raise RunError(
            f"{run.path / 'model.safetensors'}: is no model.name={config.model.name!r} for "
            f"{len(facts.class_names)} classes as config.json has it (restore both from one backup)"
        )

    @plain_torch()
    def log_probs(self, images: ImageSet, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return log-probabilities ``(N, num_classes)`` of images of any size, gray or colour."""
        fitting = Fitted(images.pixels, (self.channels, self.size, self.size))
        return predict_log_probs(self.model, fitting, device)


def _check_trust(run: RunFolder, name: str, trust: bool) -> None:
    """Refuse to run what a folder names, which anybody may have made, unless its user says so."""
    what = f"{run.path}: its config.json says model.name={name!r}"
    if not trust:
        raise RunError(
            f"{what}, code of this machine that opening the model would import and run. Where you "
            "know the run, and that module, allow it: --trust (in Python: TrainedModel.of(run, "
            "trust=True))"
        )
    logger.info("%s: that code is imported now, as it was allowed to", what)
