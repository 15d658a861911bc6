"""What keys may name, and the facts about each that checks and rounds ask for.

A choice is a line here. Code asks for a fact (``SOURCES[name].local``), not for a name, so that
another source that is local needs no other change. An implementation is a dotted name, imported on
first use (``regl_app.core.dotted``): the configuration stays light. Policies, adapters and sites
have none, as theirs differ in what they are given: ``supplement/plan.py``, ``adapter_tuning.py``
and ``rounds/sites/registry.py`` choose by the facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class MethodChoice:
    """A local learning rule: a ``Method`` that is made of a ``TrainConfig``."""

    implementation: str
    shares_whole_model: bool = True
    """Nothing of the model stays at the client, so that others can judge what it uploads."""
    needs_sgd: bool = False
    """It corrects the steps of plain SGD."""
    tells_statistics: bool = False
    """Clients send label counts and statistics of their features, which nothing guards."""
    corrects_label_counts: bool = False
    """Its loss makes up for what a client has more or fewer images of."""
    weighs_classes: bool = True
    """Its loss is ``Method.cross_entropy`` at heart, which ``train.class-weights`` weighs."""


@dataclass(frozen=True)
class SourceChoice:
    """A data source: a function from a ``DataConfig`` to a ``Source``."""

    implementation: str
    local: bool = False
    """Each node has images of its own; there is nothing to partition."""
    path: str = ""
    """What ``data.path`` must be; '' where it may be empty."""
    placed: bool = False
    """Which data set it is depends on ``data.path``; the others are the same wherever they lie."""
    remote: bool = False
    """``data.path`` may be an id that is no path."""
    links: bool = False
    """Its functions also take the folders that links below ``data.path`` may lead into."""
    files: str = ""
    """A function from a ``DataConfig`` to the files that the source reads; '' where it has none."""
    stores: bool = False
    """Its function also takes the store where decoded pictures are kept."""
    takes: tuple[str, ...] = ()
    """Fields of the ``data`` section that may be set for it, and for no source without them."""


@dataclass(frozen=True)
class SchemeChoice:
    """A partition of the training images: a function of rows, keys, clients and seed."""

    implementation: str
    words: str
    """What a report calls it, with the ``partition`` section's fields in braces."""
    needs: tuple[str, ...] = ()
    """Fields of the ``partition`` section that must be set for it, and for no other scheme."""
    takes: tuple[str, ...] = ()
    """Fields that may be set for it, and for no other scheme that does not take them."""
    check: str = ""
    """A function of keys and clients that refuses what no images could make right."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields that mean something to it and not to every scheme."""
        return (*self.needs, *self.takes)


@dataclass(frozen=True)
class ModelChoice:
    """A ``Classifier``, made by its ``of`` of ``(config, classes, channels, image size)``."""

    implementation: str


@dataclass(frozen=True)
class PolicyChoice:
    """What decides the class quotas."""

    generates: bool = True
    """There are synthetic images at all."""
    needs_labels: bool = False
    """It is planned from label counts, after the first measurement too."""
    measures: bool = False
    """It is planned from the discrepancy vector."""
    uniform: bool = False
    """All classes get the same."""


@dataclass(frozen=True)
class ScheduleChoice:
    """A split of the run's total over its rounds, made of FedDPD's split."""

    implementation: str


@dataclass(frozen=True)
class AdapterChoice:
    """How the generator is adapted."""

    unchanged: bool = False
    """It is as it came, the same for everybody."""
    needs_client_images: bool = False
    """It is tuned on them."""
    for_all: bool = False
    """All clients tune one together, before round 1: it leaves them."""
    starts_as_told: bool = False
    """It goes on from another adapter, which ``dpo.start`` names."""
    compares_models: bool = False
    """It needs the client's model and the global one."""
    uses_pool: bool = False
    """It is tuned by preferences on the pool."""


@dataclass(frozen=True)
class RewardChoice:
    """What makes an image a winner: a function of ``(predictions, disagreement)`` to rewards."""

    implementation: str


@dataclass(frozen=True)
class SiteChoice:
    """Who generates."""

    at_client: bool = False
    sends_images: bool = False
    """The server generates, and clients train on what it sends, from round 2 on."""


@dataclass(frozen=True)
class LabelsChoice:
    """What synthetic images are labelled by."""

    words: str
    """What a log or a report calls it."""
    soft: bool = False
    """A model's opinion of each image is mixed in."""
    needs_uploads: bool = False
    """It is that of the clients' last models, which only the server has."""


