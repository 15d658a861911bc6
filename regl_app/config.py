"""The whole configuration of a run: one frozen object, each key documented once, here.

Keys are dotted and hyphenated, as in Flower's run config (``partition.beta``,
``train.batch-size``). ``RunConfig.from_flat`` is the only way in: it refuses an unknown key, a
wrong type, a value out of range or a contradictory pair before any work starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from regl_app.config_errors import explain
from regl_app.errors import ConfigError
from regl_app.presets import PRESETS

Scalar = str | int | float | bool


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")


class Section(BaseModel):
    """Base of every group of keys: frozen, no unknown keys, no silent type casts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=_hyphenated,
        populate_by_name=True,
        allow_inf_nan=False,
    )


class DataConfig(Section):
    """Where the images come from."""

    source: Literal[
        "digits", "mnist", "fashion-mnist", "emnist", "cifar10", "cifar100", "hub", "folder"
    ] = Field("digits", description="data set; 'digits' is embedded and needs no download")
    path: str = Field(
        "",
        description="torchvision root, hub id or local parquet folder (source 'hub'), "
        "or image folder with one subfolder per class (source 'folder')",
    )
    download: bool = Field(False, description="allow downloading what is absent from data.path")
    image_size: int = Field(
        32, ge=8, le=1024, description="side of the square images the classifier sees, in pixels"
    )
    max_train: int = Field(
        0, ge=0, description="keep at most this many training images (stratified); 0 keeps all"
    )
    max_test: int = Field(
        0, ge=0, description="keep at most this many test images (stratified); 0 keeps all"
    )
    test_fraction: float = Field(
        0.3, gt=0, lt=1, description="test share of a source that comes without a test split"
    )
    seed: int = Field(0, ge=0, description="seed of splits and partitions, apart from `seed`")


class PartitionConfig(Section):
    """How the training images are spread over the clients."""

    scheme: Literal["iid", "dirichlet", "pathological", "shard"] = Field(
        "dirichlet", description="label skew across clients"
    )
    beta: float = Field(
        0.1, gt=0, description="concentration of 'dirichlet': 0.01 extreme, 0.1 strong, 10 mild"
    )
    classes_per_client: int = Field(2, ge=1, description="classes a 'pathological' client holds")
    shards_per_client: int = Field(2, ge=1, description="label-sorted shards of a 'shard' client")
    test_fraction: float = Field(
        0.2, ge=0, lt=1, description="share of each client's images kept for personalized tests"
    )


class LongTailConfig(Section):
    """An imbalanced *global* label distribution, before it is split over clients."""

    factor: float = Field(
        1.0, ge=1, description="largest over smallest class, decaying exponentially; 1 = balanced"
    )
    test: bool = Field(False, description="give the test set the same long tail")


class ModelConfig(Section):
    """The classifier that is federated."""

    name: Literal["cnn", "resnet18", "resnet34", "resnet50"] = Field(
        "cnn", description="GroupNorm everywhere: averaging batch statistics would be wrong"
    )
    width: int = Field(32, ge=4, le=512, description="channels of the first 'cnn' stage")


class TrainConfig(Section):
    """Local training in each round."""

    steps: int = Field(
        50, ge=0, description="local steps per round, the same for every method; 0 = use epochs"
    )
    epochs: int = Field(0, ge=0, description="local epochs per round; 0 = use steps")
    batch_size: int = Field(32, ge=1, description="images per step")
    optimizer: Literal["sgd", "adam"] = Field(
        "sgd", description="local optimizer, fresh each round"
    )
    lr: float = Field(0.05, gt=0, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of 'sgd'")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty")
    clip_norm: float = Field(5.0, ge=0, description="largest gradient norm; 0 = no clipping")
    augment: bool = Field(False, description="random shifts by up to an eighth of the side")
    proximal: float = Field(0.01, ge=0, description="mu of objective 'fedprox'")


