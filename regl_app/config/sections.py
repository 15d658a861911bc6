"""The groups of keys of a run's configuration, each key documented once, here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


def hyphenated(name: str) -> str:
    """Return a field's name as it is written in a run's configuration."""
    return name.replace("_", "-")


class Section(BaseModel):
    """Base of every group of keys: frozen, no unknown keys, no silent type casts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=hyphenated,
        populate_by_name=True,
        allow_inf_nan=False,
    )


class DataConfig(Section):
    """Where the images come from."""

    source: Literal[
        "digits", "mnist", "fashion-mnist", "emnist", "cifar10", "cifar100", "hub", "folder", "site"
    ] = Field(
        "digits",
        description="data set, spread over the clients; 'digits' is embedded and needs no "
        "download; 'site': each node's own image folder, its data-dir",
    )
    path: str = Field(
        "",
        description="torchvision root (CIFAR: binary version or parquet), hub id or local parquet "
        "folder (source 'hub'), or image folder with one subfolder per class (source 'folder'); "
        "source 'site': image folder at the server to test on, if it has one",
    )
    classes: str = Field(
        "",
        description="source 'site': the federation's classes, comma-separated, in the order of "
        "their labels; a site's subfolders bear these names, and may lack some",
    )
    channels: Literal[1, 3] = Field(
        3, description="source 'site': 3 = colour, 1 = gray; images are converted"
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
    public_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each class's images that no client and no test set gets: public, "
        "for `regl pretrain --source`; the same ones whatever the seeds",
    )
    seed: int = Field(0, ge=0, description="seed of splits and partitions, apart from `seed`")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return ``classes`` one by one."""
        return tuple(name.strip() for name in self.classes.split(",")) if self.classes else ()


class PublicDataConfig(DataConfig):
    """The public part of a source, which the same keys take from every client and test set."""


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
        1.0,
        ge=1,
        description="largest over smallest class, decaying exponentially; 1 = as the source is. "
        "The test set stays; its part of the same long tail is evaluated beside it",
    )


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
    moon_mu: float = Field(1.0, ge=0, description="weight of objective 'moon's contrast")
    moon_temperature: float = Field(0.5, gt=0, description="temperature of 'moon's contrast")
    head_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="'fedrep': share of the local steps that train the head, before the body",
    )


class SupplementConfig(Section):
    """How many synthetic images of which class a client gets, from which adapter."""

    policy: Literal["auto", "none", "equal", "balance", "discrepancy"] = Field(
        "auto", description="what decides the class quotas; 'auto' = as the method says"
    )
    adapter: Literal["auto", "frozen", "lora", "dpo", "guidance"] = Field(
        "auto",
        description="how the generator is adapted: to the client's look ('lora'), by preference to "
        "what it lacks ('dpo'), in the sampler without tuning ('guidance'); 'auto' = as the method "
        "says",
    )
    selection: Literal["auto", "none", "discrepancy"] = Field(
        "auto",
        description="'discrepancy' picks the images on which the client lags most behind the "
        "global model from a pool; 'none' takes the first ones; 'auto' = as the method says",
    )
    site: Literal["auto", "client", "download", "server"] = Field(
        "auto",
        description="who generates: the 'client'; the server, and the client receives images "
        "('download'); the server, which also trains the uploaded models on them ('server'); "
        "'auto' = as the method says",
    )
    transport: Literal["seeds", "images"] = Field(
        "seeds",
        description="'download': 'seeds' sends places in the pool, or an adapter's hash and "
        "places, to clients that have the same generator, and images to others; 'images' always "
        "sends images, compressed without loss",
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
    disagreement: float = Field(
        1.0,
        ge=0,
        description="lambda of the reward: bonus of an image that both models label differently, "
        "in nats",
    )
    filter: bool = Field(
        True,
        description="select images first on which the client is worse and that the global model "
        "can read; off: by reward alone",
    )


class PoolConfig(Section):
    """Candidate images to select from and to form preferences on; the same for all clients."""

    per_class: int = Field(80, ge=1, description="candidates per class")
    seed: int = Field(0, ge=0, description="seed of the pool, equal for all parties")


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

    start: Literal["frozen", "lora"] = Field(
        "frozen",
        description="what is tuned: the frozen generator or the client's own LoRA adapter",
    )
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


class SteeringConfig(Section):
    """Discrepancy guidance: the sampler is pushed to images on which the client lags behind."""

    strength: float = Field(0.5, ge=0, description="w; 0 = bit for bit the frozen sampler")
    limit: float = Field(
        0.2, ge=0, description="largest correction over the norm of the predicted noise"
    )


class ProbeConfig(Section):
    """The synthetic, class-balanced images on which local and global model are compared."""

    per_class: int = Field(20, ge=1, description="probe images per class")
    seed: int = Field(0, ge=0, description="seed of the probe set, equal for all parties")


class PrivacyConfig(Section):
    """What a client tells of its discrepancy vector, from which its labels can be guessed."""

    vector: Literal["server", "client"] = Field(
        "server",
        description="who plans by it: 'client' never sends the vector and plans its own quotas",
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="standard deviation of Gaussian noise on the vector, over its largest length; "
        "0 = none",
    )
    clip: float = Field(1.0, gt=0, description="largest length of the vector under noise")
    delta: float = Field(
        1e-5, gt=0, lt=1, description="delta at which the epsilon of the noise is told"
    )
    reproducible: bool = Field(
        False,
        description="draw the noise from `seed`: repeatable, for comparisons only, as whoever "
        "knows the seed can take it off again",
    )


class ServerConfig(Section):
    """Aggregation and what the server does when clients fail."""

    strategy: Literal[
        "fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fedmedian", "fedtrimmedavg"
    ] = Field("fedavg", description="the Flower strategy that is wrapped")
    fraction: float = Field(1.0, gt=0, le=1, description="share of clients that train each round")
    min_nodes: int = Field(1, ge=1, description="nodes to wait for before a round starts")
    min_replies: int = Field(1, ge=1, description="usable train replies a round needs")
    tune_steps: int = Field(
        10,
        ge=1,
        description="site 'server': steps on synthetic images on each uploaded model",
    )
    tune_lr: float = Field(0.01, gt=0, description="site 'server': learning rate of these steps")
    timeout: float = Field(3600.0, gt=0, description="seconds a phase may take")
    personalized_every: int = Field(
        1, ge=0, description="rounds between personalized evaluations; 0 = last round only"
    )