@dataclass(frozen=True)
class SayChoice:
    """What the server takes a client to hold of a class, on which its say in that class rests.

    A function from ``(start, uploads, num_classes)`` to holdings ``(K, C)``.
    """

    implementation: str
    words: str
    """What leaves a client for it, in a log or a report."""
    tells_counts: bool = False
    """Clients send their label counts as they are."""
    tells_noisy_counts: bool = False
    """Clients send their label counts under noise."""
    needs_vector: bool = False
    """Clients send their discrepancy vectors."""


@dataclass(frozen=True)
class StrategyChoice:
    """A Flower strategy, at Flower's defaults but for ``settings``."""

    implementation: str
    settings: Mapping[str, float] = field(default_factory=dict)
    """What 'auto' is of those keys ``server.*`` that it reads; it takes no others."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """What Flower calls such a key, where that is another name."""
    plain_average: bool = False
    """It does nothing but average by number of images."""
    robust: bool = False
    """It bounds what a hostile client can do to the average."""


_METHODS, _MODELS = "regl_app.learning.methods", "regl_app.learning.models"
_SOURCES, _SCHEMES = "regl_app.data.sources", "regl_app.data.schemes"
_SCHEDULE, _REWARDS = "regl_app.supplement.schedule", "regl_app.supplement.rewards"


@dataclass(frozen=True)
class TrackerChoice:
    """A place to follow a run from: made by ``server_app.trackers.registry``."""

    package: str
    """What has to be installed where the server runs."""
    extra: str = ""
    """The extra of this package that brings it; '' where it is there anyway."""


_HOLDINGS = "regl_app.rounds.holdings"
_FLOWER = "flwr.serverapp.strategy"

METHODS: Mapping[str, MethodChoice] = MappingProxyType(
    {
        "fedavg": MethodChoice(f"{_METHODS}.fedavg:FedAvg"),
        "fedprox": MethodChoice(f"{_METHODS}.fedprox:FedProx"),
        "scaffold": MethodChoice(f"{_METHODS}.scaffold:Scaffold", needs_sgd=True),
        "moon": MethodChoice(f"{_METHODS}.moon:Moon"),
        "fedlc": MethodChoice(f"{_METHODS}.fedlc:FedLC", corrects_label_counts=True),
        "fedrs": MethodChoice(f"{_METHODS}.fedrs:FedRS"),
        "balanced-softmax": MethodChoice(
            f"{_METHODS}.balanced_softmax:BalancedSoftmax", corrects_label_counts=True
        ),
        "fedntd": MethodChoice(f"{_METHODS}.fedntd:FedNTD"),
        "ccvr": MethodChoice(f"{_METHODS}.ccvr:CCVR", tells_statistics=True),
        "fedrep": MethodChoice(f"{_METHODS}.fedrep:FedRep", shares_whole_model=False),
    }
)
"""Local learning rules, by ``objective``."""

_MNIST_FAMILY = SourceChoice(
    f"{_SOURCES}.torchvision:load_mnist_family",
    files=f"{_SOURCES}.torchvision:mnist_files",
    stores=True,
)
_CIFAR = SourceChoice(
    f"{_SOURCES}.torchvision:load_cifar",
    files=f"{_SOURCES}.torchvision:cifar_files",
    stores=True,
)
_MEDMNIST = SourceChoice(
    f"{_SOURCES}.medmnist:load_medmnist",
    files=f"{_SOURCES}.medmnist:medmnist_files",
    stores=True,
)


def _folders(load: str, files: str, path: str = "", placed: bool = False) -> SourceChoice:
    """Return a source of picture files in class folders, which may hold links."""
    return SourceChoice(
        f"{_SOURCES}.{load}",
        path=path,
        placed=placed,
        links=True,
        files=f"{_SOURCES}.{files}",
        stores=True,
    )


def _domains(path: str = "", placed: bool = False) -> SourceChoice:
    return _folders("domains:load_domains", "domains:domain_files", path, placed)


SOURCES: Mapping[str, SourceChoice] = MappingProxyType(
    {
        "digits": SourceChoice(f"{_SOURCES}.digits:load_digits"),
        "mnist": _MNIST_FAMILY,
        "fashion-mnist": _MNIST_FAMILY,
        "emnist": _MNIST_FAMILY,
        **{
            f"emnist-{split}": _MNIST_FAMILY
            for split in ("balanced", "byclass", "bymerge", "digits", "mnist")
        },
        "svhn": SourceChoice(
            f"{_SOURCES}.svhn:load_svhn", files=f"{_SOURCES}.svhn:svhn_files", stores=True
        ),
        "cifar10": _CIFAR,
        "cifar100": _CIFAR,
        "cinic10": _folders("cinic:load_cinic", "cinic:cinic_files"),
        "tiny-imagenet": _folders(
            "tiny_imagenet:load_tiny_imagenet", "tiny_imagenet:tiny_imagenet_files"
        ),
        "pathmnist": _MEDMNIST,
        "dermamnist": _MEDMNIST,
        "octmnist": _MEDMNIST,
        "pneumoniamnist": _MEDMNIST,
        "retinamnist": _MEDMNIST,
        "breastmnist": _MEDMNIST,
        "bloodmnist": _MEDMNIST,
        "tissuemnist": _MEDMNIST,
        "organamnist": _MEDMNIST,
        "organcmnist": _MEDMNIST,
        "organsmnist": _MEDMNIST,
        "pacs": _domains(),
        "office-home": _domains(),
        "domains": _domains(path="the folder of <domain>/<class>/", placed=True),
        "hub": SourceChoice(
            f"{_SOURCES}.hub:load_hub",
            files=f"{_SOURCES}.hub:hub_files",
            stores=True,
            path="a hub id or a parquet folder",
            placed=True,
            remote=True,
            takes=("splits", "columns"),
        ),
        "folder": _folders(
            "folder:load_folder",
            "folder:folder_files",
            path="the folder of class folders",
            placed=True,
        ),
        "site": SourceChoice(
            f"{_SOURCES}.site:load_server_part",
            files=f"{_SOURCES}.site:server_files",
            stores=True,
            local=True,
            takes=("classes", "channels"),
        ),
    }
)
"""Data sources, by ``data.source``."""

SCHEMES: Mapping[str, SchemeChoice] = MappingProxyType(
    {
        "iid": SchemeChoice(f"{_SCHEMES}.iid:iid", "labels spread evenly"),
        "dirichlet": SchemeChoice(
            f"{_SCHEMES}.dirichlet:dirichlet",
            "Dirichlet labels with β = {beta:g}",
            takes=("min_size",),
        ),
        "dirichlet-balanced": SchemeChoice(
            f"{_SCHEMES}.dirichlet_balanced:dirichlet_balanced",
            "Dirichlet labels with β = {beta:g}, equal sizes",
        ),
        "quantity": SchemeChoice(
            f"{_SCHEMES}.quantity:quantity",
            "Dirichlet sizes with β = {beta:g}",
            takes=("min_size",),
        ),
        "pathological": SchemeChoice(
            f"{_SCHEMES}.pathological:pathological", "{classes_per_client} classes per client"
        ),
        "shard": SchemeChoice(
            f"{_SCHEMES}.shard:shard", "{shards_per_client} label shards per client"
        ),
        "column": SchemeChoice(f"{_SCHEMES}.column:column", "by {column}", needs=("column",)),
        "file": SchemeChoice(
            f"{_SCHEMES}.file:file",
            "from {file}",
            needs=("file",),
            check=f"{_SCHEMES}.file:check",
        ),
        "flwr": SchemeChoice(
            f"{_SCHEMES}.flower:flower",
            "{partitioner} of flwr-datasets {arguments}",
            needs=("partitioner",),
            takes=("arguments",),
            check=f"{_SCHEMES}.flower:check",
        ),
    }
)
"""Partitions, by ``partition.scheme``."""

MODELS: Mapping[str, ModelChoice] = MappingProxyType(
    {
        "cnn": ModelChoice(f"{_MODELS}.cnn:SmallCnn"),
        "resnet18": ModelChoice(f"{_MODELS}.resnet:ResNet"),
        "resnet34": ModelChoice(f"{_MODELS}.resnet:ResNet"),
        "resnet50": ModelChoice(f"{_MODELS}.resnet:ResNet"),
    }
)
"""Classifiers, by ``model.name``."""

AUGMENTATIONS = ("shift", "flip", "vertical-flip", "crop", "rotate", "colour")
"""How training images may be varied, by ``train.augment``; learning/training/augment.py does it."""

POLICIES: Mapping[str, PolicyChoice] = MappingProxyType(
    {
        "none": PolicyChoice(generates=False),
        "equal": PolicyChoice(uniform=True),
        "balance": PolicyChoice(needs_labels=True),
        "discrepancy": PolicyChoice(measures=True),
    }
)
"""Policies, by ``supplement.policy``."""

SCHEDULES: Mapping[str, ScheduleChoice] = MappingProxyType(
    {
        "exponential": ScheduleChoice(f"{_SCHEDULE}:exponential"),
        "constant": ScheduleChoice(f"{_SCHEDULE}:constant"),
        "linear": ScheduleChoice(f"{_SCHEDULE}:linear"),
    }
)
"""Budgets over rounds, by ``supplement.schedule``."""

ADAPTERS: Mapping[str, AdapterChoice] = MappingProxyType(
    {
        "frozen": AdapterChoice(unchanged=True),
        "lora": AdapterChoice(needs_client_images=True),
        "shared": AdapterChoice(needs_client_images=True, for_all=True),
        "dpo": AdapterChoice(starts_as_told=True, compares_models=True, uses_pool=True),
        "guidance": AdapterChoice(compares_models=True),
    }
)
"""Adapters, by ``supplement.adapter``."""

REWARDS: Mapping[str, RewardChoice] = MappingProxyType(
    {
        "discrepancy": RewardChoice(f"{_REWARDS}:discrepancy"),
        "reading": RewardChoice(f"{_REWARDS}:reading"),
    }
)
"""What preference optimization goes by, by ``dpo.reward``."""

SITES: Mapping[str, SiteChoice] = MappingProxyType(
    {
        "client": SiteChoice(at_client=True),
        "download": SiteChoice(sends_images=True),
        "server": SiteChoice(),
    }
)
"""Sites, by ``supplement.site``."""

LABELS: Mapping[str, LabelsChoice] = MappingProxyType(
    {
        "hard": LabelsChoice("their prompts"),
        "global": LabelsChoice("the global model", soft=True),
        "experts": LabelsChoice("the class experts", soft=True, needs_uploads=True),
    }
)
"""Labels of synthetic images, by ``labels.by``."""

SAYS: Mapping[str, SayChoice] = MappingProxyType(
    {
        "counts": SayChoice(
            f"{_HOLDINGS}.counts:told", "label counts leave the clients", tells_counts=True
        ),
        "noisy": SayChoice(
            f"{_HOLDINGS}.noisy:told",
            "label counts leave the clients under noise",
            tells_noisy_counts=True,
        ),
        "updates": SayChoice(
            f"{_HOLDINGS}.updates:guessed",
            "no label count leaves the clients: guessed from their last layers",
        ),
        "discrepancy": SayChoice(
            f"{_HOLDINGS}.discrepancy:guessed",
            "no label count leaves the clients: guessed from their discrepancy vectors",
            needs_vector=True,
        ),
    }
)
"""What a client's say in a class rests on, by ``teaching.say``."""