class SupplementConfig(Section):
    """How many synthetic images of which class a client gets, from which adapter."""

    policy: Literal["auto", "none", "equal", "balance", "discrepancy"] = Field(
        "auto", description="what decides the class quotas; 'auto' = as the method says"
    )
    adapter: Literal["auto", "frozen", "lora"] = Field(
        "auto", description="how the generator is adapted; 'auto' = as the method says"
    )
    site: Literal["auto", "client"] = Field(
        "auto", description="where images are generated; 'auto' = as the method says"
    )
    target: int = Field(
        0,
        ge=0,
        description="images per class that 'balance' tops up to, as far as the budget goes; "
        "0 = client's largest class",
    )
    cap: int = Field(40, ge=0, description="most synthetic images per class and client")
    ratio: float = Field(
        3.0,
        ge=0,
        description="budget of round 1: synthetic images over the client's real ones, at most",
    )
    decay: float = Field(
        0.3,
        ge=0,
        description="beta_s: the budget shrinks by exp(-beta_s) each round; 0 = it stays",
    )
    schedule: Literal["exponential", "constant", "linear"] = Field(
        "exponential",
        description="how the run's total, which ratio and decay set, is spread over its rounds",
    )
    gamma: float = Field(
        1.0, ge=0, description="sharpness of quotas over the discrepancy; 0 = same for all lacking"
    )
    momentum: float = Field(
        0.7,
        ge=0,
        le=1,
        description="'discrepancy': part of the last round's mix that stays; 0 follows d alone",
    )


class GeneratorConfig(Section):
    """The diffusion foundation model and its sampler."""

    path: str = Field(
        "bundled", description="'bundled', a local diffusers pipeline folder, or a hub id"
    )
    prompt: str = Field(
        "a photo of {concept}", description="class prompt; {concept} is e.g. 'the digit three'"
    )
    steps: int = Field(10, ge=1, le=1000, description="denoising steps per image")
    guidance: float = Field(3.0, ge=1, description="classifier-free guidance scale; 1 = off")
    guidance_stop: float = Field(
        0.6,
        ge=0,
        le=1,
        description="share of the steps that are guided, the noisiest first; the rest costs half",
    )
    guide: Literal["adapted", "frozen"] = Field(
        "adapted",
        description="whose direction towards the class guides an adapted generator: its own, or "
        "the frozen model's, which has not forgotten any class (a guided step costs half more)",
    )
    batch_size: int = Field(250, ge=1, description="images denoised at once")
    image_size: int = Field(0, ge=0, description="side of generated images; 0 = the model's own")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="'auto': bf16 where the processor is built for it, else fp32"
    )
    image_conditioning: bool = Field(
        True, description="minority classes also start from the client's own latents (img2img)"
    )
    image_strength: float = Field(
        0.6, gt=0, le=1, description="noise put on a real latent: 1 forgets the image"
    )
    image_share: float = Field(
        0.5, ge=0, le=1, description="share of a minority class sampled from real latents"
    )


class LoraConfig(Section):
    """The client's adapter, fine-tuned on its own images."""

    rank: int = Field(8, ge=1, le=256, description="rank of the update")
    alpha: float = Field(8.0, gt=0, description="scale: the update is multiplied by alpha / rank")
    layers: Literal["convolution", "attention", "all"] = Field(
        "convolution",
        description="what is adapted: convolutions carry the look, attention also what the text "
        "means",
    )
    steps: int = Field(60, ge=1, description="optimizer steps")
    batch_size: int = Field(32, ge=1, description="real images per step")
    lr: float = Field(
        5e-3, gt=0, description="peak learning rate; large checkpoints want about 1e-4"
    )
    min_snr: float = Field(5.0, ge=0, description="gamma of min-SNR loss weighting; 0 = off")
    prior_weight: float = Field(
        0.0, ge=0, description="weight of prior preservation on classes the client lacks; 0 = off"
    )
    min_images: int = Field(
        8, ge=1, description="a client with fewer real images keeps the frozen generator"
    )


