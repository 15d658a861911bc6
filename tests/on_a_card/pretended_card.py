"""A GPU that is none: tensors that say ``cuda:0`` and lie in the processor's memory.

What is computed is the processor's own arithmetic, on real values. What is as on a card is where
things lie: tensors of two places do not mix, a processor's generator draws nothing on a card, NumPy
sees nothing of it, and autocast lowers what CUDA's does. It shows which device and type everything
has and in which order things move. It shows nothing of memory, speed, kernels or their rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch._dynamo.polyfills.loader  # looks at what is replaced below when it is first imported
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.on_a_card.autocast_lists import autocast_type
from tests.on_a_card.card_tensors import CARD, CPU, OnCard, all_mapped, computed, leaves_of, mapped
from tests.on_a_card.pretended_driver import pretended_driver

_INDEXING = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_attention = functional.scaled_dot_product_attention


class _Card(TorchDispatchMode):
    """What is asked for on the card without a tensor that is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class _Driver(TorchFunctionMode):
    """What CUDA does before anything is computed: it knows its card's number, and autocasts."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch.device or name == "__get__":
            return func(*args, **kwargs)
        args, kwargs = all_mapped(_numbered, args, kwargs)
        if func is _attention and any(isinstance(each, OnCard) for each in leaves_of(args, kwargs)):
            func = _attend
        elif func is torch.Tensor.to:
            return _moved(args[0], *args[1:], **kwargs)
        elif func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == CARD:
            return func(*args, **{**kwargs, "device": CPU}).to(CARD)
        elif func is torch.Tensor.new_tensor and isinstance(args[0], OnCard):
            return func(args[0].inner, *args[1:], **kwargs).to(CARD)
        elif func in _INDEXING and isinstance(args[0], OnCard):
            args[1] = mapped(_places, args[1]) if type(args[1]) is tuple else _places(args[1])
        if not torch.is_autocast_enabled("cuda"):
            return func(*args, **kwargs)
        kinds = {each.dtype for each in leaves_of(args, kwargs) if isinstance(each, OnCard)}
        wanted = autocast_type(_attention.__name__ if func is _attend else name, kinds)
        if wanted is None:
            return func(*args, **kwargs)

        def cast(each: Any) -> Any:
            lowers = isinstance(each, OnCard) and each.is_floating_point()
            return each.to(wanted) if lowers and each.dtype != torch.float64 else each

        with torch.autocast("cuda", enabled=False):
            args, kwargs = all_mapped(cast, args, kwargs)
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
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    plain = torch.ops.aten._scaled_dot_product_attention_math
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
