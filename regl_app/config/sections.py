"""The groups of keys of a run's configuration, each key documented once, here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from regl_app.config.augmentations import Augmentations, augmentations
from regl_app.config.choices import SCHEMES, SOURCES
from regl_app.config.model_name import ModelName
from regl_app.config.name_list import parse_names
from regl_app.config.one_of import OneOf
from regl_app.config.section import RESULT, Section

FitRule = Literal["crop", "pad", "stretch"]
DepthRule = Literal["auto", "range", "unit", "8-bit", "10-bit", "12-bit", "14-bit", "16-bit"]
UnreadableRule = Literal["refuse", "skip"]


class DataConfig(Section):
    """Where the images come from."""

    source: Annotated[str, OneOf.of(SOURCES)] = Field(
        "digits",
        description="data set, spread over the clients; 'digits' is embedded and needs no "
        "download; 'site': each node's own image folder, its data-dir",
        json_schema_extra=RESULT,
    )
    path: str = Field(
        "",
        description="root of a data set known by name (docs/data.md: how it lies there), hub id "
        "('owner/name@revision:configuration') or local parquet folder (source 'hub'), or image "
        "folder with one subfolder per class (source 'folder'); "
        "source 'site': image folder at the server to test on, if it has one",
        json_schema_extra=RESULT,
    )
    splits: str = Field(
        "",
        description="source 'hub': splits to train and to test on, 'train,validation' say; of one "
        "name alone a part is split off to test on; '' = train, and the first labelled one of "
        "test, validation, dev and the like",
        json_schema_extra=RESULT,
    )
    columns: str = Field(
        "",
        description="source 'hub': columns of images and of labels, 'image,label' say; '' = by "
        "their types and usual names",
        json_schema_extra=RESULT,
    )
    classes: str = Field(
        "",
        description="source 'site': the federation's classes, comma-separated or a JSON list, in "
        "the order of their labels; a site's subfolders bear these names, and may lack some",
        json_schema_extra=RESULT,
    )
    channels: Literal[1, 3] = Field(
        3,
        description="source 'site': 3 = colour, 1 = gray; images are converted",
        json_schema_extra=RESULT,
    )
    download: bool = Field(
        False,
        description="allow downloading what is absent from data.path",
        json_schema_extra=RESULT,
    )
    image_size: int = Field(
        32,
        ge=8,
        le=1024,
        description="side of the square images the classifier sees, in pixels; a generator of "
        "larger ones is tuned on the pictures at its own size",
        json_schema_extra=RESULT,
    )
    fit: FitRule = Field(
        "crop",
        description="how pictures become squares, for classifier and generator: 'crop' cuts off "
        "both ends of the longer side, 'pad' adds black along it, 'stretch' gives up the "
        "proportions",
        json_schema_extra=RESULT,
    )
    depth: DepthRule = Field(
        "auto",
        description="which values of deep greyscale (16-bit, float) are black and white, for all "
        "pictures alike: '12-bit' 0 to 4095, 'unit' 0 to 1, 'range' the lowest and the highest of "
        "the set, 'auto' the least of 8, 12 and 16 bits that holds it, or 'unit', or 'range' "
        "(docs/data.md)",
        json_schema_extra=RESULT,
    )
    unreadable: UnreadableRule = Field(
        "refuse",
        description="picture files that cannot be decoded: 'refuse' names them and reads nothing, "
        "'skip' leaves them out and counts them",
        json_schema_extra=RESULT,
    )
    max_train: int = Field(
        0,
        ge=0,
        description="keep at most this many training images (stratified); 0 keeps all",
        json_schema_extra=RESULT,
    )
    max_test: int = Field(
        0,
        ge=0,
        description="keep at most this many test images (stratified); 0 keeps all",
        json_schema_extra=RESULT,
    )
    test_fraction: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="test share of a source that comes without a test split",
        json_schema_extra=RESULT,
    )
    public_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each class's images that no client and no test set gets: public, "
        "for `regl pretrain --source`; the same ones whatever the seeds",
        json_schema_extra=RESULT,
    )
    seed: int = Field(
        0,
        ge=0,
        description="seed of splits and partitions, apart from `seed`",
        json_schema_extra=RESULT,
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return ``classes`` one by one.

        Raises:
            ValueError: they begin with ``[`` and are no JSON list of texts.
        """
        return parse_names(self.classes)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Return ``splits`` one by one."""
        return _names(self.splits)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return ``columns`` one by one."""
        return _names(self.columns)

    @property
    def local(self) -> bool:
        """Whether each node has images of its own, and nobody has all."""
        return SOURCES[self.source].local


