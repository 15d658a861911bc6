"""The foundation model of a worker: a latent diffusion pipeline, ready to be sampled.

The text encoder runs once per class prompt and is dropped. One foundation serves whoever works with
it in turn, clients and server; they differ by the adapter merged for the length of their turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regl_app.config.or_auto import AUTO, may_be_auto
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.activity import Span
from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.precision import DTYPES, Precision, autocast
from regl_app.core.types import Tensors
from regl_app.core.unread_weights import LIFT_LIMIT, UNREAD, is_out_of_addresses
from regl_app.data.concepts import Concept
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.card_precision import precision_on
from regl_app.generator.checkpoint import generator_digest, resolve_generator
from regl_app.generator.compatibility import check_concepts
from regl_app.generator.families.family import Family, Told
from regl_app.generator.families.registry import FAMILIES, family_of
from regl_app.generator.flow_process import FlowProcess, is_flow
from regl_app.generator.held_weights import held_precision, text_precision, types_to_load
from regl_app.generator.image_encoder import ImageEncoder, OwnEncoder
from regl_app.generator.image_prompts import ImagePromptSlot
from regl_app.generator.image_tokens import beside_text
from regl_app.generator.kept_foundations import Wanted, borrow
from regl_app.generator.limits import check_limits, check_size
from regl_app.generator.negative_prompt import unheard
from regl_app.generator.noise_schedule import DiffusionProcess, NoiseProcess
from regl_app.generator.pipeline_config import own_image_size
from regl_app.generator.pipeline_loading import load_pipeline
from regl_app.generator.placement import Placement
from regl_app.generator.prompts import (
    PromptRows,
    TextConditioning,
    class_phrasings,
    class_prompts,
    encode_prompts,
)
from regl_app.generator.quiet import quiet
from regl_app.generator.solver import solver_of

_PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Foundation:
    """Denoiser, VAE and scheduler of one checkpoint with the text conditioning of all classes.

    ``precision`` is what they are run in, ``held`` what the denoiser's weights are in; ``pipeline``
    is the class that they are of.
    """

    denoiser: Any
    family: Family
    vae: Any
    scheduler: Any
    text: TextConditioning
    prompts: tuple[str, ...]
    prompt_rows: PromptRows
    digest: str
    device: torch.device
    precision: Precision
    image_size: int
    factor: int
    adapters: AdapterSlot
    image_prompts: ImagePromptSlot
    placement: Placement
    held: Precision = "fp32"
    image_encoder: ImageEncoder | None = None
    pipeline: str = ""

    @classmethod
    def load(
        cls,
        config: GeneratorConfig,
        concepts: Sequence[Concept],
        device: torch.device | str = "cpu",
    ) -> Foundation:
        """Load ``config.path`` and encode ``config.prompt`` for every concept.

        Raises:
            GeneratorError: the checkpoint does not know a concept, is absent, damaged, has no
                safetensors, is no latent diffusion model of a known family with a scheduler
                of diffusion or flow matching, or cannot draw so large or in so many steps; or a
                key still says 'auto'.
        """
        _refuse_open(config)
        place = torch.device(device)
        check_concepts(config.path, concepts)
        folder = resolve_generator(config.path)
        check_limits(folder, config)
        precision = precision_on(config.precision, place, folder)
        held = _held(folder, precision)
        pipeline = _load_pipeline(folder, held)
        family = _check(pipeline, folder)
        denoiser = getattr(pipeline, family.part)
        phrasings = class_phrasings(config, concepts)
        factor = int(pipeline.vae_scale_factor)
        latent = family.sample_size(pipeline, family.part)
        image_size = config.image_size or own_image_size(latent, factor, config.path)
        check_size(family, denoiser, image_size, factor, config.path)
        if told_nobody := unheard(config, family.embeds_guidance(denoiser)):
            logger.warning("%s", told_nobody)
        # The bundled one's run there in fp32 as ever.
        encoded_on = "cpu" if held == "fp32" else str(place)
        told = Told(image_size, config.guidance, config.negative_prompt, encoded_on)
        text = encode_prompts(pipeline, family, phrasings, told, place, text_precision(held))
        adapters, digest = AdapterSlot(denoiser, family.part, place), generator_digest(folder)
        foundation = cls(
            denoiser=denoiser,
            family=family,
            vae=pipeline.vae,
            scheduler=pipeline.scheduler,
            text=text,
            prompts=class_prompts(config, concepts),
            prompt_rows=PromptRows.of(phrasings),
            digest=digest,
            device=place,
            precision=precision,
            image_size=image_size,
            factor=factor,
            adapters=adapters,
            image_prompts=ImagePromptSlot(denoiser),
            placement=Placement(denoiser, pipeline.vae, adapters, place, digest, held),
            held=held,
            image_encoder=_image_encoder(pipeline),
            pipeline=type(pipeline).__name__,
        )
        foundation.placement.begin(foundation.vae_held)
        return foundation

    @property
    def num_classes(self) -> int:
        """Return the number of class prompts."""
        return len(self.prompts)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Return ``(c, h, w)`` of one latent."""
        return self.family.latent_shape(self.denoiser, self.image_size // self.factor)

    def noise_process(self, min_snr: float = 0.0) -> NoiseProcess:
        """Return the process the checkpoint was trained with; ``min_snr`` clips loss weights."""
        kind = FlowProcess if is_flow(self.scheduler) else DiffusionProcess
        return kind.of(self.scheduler, self.device, min_snr)

    def new_scheduler(self, steps: int, strength: float | None = None) -> Any:
        """Return a fresh scheduler of the checkpoint's own kind, with ``steps`` to go.

        Schedulers keep state: no two batches may share one. ``strength`` as for ``solver_of``.

        Raises:
            GeneratorError: its configuration does not allow that many.
        """
        side = self.image_size // self.factor // self.family.patch(self.denoiser)
        return solver_of(self.family, self.scheduler, steps, side**2, self.device, strength)

    @property
    def embeds_guidance(self) -> bool:
        """Return whether the denoiser was told the guidance scale with the prompt."""
        return self.family.embeds_guidance(self.denoiser)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the denoiser runs.

        Held in what it is run in it needs none, but for float32 layers that are tuned on top.
        """
        tuned = hasattr(self.denoiser, "peft_config")
        plain = self.held != "fp32" and not tuned
        return nullcontext() if plain else autocast(self.precision, self.device)

    @property
    def vae_precision(self) -> Precision:
        """Return what the VAE runs in: not in fp16 if its configuration says that it overflows.

        (``force_upcast``, as diffusers' pipeline of Stable Diffusion XL has it.)
        """
        overflows = self.precision == "fp16" and self.vae.config.get("force_upcast", False)
        return "fp32" if overflows else self.precision

    @property
    def vae_held(self) -> Precision:
        """Return what the VAE's weights are in."""
        return "fp32" if self.held == "fp32" else self.vae_precision

    def _vae_autocast(self) -> AbstractContextManager[object]:
        plain = self.vae_held != "fp32"
        return nullcontext() if plain else autocast(self.vae_precision, self.device)

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        rows: torch.Tensor,
        image_tokens: torch.Tensor | None = None,
        image_prompts: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the denoiser's prediction, float32 ``(N, c, h, w)``.

        Args:
            latents: noisy, ``(N, c, h, w)``.
            timesteps: ``()`` or ``(N,)``.
            rows: of the prompts, ``(N,)``.
            image_tokens: ``(N, K, D)`` that the denoiser is told after the text; None: those of the
                adapter in effect that tell no look, where it has any.
            image_prompts: ``(N, F)`` features of the pictures that an IP-Adapter is shown, zeros
                where none is; None: zeros, where one is in effect.
        """
        self.placement.use("denoiser")
        if image_tokens is None and self.adapters.image_tokens is not None:
            image_tokens = self.adapters.image_tokens.untold(len(rows))
        told = self.text.of(rows, latents.device)
        if image_tokens is not None:
            told = beside_text(told, image_tokens)
        told = self.image_prompts.beside(told, image_prompts)
        with self.autocast():
            latents = latents.contiguous(memory_format=torch.channels_last)
            told = _in_type({"latents": latents, **told}, self.held)
            latents = told.pop("latents")
            output = self.family.predict(self.denoiser, latents, timesteps, told)
        return output.float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images, float32 ``(N, 3, H, W)`` about [-1, 1], of scaled latents."""
        self.placement.use("vae")
        scaled = latents / self.vae.config.scaling_factor
        if shift := self._shift:
            scaled = scaled + shift
        with self._vae_autocast():
            scaled = scaled.to(DTYPES[self.vae_held])
            scaled = scaled.contiguous(memory_format=torch.channels_last)
            images: torch.Tensor = self.vae.decode(scaled, return_dict=False)[0].float()
            return images

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return scaled latents, float32 ``(N, c, h, w)``, of ``(N, 3, H, W)`` in [-1, 1]."""
        self.placement.use("vae")
        with self._vae_autocast():
            images = images.to(DTYPES[self.vae_held])
            images = images.contiguous(memory_format=torch.channels_last)
            output = self.vae.encode(images)
        # AutoencoderKL returns a distribution (its mode is the noise-free choice), Tiny and DC a
        # tensor.
        if hasattr(output, "latent_dist"):
            latents = output.latent_dist.mode()
        else:
            latents = output.latents if hasattr(output, "latents") else output.latent
        latents = latents.float()
        if shift := self._shift:
            latents = latents - shift
        scaled: torch.Tensor = latents * self.vae.config.scaling_factor
        return scaled

    @property
    def _shift(self) -> float:
        """Return what is taken off latents before they are scaled (Stable Diffusion 3, FLUX)."""
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    @property
    def at_rest(self) -> bool:
        """Return whether it is as it was loaded: nothing is in effect, and no layers are tuned."""
        told = self.adapters.image_tokens is not None or self.image_prompts.shown
        return not (told or self.adapters.filled or hasattr(self.denoiser, "peft_config"))

    @contextmanager
    def adapter(self, folder: Path | None) -> Iterator[None]:
        """Merge the adapter in ``folder`` (None: frozen); afterwards every bit is as before."""
        if folder is None:
            yield
            return
        with self.adapters.merge(folder):
            yield


def _refuse_open(config: GeneratorConfig) -> None:
    fields = type(config).model_fields.items()
    names = [name for name, each in fields if may_be_auto(each.metadata)]
    if left := [f"generator.{name}" for name in names if getattr(config, name) == AUTO]:
        raise GeneratorError(
            f"{', '.join(left).replace('_', '-')}: 'auto' until the checkpoint is known (load "
            "regl_app.generator.fitting.fitted(run_config).generator)"
        )


def _image_encoder(pipeline: Any) -> ImageEncoder | None:
    model = getattr(pipeline, "image_encoder", None)
    processor = getattr(pipeline, "feature_extractor", None)
    return None if model is None or processor is None else OwnEncoder(model, processor)


def shared_foundation(
    config: GeneratorConfig,
    concepts: Sequence[Concept],
    device: torch.device | str = "cpu",
    digest: str = "",
) -> Foundation:
    """Return this thread's foundation: what it has, what lies idle, or one that is loaded now.

    A thread's own until it gives it back (``kept_foundations``), because a client's turn changes
    the denoiser's weights; of several that it asks for only the last one is kept.

    Args:
        config: which checkpoint, and how it is used.
        concepts: what each class shows, ``(C,)``.
        device: where it computes.
        digest: of the files that it must be of, by which caches know what it makes; '': of those
            that are there.

    Raises:
        GeneratorError: the checkpoint cannot be used, or is no longer the one of ``digest``.
    """
    wanted = digest or generator_digest(resolve_generator(config.path))
    fields = ("path", "prompt", "negative_prompt", "precision", "image_size", "guidance")
    told = (*(getattr(config, field) for field in fields), tuple(concepts), wanted)
    # The prompts' last bits depend on how many threads encode them.
    place = _place(torch.device(device))
    key = Wanted((*told, torch.get_num_threads()), place)

    def load() -> Foundation:
        if digest and generator_digest(resolve_generator(config.path)) != digest:
            raise GeneratorError(
                f"generator.path={config.path!r}: its files were replaced in the midst of a run "
                "(start the run again, or put the former ones back)"
            )
        started = Span()
        foundation = Foundation.load(config, concepts, place)
        logger.info(
            "generator loaded to %s (runs in %s, weights held in %s) in %.1f s by process %d",
            place,
            foundation.precision,
            foundation.held,
            started.seconds,
            os.getpid(),
        )
        return foundation

    return borrow(key, load)


def _place(device: torch.device) -> str:
    """Return the device's name with its number: 'cuda' is a card's other name."""
    if device.type == "cuda" and device.index is None:
        return f"cuda:{torch.cuda.current_device() if torch.cuda.is_initialized() else 0}"
    return str(device)


def _in_type(tensors: Tensors, held: Precision) -> dict[str, torch.Tensor]:
    """Return ``tensors`` in the type of weights held in ``held``; masks and numbers as they are."""
    return {
        name: value.to(DTYPES[held]) if value.is_floating_point() else value
        for name, value in tensors.items()
    }


def _held(folder: Path, precision: Precision) -> Precision:
    try:
        return held_precision(folder, precision)
    except GeneratorError:
        return "fp32"  # what is wrong with the files is told by what loads them


def _load_pipeline(folder: Path, held: Precision) -> Any:
    try:
        with MAKING_MODULES, quiet():
            return load_pipeline(folder, types_to_load(held))
    except (ValueError, LookupError, *UNREAD) as error:
        remedy = "it must be a text-to-image pipeline with safetensors weights"
        told = str(error) or type(error).__name__  # a MemoryError says nothing
        raise GeneratorError(
            f"the generator in {str(folder)!r} cannot be loaded: {told} "
            f"({LIFT_LIMIT if is_out_of_addresses(error) else remedy})"
        ) from error


def _check(pipeline: Any, folder: Path) -> Family:
    family = family_of(pipeline)
    if family is None:
        raise GeneratorError(
            f"the generator in {str(folder)!r} is a {type(pipeline).__name__}, whose denoiser is "
            f"not supported; allowed are {', '.join(FAMILIES)}"
        )
    parts = [part for part in ("vae", "scheduler") if getattr(pipeline, part, None) is None]
    if parts:
        raise GeneratorError(
            f"the generator in {str(folder)!r} is a {type(pipeline).__name__} without "
            f"{' and '.join(parts)}; only latent diffusion models are supported"
        )
    _check_scheduler(pipeline.scheduler, folder)
    if pipeline.vae.config.get("latents_mean") is not None:
        raise GeneratorError(
            f"the VAE of {str(folder)!r} has latents_mean in its config.json: latents of a "
            "scale by channel, as Playground 2.5's, are not supported (use a checkpoint whose VAE "
            "has a scaling_factor alone, such as Stable Diffusion XL's)"
        )
    return family


def _check_scheduler(scheduler: Any, folder: Path) -> None:
    if "sigma_data" in scheduler.config:  # of Karras et al. 2022, where tuning has another target
        raise GeneratorError(
            f"the scheduler of {str(folder)!r} is an {type(scheduler).__name__}, and what was "
            "trained on its scale of noise, as Playground 2.5, is not supported (use a checkpoint "
            "with a scheduler of diffusion or flow matching, such as Stable Diffusion XL)"
        )
    prediction = scheduler.config.get("prediction_type")
    if prediction not in _PREDICTIONS and not is_flow(scheduler):
        raise GeneratorError(
            f"the scheduler of {str(folder)!r} predicts {prediction!r}; allowed are "
            f"{', '.join(_PREDICTIONS)}"
        )
