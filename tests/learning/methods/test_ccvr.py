"""CCVR: statistics tell what pooled features would, and only the head is trained on them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig, TrainConfig
from regl_app.core.errors import RunError
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.features import features
from regl_app.learning.methods.ccvr import CCVR, SYNTHETIC_ROWS
from regl_app.learning.methods.class_statistics import ROWS, Gaussian, combine, statistics
from regl_app.learning.methods.method import Batch, Local
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import train_local

TRAIN = TrainConfig(steps=3, batch_size=8)


def _features(rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator)
    return torch.randn(rows, width, generator=generator) @ mixed + 3


def _data(images: int = 24, classes: int = 3) -> ImageSet:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (images, 1, 16, 16), generator=generator).byte()
    return ImageSet(pixels, torch.arange(images) % classes)


def _model() -> Classifier:
    return build_model(ModelConfig(width=4), 3, 1, 16, 0)


def _client(
    real: torch.Tensor, labels: torch.Tensor, made: torch.Tensor | None = None, of: int = 2
) -> Tensors:
    """Return what a client of 3 classes tells, with features ``made`` of class ``of``."""
    made = real[:0] if made is None else made
    synthetic = statistics(made, torch.full((len(made),), of), 3, SYNTHETIC_ROWS)
    own = {f"synthetic-{name}": value for name, value in synthetic.items()}
    return {**statistics(real, labels, 3), **own}


def _covariance(each: Gaussian) -> torch.Tensor:
    return each.factor.T @ each.factor


def _parts(owners: torch.Tensor, found: torch.Tensor, labels: torch.Tensor) -> list[Tensors]:
    return [
        statistics(found[owners == each], labels[owners == each], 4) for each in owners.unique()
    ]


@pytest.mark.parametrize("width", [3, 60])  # fewer features than images, and more
def test_combined_statistics_are_those_of_all_features_together(width: int) -> None:
    found, generator = _features(90, width, 1), torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (90,), generator=generator)  # nobody has the fourth class
    labels[:2], owners = torch.tensor([2, 2]), torch.randint(0, 4, (90,), generator=generator)
    owners[0], owners[labels == 1] = 4, 0  # one has a single image, one has a class alone
    every = combine(_parts(owners, found, labels))
    assert every[3] is None
    for label, each in enumerate(every[:3]):
        own = found[labels == label].double()
        assert each is not None
        torch.testing.assert_close(each.mean, own.mean(dim=0), rtol=1e-5, atol=1e-5)
        wanted = torch.from_numpy(np.cov(own.numpy(), rowvar=False))
        torch.testing.assert_close(_covariance(each), wanted, rtol=1e-4, atol=1e-4)


def test_the_papers_equations_by_hand() -> None:
    one = statistics(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0]), 1)
    other = statistics(torch.tensor([[4.0, 3.0]]), torch.tensor([0]), 1)
    assert (one["counts"].tolist(), one["rows"].tolist()) == ([2], [1])
    assert (one["means"].tolist(), other["means"].tolist()) == ([[1, 0]], [[4, 3]])
    (found,) = combine([one, other])
    assert found is not None
    torch.testing.assert_close(found.mean, torch.tensor([2.0, 1.0]).double())
    # of (0, 0), (2, 0) and (4, 3), divided by N - 1 = 2
    wanted = torch.tensor([[4.0, 3.0], [3.0, 3.0]]).double()
    torch.testing.assert_close(_covariance(found), wanted)


def test_a_class_of_one_image_is_drawn_as_it_is() -> None:
    (found,) = combine([statistics(torch.tensor([[4.0, 3.0]]), torch.tensor([0]), 1)])
    assert found is not None
    drawn = found.draw(3, torch.Generator().manual_seed(0))
    assert drawn.tolist() == [[4, 3]] * 3


def test_what_is_drawn_has_the_classs_mean_and_covariance() -> None:
    found = _features(50, 3, 4)
    (each,) = combine([statistics(found, torch.zeros(50, dtype=torch.int64), 1)])
    assert each is not None
    drawn = each.draw(200_000, torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(drawn.mean(dim=0), each.mean, rtol=0.02, atol=0.02)
    torch.testing.assert_close(torch.cov(drawn.T), _covariance(each), rtol=0.02, atol=0.05)


def test_more_directions_than_are_sent_lose_those_that_vary_least() -> None:
    found = _features(40, 6, 3)
    labels = torch.arange(40) % 2
    whole = combine([statistics(found, labels, 2)])
    cut = statistics(found, labels, 2, 7)
    assert cut["factors"].shape == (7, 6) and int(cut["rows"].sum()) == 7
    lost = 0.0
    for all_of_it, part in zip(whole, combine([cut]), strict=True):
        assert all_of_it is not None and part is not None
        missing = torch.linalg.eigvalsh(_covariance(all_of_it) - _covariance(part))
        assert float(missing.min()) > -1e-4
        lost += float(missing.sum())
    total = sum(torch.trace(_covariance(each)) for each in whole if each is not None)
    assert 0 < lost < 0.2 * float(total)


def test_no_row_is_a_clients_features() -> None:
    found = _features(12, 30, 6)
    sent = statistics(found, torch.zeros(12, dtype=torch.int64), 1)
    centred = found - found.mean(dim=0)
    rows = sent["factors"][: int(sent["rows"][0])] * math.sqrt(11)
    for value in (found, centred):
        cosine = torch.nn.functional.cosine_similarity(rows[:, None], value[None], dim=2)
        assert float(cosine.abs().max()) < 0.99


def test_a_client_sends_statistics_of_the_model_that_it_received_by_real_images_alone() -> None:
    model, data, method = _model(), _data(), CCVR(TRAIN)
    received = features(model, data.subset(range(18)), "cpu")
    template = method.sends(model)
    sent = train_local(model, data, TRAIN, method=method, seed=0, device="cpu", real_images=18).sent
    wanted = statistics(torch.from_numpy(received), data.labels[:18], 3)
    assert sent["counts"].tolist() == [6, 6, 6]
    for name, value in wanted.items():
        assert (sent[name].shape, sent[name].dtype) == (template[name].shape, template[name].dtype)
        torch.testing.assert_close(sent[name].abs(), value.abs())


def test_a_client_tells_of_synthetic_images_only_for_classes_that_it_lacks() -> None:
    model, method = _model(), _filling()
    real, made = _data(8, 2), _data(12, 3)
    expected = torch.from_numpy(features(model, made, "cpu"))[made.labels == 2]
    every = ImageSet.concat([real, made])
    sent = train_local(model, every, TRAIN, method=method, seed=0, device="cpu", real_images=8).sent
    assert sent.keys() == method.sends(model).keys()
    assert sent["counts"].tolist() == [4, 4, 0]
    assert sent["synthetic-counts"].tolist() == [0, 0, 4]
    torch.testing.assert_close(sent["synthetic-means"][2], expected.mean(dim=0))
    (each,) = combine([_without_prefix(sent)])[2:]
    assert each is not None
    wanted = torch.from_numpy(np.cov(expected.double().numpy(), rowvar=False))
    torch.testing.assert_close(_covariance(each), wanted, rtol=1e-4, atol=1e-4)


def _without_prefix(sent: Tensors) -> Tensors:
    return {name.removeprefix("synthetic-"): value for name, value in sent.items()}


def _filling() -> CCVR:
    config = RunConfig.from_flat({"method": "regl-ccvr", "server.fraction": 0.5})
    method = make_method(config, TRAIN)
    assert isinstance(method, CCVR) and method.fills
    return method


def test_a_class_that_a_round_has_no_image_of_is_drawn_as_the_synthetic_ones_are() -> None:
    method, start = _filling(), _model().state_dict()
    data = _data(36)
    found = torch.from_numpy(features(_model(), data, "cpu"))
    real, made = found[data.labels < 2], found[data.labels == 2]
    labels = data.labels[data.labels < 2]

    def head(*sent: Tensors) -> dict[str, torch.Tensor]:
        measured = method.report(start, start, dict(enumerate(sent)), 7)
        return {name: value for name, value in measured.items() if name.startswith("head.")}

    def right(of: dict[str, torch.Tensor]) -> float:
        logits = made @ of["head.weight"].T + of["head.bias"]
        return float((logits.argmax(dim=1) == 2).float().mean())

    without, filled = head(_client(real, labels)), head(_client(real, labels, made))
    assert right(without) < 0.1 and right(filled) > 0.6
    # Real images of any client stand before it.
    both = _client(real, labels, -made), _client(made, torch.full((len(made),), 2))
    alone = _client(real, labels), both[1]
    assert all(torch.equal(value, head(*alone)[name]) for name, value in head(*both).items())


def test_training_itself_is_fedavgs_to_the_bit() -> None:
    ends = []
    for method in (CCVR(TRAIN), None):
        model = _model()
        train_local(model, _data(), TRAIN, method=method, seed=0, device="cpu")
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_only_the_head_changes_and_twice_alike() -> None:
    method, start = CCVR(TRAIN), _model().state_dict()
    average = {name: value + 1 for name, value in start.items()}
    data = _data()
    found = torch.from_numpy(features(_model(), data, "cpu"))
    sent = {k: _client(found[k::2], data.labels[k::2]) for k in range(2)}
    first, second, other = (method.report(start, average, sent, seed) for seed in (7, 7, 8))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])
    for name, value in start.items():
        assert torch.equal(first[name], value) == (not name.startswith("head."))
    before, after = _model(), _model()
    after.load_state_dict(dict(first))
    losses = [
        torch.nn.functional.cross_entropy(each.head(found), data.labels) for each in (before, after)
    ]
    assert losses[1] < 0.5 * losses[0]


def _wild(**changes: torch.Tensor) -> Tensors:
    return {**_client(_features(6, 5, 0), torch.tensor([0, 0, 0, 1, 1, 2])), **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": torch.tensor([-5, 2**62, 0])},
        {"rows": torch.tensor([-1, 2**62, 2**62])},
        {"rows": torch.tensor([9999, 0, 3])},
        {"means": torch.full((3, 5), 3e38)},
        {"factors": torch.full((ROWS, 5), 3e38)},
        {"counts": torch.tensor([3, 3, 0]), "synthetic-counts": torch.tensor([0, 0, 2**62])},
        {"synthetic-rows": torch.tensor([9999, 0, 3])},
    ],
)
def test_what_a_client_lies_about_stops_nobody(
    changes: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    head = torch.nn.Linear(5, 3)
    start = {f"head.{name}": value for name, value in head.state_dict().items()}
    average = {name: value + 1 for name, value in start.items()}
    got = _filling().report(start, average, {0: _wild(), 1: _wild(**changes)}, 0)
    assert all(bool(torch.isfinite(value).all()) for value in got.values())
    if "is not finite" in caplog.text:
        assert all(torch.equal(value, average[name]) for name, value in got.items())


def test_statistics_are_taken_before_the_first_step_or_not_at_all() -> None:
    model, data = _model(), _data()
    counts = data.counts(3)
    local = Local(model, counts, counts, real_images=data)
    late = dataclasses.replace(local, begun=True)
    images = torch.zeros(2, 1, 16, 16)
    batch = Batch(images, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    assert torch.isfinite(CCVR(TRAIN).loss(model, batch, local))
    with pytest.raises(RunError, match="first step"):
        CCVR(TRAIN).after_backward(model, late)
