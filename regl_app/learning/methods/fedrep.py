"""FedRep (Collins et al., 2021): clients share the body and keep a head of their own.

Choose it when clients want a model for their own labels. The global model then has no trained
head: what counts is the accuracy at the clients, and the server's test set says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from regl_app.core.types import Tensors
from regl_app.learning.methods.method import Local, Method

_HEAD = "head."


class FedRep(Method):
    """First ``train.head-share`` of the local steps for the head, then the rest for the body.

    The paper's algorithm 1 counts both; a share suits clients of different sizes too. Each part
    has one step at least, the body alone if there is but one.
    """

    def shared(self, names: Sequence[str]) -> Sequence[str]:
        """Return the body's tensors."""
        return [name for name in names if not name.startswith(_HEAD)]

    def trainable(self, model: nn.Module, step: int, steps: int) -> Iterable[nn.Parameter]:
        """Return the head's parameters, or later the body's."""
        wanted = round(self.train.head_share * steps)
        head = step <= min(max(1, wanted), steps - 1)
        return [
            parameter
            for name, parameter in model.named_parameters()
            if name.startswith(_HEAD) == head
        ]

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        """Keep the head."""
        state = model.state_dict()
        return {k: v for k, v in state.items() if k.startswith(_HEAD)}, {}
