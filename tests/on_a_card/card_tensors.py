"""Tensors that say ``cuda:0`` and lie in the processor's memory, and what may be done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tests.on_a_card.pretended_driver import RANDOM

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
_aten = torch.ops.aten
_COPIES = {_aten.copy_, _aten._to_copy}
# A processor's indices may index what is on a card.
_PUTS = {_aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_INDEXED = {_aten.index, _aten._unsafe_index, *_PUTS}
# Beside what is element by element: takes a processor's single number.
_TAKES_NUMBERS = {_aten.fill, _aten.fill_, _aten.masked_fill, _aten.masked_fill_}


class OnCard(torch.Tensor):
    """A tensor of the card; ``inner`` has its values.

    To PyTorch's own code it is one of the device 'meta', which has no kernels that could be taken
    by mistake: without a driver there can be none of 'cuda'.
    """

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CARD)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnCard:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device="meta",
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            made = self.detach().clone()
            if isinstance(self, torch.nn.Parameter):
                made = torch.nn.Parameter(made)
            made.requires_grad_(self.requires_grad)
            if self.grad is not None:
                made.grad = self.grad.detach().clone()
            memo[id(self)] = made
        return memo[id(self)]

    def __repr__(self) -> str:
        return f"OnCard({self.inner!r})"


# Instead of torch.utils._pytree, which took most of the time. What operators take and return has no
# lists in lists.
def leaves_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    found = []
    for each in (*args, *kwargs.values()):
        found.extend(each) if isinstance(each, list | tuple) else found.append(each)
    return found


def mapped(change: Callable[[Any], Any], each: Any) -> Any:
    if type(each) in (list, tuple):
        return type(each)(map(change, each))
    return change(each)


def all_mapped(
    change: Callable[[Any], Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    named = {name: mapped(change, each) for name, each in kwargs.items()}
    return [mapped(change, each) for each in args], named


def computed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what ``func`` makes, on the card if it is asked to or anything is there already."""
    leaves = leaves_of(args, kwargs)
    ours = [each for each in leaves if isinstance(each, OnCard)]
    asked = kwargs.get("device") and torch.device(kwargs["device"])
    if asked and asked.type == "meta" and (ours or func is _aten.scalar_tensor.default):
        asked = CARD  # PyTorch's own code asks for the device of what it has been given
    if not ours and (not asked or asked.type != "cuda"):
        return func(*args, **kwargs)
    packet = func.overloadpacket
    if ours:
        _check_places(func, packet, args, leaves)
    if any(isinstance(each, torch.Generator) for each in leaves):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    inner = {id(each.inner): each for each in ours}
    plain = {id(each) for each in leaves if isinstance(each, torch.Tensor)}
    told = dict(kwargs)
    if asked:
        told |= {"device": CPU, "pin_memory": False} if "pin_memory" in told else {"device": CPU}
    lands = asked.type == "cuda" if asked else True

    def given(each: Any) -> Any:
        return each.inner if isinstance(each, OnCard) else each

    def back(each: Any) -> Any:
        if id(each) in inner:
            return inner[id(each)]
        wrapped = isinstance(each, torch.Tensor) and lands and id(each) not in plain
        return OnCard(each) if wrapped else each

    args, told = all_mapped(given, args, told)
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return mapped(back, func(*args, **told))
    with torch.random.fork_rng(devices=[]):  # what draws there draws from the card's own state
        torch.set_rng_state(RANDOM.get_state())
        made = func(*args, **told)
        RANDOM.set_state(torch.get_rng_state())
    return mapped(back, made)


def _check_places(func: Any, packet: Any, args: Sequence[Any], leaves: Sequence[Any]) -> None:
    """Raise where a card would, of what lies in two places."""
    tensors = [each for each in leaves if isinstance(each, torch.Tensor)]
    others = [each for each in tensors if not isinstance(each, OnCard)]
    if any(each.is_meta for each in others):
        raise NotImplementedError(f"{func} is told values by a tensor that has none")
    if not others or packet in _COPIES:
        return
    changed = func._schema.is_mutable and args[0] is others[0]
    if packet in _INDEXED:
        value = args[2] if packet in _PUTS else args[0]
        mixes = isinstance(args[0], OnCard) and (isinstance(value, OnCard) or not value.dim())
    else:
        numbers = torch.Tag.pointwise in func.tags or packet in _TAKES_NUMBERS
        mixes = numbers and not changed and not any(each.dim() for each in others)
    if not mixes:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({func} with {[tuple(each.shape) for each in others]} on cpu)"
        )