TRACKERS: Mapping[str, TrackerChoice] = MappingProxyType(
    {
        "tensorboard": TrackerChoice("tensorboard"),
        "wandb": TrackerChoice("wandb", extra="wandb"),
        "mlflow": TrackerChoice("mlflow", extra="mlflow"),
    }
)

_ADAM = {"eta": 0.01, "beta-1": 0.9, "beta-2": 0.99, "tau": 1e-3}

STRATEGIES: Mapping[str, StrategyChoice] = MappingProxyType(
    {
        "fedavg": StrategyChoice(f"{_FLOWER}:FedAvg", plain_average=True),
        # Without momentum (Flower's default) it would be plain FedAvg.
        "fedavgm": StrategyChoice(
            f"{_FLOWER}:FedAvgM",
            {"eta": 1.0, "momentum": 0.9},
            {"eta": "server_learning_rate", "momentum": "server_momentum"},
        ),
        # Flower's eta of 0.1 moves every weight by as much, whatever the clients found:
        # benchmarks/results/server_optimizers.md has what FedAdagrad then comes to.
        "fedadagrad": StrategyChoice(f"{_FLOWER}:FedAdagrad", {"eta": 0.01, "tau": 1e-3}),
        "fedadam": StrategyChoice(f"{_FLOWER}:FedAdam", _ADAM),
        "fedyogi": StrategyChoice(f"{_FLOWER}:FedYogi", _ADAM),
        "fedmedian": StrategyChoice(f"{_FLOWER}:FedMedian", robust=True),
        "fedtrimmedavg": StrategyChoice(f"{_FLOWER}:FedTrimmedAvg", robust=True),
    }
)
"""Flower's strategies, by ``server.strategy``."""

STRATEGY_KEYS = tuple(
    f"server.{name}"
    for name in dict.fromkeys(name for each in STRATEGIES.values() for name in each.settings)
)
"""The keys that some of them read, each 'auto' until the strategy is known."""
