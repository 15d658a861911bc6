"""Methods as local training and a federation of three clients use them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from regl_app.config import RunConfig
from regl_app.config.choices import METHODS
from regl_app.config.sections import ModelConfig, TrainConfig
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar, Tensors
from regl_app.data.images import ImageSet, to_float
from regl_app.learning.methods import Batch, Local, Method, method_class
from regl_app.learning.methods.fedavg import FedAvg
from regl_app.learning.methods.fedrep import FedRep
from regl_app.learning.methods.moon import Moon
from regl_app.learning.methods.scaffold import Scaffold
from regl_app.learning.models import Classifier, build_model
from regl_app.learning.training.loop import TrainResult, train_local

CLASSES = 3
TRAIN = TrainConfig(steps=5, batch_size=8)
PLAIN_SGD = TrainConfig(
    steps=3, batch_size=64, lr=0.1, momentum=0.0, weight_decay=0.0, clip_norm=0.0
)


def _data(seed: int = 0, count: int = 20) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % CLASSES)


def _model(seed: int = 0) -> Classifier:
    return build_model(ModelConfig(width=4), CLASSES, 1, 16, seed)


def _copy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _train(
    method: Method,
    data: ImageSet | None = None,
    start: Tensors | None = None,
    *,
    real_images: int | None = None,
    kept: Tensors | None = None,
    received: Tensors | None = None,
) -> tuple[dict[str, torch.Tensor], TrainResult]:
    model = _model()
    model.load_state_dict(dict(start or model.state_dict()))
    result = train_local(
        model,
        _data() if data is None else data,
        method.train,
        method=method,
        seed=0,
        device="cpu",
        real_images=real_images,
        kept=kept,
        received=received,
    )
    return _copy(model.state_dict()), result


def _assert_same(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# What a method gives back


@pytest.mark.parametrize("name", METHODS)
def test_what_is_sent_fits_the_template_and_nothing_is_the_model_itself(name: str) -> None:
    method, model = method_class(name)(TRAIN), _model()
    kept: Tensors = {}
    for _ in range(2):  # the second round has a past
        result = train_local(
            model,
            _data(),
            TRAIN,
            method=method,
            seed=0,
            device="cpu",
            kept=kept,
            received=method.template(model),
        )
        kept, template, state = result.kept, method.template(model), model.state_dict()
        sends = method.sends(model)
        assert result.sent.keys() == sends.keys()
        assert kept.keys() <= state.keys()
        for tensors, wanted in ((result.sent, sends), (kept, state)):
            for key, value in tensors.items():
                assert (value.shape, value.dtype) == (wanted[key].shape, wanted[key].dtype)
                assert value.device.type == "cpu" and value.is_contiguous()
                assert not value.requires_grad
                assert value.data_ptr() not in {own.data_ptr() for own in state.values()}
        assert bool(kept) == method.keeps
        assert not any(value.any() for value in template.values())  # the server begins at zero
        assert set(state) - set(method.shared(list(state))) <= kept.keys()


@pytest.mark.parametrize("name", METHODS)
def test_without_images_a_client_keeps_what_it_kept(name: str) -> None:
    kept = {"x": torch.ones(1)}
    state, result = _train(method_class(name)(TRAIN), ImageSet.empty((1, 16, 16)), kept=kept)
    _assert_same(state, _model().state_dict())
    _assert_same(result.kept, kept)
    assert result.sent == {}


# What a method may look at


@pytest.mark.parametrize(
    ("name", "copies", "later"),
    [
        *(
            (name, 0, 0)
            for name in ("fedavg", "fedrep", "fedlc", "fedrs", "balanced-softmax", "ccvr")
        ),
        *((name, 1, 1) for name in ("fedprox", "scaffold", "fedntd")),
        ("moon", 0, 2),
    ],
)
def test_models_are_copied_only_for_those_who_ask(
    name: str, copies: int, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Local] = []
    original = Local.frozen

    def frozen(self: Local, state: Tensors) -> torch.nn.Module:
        made.append(self)
        return original(self, state)

    monkeypatch.setattr(Local, "frozen", frozen)
    method = method_class(name)(TRAIN)
    _, first = _train(method)
    assert len(made) == copies
    _train(method, kept=first.kept)
    assert len(made) == copies + later


class _Witness(Method):
    """Notes what it is shown; asks for the global model in step ``ask``."""

    def __init__(self, train: TrainConfig, ask: int = 0) -> None:
        super().__init__(train)
        self.ask = ask
        self.seen: list[Batch] = []
        self.local: Local | None = None

    def loss(self, model: torch.nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        self.seen.append(batch)
        self.local = local
        if self.ask == len(self.seen):
            assert not local.global_model.training
            assert not any(p.requires_grad for p in local.global_model.parameters())
        return super().loss(model, batch, local)


def test_a_method_sees_which_images_are_synthetic() -> None:
    data = ImageSet(torch.zeros((8, 1, 16, 16), dtype=torch.uint8), torch.tensor([0] * 5 + [1] * 3))
    witness = _Witness(TrainConfig(steps=2, batch_size=8))
    _train(witness, data, real_images=5)
    for batch in witness.seen:
        assert torch.equal(batch.synthetic, batch.labels == 1)
        assert bool((batch.images == -1).all())
    assert witness.local is not None
    assert witness.local.label_counts.tolist() == [5, 3, 0]
    assert witness.local.real_counts.tolist() == [5, 0, 0]
    _train(witness, data)  # unless told otherwise, all are real
    assert not witness.seen[-1].synthetic.any()
    assert witness.local.real_counts.tolist() == [5, 3, 0]


def test_the_global_model_is_there_in_the_first_step_only() -> None:
    witness = _Witness(TRAIN, ask=1)
    moved, _ = _train(witness)
    assert witness.local is not None
    _assert_same(_copy(witness.local.global_model.state_dict()), _model().state_dict())
    assert not torch.equal(moved["head.weight"], _model().state_dict()["head.weight"])
    with pytest.raises(RunError, match="in its first step"):
        _train(_Witness(TRAIN, ask=2))


def test_one_method_serves_many_clients() -> None:
    first, second = _copy(_model(1).state_dict()), _copy(_model(2).state_dict())
    shared = Moon(TRAIN)
    _train(shared, kept=first)
    used, _ = _train(shared, kept=second)
    fresh, _ = _train(Moon(TRAIN), kept=second)
    _assert_same(used, fresh)


def test_what_was_frozen_stays_frozen() -> None:
    model = _model()
    model.get_submodule("body").requires_grad_(False)
    before = _copy(model.state_dict())
    train_local(model, _data(), TRAIN, seed=0, device="cpu")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith("head.")
        assert torch.equal(parameter, before[name]) != name.startswith("head.")


def test_a_whole_configuration_names_its_method() -> None:
    flat: dict[str, Scalar] = {"method": "fedprox", "train.proximal": 5.0, "train.steps": 3}
    config = RunConfig.from_flat(flat)
    models = [_model(), _model(), _model()]
    train_local(models[0], _data(), config, seed=0, device="cpu")
    train_local(
        models[1],
        _data(),
        config,
        method=method_class("fedprox")(config.train),
        seed=0,
        device="cpu",
    )
    train_local(models[2], _data(), config.train, seed=0, device="cpu")
    _assert_same(models[0].state_dict(), models[1].state_dict())
    assert not torch.equal(models[0].head.weight, models[2].head.weight)


# FedRep


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fedreps_steps_move_one_part_each(optimizer: str) -> None:
    train = TrainConfig.model_validate({"steps": 5, "head_share": 0.4, "optimizer": optimizer})
    model, states = _model(), [_copy(_model().state_dict())]
    train_local(
        model,
        _data(),
        train,
        method=FedRep(train),
        seed=0,
        device="cpu",
        progress=lambda done, total: states.append(_copy(model.state_dict())),
    )
    for step, (before, after) in enumerate(pairwise(states), start=1):
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        assert moved == {name for name in after if name.startswith("head.") == (step <= 2)}


@given(share=st.floats(0.01, 0.99), steps=st.integers(1, 60))
def test_each_part_has_a_step(share: float, steps: int) -> None:
    method, model = FedRep(TrainConfig(head_share=share)), _model()
    chosen = [
        {id(parameter) for parameter in method.trainable(model, step, steps)}
        for step in range(1, steps + 1)
    ]
    heads = [id(model.head.weight) in each for each in chosen]
    assert not heads[-1]
    assert heads[0] == (steps > 1)
    assert heads == sorted(heads, reverse=True)


def test_a_head_goes_on_from_where_it_was() -> None:
    method = FedRep(TRAIN)
    own = {"head.weight": torch.full_like(_model().head.weight, 0.25)}
    state = dict(_model().state_dict()) | own
    body_only = FedRep(TrainConfig(steps=1))  # a single step is the body's
    trained, result = _train(body_only, start=state)
    assert torch.equal(trained["head.weight"], own["head.weight"])
    assert torch.equal(result.kept["head.weight"], own["head.weight"])
    assert set(method.shared(list(state))) == {name for name in state if "head" not in name}


# MOON


def test_moon_without_weight_is_fedavg_to_the_bit() -> None:
    kept = _copy(_model(7).state_dict())
    plain, _ = _train(FedAvg(TRAIN))
    weightless, result = _train(Moon(TRAIN.model_copy(update={"moon_mu": 0.0})), kept=kept)
    contrasting, _ = _train(Moon(TRAIN), kept=kept)
    _assert_same(weightless, plain)
    _assert_same(result.kept, weightless)
    assert not torch.equal(contrasting["head.weight"], plain["head.weight"])


def test_a_step_of_moon_follows_the_papers_loss() -> None:
    """By hand: one step of gradient descent on ``ce - mu * log(pos / (pos + neg))``."""
    train = PLAIN_SGD.model_copy(update={"steps": 1, "moon_mu": 2.0, "moon_temperature": 0.7})
    data, model, base, previous = _data(), _model(), _model(), _model(7)
    images = to_float(data.images)
    z = model.features(images)

    def similar(other: Classifier) -> torch.Tensor:
        with torch.no_grad():
            there = other.features(images)
        cosine: torch.Tensor = (z * there).sum(dim=1) / (z.norm(dim=1) * there.norm(dim=1))
        return cosine / 0.7

    positive, negative = similar(base).exp(), similar(previous).exp()
    contrast = -(positive / (positive + negative)).log().mean()
    cross_entropy = functional.cross_entropy(model(images), data.labels)
    torch.autograd.backward(cross_entropy + 2.0 * contrast)
    wanted = {
        name: (own - 0.1 * own.grad).detach()
        for name, own in model.named_parameters()
        if own.grad is not None
    }
    found, _ = _train(Moon(train), data, kept=_copy(previous.state_dict()))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


# SCAFFOLD


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scaffold_with_zero_controls_is_fedavg_to_the_bit(clip: float, momentum: float) -> None:
    train = TRAIN.model_copy(update={"clip_norm": clip, "momentum": momentum})
    zeros = Scaffold(train).template(_model())
    plain, _ = _train(FedAvg(train))
    corrected, _ = _train(Scaffold(train), kept=zeros, received=zeros)
    _assert_same(plain, corrected)


def test_the_correction_is_added_to_the_clipped_gradient() -> None:
    train = PLAIN_SGD.model_copy(update={"steps": 1, "clip_norm": 0.01})
    start = _model().state_dict()
    zeros = Scaffold(train).template(_model())
    c = {name: torch.full_like(value, 0.5) for name, value in zeros.items()}
    c_i = {name: torch.full_like(value, 0.2) for name, value in zeros.items()}
    clipped, _ = _train(FedAvg(train))
    found, result = _train(Scaffold(train), kept=c_i, received=c)
    for name in start:
        gradient = (start[name] - clipped[name]) / 0.1
        torch.testing.assert_close(found[name], start[name] - 0.1 * (gradient - 0.2 + 0.5))
        # Option II gives the clipped gradient back: that of the whole data set here.
        torch.testing.assert_close(result.kept[name], gradient, rtol=1e-3, atol=1e-5)


def _by_hand(
    data: ImageSet, start: Tensors, c: Tensors, c_i: Tensors
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return y_i and c_i+ of algorithm 1 in plain torch: ``y <- y - lr * (g - c_i + c)``."""
    model, steps, lr = _model(), PLAIN_SGD.steps, PLAIN_SGD.lr
    model.load_state_dict(dict(start))
    for _ in range(steps):
        loss = functional.cross_entropy(model(to_float(data.images)), data.labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, own), g in zip(model.named_parameters(), gradients, strict=True):
                own.sub_(lr * (g - c_i[name] + c[name]))
    y = _copy(model.state_dict())
    return y, {name: c_i[name] - c[name] + (start[name] - y[name]) / (steps * lr) for name in y}


