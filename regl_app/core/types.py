"""The types of values that several packages hand to each other, each named once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Counts = npt.NDArray[np.int64]
"""Images per class, ``(C,)``, or per client and class, ``(K, C)``."""
Indices = npt.NDArray[np.int64]
"""Places in a set of images, ``(N,)``."""
Labels = npt.NDArray[np.int64]
"""A class per image, ``(N,)``."""
Floats = npt.NDArray[np.float64]
"""Real numbers of any shape, in double precision."""
Tensors = Mapping[str, "torch.Tensor"]
"""Tensors by name, such as a file's or a record's."""
Weights = Mapping[str, "torch.Tensor"]
"""A model's state by parameter or buffer name."""
Fact = bool | int | float | str
"""What a client tells of its round beside its results."""
Scalar = str | int | float | bool
"""A value of the configuration."""
CacheKey = Mapping[str, object]
"""All that a cached thing's content depends on, by name; JSON can write it."""
Progress = Callable[[str, int, int], None]
"""Told of long work: what is done, how many steps of it are, and how many there will be."""
StepProgress = Callable[[int, int], None]
"""Told of one piece of work: how many steps of it are done, and how many there will be."""