class DpoConfig(Section):
    """Preference optimization of the client's adapter towards what the client lacks (FedDPD)."""

    beta: float = Field(
        500.0,
        gt=0,
        description="strength of the pull back to the model that was started from; the paper of "
        "Diffusion-DPO takes 2000 to 5000 for large checkpoints",
    )
    steps: int = Field(40, ge=1, description="optimizer steps, each time the adapter is tuned")
    batch_size: int = Field(16, ge=1, description="pairs of images per step")
    lr: float = Field(
        1e-3, gt=0, description="peak learning rate; large checkpoints want about 1e-5"
    )
    quantile: float = Field(
        0.25,
        gt=0,
        le=0.5,
        description="pairs join this share of a class's best images with the same share of its "
        "worst; 0.5 = halves",
    )
    rounds: int = Field(2, ge=1, description="how many rounds tune, the first that can measure")


class ProbeConfig(Section):
    """The synthetic, class-balanced images on which local and global model are compared."""

    per_class: int = Field(20, ge=1, description="probe images per class")
    seed: int = Field(0, ge=0, description="seed of the probe set, equal for all parties")


class ServerConfig(Section):
    """Aggregation and what the server does when clients fail."""

    strategy: Literal[
        "fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fedmedian", "fedtrimmedavg"
    ] = Field("fedavg", description="the Flower strategy that is wrapped")
    fraction: float = Field(1.0, gt=0, le=1, description="share of clients that train each round")
    min_nodes: int = Field(1, ge=1, description="nodes to wait for before a round starts")
    min_replies: int = Field(1, ge=1, description="usable train replies a round needs")
    timeout: float = Field(3600.0, gt=0, description="seconds a phase may take")
    personalized_every: int = Field(
        1, ge=0, description="rounds between personalized evaluations; 0 = last round only"
    )


