"""The engine: log-sum-exp over logits that are never stored."""

from sslkernels.similarity.op import logsumexp, weighted_logsumexp
from sslkernels.similarity.terms import LogitTerms, logit_terms

__all__ = ["LogitTerms", "logit_terms", "logsumexp", "weighted_logsumexp"]
