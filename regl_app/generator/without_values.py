"""A generator of shapes alone: it runs as it would, computes nothing, and what lives is counted.

PyTorch's fake tensors have shapes and no values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from regl_app.generator.foundation import Foundation
from regl_app.generator.prompts import TextConditioning

_IN_FLOAT32 = ("layer_norm", "group_norm", "rms_norm", "interpolate")


@contextmanager
def without_values(foundation: Foundation) -> Iterator[tuple[Foundation, Alive]]:
    """Yield the foundation with tensors of shapes alone, and what counts those that come up."""
    device = torch.device("cpu") if foundation.device.type == "meta" else foundation.device
    with FakeTensorMode(allow_non_fake_inputs=True), device:
        alive = Alive()
        told = {name: _shape_of(each) for name, each in foundation.text.tensors.items()}
        parts = (foundation.denoiser, foundation.vae)
        fake = replace(foundation, text=TextConditioning(told), device=device)
        card = _as_on_a_card() if foundation.device.type == "meta" else nullcontext()
        with _shapes_in(parts[0], alive), _shapes_in(parts[1], alive), card, alive:
            yield fake, alive


@contextmanager
def _shapes_in(part: Any, alive: Alive) -> Iterator[None]:
    """Put shapes in the place of a module's tensors, which ``alive`` leaves out; then these back.

    In the modules themselves, as gradient checkpointing calls them again on the way back.
    """
    own: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for module in part.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        own.append((held, name, tensor))
        for held, name, tensor in own:
            held[name] = _shape_of(tensor)
            alive.leave_out(held[name])
        yield
    finally:
        for held, name, tensor in own:
            held[name] = tensor


def _shape_of(tensor: torch.Tensor) -> torch.Tensor:
    shape = torch.empty(tensor.shape, dtype=tensor.dtype)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(shape, requires_grad=tensor.requires_grad)
    return shape


@contextmanager
def _as_on_a_card() -> Iterator[None]:
    """Have what CUDA's autocast computes in float32, and a processor's does not, see float32.

    (docs.pytorch.org, "CUDA Ops that can autocast to float32".) In the module that layers call, as
    gradient checkpointing calls them again on the way back, where modes are not in effect.
    """
    own = {name: getattr(functional, name) for name in _IN_FLOAT32}
    try:
        for name, func in own.items():
            setattr(functional, name, partial(_wide, func))
        yield
    finally:
        for name, func in own.items():
            setattr(functional, name, func)


def _wide(func: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        args, kwargs = tree_map(_in_float32, args), tree_map(_in_float32, kwargs)
    return func(*args, **kwargs)


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]  # no types there
    """Adds up the memory of the tensors that come up, as long as each lives; ``most`` at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def leave_out(self, tensor: torch.Tensor) -> None:
        """Do not count ``tensor``, which has to outlive this."""
        self._known.add(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and count what it made."""
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
