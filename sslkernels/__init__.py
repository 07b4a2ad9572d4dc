"""Fused kernels for self-supervised learning."""

from sslkernels import losses, masking, nn, similarity
from sslkernels.backends import backend, explain
from sslkernels.losses.nt_xent import nt_xent
from sslkernels.masking import mask_tokens

__version__ = "0.1.0"

__all__ = [
    "backend",
    "explain",
    "losses",
    "mask_tokens",
    "masking",
    "nn",
    "nt_xent",
    "similarity",
]
