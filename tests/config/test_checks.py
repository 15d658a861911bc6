"""What keys must be to one another: each rule says what is wrong and the remedy."""

from __future__ import annotations

import pytest

from regl_app.config import RunConfig, checks, data_checks, training_checks
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar

HUB: dict[str, Scalar] = {"data.source": "hub", "data.path": "owner/name"}
SITE: dict[str, Scalar] = {"data.source": "site", "data.classes": "cat,dog"}
HIDDEN: dict[str, Scalar] = {"method": "feddpd", "share-diagnostics": False}
FLWR: dict[str, Scalar] = {
    "partition.scheme": "flwr",
    "partition.partitioner": "IidPartitioner",
}

CASES: list[tuple[checks.Rule, dict[str, Scalar], list[str]]] = [
    (
        checks.strategy_reads_its_keys,
        {"server.tau": 0.01},
        ["server.tau=0.01", "server.strategy='fedavg'", "'auto'", "'fedadam' or 'fedyogi'"],
    ),
    (
        checks.strategy_reads_its_keys,
        {"server.strategy": "fedadam", "server.momentum": 0.5},
        ["server.momentum=0.5", "server.strategy='fedadam'", "'fedavgm'"],
    ),
    (checks.device_is_known, {"device": "tpu"}, ["device must be", "'cuda:N'", "'tpu'"]),
    (checks.device_is_known, {"device": "cuda:"}, ["device must be", "'cuda:'"]),
    (checks.device_is_known, {"device": "mps"}, ["got 'mps'", "ever tried on an Apple GPU"]),
    (checks.trackers_are_known, {"trackers": "comet"}, ["'wandb', 'mlflow'", "got 'comet'"]),
    (checks.trackers_are_known, {"trackers": '["wandb"'}, ["trackers: ", "no JSON list"]),
    (checks.steps_or_epochs, {"train.steps": 0}, ["exactly one of train.steps and train.epochs"]),
    (checks.steps_or_epochs, {"train.epochs": 1}, ["train.epochs=1", "set the other one to 0"]),
    (
        training_checks.others_models_have_their_own_keys,
        {"model.norm": "group"},
        ["model.norm='group'", "model.name='cnn'", "model.norm='auto'"],
    ),
    (
        training_checks.others_models_have_their_own_keys,
        {"model.name": "resnet18", "model.input-size": 64},
        ["model.input-size=64", "'resnet18'"],
    ),
    (
        training_checks.frozen_statistics_come_from_somewhere,
        {"model.name": "torchvision:resnet18", "model.norm": "frozen"},
        ["model.norm='frozen'", "'torchvision:resnet18'", "model.norm='group'"],
    ),
    (
        training_checks.weights_of_the_hub_are_timms,
        {"model.name": "torchvision:resnet18", "model.weights": "hub"},
        ["model.weights='hub'", "'torchvision:resnet18'", "docs/models.md"],
    ),
    (
        training_checks.choosing_has_its_images,
        {"validation.patience": 3},
        ["validation.patience=3", "validation.fraction=0", "try 0.1"],
    ),
    (
        training_checks.choosing_has_its_images,
        {"validation.keep": "best"},
        ["validation.keep='best'"],
    ),
    (
        training_checks.best_model_is_whole,
        {"method": "fedrep", "validation.keep": "best", "validation.fraction": 0.1},
        ["validation.keep='best'", "objective='fedrep'", "validation.keep='last'"],
    ),
    (
        training_checks.warming_up_ends,
        {"train.warmup-rounds": 5, "rounds": 5},
        ["train.warmup-rounds=5", "rounds=5", "use 4 at most"],
    ),
    (
        training_checks.label_counts_are_corrected_once,
        {"method": "fedlc", "train.class-weights": "balanced"},
        ["train.class-weights='balanced'", "objective='fedlc'", "objective='fedavg'"],
    ),
    (
        training_checks.label_counts_are_corrected_once,
        {"method": "fedavg", "objective": "balanced-softmax", "train.class-weights": "balanced"},
        ["objective='balanced-softmax'", "twice"],
    ),
    (
        checks.nothing_is_adapted_or_selected_without_images,
        {"supplement.policy": "none", "supplement.adapter": "lora"},
        ["contradicts supplement.adapter='lora'", "'frozen'"],
    ),
    (
        checks.nothing_is_adapted_or_selected_without_images,
        {"method": "fedavg", "supplement.selection": "discrepancy"},
        ["supplement.selection='discrepancy'", "no synthetic images"],
    ),
    (
        checks.pictures_of_one_client_tell_its_own_adapter,
        {"method": "regl-shared", "lora.image-tokens": 4},
        ["lora.image-tokens=4", "supplement.adapter='shared'", "supplement.adapter='lora'"],
    ),
    (
        checks.an_ip_adapter_shows_what_its_encoder_reads,
        {"method": "regl", "generator.ip-adapter": "x.safetensors"},
        ["generator.ip-adapter='x.safetensors'", "generator.image-encoder='auto'", "set it to"],
    ),
    (
        checks.an_ip_adapter_shows_a_clients_own_pictures,
        {
            "supplement.site": "download",
            "supplement.adapter": "frozen",
            "generator.ip-adapter": "x.safetensors",
            "generator.image-encoder": "clip",
        },
        ["generator.ip-adapter='x.safetensors'", "supplement.site='download'", "site='client'"],
    ),
    (
        checks.an_ip_adapter_shows_a_clients_own_pictures,
        {
            "supplement.adapter": "frozen",
            "supplement.selection": "discrepancy",
            "generator.ip-adapter": "x.safetensors",
            "generator.image-encoder": "clip",
        },
        ["supplement.selection='discrepancy'", "is the same for all", "selection='none'"],
    ),
    (
        checks.pool_makes_pairs,
        {"supplement.adapter": "dpo", "pool.per-class": 1},
        ["pool.per-class=1", "makes no pair"],
    ),
    (
        checks.pool_leaves_a_choice,
        {"supplement.selection": "discrepancy", "pool.per-class": 39},
        ["pool.per-class=39", "supplement.cap=40"],
    ),
    (
        data_checks.partition_keys_are_of_the_scheme,
        {"partition.min-size": 10, "partition.scheme": "iid"},
        ["partition.min-size=10", "scheme='iid'", "'dirichlet' or 'quantity'"],
    ),
    (
        data_checks.partition_keys_are_of_the_scheme,
        {"partition.column": "writer"},
        ["partition.column='writer'", "scheme='dirichlet'", "to 'column'"],
    ),
    (
        data_checks.partition_keys_are_of_the_scheme,
        {"partition.scheme": "file"},
        ["partition.scheme='file' needs partition.file"],
    ),
    *(
        (
            data_checks.partition_arguments_are_an_object,
            {
                "partition.scheme": "flwr",
                "partition.partitioner": "IidPartitioner",
                "partition.arguments": wrong,
            },
            ["partition.arguments must be a JSON object", wrong],
        )
        for wrong in ("{", "[1]", "alpha=1")
    ),
    (
        checks.central_takes_no_supplement,
        {"method": "central", "supplement.policy": "balance"},
        ["central", "'balance'"],
    ),
    (
        checks.central_has_nobody_to_ask,
        {"method": "central", "teaching.head": "experts"},
        ["'central'", "teaching.head='experts'", "'auto'"],
    ),
    (
        checks.server_gets_whole_models,
        {"method": "feddpd", "objective": "fedrep"},
        ["supplement.site='server'", "objective='fedrep'", "supplement.site='client'"],
    ),
    (
        checks.server_knows_no_labels,
        {"method": "feddpd", "supplement.policy": "balance"},
        ["'server'", "clients' labels"],
    ),
    (
        checks.server_has_no_client_images,
        {"method": "feddpd", "supplement.adapter": "shared"},
        ["'server'", "adapter tuned on the client's images", "which the server does not have"],
    ),
    (
        checks.server_has_no_client_images,
        {"method": "feddpd", "supplement.adapter": "lora"},
        ["'server'", "client's images"],
    ),
    (
        checks.server_has_no_client_images,
        {"method": "feddpd", "dpo.start": "lora"},
        ["'server'", "dpo.start='frozen'"],
    ),
    (
        checks.uploaded_models_hide_nothing,
        {**HIDDEN, "privacy.vector": "client"},
        ["uploaded models", "supplement.site='client'"],
    ),
    (
        checks.uploaded_models_hide_nothing,
        {**HIDDEN, "supplement.site": "download", "privacy.noise": 1.0},
        ["supplement.site='download'", "hide nothing"],
    ),
    (
        checks.only_synthetic_images_get_soft_labels,
        {"method": "fedavg", "labels.by": "global"},
        ["labels.by='global'", "supplement.policy='none'", "'hard'"],
    ),
    (
        checks.only_synthetic_images_get_soft_labels,
        {"method": "feddpd", "labels.by": "experts"},
        ["labels.by='experts'", "supplement.site='server'", "teaching.distill='experts'"],
    ),
    (
        checks.only_synthetic_images_get_soft_labels,
        {"method": "regl", "labels.by": "experts"},
        ["supplement.site='client'", "labels.by='global'", "'download'"],
    ),
    (
        checks.experts_send_whole_models,
        {"method": "fedrep", "teaching.head": "experts"},
        ["objective='fedrep'", "teaching.head='average'"],
    ),
    (
        checks.all_of_the_first_model_is_used,
        {"method": "fedrep", "teaching.first-steps": 9},
        ["teaching.first-steps=9", "objective='fedrep'", "set teaching.first-steps=0"],
    ),
    (
        checks.clients_match_their_images,
        {"method": "feddpd", "supplement.match": "spectrum"},
        ["supplement.match='spectrum'", "supplement.site='server'", "supplement.match='none'"],
    ),
    (
        checks.experts_are_told_of,
        {
            "method": "regl",
            "teaching.distill": "experts",
            "teaching.say": "counts",
            "share-diagnostics": False,
        },
        ["teaching.say='counts'", "share-diagnostics=false", "'updates'"],
    ),
    (
        checks.noisy_counts_are_not_sent_openly,
        {"method": "regl", "teaching.head": "experts", "teaching.say": "noisy"},
        ["teaching.say='noisy'", "share-diagnostics=true", "set share-diagnostics=false"],
    ),
    (
        checks.guesses_have_their_vectors,
        {"method": "regl", "teaching.head": "experts", "teaching.say": "discrepancy"},
        ["teaching.say='discrepancy'", "supplement.policy='balance'", "'updates'"],
    ),
    (
        checks.guesses_have_their_vectors,
        {
            "method": "regl-dpd",
            "supplement.site": "download",
            "supplement.adapter": "frozen",
            "labels.by": "experts",
            "teaching.say": "discrepancy",
        },
        ["teaching.say='discrepancy'", "supplement.site='download'"],
    ),
    (
        checks.guesses_have_their_vectors,
        {
            "teaching.head": "experts",
            "teaching.say": "discrepancy",
            "privacy.vector": "client",
            "share-diagnostics": False,
        },
        ["privacy.vector='client'"],
    ),
    (
        checks.correction_is_of_plain_sgd,
        {"method": "scaffold", "train.optimizer": "adam"},
        ["objective='scaffold'", "train.optimizer='adam'"],
    ),
    (
        checks.statistics_are_told_openly,
        {"method": "ccvr", "share-diagnostics": False},
        ["objective='ccvr'", "share-diagnostics=false"],
    ),
    (
        checks.statistics_are_of_trusted_clients,
        {"method": "ccvr", "server.strategy": "fedmedian"},
        ["objective='ccvr'", "server.strategy='fedmedian'", "'fedavg'"],
    ),
    (
        checks.noise_needs_a_sent_vector,
        {"privacy.noise": 1.0, "privacy.vector": "client", "share-diagnostics": False},
        ["privacy.noise=1", "needs no noise"],
    ),
    (
        checks.hidden_labels_are_not_sent_openly,
        {"privacy.noise": 1.0},
        ["privacy.noise=1", "share-diagnostics=false"],
    ),
    (
        checks.hidden_labels_are_not_sent_openly,
        {"privacy.vector": "client"},
        ["privacy.vector='client'", "share-diagnostics=false"],
    ),
    (
        checks.source_has_its_path,
        {"data.source": "folder"},
        ["data.source='folder' needs data.path, the folder of class folders"],
    ),
    (
        checks.source_has_its_path,
        {"data.source": "hub"},
        ["data.source='hub' needs data.path, a hub id or a parquet folder"],
    ),
    (
        checks.source_has_its_path,
        {"data.path": "photos"},
        ["data.path='photos'", "data.source='digits'", "set data.source=folder"],
    ),
    (
        checks.sites_agree_on_classes,
        {"data.source": "site"},
        ["data.source='site' needs data.classes", "''", "'cat,dog'"],
    ),
    (checks.sites_agree_on_classes, {**SITE, "data.classes": "cat,cat"}, ["'cat,cat'"]),
    (
        checks.classes_are_subfolders,
        {**SITE, "data.classes": "cat,a/b"},
        ["data.classes", "'a/b'", "no '/'"],
    ),
    (checks.classes_are_subfolders, {**SITE, "data.classes": "cat,.dog"}, ["'.dog'"]),
    (checks.nobody_has_all_sites_images, {**SITE, "method": "central"}, ["method='central'"]),
    (checks.nobody_has_all_sites_images, {**SITE, "long-tail.factor": 9.0}, ["long-tail.factor=9"]),
    (
        checks.nobody_has_all_sites_images,
        {**SITE, "data.public-fraction": 0.5},
        ["data.public-fraction=0.5", "nobody has all sites' images"],
    ),
    (checks.prompt_names_the_class, {"generator.prompt": "a digit"}, ["{concept}", "'a digit'"]),
    (
        checks.replies_can_be_reached,
        {"server.min-nodes": 2, "server.min-replies": 3},
        ["server.min-replies=3", "server.min-nodes=2"],
    ),
    (
        checks.distance_is_known,
        {"supplement.distance": "incepton"},
        ["'classifier'", "'torch-fidelity'", ".safetensors", "'incepton'"],
    ),
    (
        checks.distance_is_known,
        {"supplement.distance": "classifier", "supplement.measure": False},
        ["supplement.distance='classifier'", "supplement.measure=false"],
    ),
    (
        training_checks.rates_train_something,
        {"train.schedule": "step", "train.decay": 0.1, "train.decay-every": 1, "rounds": 400},
        ["train.schedule='step'", "train.decay=0.1", "rounds=400", "in round 9:", "'cosine'"],
    ),
    (
        training_checks.rates_train_something,
        {"train.schedule": "exponential", "train.decay-every": 1, "rounds": 1200},
        ["train.schedule='exponential'", "a learning rate of 0 within rounds=1200", "round 28"],
    ),
    (
        training_checks.rates_train_something,
        {"train.lr": 1e-40},
        ["train.lr=1e-40 changes no"],
    ),
    (
        training_checks.rates_train_something,
        {"train.lr": 1e-37, "train.schedule": "step", "train.decay-every": 1, "rounds": 9},
        ["within rounds=9: nothing"],
    ),
    (training_checks.rates_train_something, {"teaching.lr": 1e-40}, ["teaching.lr=1e-40"]),
    (
        data_checks.splits_are_of_training_and_test,
        {**HUB, "data.splits": "train,train"},
        ["data.splits must name", "'train,train'", "'train,validation'"],
    ),
    (data_checks.splits_are_of_training_and_test, {**HUB, "data.splits": "a,b,c"}, ["'a,b,c'"]),
    (
        data_checks.columns_are_of_images_and_labels,
        {**HUB, "data.columns": "image"},
        ["data.columns must name", "got 'image'", "'image,label'"],
    ),
    (data_checks.columns_are_of_images_and_labels, {**HUB, "data.columns": "x,x"}, ["'x,x'"]),
    (
        data_checks.data_keys_are_of_the_source,
        {"data.source": "folder", "data.path": "x", "data.classes": "cat,emu"},
        ["data.classes='cat,emu' means nothing to data.source='folder'", "'site'"],
    ),
    (
        data_checks.data_keys_are_of_the_source,
        {**HUB, "data.channels": 1},
        ["data.channels=1 means nothing to data.source='hub'", "leave data.channels"],
    ),
    (data_checks.data_keys_are_of_the_source, {"data.splits": "train"}, ["'digits'", "'hub'"]),
    (
        data_checks.data_keys_are_of_the_source,
        {**SITE, "data.columns": "image,label"},
        ["data.columns='image,label' means nothing to data.source='site'", "'hub'"],
    ),
    (
        data_checks.looks_are_known,
        {"partition.looks": "plain,sepia"},
        ["partition.looks must be of plain, rotated", "got 'sepia'"],
    ),
    (
        data_checks.looks_are_known,
        {"partition.looks": "dimmed:2"},
        ["'dimmed' must be a number from 0 to 1", "'dimmed:2'", "'dimmed:0.5'"],
    ),
    (
        data_checks.partitioner_takes_its_arguments,
        {**FLWR, "partition.partitioner": "IdPartitioner"},
        ["partition.partitioner must be one of", "got 'IdPartitioner'", "did you mean"],
    ),
    (
        data_checks.partitioner_takes_its_arguments,
        {**FLWR, "partition.arguments": '{"beta": 1}'},
        ["partition.arguments has 'beta'", "IidPartitioner takes num_partitions"],
    ),
    (
        data_checks.partitioner_takes_its_arguments,
        {**FLWR, "partition.partitioner": "InnerDirichletPartitioner"},
        ["needs 'partition_sizes', 'alpha'", 'partition.arguments=\'{"partition_sizes": ...,'],
    ),
]