class RunConfig(Section):
    """Everything that defines a run. Same configuration, same machine: same result."""

    method: Literal["regl-dpd", "regl", "regl-free", "fedavg", "fedprox", "central"] = Field(
        "regl-dpd", description="preset: a point in policy x adapter x site x objective"
    )
    objective: Literal["auto", "fedavg", "fedprox"] = Field(
        "auto", description="local learning rule; 'auto' = as the method says"
    )
    rounds: int = Field(10, ge=1, description="federated rounds")
    seed: int = Field(0, ge=0, description="seed of models, training, adapters and sampling")
    name: str = Field("", description="run folder's name; '' = method-source-seed, numbered")
    out_dir: str = Field("runs", description="folder that receives the run folder")
    cache_dir: str = Field(
        "", description="adapters and images shared by runs; '' = <user cache>/regl"
    )
    device: str = Field("auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'")
    threads: int = Field(
        1, ge=1, description="CPU threads per client; results depend on it, so it is part of a run"
    )
    share_diagnostics: bool = Field(
        True,
        description="replies carry label histograms and clients write sample pictures into the "
        "run folder, for the report; turn off where labels are private",
    )
    tensorboard: bool = Field(True, description="write TensorBoard scalars and images")
    report: bool = Field(True, description="write report.html at the end")

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    long_tail: LongTailConfig = LongTailConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    supplement: SupplementConfig = SupplementConfig()
    generator: GeneratorConfig = GeneratorConfig()
    lora: LoraConfig = LoraConfig()
    dpo: DpoConfig = DpoConfig()
    probe: ProbeConfig = ProbeConfig()
    server: ServerConfig = ServerConfig()

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> Self:
        """Build the configuration from dotted keys, with the preset of ``method`` expanded.

        Raises:
            ConfigError: names every offending key, its value and what is allowed.
        """
        try:
            return cls.model_validate(_nested(flat))
        except ValidationError as error:
            raise ConfigError(explain(error, fields=dict(flat_fields(cls)))) from None

    @classmethod
    def from_any(cls, config: Mapping[str, Any]) -> Self:
        """Build the configuration from nested tables, dotted keys or a mixture."""
        return cls.from_flat(dict(_flatten(config)))

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        method = values.get("method", "regl-dpd")
        preset = PRESETS.get(method) if isinstance(method, str) else None
        if preset is None:
            return values  # an unknown method is reported by its own field
        values = dict(values)
        if values.get("objective", "auto") == "auto":
            values["objective"] = preset.objective
        section = values.get("supplement", {})
        if isinstance(section, SupplementConfig):
            section = section.model_dump()
        elif not isinstance(section, dict):
            return values  # likewise
        section = dict(section)
        for key in ("policy", "adapter", "site"):
            if section.get(key, "auto") == "auto":
                section[key] = getattr(preset, key)
        values["supplement"] = section
        return values

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(
                f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {self.device!r}"
            )
        if (self.train.steps == 0) == (self.train.epochs == 0):
            raise ValueError(
                "exactly one of train.steps and train.epochs must be > 0, got "
                f"train.steps={self.train.steps} and train.epochs={self.train.epochs} "
                "(set the other one to 0)"
            )
        if self.supplement.policy == "none" and self.supplement.adapter == "lora":
            raise ValueError(
                "supplement.policy='none' contradicts supplement.adapter='lora': an adapter "
                "without synthetic images is never used (set supplement.adapter='frozen')"
            )
        if self.method == "central" and self.supplement.policy != "none":
            raise ValueError(
                "method='central' is the upper bound on real data and takes no supplement, got "
                f"supplement.policy={self.supplement.policy!r} (use 'auto')"
            )
        if self.data.source == "folder" and not self.data.path:
            raise ValueError("data.source='folder' needs data.path, the folder of class folders")
        if self.data.source == "hub" and not self.data.path:
            raise ValueError("data.source='hub' needs data.path, a hub id or a parquet folder")
        if "{concept}" not in self.generator.prompt:
            raise ValueError(
                "generator.prompt must contain '{concept}', got "
                f"{self.generator.prompt!r} (try 'a photo of {{concept}}')"
            )
        if self.server.min_replies > self.server.min_nodes and self.server.min_nodes > 1:
            raise ValueError(
                f"server.min-replies={self.server.min_replies} can never be reached when a round "
                f"may start with server.min-nodes={self.server.min_nodes}"
            )
        return self

    @property
    def uses_generator(self) -> bool:
        """Whether clients synthesize images in this run."""
        return self.supplement.policy != "none" and self.supplement.cap > 0

    def to_flat(self) -> dict[str, Scalar]:
        """Return every key, dotted and hyphenated, with its resolved value."""
        return dict(_flatten(self.model_dump(by_alias=True)))

    def updated(self, changes: Mapping[str, Scalar]) -> Self:
        """Return a copy with dotted keys replaced and validated again.

        A new ``method`` re-expands its preset unless the preset's keys are among ``changes``.
        """
        flat = self.to_flat()
        if "method" in changes:
            for key in ("objective", "supplement.policy", "supplement.adapter", "supplement.site"):
                flat[key] = "auto"
        return self.from_flat(flat | dict(changes))


def flat_fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted key, FieldInfo)`` for every leaf key, in the order of declaration."""
    for name, field in section.model_fields.items():
        key = prefix + _hyphenated(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from flat_fields(field.annotation, key + ".")
        else:
            yield key, field


def default_flat() -> dict[str, Scalar]:
    """Return the unexpanded defaults of every key: what ``pyproject.toml`` lists for Flower."""
    return {key: field.default for key, field in flat_fields(RunConfig)}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _nested(flat: Mapping[str, Scalar]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key}: {section} is a key, not a group of keys")
        if isinstance(table.get(leaf), dict):
            raise ConfigError(f"{key} is a group of keys, got the single value {value!r}")
        table[leaf] = value
    return nested
