"""The engine: log-sum-exp over logits that are never stored."""

from sslkernels.similarity.op import logsumexp, weighted_logsumexp

__all__ = ["logsumexp", "weighted_logsumexp"]
