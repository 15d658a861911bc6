"""What a single file says that its denoiser predicts, held against the configs it is read by.

UIs tell a v-prediction by empty tensors of these names, or by metadata (modelspec); diffusers looks
at neither, and takes every XL for epsilon.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from regl_app.core.errors import GeneratorError
from regl_app.generator.pipeline_config import scheduler_config

EPSILON, V = "epsilon", "v_prediction"
_V_MARK, _ZERO_MARK, _EDM_MARK = "v_pred", "ztsnr", "edm_vpred.sigma_max"
_METADATA = "modelspec.prediction_type"
_ARCHITECTURE = "modelspec.architecture"
_NAMED = {"v": V, V: V, "v-prediction": V, EPSILON: EPSILON, "eps": EPSILON}
_ARCHITECTURES = {"stable-diffusion-v2-768-v": V, "stable-diffusion-v2-512": EPSILON}


@dataclass(frozen=True)
class Told:
    """What a file tells of its denoiser.

    Args:
        prediction: 'epsilon' or 'v_prediction'; '': nothing.
        by: the tensors or metadata that tell it.
        zero_snr: whether it was trained down to pure noise.
        edm: whether on the scale of noise of Karras et al. 2022.
    """

    prediction: str = ""
    by: str = ""
    zero_snr: bool = False
    edm: bool = False


def told_by(names: Collection[str], metadata: Mapping[str, str]) -> Told:
    """Return what the ``names`` of a file's tensors and its ``metadata`` tell; tensors go first."""
    zero, edm = _ZERO_MARK in names, _EDM_MARK in names
    if edm:
        return Told(V, f"its tensor {_EDM_MARK!r}", zero, edm)
    if _V_MARK in names:
        mark = f"tensors {_V_MARK!r} and {_ZERO_MARK!r}" if zero else f"tensor {_V_MARK!r}"
        return Told(V, f"its {mark}", zero)
    for key, meanings in ((_METADATA, _NAMED), (_ARCHITECTURE, _ARCHITECTURES)):
        value = metadata.get(key, "")
        if found := meanings.get(value.strip().lower(), ""):
            return Told(found, f"its metadata {key}={value}", zero)
    return Told(zero_snr=zero, by=f"its tensor {_ZERO_MARK!r}" if zero else "")


def check_prediction(file: Path, folder: Path, told: Told, where: str) -> None:
    """Refuse a file that tells of itself what the configs in ``folder`` do not.

    Args:
        file: of all of a pipeline's weights.
        folder: of the configs that it is to be read by.
        told: what it tells.
        where: these configs are, for the error, and what is to be done first.

    Raises:
        GeneratorError: names what tells it, the entries, and the remedy.
    """
    if told.edm:
        raise GeneratorError(
            f"generator.path {str(file)!r} was trained on the scale of noise of EDM, by {told.by}, "
            "which is not supported (use a checkpoint of diffusion, such as Stable Diffusion XL)"
        )
    config = scheduler_config(folder)
    if not config or str(config.get("_class_name")).startswith("FlowMatch"):
        return
    wanted: dict[str, object] = {}
    if told.prediction and config.get("prediction_type", EPSILON) != told.prediction:
        wanted["prediction_type"] = told.prediction
    if told.zero_snr and not config.get("rescale_betas_zero_snr"):
        wanted |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if wanted:
        entries = ", ".join(f'"{key}": {json.dumps(value)}' for key, value in wanted.items())
        raise GeneratorError(
            f"generator.path {str(file)!r} is not what its configs say, by {told.by}: it would be "
            f"drawn and tuned as what it is not. Its configs are those {where} set {entries} in "
            f"scheduler/scheduler_config.json"
        )
