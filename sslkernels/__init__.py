"""Fused kernels for self-supervised learning."""

from sslkernels import losses, nn, similarity
from sslkernels.backends import backend, explain
from sslkernels.losses.nt_xent import nt_xent

__version__ = "0.1.0"

__all__ = ["backend", "explain", "losses", "nn", "nt_xent", "similarity"]