class PublicDataConfig(DataConfig):
    """The public part of a source, which the same keys take from every client and test set."""


Range = tuple[float, float]
"""Values of black and white."""


class DataReadAlike(DataConfig):
    """Data whose deep greyscale is read as that of an earlier set was.

    ``scales`` are those of whole numbers and of floats; None where ``depth`` decides.
    """

    scales: tuple[Range | None, Range | None] = (None, None)


class PartitionConfig(Section):
    """How the training images are spread over the clients."""

    scheme: Annotated[str, OneOf.of(SCHEMES)] = Field(
        "dirichlet",
        description="who holds what: skew of labels or of sizes, a column of the data set, a "
        "file, or a partitioner of flwr-datasets (docs/data.md)",
        json_schema_extra=RESULT,
    )
    beta: float = Field(
        0.01,
        gt=0,
        description="concentration of 'dirichlet', 'dirichlet-balanced' (labels) and 'quantity' "
        "(sizes): 0.01 extreme, 0.1 strong, 10 mild",
        json_schema_extra=RESULT,
    )
    min_size: int = Field(
        0,
        ge=0,
        description="'dirichlet', 'quantity': least number of images of a client, its test part "
        "included; drawn again until all have them. 0 = as drawn",
        json_schema_extra=RESULT,
    )
    column: str = Field(
        "",
        description="'column': the column whose values are clients, 'writer' say; of an image "
        "folder one of its metadata.csv",
        json_schema_extra=RESULT,
    )
    file: str = Field(
        "",
        description="'file': CSV or JSON that says whose each row or picture file is, as `regl "
        "partition --write` makes it",
        json_schema_extra=RESULT,
    )
    partitioner: str = Field(
        "",
        description="'flwr': a partitioner of flwr-datasets, 'InnerDirichletPartitioner' say",
        json_schema_extra=RESULT,
    )
    arguments: str = Field(
        "",
        description="'flwr': its arguments as a JSON object; number of clients, seed and label "
        "column are filled in",
        json_schema_extra=RESULT,
    )
    classes_per_client: int = Field(
        2, ge=1, description="classes a 'pathological' client holds", json_schema_extra=RESULT
    )
    shards_per_client: int = Field(
        2, ge=1, description="label-sorted shards of a 'shard' client", json_schema_extra=RESULT
    )
    looks: str = Field(
        "",
        description="feature shift: looks of the clients' images in turn, by commas, such as "
        "'plain,rotated:90,inverted+blurred' (docs/data.md); the server's test set is their "
        "mixture; '' = as the images are",
        json_schema_extra=RESULT,
    )
    test_fraction: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of each client's images kept for personalized tests",
        json_schema_extra=RESULT,
    )

    @property
    def words(self) -> str:
        """What a report calls this partition."""
        least = f", at least {self.min_size} images each" if self.min_size else ""
        looks = f", seen {self.looks}" if self.looks else ""
        return SCHEMES[self.scheme].words.format(**self.model_dump()) + least + looks

    @property
    def argument_values(self) -> dict[str, Any]:
        """Return ``arguments`` by name.

        Raises:
            ValueError: they are no JSON object.
        """
        found = json.loads(self.arguments or "{}")
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return found


class LongTailConfig(Section):
    """An imbalanced *global* label distribution, before it is split over clients."""

    factor: float = Field(
        1.0,
        ge=1,
        description="largest over smallest class, decaying exponentially; 1 = as the source is. "
        "The test set stays; its part of the same long tail is evaluated beside it",
        json_schema_extra=RESULT,
    )


class ModelConfig(Section):
    """The classifier that is federated."""

    name: Annotated[str, ModelName()] = Field(
        "cnn",
        description="a classifier of ours, of torchvision, of timm (extra `timm`), or a class of "
        "your own (docs/models.md); no batch statistics are averaged, see model.norm",
        json_schema_extra=RESULT,
    )
    weights: str = Field(
        "",
        description="what the global model starts from, at the server: a .safetensors file, of an "
        "earlier run or pretrained, or the hub's ('owner/name@revision', of timm's models 'hub'); "
        "'' = random weights from the seed",
        json_schema_extra=RESULT,
    )
    norm: Literal["auto", "group", "frozen"] = Field(
        "auto",
        description="what becomes of others' BatchNorm: 'group' = GroupNorm, 'frozen' = the "
        "pretrained statistics stay as they are; 'auto' = frozen with model.weights, else group",
        json_schema_extra=RESULT,
    )
    input_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="side in pixels to which others' models are given the images, scaled; 0 = "
        "data.image-size",
        json_schema_extra=RESULT,
    )
    width: int = Field(
        32, ge=4, le=512, description="channels of the first 'cnn' stage", json_schema_extra=RESULT
    )

    @property
    def freezes(self) -> bool:
        """Whether others' BatchNorm keeps the statistics that it comes with."""
        return self.norm == "frozen" or (self.norm == "auto" and self.weights != "")