def test_a_federation_of_scaffold_is_algorithm_one() -> None:
    """Three clients, of whom the second misses a round: ``c`` is the mean of all ``c_i``."""
    method = Scaffold(PLAIN_SGD)
    data = [_data(seed, 12 + 4 * seed) for seed in range(3)]
    model, hand = _copy(_model().state_dict()), _copy(_model().state_dict())
    state: Tensors = method.template(_model())
    kept: dict[int, Tensors] = {}
    c, controls = _copy(state), [_copy(state) for _ in data]
    for taking_part in ([0, 1, 2], [0, 2], [0, 1, 2]):
        results = {
            key: _train(method, data[key], model, kept=kept.get(key), received=state)
            for key in taking_part
        }
        kept |= {key: result.kept for key, (_, result) in results.items()}
        weights = {key: float(result.images) for key, (_, result) in results.items()}
        model = {
            name: torch.stack([own[name] for own, _ in results.values()]).mean(dim=0)
            for name in model
        }
        sent = {key: result.sent for key, (_, result) in results.items()}
        state = method.aggregate(state, sent, weights, num_clients=3)

        found = {key: _by_hand(data[key], hand, c, controls[key]) for key in taking_part}
        for name in hand:
            hand[name] = torch.stack([y[name] for y, _ in found.values()]).mean(dim=0)
            changes = [new[name] - controls[key][name] for key, (_, new) in found.items()]
            c[name] = c[name] + torch.stack(changes).sum(dim=0) / 3
        for key, (_, new) in found.items():
            controls[key] = new

        for name in hand:
            torch.testing.assert_close(model[name], hand[name], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(state[name], c[name], rtol=1e-3, atol=1e-4)
            mean = torch.stack([kept[key][name] for key in range(3)]).mean(dim=0)
            torch.testing.assert_close(state[name], mean, rtol=1e-4, atol=1e-5)
    assert any(value.abs().max() > 1e-3 for value in state.values())
