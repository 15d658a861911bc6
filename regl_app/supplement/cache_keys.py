"""What identifies a cached adapter, image sequence or pool: all that its content depends on."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import LoraConfig
from regl_app.core.digests import tensor_bytes
from regl_app.core.precision import Precision
from regl_app.core.types import CacheKey
from regl_app.data.concepts import Concept
from regl_app.data.images import ImageSet
from regl_app.data.pictures import portions
from regl_app.generator.card_precision import precision_on
from regl_app.generator.checkpoint import configs_of, resolve_generator
from regl_app.generator.encoder_files import image_encoder_digest, resolve_image_encoder
from regl_app.generator.fitting import text_tokens, tunes_by_guidance, tunes_text_stream
from regl_app.generator.held_weights import held_precision
from regl_app.generator.identity import checkpoint_digest
from regl_app.generator.kept_digests import digests_folder
from regl_app.generator.pipeline_config import scheduler_config, solver_class, text_to_image_class
from regl_app.generator.prompts import class_phrasings
from regl_app.generator.solver import goes_by_strength

_AT_ONCE = 256


class CacheKeys:
    """Keys of one generator's products for one classifier.

    Args:
        config: the run.
        concepts: what each class shows, ``(C,)``.
        shape: ``(C, H, W)`` of the classifier's images.
        device: where the generator runs.
    """

    def __init__(
        self,
        config: RunConfig,
        concepts: tuple[Concept, ...],
        shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        self._config = config
        self._shape = "x".join(map(str, shape))
        self._device = device
        # A class with one phrasing has its text there, as ever.
        self.prompts = [
            texts[0] if len(texts) == 1 else list(texts)
            for texts in class_phrasings(config.generator, concepts)
        ]

    @cached_property
    def generator(self) -> str:
        """Return the digest of the generator's files."""
        return checkpoint_digest(self._config)

    @cached_property
    def image_encoder(self) -> str:
        """Return the digest of the files of the image encoder that the run names, '' if none."""
        path, kept = self._config.image_encoder, digests_folder(self._config)
        return image_encoder_digest(resolve_image_encoder(path), kept) if path else ""

    @cached_property
    def _precision(self) -> Precision:
        config = self._config.generator
        return precision_on(config.precision, self._device, resolve_generator(config.path))

    @cached_property
    def _held(self) -> dict[str, str]:
        """Return what the generator's weights are in, where it is not float32."""
        folder = resolve_generator(self._config.generator.path)
        held = held_precision(folder, self._precision)
        return {} if held == "fp32" else {"held": held}

    @cached_property
    def _read(self) -> dict[str, int]:
        """Return how many tokens of a prompt are read, where that is not the pipeline's default."""
        tokens = text_tokens(resolve_generator(self._config.generator.path))
        return {"text_tokens": tokens} if tokens else {}

    @property
    def _configs(self) -> Path:
        return configs_of(resolve_generator(self._config.generator.path))

    @property
    def _solver(self) -> dict[str, object]:
        """Return what earlier versions had otherwise: TCD's noise, which no pipeline adds."""
        noisy = scheduler_config(self._configs).get("_class_name") == "TCDScheduler"
        return {"eta": 0.0} if noisy else {}

    @property
    def _text_stream(self) -> dict[str, bool]:
        """Return that a text's own stream is tuned, which earlier versions left out."""
        layers = self._config.lora.layers
        tuned = tunes_text_stream(resolve_generator(self._config.generator.path), layers)
        return {"text_stream": True} if tuned else {}

    def lora(self, real: ImageSet, seed: int) -> CacheKey:
        """Return the key of an adapter tuned on ``real``."""
        # Prior preservation also learns from the sampler's images, of the classes that are lacking.
        lacking = (real.counts(len(self.prompts)) == 0).any()
        preserving = self._config.lora.prior_weight > 0 and lacking
        # By their old names adapters are found again.
        unused = {"rounds"} if self._config.lora.image_tokens else {"rounds", "image_tokens"}
        # What has no effect is named as by default: adapters from before are found.
        idle = {"min_images"} if preserving else {"min_images", "prior_weight"}
        defaults = {name: LoraConfig.model_fields[name].default for name in idle}
        key = {
            **(self._sampler() if preserving else self._common()),
            "image_size": self._config.generator.image_size,
            "lora": self._config.lora.model_dump(exclude=unused) | defaults,
            "data": _digest_of(real),
            "prompts": self.prompts,
            "seed": seed,
            **self._text_stream,
        }
        if preserving:
            key["prior"] = "a mean of its own"  # earlier versions took one mean over all images
        if real.originals is not None:
            key["originals"] = real.originals.digest
        if self._config.lora.image_tokens and self.image_encoder:
            key["image_encoder"] = self.image_encoder
        if tunes_by_guidance(resolve_generator(self._config.generator.path)):
            key["guidance"] = self._config.generator.guidance
        return key

    def part(self, real: ImageSet, seed: int, start: str) -> CacheKey:
        """Return the key of a client's part in tuning a shared adapter.

        ``start`` is the digest of what it starts from.
        """
        return {**self.lora(real, seed), "start": start}

    def shared(self, digest: str, seed: int) -> CacheKey:
        """Return the key of a shared adapter, put together from A by ``seed`` and B."""
        layers = ("rank", "alpha", "layers")
        return {
            "shared": digest,
            "generator": self.generator,
            "lora": {name: getattr(self._config.lora, name) for name in layers},
            **self._text_stream,
            "seed": seed,
        }

    def preference(self, pool: CacheKey, models: str, seed: int) -> CacheKey:
        """Return the key of an adapter tuned by preference.

        Args:
            pool: key of the images that are compared.
            models: digest of the pair of models whose predictions rank them.
            seed: of the tuning.
        """
        layers = ("rank", "alpha", "layers")
        # Earlier versions told all images of a class its first phrasing.
        several = any(isinstance(texts, list) for texts in self.prompts)
        return {
            **({"told": "as drawn"} if several else {}),
            "pool": pool,
            "judges": models,  # its old name stays: by it adapters are found again
            "disagreement": self._config.supplement.disagreement,
            "dpo": self._config.dpo.model_dump(exclude={"rounds"}),
            "lora": {name: getattr(self._config.lora, name) for name in layers},
            **self._text_stream,
            "seed": seed,
        }

    def pool(self, adapter: str, stream: int, per_class: int) -> CacheKey:
        """Return the key of ``per_class`` images of every class, sampled from noise."""
        return {
            **self._sampler(),
            **self._adapted(adapter),
            "prompts": self.prompts,
            "shape": self._shape,
            "stream": stream,
            "per_class": per_class,
            "batch_size": self._config.generator.batch_size,  # it decides how pixels are rounded
        }

    def images(
        self,
        label: int,
        adapter: str,
        pictures: ImageSet,
        stream: int,
        models: str | None,
        shown: str = "",
    ) -> CacheKey:
        """Return the key of one class's image sequence.

        Args:
            label: the class.
            adapter: digest of the adapter, or 'frozen'.
            pictures: real images that the sequence starts from, may be none.
            stream: seed of the sequence.
            models: digest of the models that steer the sampler, if any do.
            shown: what :meth:`shown` says of the pictures that an IP-Adapter shows; '': none.
        """
        generator = self._config.generator
        key = {
            **self._sampler(),
            **self._adapted(adapter),
            "label": label,
            "prompt": self.prompts[label],
            "shape": self._shape,
            "stream": stream,
            "pictures": "",
        }
        if len(pictures) and generator.image_share > 0:
            digest = _add_pixels(hashlib.sha256(), pictures).hexdigest()
            key["pictures"] = f"{digest}/{generator.image_strength}/{generator.image_share}"
            if pictures.originals is not None:
                key["originals"] = pictures.originals.digest
            # Earlier versions left steps out.
            kind = solver_class(self._configs)
            if goes_by_strength(text_to_image_class(self._configs), kind):
                key["starts"] = "all steps"
        if models is not None:
            steering = self._config.steering
            key["steering"] = f"{models}/{steering.strength}/{steering.limit}"
        if shown:
            key["shown"] = shown
        return key

    def shown(self, pictures: ImageSet, ip_adapter: str) -> str:
        """Return what of an IP-Adapter of digest ``ip_adapter`` that shows ``pictures`` counts."""
        originals = "" if pictures.originals is None else pictures.originals.digest
        scale = self._config.generator.ip_adapter_scale
        seen = f"{_digest_of(pictures)}/{originals}/{self.image_encoder}"
        return f"{seen}/{ip_adapter}/{scale}"

    def _common(self) -> dict[str, object]:
        # Arithmetic depends on threads and device, so results under one name never mix.
        return {
            "generator": self.generator,
            "precision": str(self._precision),
            **self._held,
            **self._read,
            "threads": self._config.threads,
            "device": self._device.type,
        }

    def _sampler(self) -> dict[str, object]:
        config = self._config.generator
        told = {"negative_prompt": config.negative_prompt} if config.negative_prompt else {}
        return (
            self._common()
            | told
            | self._solver
            | {
                "steps": config.steps,
                "guidance": config.guidance,
                "guidance_stop": config.guidance_stop,
                "image_size": config.image_size,
            }
        )

    def _adapted(self, adapter: str) -> dict[str, object]:
        if adapter == "frozen":
            return {"adapter": adapter, "guide": "frozen"}
        # Earlier versions rounded to the nearest, then by a chance that was the device's.
        rounded = {"merged": "by a hash"} if self._held.get("held") == "bf16" else {}
        return {"adapter": adapter, "guide": self._config.generator.guide, **rounded}


def _digest_of(real: ImageSet) -> str:
    digest = hashlib.sha256(str(real.shape).encode())
    digest.update(tensor_bytes(real.labels))
    return _add_pixels(digest, real).hexdigest()


def _add_pixels(digest: hashlib._Hash, images: ImageSet) -> hashlib._Hash:
    """Add all pixels, as if they were one tensor."""
    for each in portions(images.pixels, _AT_ONCE):
        digest.update(tensor_bytes(each))
    return digest
