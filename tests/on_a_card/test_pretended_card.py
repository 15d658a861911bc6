"""The pretended card is as a real one in what the other tests here rely on."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.on_a_card.card_tensors import OnCard

CPU = torch.device("cpu")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))


MIXED: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "add": lambda card, cpu: card + cpu,
    "the other way round": lambda card, cpu: cpu + card,
    "in place": lambda card, cpu: card.add_(cpu),
    "a number on the processor changed": lambda card, cpu: cpu.sum().add_(card.sum()),
    "stack": lambda card, cpu: torch.stack([card, cpu]),
    "cat of numbers": lambda card, cpu: torch.stack([card.sum(), cpu.sum()]),
    "linear": lambda card, cpu: functional.linear(card, cpu),
    "compared": lambda card, cpu: torch.equal(card, cpu),
    "indexed from the card": lambda card, cpu: cpu[torch.tensor([1], device="cuda")],
    "a mask of the card": lambda card, cpu: cpu[card > 0],
    "chosen": lambda card, cpu: card.index_select(0, torch.tensor([1])),
    "gathered": lambda card, cpu: card.gather(0, torch.zeros(1, 2, dtype=torch.int64)),
    "embedded": lambda card, cpu: functional.embedding(torch.tensor([1]), card),
    "labelled": lambda card, cpu: functional.cross_entropy(card, torch.tensor([0, 1])),
    "put": lambda card, cpu: card.index_put_((torch.tensor([0]),), cpu[:1]),
    "where": lambda card, cpu: torch.where(card > 0, card, cpu),
}


@pytest.mark.parametrize("how", MIXED)
def test_two_places_do_not_mix(card: torch.device, how: str) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        MIXED[how](numbers(2, 2).to(card), numbers(2, 2))


def test_what_a_card_takes_from_a_processor(card: torch.device) -> None:
    plain = numbers(3, 2)
    there = plain.to(card)
    picked = torch.tensor([2, 0])
    for expected, found in (
        (plain * torch.tensor(2.0), there * torch.tensor(2.0)),
        (plain[picked], there[picked]),
        (plain[plain > 0], there[plain > 0]),
        (plain[[2, 1], :1], there[[2, 1], :1]),
        (plain.clamp(min=torch.tensor(0.0)), there.clamp(min=torch.tensor(0.0))),
        (plain.index_put((picked,), torch.ones(())), there.index_put((picked,), torch.ones(()))),
    ):
        assert found.device == card and torch.equal(found.cpu(), expected)
    assert torch.zeros(3, 2).copy_(there).equal(plain) and float(there.sum()) == float(plain.sum())


def test_a_processors_generator_draws_nothing_there(card: torch.device) -> None:
    random = torch.Generator().manual_seed(0)
    for draw in (
        lambda: torch.randn(2, generator=random, device=card),
        lambda: torch.zeros(2, device=card).normal_(generator=random),
        lambda: torch.randperm(3, generator=random, device=card),
    ):
        with pytest.raises(RuntimeError, match="generator"):
            draw()
    assert torch.randn(2, device=card).device == card


def test_numpy_sees_nothing_of_it(card: torch.device) -> None:
    for read in (lambda x: x.numpy(), np.asarray):
        with pytest.raises((RuntimeError, TypeError)):
            read(torch.ones(2, device=card))


def test_where_things_are_made_and_go(card: torch.device) -> None:
    there = torch.arange(3, device="cuda")
    assert there.device == card == torch.zeros_like(there).device == there.new_tensor([1]).device
    assert there.is_cuda and not there.is_cpu and there.device.type == "cuda"
    assert there.to(card) is there and there.to("cuda", torch.int64) is there
    assert there.to(card, copy=True) is not there and there.float().device == card
    for back in (there.cpu(), there.to("cpu"), torch.ones(1).to(torch.ones(1)), there.to(CPU)):
        assert type(back) is torch.Tensor and back.device == CPU
    assert torch.ones(1).to(there).dtype == torch.int64 and torch.ones(1).to(there).is_cuda
    assert torch.tensor([1.5], device=card).tolist() == [1.5]
    assert torch.ones(1).device == CPU and torch.device("cuda").index is None


def test_views_and_changes_in_place(card: torch.device) -> None:
    plain, there = torch.zeros(2, 3), torch.zeros(2, 3, device=card)
    for each in (plain, there):
        each[1].add_(2)
        each.t()[0] = 5
        each.view(-1)[1:2].mul_(0).sub_(1)
    assert torch.equal(there.cpu(), plain)


def test_training_is_the_processors_to_the_bit(card: torch.device) -> None:
    pictures, labels, states = numbers(5, 2, 6, 6), torch.tensor([0, 1, 2, 1, 0]), []
    for device in (CPU, card):
        model = net().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            functional.cross_entropy(model(pictures.to(device)), labels.to(device)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        assert {each.grad.device for each in model.parameters()} == {device}
        states.append({name: value.cpu() for name, value in model.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_processors_to_the_bit(card: torch.device, masked: bool) -> None:
    found = []
    for device in (CPU, card):
        sides = [numbers(1, 2, 5, 8, seed=seed).to(device).requires_grad_() for seed in range(3)]
        mask = torch.ones(5, 5, dtype=torch.bool, device=device).tril() if masked else None
        made = functional.scaled_dot_product_attention(*sides, mask)
        made.sum().backward()
        found.append([made.detach().cpu(), *(side.grad.cpu() for side in sides)])
    assert all(map(torch.equal, *found))


def test_modules_move_copy_and_load(card: torch.device) -> None:
    model = net()
    model(numbers(2, 2, 6, 6)).sum().backward()
    parameters = list(model.parameters())
    expected = copy.deepcopy(model.state_dict())
    assert model.to(card) is model
    assert all(map(lambda a, b: a is b, model.parameters(), parameters))
    assert all(isinstance(each, nn.Parameter) and each.is_cuda for each in parameters)
    assert all(each.is_cuda for each in model.buffers())
    assert all(each.grad is not None and each.grad.is_cuda for each in parameters)
    other = copy.deepcopy(model)
    assert all(each.is_cuda and isinstance(each, nn.Parameter) for each in other.parameters())
    with torch.no_grad():
        for each in other.parameters():
            each.zero_()
    assert not any(each.eq(0).all() for each in model.parameters() if each.dim() > 1)
    other.load_state_dict(expected)  # from the processor
    plain = net()
    plain.load_state_dict(other.state_dict())  # and back
    assert all(torch.equal(value, expected[name]) for name, value in plain.state_dict().items())
    weight = other[0].weight
    weight.data = torch.ones(4, 2, 3, 3)
    assert other[0].weight is weight and weight.device == CPU


def test_autocast_is_cudas(card: torch.device) -> None:
    there, norm = numbers(2, 4, 4, 4).to(card), nn.GroupNorm(2, 4).to(card)
    conv = nn.Conv2d(4, 4, 1).to(card)
    with torch.autocast("cuda", torch.float16):
        made = conv(there)
        assert made.dtype == torch.float16 == (made[0, 0] @ made[0, 0]).dtype
        assert norm(made).dtype == torch.float32 == functional.softmax(made, 1).dtype
        assert functional.mse_loss(made, made).dtype == torch.float32 == made.sum().dtype
        assert torch.cat([made, there]).dtype == torch.float32 and (made + 1).dtype == made.dtype
        assert functional.silu(made).dtype == torch.float16
        assert conv(there.cpu().to(card)).requires_grad
    assert conv(there).dtype == torch.float32


def test_nothing_of_it_is_left() -> None:
    from tests.on_a_card.pretended_card import pretended_card

    before = {name: getattr(torch.cuda, name) for name in ("is_available", "mem_get_info")}
    with pretended_card() as device:
        assert torch.cuda.is_available() and isinstance(torch.ones(1, device=device), OnCard)
    assert before == {name: getattr(torch.cuda, name) for name in before}
    assert "data" not in vars(torch.Tensor)
