"""A GPU that is none: tensors that say ``cuda:0`` and lie in the processor's memory.

What is computed is the processor's own arithmetic, on real values. What is as on a card is where
things lie: tensors of two places do not mix, a processor's generator draws nothing on a card, NumPy
sees nothing of it, and autocast lowers what CUDA's does. It shows which device and type everything
has and in which order things move. It shows nothing of memory, speed, kernels or their rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.on_a_card.autocast_lists import autocast_type
from tests.on_a_card.pretended_driver import pretended_driver

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
_aten = torch.ops.aten
_COPIES = {_aten.copy_, _aten._to_copy}
# A processor's indices may index what is on a card.
_PUTS = {_aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_INDEXED = {_aten.index, _aten._unsafe_index, *_PUTS}
# Beside what is element by element: takes a processor's single number.
_TAKES_NUMBERS = {_aten.fill, _aten.fill_, _aten.masked_fill, _aten.masked_fill_}
_INDEXING = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_attention = functional.scaled_dot_product_attention


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
        return _computed(func, args, kwargs or {})

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
def _leaves(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    found = []
    for each in (*args, *kwargs.values()):
        found.extend(each) if isinstance(each, list | tuple) else found.append(each)
    return found


def _mapped(change: Callable[[Any], Any], each: Any) -> Any:
    if type(each) in (list, tuple):
        return type(each)(map(change, each))
    return change(each)


def _all_mapped(
    change: Callable[[Any], Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    named = {name: _mapped(change, each) for name, each in kwargs.items()}
    return [_mapped(change, each) for each in args], named


def _computed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what ``func`` makes, on the card if it is asked to or anything is there already."""
    leaves = _leaves(args, kwargs)
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

    args, told = _all_mapped(given, args, told)
    return _mapped(back, func(*args, **told))


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


class _Card(TorchDispatchMode):
    """What is asked for on the card without a tensor that is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Driver(TorchFunctionMode):
    """What CUDA does before anything is computed: it knows its card's number, and autocasts."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch.device or name == "__get__":
            return func(*args, **kwargs)
        args, kwargs = _all_mapped(_numbered, args, kwargs)
        if func is _attention and any(isinstance(each, OnCard) for each in _leaves(args, kwargs)):
            func = _attend
        elif func is torch.Tensor.to:
            return _moved(args[0], *args[1:], **kwargs)
        elif func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == CARD:
            return func(*args, **{**kwargs, "device": CPU}).to(CARD)
        elif func is torch.Tensor.new_tensor and isinstance(args[0], OnCard):
            return func(args[0].inner, *args[1:], **kwargs).to(CARD)
        elif func in _INDEXING and isinstance(args[0], OnCard):
            args[1] = _mapped(_places, args[1]) if type(args[1]) is tuple else _places(args[1])
        if not torch.is_autocast_enabled("cuda"):
            return func(*args, **kwargs)
        kinds = {each.dtype for each in _leaves(args, kwargs) if isinstance(each, OnCard)}
        wanted = autocast_type(_attention.__name__ if func is _attend else name, kinds)
        if wanted is None:
            return func(*args, **kwargs)

        def cast(each: Any) -> Any:
            lowers = isinstance(each, OnCard) and each.is_floating_point()
            return each.to(wanted) if lowers and each.dtype != torch.float64 else each

        with torch.autocast("cuda", enabled=False):
            args, kwargs = _all_mapped(cast, args, kwargs)
            return func(*args, **kwargs)


def _numbered(place: Any) -> Any:
    if type(place) is torch.device and place.type == "cuda":
        return CARD
    return CARD if type(place) is str and place in ("cuda", "cuda:0") else place


def _places(index: Any) -> Any:
    # PyTorch's own code would make a tensor of a list on the device 'meta', which keeps no values.
    return torch.tensor(index) if type(index) is list else index


def _moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Return ``tensor.to(...)``, which is itself where nothing is to change."""
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    if not isinstance(tensor, OnCard):
        return torch.Tensor.to(tensor, *args, **kwargs)
    args = tuple(None if each == CARD else each for each in args)
    if kwargs.get("device") == CARD:
        del kwargs["device"]
    dtypes = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.dtype)]
    if any(isinstance(each, str | torch.device) for each in (*args, kwargs.get("device"))):
        return torch.Tensor.to(tensor, *args, **kwargs)
    told = {k: v for k, v in kwargs.items() if k in ("copy", "memory_format")}
    return torch.Tensor.to(tensor, dtypes[0] if dtypes else tensor.dtype, **told)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return attention by the kernel that the processor would take, chosen as it chooses."""
    inner = [each.inner if isinstance(each, OnCard) else each for each in (query, key, value)]
    mask = attn_mask.inner if isinstance(attn_mask, OnCard) else attn_mask
    told = {"scale": scale, "enable_gqa": enable_gqa}
    if torch._fused_sdp_choice(*inner, mask, dropout_p, is_causal, **told) == 1:
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            lowest = torch.zeros_like(attn_mask, dtype=query.dtype)
            attn_mask = lowest.masked_fill_(attn_mask.logical_not(), float("-inf"))
        fused = _aten._scaled_dot_product_flash_attention_for_cpu
        return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    plain = _aten._scaled_dot_product_attention_math
    return plain(query, key, value, attn_mask, dropout_p, is_causal, **told)[0]


_data, _compatible = torch._C.TensorBase.data, torch._has_compatible_shallow_copy_type


def _set_data(self: torch.Tensor, value: torch.Tensor) -> None:
    """Set ``self.data``, also to what lies elsewhere, as PyTorch does with a card's tensors."""
    if not isinstance(self, OnCard) and not isinstance(value, OnCard):
        _data.__set__(self, value)
        return
    value = value.detach()
    if isinstance(self, torch.nn.Parameter):
        value = torch.nn.Parameter(value, requires_grad=self.requires_grad)
    grad, self.grad = self.grad, None  # it holds what is to be swapped
    torch.utils.swap_tensors(self, value)
    if grad is not None:
        self.grad = grad.to(self.device)


def _sets_data(one: torch.Tensor, other: torch.Tensor) -> bool:
    if isinstance(one, OnCard) or isinstance(other, OnCard):
        return isinstance(one, torch.nn.Parameter)  # its gradient is replaced
    return _compatible(one, other)


@contextmanager
def _moving_parameters() -> Iterator[None]:
    """Let a module's parameters stay the objects that they are when it moves, as with cards."""
    torch.Tensor.data = property(_data.__get__, _set_data)
    try:
        with mock.patch.object(torch, _compatible.__name__, _sets_data):
            yield
    finally:
        del torch.Tensor.data


@contextmanager
def pretended_card(*, bf16: bool = True) -> Iterator[torch.device]:
    """Put a card into this machine, ``bf16`` or older; its memory never ends.

    It is there for the thread that asks. What was on it is of no use to anyone afterwards.
    """
    with pretended_driver(bf16=bf16), _moving_parameters(), _Driver(), _Card():
        yield CARD
