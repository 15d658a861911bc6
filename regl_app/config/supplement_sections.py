"""The groups of keys of the supplement: what is generated, how, and what of it is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regl_app.config.choices import ADAPTERS, POLICIES, REWARDS, SCHEDULES, SITES
from regl_app.config.one_of import OneOf
from regl_app.config.or_auto import AUTO, OrAuto
from regl_app.config.section import RESULT, VIEW, Section

NONE = "none"
CLASSIFIER = "classifier"
TORCH_FIDELITY = "torch-fidelity"


class SupplementConfig(Section):
    """How many synthetic images of which class a client gets, from which adapter."""

    policy: Annotated[str, OneOf.of(POLICIES, "auto")] = Field(
        "auto",
        description="what decides the class quotas; 'auto' = as the method says",
        json_schema_extra=RESULT,
    )
    adapter: Annotated[str, OneOf.of(ADAPTERS, "auto")] = Field(
        "auto",
        description="how the generator is adapted: to the client's look ('lora'), to all clients' "
        "looks by one adapter that they tune together ('shared'), by preference to what a client "
        "lacks ('dpo'), in the sampler without tuning ('guidance'); 'auto' = as the method says",
        json_schema_extra=RESULT,
    )
    selection: Literal["auto", "none", "discrepancy"] = Field(
        "auto",
        description="'discrepancy' picks the images on which the client lags most behind the "
        "global model from a pool; 'none' takes the first ones; 'auto' = as the method says",
        json_schema_extra=RESULT,
    )
    site: Annotated[str, OneOf.of(SITES, "auto")] = Field(
        "auto",
        description="who generates: the 'client'; the server, and the client receives images "
        "('download'); the server, which also trains the uploaded models on them ('server'); "
        "'auto' = as the method says",
        json_schema_extra=RESULT,
    )
    transport: Literal["seeds", "images"] = Field(
        "seeds",
        description="'download': 'seeds' sends places in the pool, or an adapter's hash and "
        "places, to clients that have the same generator, and images to others; 'images' always "
        "sends images, compressed without loss",
        json_schema_extra=RESULT,
    )
    target: int = Field(
        0,
        ge=0,
        description="images per class that 'balance' tops up to, as far as the budget goes; "
        "0 = client's largest class",
        json_schema_extra=RESULT,
    )
    cap: int = Field(
        40, ge=0, description="most synthetic images per class and client", json_schema_extra=RESULT
    )
    ratio: float = Field(
        3.0,
        ge=0,
        description="budget of round 1: synthetic images over the client's real ones, at most",
        json_schema_extra=RESULT,
    )
    decay: float = Field(
        0.3,
        ge=0,
        description="beta_s: the budget shrinks by exp(-beta_s) each round that a client is "
        "asked in, in the mean (server.fraction); 0 = it stays",
        json_schema_extra=RESULT,
    )
    schedule: Annotated[str, OneOf.of(SCHEDULES)] = Field(
        "exponential",
        description="how the run's total, which ratio and decay set, is spread over its rounds",
        json_schema_extra=RESULT,
    )
    gamma: float = Field(
        1.0,
        ge=0,
        description="sharpness of quotas over the discrepancy; 0 = same for all lacking",
        json_schema_extra=RESULT,
    )
    momentum: float = Field(
        0.7,
        ge=0,
        le=1,
        description="'discrepancy': part of the last round's mix that stays; 0 follows d alone",
        json_schema_extra=RESULT,
    )
    disagreement: float = Field(
        1.0,
        ge=0,
        description="lambda of the reward: bonus of an image that both models label differently, "
        "in nats",
        json_schema_extra=RESULT,
    )
    filter: bool = Field(
        True,
        description="select images first on which the client is worse and that the global model "
        "can read; off: by reward alone",
        json_schema_extra=RESULT,
    )
    match: Literal["none", "spectrum"] = Field(
        "none",
        description="'spectrum' gives a client's synthetic images the mean spectrum of its own: as "
        "bright, as smooth and as rich in contrast, without tuning (docs/teaching-results.md)",
        json_schema_extra=RESULT,
    )
    measure: bool = Field(
        True,
        description="measure fidelity, diversity and near-copies of the synthetic images that "
        "clients train on, in rounds 1, 2, 4, 8, ...",
        json_schema_extra=VIEW,
    )
    distance: str = Field(
        "none",
        description="also measure FID and KID of a client's synthetic images, by features of the "
        "run's classifier ('classifier'), of torchvision's Inception v3 (path of a .safetensors "
        "file), or those of published FIDs ('torch-fidelity', the extra 'fid'); 'none': neither "
        "(docs/checkpoints.md)",
        json_schema_extra=VIEW,
    )

    @property
    def distance_file(self) -> str:
        """Return the path that ``distance`` is, '' if it is none."""
        return "" if self.distance in (NONE, CLASSIFIER, TORCH_FIDELITY) else self.distance

    @property
    def selects(self) -> bool:
        """Whether images are selected from candidates."""
        return self.selection != "none"


class PoolConfig(Section):
    """Candidate images to select from and to form preferences on; the same for all clients."""

    per_class: Annotated[int, Field(ge=1), OrAuto()] = Field(
        80, description="candidates per class", json_schema_extra=RESULT
    )
    seed: int = Field(
        0, ge=0, description="seed of the pool, equal for all parties", json_schema_extra=RESULT
    )


AS_NAMED = "names"
"""``generator.prompts``: the classes are what they are called, also where that is a number."""


def prompts_are_inside(prompts: str) -> bool:
    """Return whether ``generator.prompts`` is the table itself, no path."""
    return prompts.lstrip().startswith("{")


class GeneratorConfig(Section):
    """The diffusion foundation model and its sampler."""

    path: str = Field(
        "bundled",
        description="'bundled', a diffusers pipeline folder, a checkpoint's one .safetensors file "
        "(its configs in the folder of the same name beside it), or a hub id, 'owner/name' or "
        "'owner/name@revision', from the hub's cache if it is there",
        json_schema_extra=RESULT,
    )
    prompt: str = Field(
        "a photo of {concept}",
        description="class prompt; {concept} is e.g. 'the digit three'",
        json_schema_extra=RESULT,
    )
    prompts: str = Field(
        "",
        description="what {concept} is, class by class: a CSV file (class,prompt) or JSON file "
        '({"class": "text"} or {"class": ["texts", "used in turn"]}), or that JSON; \'\' = as the '
        "classes are called; 'names' = likewise, and numbers are meant as digits",
        json_schema_extra=RESULT,
    )
    negative_prompt: str = Field(
        "",
        description="what guidance leads away from; '' = the empty prompt",
        json_schema_extra=RESULT,
    )
    steps: Annotated[int, Field(ge=1, le=1000), OrAuto()] = Field(
        10, description="denoising steps per image", json_schema_extra=RESULT
    )
    guidance: Annotated[float, Field(ge=1), OrAuto()] = Field(
        3.0, description="classifier-free guidance scale; 1 = off", json_schema_extra=RESULT
    )
    guidance_stop: Annotated[float, Field(ge=0, le=1), OrAuto()] = Field(
        0.6,
        description="share of the steps that are guided, the noisiest first; the rest costs half",
        json_schema_extra=RESULT,
    )
    guide: Literal["adapted", "frozen"] = Field(
        "adapted",
        description="whose direction towards the class guides an adapted generator: its own, or "
        "the frozen model's, which has not forgotten any class (a guided step costs half more)",
        json_schema_extra=RESULT,
    )
    batch_size: Annotated[int, Field(ge=1), OrAuto()] = Field(
        250, description="images denoised at once", json_schema_extra=RESULT
    )
    image_size: int = Field(
        0,
        ge=0,
        description="side of generated images; 0 = the model's own",
        json_schema_extra=RESULT,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="'auto': bf16 where the device is built for it; fp16 on older GPUs for large "
        "UNets; else fp32",
        json_schema_extra=RESULT,
    )
    image_conditioning: bool = Field(
        True,
        description="minority classes also start from the client's own latents (img2img)",
        json_schema_extra=RESULT,
    )
    image_strength: float = Field(
        0.6,
        gt=0,
        le=1,
        description="noise put on a real latent: 1 forgets the image",
        json_schema_extra=RESULT,
    )
    image_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of a minority class sampled from real latents",
        json_schema_extra=RESULT,
    )
    image_encoder: str = Field(
        "auto",
        description="what reads pictures for image tokens and IP-Adapter: a transformers model "
        "(CLIP, SigLIP, DINOv2) with safetensors, as a folder or hub id; 'auto' = the checkpoint's "
        "own, where its pipeline has one, else its VAE",
        json_schema_extra=RESULT,
    )

    ip_adapter: str = Field(
        "",
        description="IP-Adapter of Stable Diffusion 1, 2 or XL (.safetensors), which shows the "
        "generator a picture of the client's beside each prompt, by generator.image-encoder; '' = "
        "none",
        json_schema_extra=RESULT,
    )
    ip_adapter_scale: float = Field(
        0.5,
        ge=0,
        le=2,
        description="how much the picture counts beside the prompt",
        json_schema_extra=RESULT,
    )

    @property
    def named_image_encoder(self) -> str:
        """Return the folder or hub id that ``image_encoder`` is, '' if it is none."""
        return "" if self.image_encoder == AUTO else self.image_encoder


class LoraConfig(Section):
    """The client's adapter, fine-tuned on its own images; likewise its part in a shared one."""

    rank: Annotated[int, Field(ge=1, le=256), OrAuto()] = Field(
        8, description="rank of the update", json_schema_extra=RESULT
    )
    alpha: Annotated[float, Field(gt=0), OrAuto()] = Field(
        8.0,
        description="scale: the update is multiplied by alpha / rank",
        json_schema_extra=RESULT,
    )
    layers: Annotated[Literal["convolution", "attention", "all"], OrAuto()] = Field(
        "convolution",
        description="what is adapted: convolutions (feed-forward layers of transformers) carry the "
        "look, attention also what the text means; in SD 3 and FLUX it has the text's own stream, "
        "whose feed-forward layers are in 'all' alone",
        json_schema_extra=RESULT,
    )
    steps: Annotated[int, Field(ge=1), OrAuto()] = Field(
        60, description="optimizer steps", json_schema_extra=RESULT
    )
    batch_size: Annotated[int, Field(ge=1), OrAuto()] = Field(
        32, description="real images per step", json_schema_extra=RESULT
    )
    lr: Annotated[float, Field(gt=0), OrAuto()] = Field(
        5e-3,
        description="peak learning rate",
        json_schema_extra=RESULT,
    )
    min_snr: float = Field(
        5.0, ge=0, description="gamma of min-SNR loss weighting; 0 = off", json_schema_extra=RESULT
    )
    prior_weight: float = Field(
        0.0,
        ge=0,
        description="weight of prior preservation on classes the client lacks; 0 = off",
        json_schema_extra=RESULT,
    )
    min_images: int = Field(
        8,
        ge=1,
        description="a client with fewer real images keeps the frozen generator, or has no part in "
        "tuning a 'shared' adapter",
        json_schema_extra=RESULT,
    )
    image_tokens: int = Field(
        0,
        ge=0,
        le=64,
        description="text tokens made of image features, tuned with the adapter, that tell the "
        "generator how a picture of the client's looks beside what it shows; 0 = none",
        json_schema_extra=RESULT,
    )
    rounds: int = Field(
        3,
        ge=1,
        description="'shared': how often all clients tune and the server averages, before round 1",
        json_schema_extra=RESULT,
    )