class TrainConfig(Section):
    """Local training in each round."""

    steps: int = Field(
        50,
        ge=0,
        description="local steps per round, the same for every method; 0 = use epochs",
        json_schema_extra=RESULT,
    )
    epochs: int = Field(
        0, ge=0, description="local epochs per round; 0 = use steps", json_schema_extra=RESULT
    )
    batch_size: int = Field(32, ge=1, description="images per step", json_schema_extra=RESULT)
    real_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="least part of a step's images that is real, where a client has both kinds; "
        "0 = as they come",
        json_schema_extra=RESULT,
    )
    optimizer: Literal["sgd", "adam"] = Field(
        "sgd", description="local optimizer, fresh each round", json_schema_extra=RESULT
    )
    lr: float = Field(0.05, gt=0, description="learning rate", json_schema_extra=RESULT)
    schedule: Literal["constant", "cosine", "step", "exponential"] = Field(
        "constant",
        description="learning rate over rounds: 'cosine' falls to almost 0 in the last round, "
        "'step' is train.decay times as high after each train.decay-every rounds, 'exponential' "
        "gets there smoothly",
        json_schema_extra=RESULT,
    )
    warmup_rounds: int = Field(
        0,
        ge=0,
        description="rounds in which the learning rate rises evenly to train.lr, before its "
        "schedule",
        json_schema_extra=RESULT,
    )
    decay: float = Field(
        0.5,
        gt=0,
        le=1,
        description="factor of schedules 'step' and 'exponential'",
        json_schema_extra=RESULT,
    )
    decay_every: int = Field(
        10, ge=1, description="rounds in which they come to that factor", json_schema_extra=RESULT
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum of 'sgd'", json_schema_extra=RESULT
    )
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty", json_schema_extra=RESULT)
    clip_norm: float = Field(
        5.0, ge=0, description="largest gradient norm; 0 = no clipping", json_schema_extra=RESULT
    )
    augment: Annotated[bool | str, Augmentations()] = Field(
        False,
        description="how training images are varied, in this order: 'shift' (also: true) by up to "
        "an eighth of the side, 'flip', 'vertical-flip', 'crop' and scale, 'rotate' by up to 15 "
        "degrees, 'colour' (of gray ones brightness and contrast); 'flip,crop' say",
        json_schema_extra=RESULT,
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="'balanced': images weigh by how rare their class is among those that the "
        "client trains on in the round",
        json_schema_extra=RESULT,
    )
    proximal: float = Field(
        0.01, ge=0, description="mu of objective 'fedprox'", json_schema_extra=RESULT
    )
    moon_mu: float = Field(
        1.0, ge=0, description="weight of objective 'moon's contrast", json_schema_extra=RESULT
    )
    moon_temperature: float = Field(
        0.5, gt=0, description="temperature of 'moon's contrast", json_schema_extra=RESULT
    )
    fedlc_tau: float = Field(
        0.5,
        ge=0,
        description="objective 'fedlc': how far rare classes' logits are lowered; the paper names "
        "no value, this is that of Flower's baseline",
        json_schema_extra=RESULT,
    )
    fedrs_alpha: float = Field(
        0.5,
        ge=0,
        le=1,
        description="objective 'fedrs': factor of absent classes' logits; 1 = as 'fedavg'",
        json_schema_extra=RESULT,
    )
    fedntd_beta: float = Field(
        1.0,
        ge=0,
        description="weight of objective 'fedntd's distillation",
        json_schema_extra=RESULT,
    )
    fedntd_tau: float = Field(
        1.0, gt=0, description="temperature of 'fedntd's distillation", json_schema_extra=RESULT
    )
    head_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="'fedrep': share of the local steps that train the head, before the body",
        json_schema_extra=RESULT,
    )

    @property
    def augmentations(self) -> tuple[str, ...]:
        """Return the names in ``augment``, in their order."""
        return augmentations(self.augment)

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate changes from round to round."""
        return self.schedule != "constant" or self.warmup_rounds > 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))