@pytest.mark.parametrize(
    ("rule", "flat", "words"),
    CASES,
    ids=[f"{rule.__name__}-{list(flat.values())[-1]}" for rule, flat, _ in CASES],
)
def test_a_contradiction_is_refused_by_its_rule_with_the_remedy(
    rule: checks.Rule, flat: dict[str, Scalar], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat(flat)
    for word in words:
        assert word in str(caught.value)
    others = tuple(each for each in checks.RULES if each is not rule)
    monkeypatch.setattr(checks, "RULES", others)
    RunConfig.from_flat(flat)  # nobody else refuses it


def test_every_rule_has_its_case() -> None:
    assert {rule for rule, _, _ in CASES} == set(checks.RULES)
    assert len(set(checks.RULES)) == len(checks.RULES)


@pytest.mark.parametrize(
    "flat",
    [
        {},
        {"device": "cuda:1"},
        {"server.min-nodes": 1, "server.min-replies": 3},  # then more may come than it waits for
        {"supplement.cap": 0, "supplement.site": "server", "supplement.adapter": "lora"},
        {"privacy.vector": "client", "share-diagnostics": False},
        {**SITE, "data.path": "tests"},
        {"partition.looks": " "},
        {"train.schedule": "cosine", "rounds": 10**9},
        {"train.schedule": "step", "train.decay": 0.5, "train.decay-every": 1, "rounds": 100},
        {"train.schedule": "step", "train.decay": 1.0, "train.decay-every": 1, "rounds": 10**6},
        {"train.lr": 1e-30},
        {"partition.looks": "plain, inverted+rotated:-90,noisy"},
        {**FLWR, "partition.arguments": '{"num_partitions": 3}'},
        {
            **FLWR,
            "partition.partitioner": "SizePartitioner",
            "partition.arguments": '{"partition_sizes": [1, 2]}',
        },
        {**HUB, "data.splits": "train", "data.columns": "x, y", "data.channels": 3},
        {**SITE, "data.channels": 1, "data.splits": ""},
        {"data.classes": "", "data.channels": 3, "data.columns": ""},
    ],
)
def test_what_fits_together_is_taken(flat: dict[str, Scalar]) -> None:
    RunConfig.from_flat(flat)