class DpoConfig(Section):
    """Preference optimization of the client's adapter towards what the client lacks (FedDPD)."""

    start: Literal["frozen", "lora"] = Field(
        "frozen",
        description="what is tuned: the frozen generator or the client's own LoRA adapter",
        json_schema_extra=RESULT,
    )
    reward: Annotated[str, OneOf.of(REWARDS)] = Field(
        "reading",
        description="which of two images of a class wins: the one that the global model reads more "
        "surely as meant ('reading'), or the one that the client lacks more ('discrepancy', as in "
        "FedDPD)",
        json_schema_extra=RESULT,
    )
    beta: Annotated[float, Field(gt=0), OrAuto()] = Field(
        10.0,
        description="strength of the pull back to the model that was started from; the paper of "
        "Diffusion-DPO takes 2000 to 5000 for large checkpoints",
        json_schema_extra=RESULT,
    )
    steps: Annotated[int, Field(ge=1), OrAuto()] = Field(
        60,
        description="optimizer steps, each time the adapter is tuned",
        json_schema_extra=RESULT,
    )
    batch_size: Annotated[int, Field(ge=1), OrAuto()] = Field(
        16, description="pairs of images per step", json_schema_extra=RESULT
    )
    lr: Annotated[float, Field(gt=0), OrAuto()] = Field(
        3e-3,
        description="peak learning rate",
        json_schema_extra=RESULT,
    )
    quantile: float = Field(
        0.25,
        gt=0,
        le=0.5,
        description="pairs join this share of a class's best images with the same share of its "
        "worst; 0.5 = halves",
        json_schema_extra=RESULT,
    )
    rounds: int = Field(
        2,
        ge=1,
        description="how many rounds tune, the first that can measure",
        json_schema_extra=RESULT,
    )


