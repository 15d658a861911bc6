"""What CUDA's autocast does to the tensors of a call (ATen/autocast_mode.h)."""

from __future__ import annotations

from collections.abc import Set

import torch

_LOWERED = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul rmatmul mm bmm
addmm baddbmm addbmm addmv addr mv einsum vecdot chain_matmul multi_dot prelu
scaled_dot_product_attention
"""
_RAISED = """
group_norm layer_norm rms_norm softmax log_softmax softmin cross_entropy mse_loss l1_loss nll_loss
smooth_l1_loss huber_loss kl_div binary_cross_entropy_with_logits cosine_similarity
cosine_embedding_loss norm vector_norm normalize sum prod cumsum cumprod logsumexp pow rpow exp
expm1 log log10 log1p log2 rsqrt reciprocal softplus cosh sinh tan acos asin erfinv cdist dist pdist
renorm interpolate
"""
_WIDENED = "cat stack addcmul addcdiv atan2 bilinear cross dot grid_sample"
_TYPES = {
    **dict.fromkeys(_LOWERED.split(), "lowered"),
    **dict.fromkeys(_RAISED.split(), "raised"),
    **dict.fromkeys(_WIDENED.split(), "widened"),
}


def autocast_type(name: str, kinds: Set[torch.dtype]) -> torch.dtype | None:
    """Return what the card's tensors, of ``kinds``, are brought to; None leaves them as they are.

    ``name`` is the called function's, as Python has it.
    """
    how = _TYPES.get(name.strip("_").removesuffix("_"))
    if how is None or not kinds:
        return None
    if how == "lowered":
        return torch.get_autocast_dtype("cuda")
    return torch.float32 if how == "raised" or torch.float32 in kinds else None
