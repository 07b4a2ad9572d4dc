"""What the engine's CUDA kernels take; the kernels are in csrc/similarity/*.cu."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.bfloat16, torch.float16)
MOST_FEATURES = 1024


def why_not(q: Tensor) -> str:
    """Why the kernels do not take rows q [M, D], or an empty string if they do."""
    if q.dtype not in DTYPES:
        return f"they take bfloat16 and float16, not {str(q.dtype)[6:]}"
    if q.dim() == 2 and q.shape[1] > MOST_FEATURES:
        return f"they take at most {MOST_FEATURES} features, not {q.shape[1]}"
    return ""