class SteeringConfig(Section):
    """Discrepancy guidance: the sampler is pushed to images on which the client lags behind."""

    strength: float = Field(
        0.5, ge=0, description="w; 0 = bit for bit the frozen sampler", json_schema_extra=RESULT
    )
    limit: float = Field(
        0.2,
        ge=0,
        description="largest correction over the norm of the predicted noise",
        json_schema_extra=RESULT,
    )


class ProbeConfig(Section):
    """The synthetic, class-balanced images on which local and global model are compared."""

    per_class: int = Field(20, ge=1, description="probe images per class", json_schema_extra=RESULT)
    seed: int = Field(
        0,
        ge=0,
        description="seed of the probe set, equal for all parties",
        json_schema_extra=RESULT,
    )


class PrivacyConfig(Section):
    """What a client tells of its discrepancy vector, from which its labels can be guessed."""

    vector: Literal["server", "client"] = Field(
        "server",
        description="who plans by it: 'client' never sends the vector and plans its own quotas",
        json_schema_extra=RESULT,
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="standard deviation of Gaussian noise on the vector, over its largest length; "
        "0 = none",
        json_schema_extra=RESULT,
    )
    clip: float = Field(
        1.0, gt=0, description="largest length of the vector under noise", json_schema_extra=RESULT
    )
    histogram_noise: float = Field(
        4.0,
        gt=0,
        description="teaching.say='noisy': standard deviation of Gaussian noise on each label "
        "count, in images",
        json_schema_extra=RESULT,
    )
    delta: float = Field(
        1e-5,
        gt=0,
        lt=1,
        description="delta at which the epsilon of the noise is told",
        json_schema_extra=RESULT,
    )
    reproducible: bool = Field(
        False,
        description="draw the noise from `seed`: repeatable, for comparisons only, as whoever "
        "knows the seed can take it off again",
        json_schema_extra=RESULT,
    )
