"""InfoNCE: a query against its positive and negatives, from the batch, a queue, or both."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import reweighted
from sslkernels.losses.rows import inverse, reduce, row_dots, unit_rows
from sslkernels.similarity import logsumexp, terms
from sslkernels.similarity.excluding import logsumexp_excluding
from sslkernels.similarity.row_products import row_products
from sslkernels.similarity.top1 import top1_hits


def info_nce(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.1,
    normalize: bool = True,
    reduction: str = "mean",
    in_batch: bool = False,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    beta: float = 0.0,
    tau_plus: float = 0.0,
    return_accuracy: bool = False,
) -> Any:
    """Cross entropy of picking each query's positive among its keys.

    With the keys k = [positive; negatives] and s_ij = <query_i, k_j> / temperature + bias_j,
    `loss_i = log sum_{j in keys of i} exp(s_ij) - s_ii`. The keys of row i are
    - without negatives, all rows of positive (SimCLR across two encoders, retrieval, CPC);
    - with negatives, its own positive and all negatives (MoCo);
    - with negatives and in_batch, all rows of both (retrieval with hard negatives).
    Negatives [N, K, D] belong to one row each. No [N, keys] matrix of shared keys is stored. Those
    cost 4 matrix products of N x keys x D, where dense code costs 3 and passes over the matrix:
    scores, scores again, and the gradients of queries and of keys. The last is computed even for a
    queue that wants none. A row's own negatives are a batched product in plain PyTorch: each of
    them meets one query, so that their [N, K] logits are but 1 / D of themselves.

    With N_i negatives, beta and tau_plus put in the place of their sum of exponentials
    - tau_plus: `max((sum - tau_plus N_i exp(s_ii)) / (1 - tau_plus), N_i exp(-1 / temperature))`:
      a share tau_plus of the negatives is expected to be of the positive's class (debiased);
    - beta: `N_i sum exp((1 + beta) s_ij) / sum exp(beta s_ij)`: each is weighted by exp(beta s), so
      that those near the query count more. A second log-sum-exp doubles the cost;
    - both: the first applied to the second (hard negative sampling).

    Args:
        query, positive: [N, D]; float64, float32, bfloat16 or float16. float32 is cast under
            autocast.
        negatives: [K, D] with the dtype and device of query, shared by all rows; a queue is just a
            tensor that does not require a gradient. Or [N, K, D], K of each row's own.
        temperature: a positive float, or a floating tensor with one element to get its gradient.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        reduction: "mean" or "sum" over the N rows, or "none".
        in_batch: with negatives, take the positives of the other rows as negatives too.
        bias: [N], or [N + K] with negatives; floating, added to the logits of key j. The log-Q
            correction of sampled negatives is `bias = -log(q)`, q the sampling probabilities. Not
            with negatives of each row's own, which have no columns, nor with beta or tau_plus,
            whose formulas are of cosines.
        ids: [N] integers, what sample the positive of a row is. A key of the same id is left out
            of the row's sum unless it is the row's own positive. The rows that this concerns take
            a path in plain PyTorch.
        negative_ids: [K] integers, or [N, K], the ids of the negatives; goes with ids and
            negatives.
        beta: hardness, at least 0; the paper takes 0.5 to 2.
        tau_plus: in [0, 1), the chance that a negative is none; the papers take 0.01 to 0.1. Its
            lower bound assumes rows of norm one.
        return_accuracy: also return the share of rows whose positive is strictly more similar than
            each of their other keys. Costs a product more; no gradient.

    Returns:
        The loss, 0-dim or [N] for "none"; float64 for float64 inputs, else float32. It is 0, with
        zero gradients, in a row of which the ids leave the positive alone. With return_accuracy
        the pair (loss, accuracy), accuracy a 0-dim tensor of the same dtype.

    Raises:
        TypeError: a tensor that is not dense or of a wrong kind of dtype; dtypes that differ; beta
            or tau_plus that is not a float.
        ValueError: query and positive are not 2-D, are empty, or differ in shape; negatives of
            another width or none; a bias or ids of another length; ids without negative_ids
            beside negatives, or negative_ids without ids and negatives; a bias with beta, tau_plus
            or negatives of each row's own; a negative beta, a tau_plus outside [0, 1); different
            devices; a temperature that is not positive and finite; an unknown reduction.
        RuntimeError: a second derivative was asked for.

    Papers: CPC, arXiv 1807.03748; MoCo, arXiv 1911.05722; log-Q correction: Sampling-Bias-Corrected
    Neural Modeling, RecSys 2019; tau_plus: Debiased Contrastive Learning, arXiv 2007.00224; beta:
    Contrastive Learning with Hard Negative Samples, arXiv 2010.04592.
    """
    op = "info_nce"
    q, p = checks.views(op, query, positive, "query", "positive")
    own = isinstance(negatives, Tensor) and negatives.dim() == 3
    if negatives is not None:
        check_keys = checks.row_keys if own else checks.keys
        check_keys(op, "negatives", negatives, query, "query")
        negatives = checks.autocast(negatives)
        checks.same_dtype(op, "negatives", negatives, "query", q)
    checks.positive_scalar(op, "temperature", temperature, query, "query")
    checks.reduction(op, reduction)
    reweighted.check(op, beta, tau_plus)
    n = q.shape[0]
    if bias is not None:
        if own or beta or tau_plus:
            other = "negatives of each row's own" if own else "beta" if beta else "tau_plus"
            raise ValueError(f"{op}: bias must be None with {other}")
        extra = 0 if negatives is None else negatives.shape[0]
        checks.vector(op, "bias", bias, n + extra, query, "query")
    ids, negative_ids = _checked_ids(ids, negative_ids, negatives, query)
    if normalize:
        q, p = unit_rows(q), unit_rows(p)
        negatives = None if negatives is None else unit_rows(negatives)
    scale = inverse(temperature, q)
    in_batch = in_batch or negatives is None
    if in_batch and not (own or beta or tau_plus):
        rows = _among_all(q, p, negatives, scale, bias, ids, negative_ids)
    else:
        keys = _split(q, p, negatives, ids, negative_ids, in_batch)
        counts = torch.stack([part.how_many() for part in keys])
        negative_bias = None if bias is None else bias[n:]
        rows = reweighted.reweighted_rows(
            _positive_logit(q, p, scale, bias),
            lambda factor: _joined([part.lse(factor, negative_bias) for part in keys]),
            counts.sum(0).to(accumulate_dtype(q.dtype)),
            scale,
            beta,
            tau_plus,
        )
    loss = reduce(rows, reduction)
    if not return_accuracy:
        return loss
    hits = _hits(q, p, negatives, scale, bias, ids, negative_ids, in_batch)
    return loss, hits.to(loss.dtype).mean()


def reference(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.1,
    normalize: bool = True,
    reduction: str = "mean",
    in_batch: bool = False,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    beta: float = 0.0,
    tau_plus: float = 0.0,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `info_nce`, of any floating dtype, and not checked; with
    beta or tau_plus every row has a negative.
    """
    n = query.shape[0]
    if normalize:
        query, positive = F.normalize(query, dim=1), F.normalize(positive, dim=1)
        negatives = None if negatives is None else F.normalize(negatives, dim=-1)
    own = torch.eye(n, dtype=torch.bool, device=query.device)
    dropped = torch.zeros_like(own)
    if negatives is not None and not in_batch:
        dropped = ~own
    if ids is not None:
        dropped = dropped | (ids[:, None] == ids)
    logits, dropped = query @ positive.T, dropped & ~own
    if negatives is not None:
        if negatives.dim() == 3:
            logits = torch.cat([logits, torch.einsum("nd,nkd->nk", query, negatives)], 1)
        else:
            logits = torch.cat([logits, query @ negatives.T], 1)
        same = torch.zeros_like(logits[:, n:], dtype=torch.bool)
        if ids is not None and negative_ids is not None:
            same = ids[:, None] == negative_ids
        dropped = torch.cat([dropped, same], 1)
    logits = logits / temperature
    if bias is not None:
        logits = logits + bias
    logits = logits.masked_fill(dropped, -math.inf)
    if not (beta or tau_plus):
        return F.cross_entropy(logits, torch.arange(n, device=query.device), reduction=reduction)
    positive_logit = logits.diagonal()
    others = logits.clone()
    others.diagonal().fill_(-math.inf)
    rows = reweighted.reference_rows(positive_logit, others, 1 / temperature, beta, tau_plus)
    return reduce(rows, reduction)


def _among_all(
    q: Tensor,
    p: Tensor,
    negatives: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
) -> Tensor:
    """The loss of each row where every key counts for every row."""
    keys = p if negatives is None else torch.cat([p, negatives])
    target = torch.arange(q.shape[0], device=q.device)
    if ids is None:
        row = terms.unchecked(q, keys, target, scale, bias)
        return row.lse - row.target_logit
    # A copy: torch.compile takes no tensor twice.
    key_ids = ids.clone() if negative_ids is None else torch.cat([ids, negative_ids])
    clash = _occurrences(ids, key_ids) > 1
    row = terms.unchecked(q, keys, target.masked_fill(clash, -1), scale, bias)
    others = logsumexp_excluding(q, keys, ids, key_ids, clash, scale, bias)
    apart = reweighted.against(others, _positive_logit(q, p, scale, bias))
    return torch.where(clash, apart, row.lse - row.target_logit)


class _Negatives(NamedTuple):
    """Keys that all rows share; with in_batch, key i is row i's positive, and no negative of it."""

    q: Tensor
    keys: Tensor
    ids: Tensor | None
    key_ids: Tensor | None
    in_batch: bool

    def how_many(self) -> Tensor:
        """[N] how many of them are negatives of each row."""
        among = self.q.new_full((self.q.shape[0],), self.keys.shape[0], dtype=torch.int64)
        if self.ids is None or self.key_ids is None:
            return among - 1 if self.in_batch else among
        return among - _occurrences(self.ids, self.key_ids)

    def lse(self, scale: Tensor, bias: Tensor | None) -> Tensor:
        """[N] log-sum-exp of each row's, -inf where it has none."""
        q, keys, allowed = self.q, self.keys, int(self.in_batch)
        if self.ids is None or self.key_ids is None:
            return logsumexp(q, keys, scale=scale, bias=bias, exclude=(0,) * allowed)
        clash = _occurrences(self.ids, self.key_ids) > allowed
        bound = logsumexp_excluding(q, keys, self.ids, self.key_ids, clash, scale, bias)
        if self.in_batch:
            free = logsumexp(q, keys, scale=scale, bias=bias, exclude=(0,))
        else:
            any_column = torch.zeros_like(self.ids).masked_fill(clash, -1)
            free = terms.unchecked(q, keys, any_column, scale, bias).lse
        return torch.where(clash, bound, free)


class _OwnNegatives(NamedTuple):
    """K keys of each row's own, as products [N, K] with it; dropped where `same`."""

    products: Tensor
    same: Tensor | None

    def how_many(self) -> Tensor:
        if self.same is None:
            return torch.full_like(self.products[:, 0], self.products.shape[1], dtype=torch.int64)
        return (~self.same).sum(1)

    def lse(self, scale: Tensor, bias: None) -> Tensor:
        logits = self.products * scale
        if self.same is None:
            return logits.logsumexp(1)
        # A softmax over nothing is NaN, and so would be its gradient.
        none_left = self.same.all(1)
        kept = logits.masked_fill(self.same & ~none_left[:, None], -math.inf)
        return kept.logsumexp(1).masked_fill(none_left, -math.inf)


def _split(
    q: Tensor,
    p: Tensor,
    negatives: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
    in_batch: bool,
) -> list[Any]:
    """The negatives by kind: shared ones, and each row's own."""
    parts: list[Any] = []
    own = negatives if negatives is not None and negatives.dim() == 3 else None
    shared, shared_ids = (negatives, negative_ids) if own is None else (None, None)
    if in_batch:
        keys = p if shared is None else torch.cat([p, shared])
        key_ids = ids
        if ids is not None:  # a copy: torch.compile takes no tensor twice
            key_ids = ids.clone() if shared_ids is None else torch.cat([ids, shared_ids])
        parts.append(_Negatives(q, keys, ids, key_ids, in_batch=True))
    elif shared is not None:
        parts.append(_Negatives(q, shared, ids, shared_ids, in_batch=False))
    if own is not None:
        same = None
        if ids is not None and negative_ids is not None:
            same = ids[:, None] == negative_ids
        parts.append(_OwnNegatives(row_products("info_nce", q, own), same))
    return parts


def _joined(parts: list[Tensor]) -> Tensor:
    """The log of the sum of the exponentials; where all are -inf, without NaN in the gradients."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    nothing = (first == -math.inf) & (second == -math.inf)
    joined = torch.logaddexp(first.masked_fill(nothing, 0.0), second.masked_fill(nothing, 0.0))
    return joined.masked_fill(nothing, -math.inf)


def _hits(
    q: Tensor,
    p: Tensor,
    negatives: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
    in_batch: bool,
) -> Tensor:
    """[N] bool: the positive is strictly nearer than every other key."""
    hits = torch.ones(q.shape[0], dtype=torch.bool, device=q.device)
    with torch.no_grad():
        for part in _split(q.detach(), p, negatives, ids, negative_ids, in_batch):
            if isinstance(part, _Negatives):
                at = (part.ids, part.key_ids, scale, bias)
                hits &= top1_hits(q, p, part.keys, *at, in_batch=part.in_batch)
            else:
                rivals = part.products
                if part.same is not None:
                    rivals = rivals.masked_fill(part.same, -math.inf)
                # The same product as theirs, so that a negative that equals the positive ties.
                own = row_products("info_nce", q, p[:, None]).squeeze(1)
                hits &= own > rivals.amax(1)
    return hits


def _positive_logit(q: Tensor, p: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    logit = row_dots(q, p) * scale
    return logit if bias is None else logit + bias[: q.shape[0]].to(logit.dtype)


def _occurrences(ids: Tensor, key_ids: Tensor) -> Tensor:
    """How many of `key_ids` equal each of `ids`, without a matrix of comparisons."""
    ordered = key_ids.sort().values
    return torch.searchsorted(ordered, ids, right=True) - torch.searchsorted(ordered, ids)


def _checked_ids(
    ids: Tensor | None, negative_ids: Tensor | None, negatives: Tensor | None, query: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Both as int64."""
    if negative_ids is not None and (ids is None or negatives is None):
        missing = "ids" if ids is None else "negatives"
        raise ValueError(f"info_nce: negative_ids goes with {missing}, which is None")
    if ids is None:
        return None, None
    checks.integers("info_nce", "ids", ids, (query.shape[0],), query, "query")
    ids = ids.to(torch.int64).contiguous()
    if negatives is None:
        return ids, None
    if negative_ids is None:
        raise ValueError("info_nce: negative_ids must be given where ids and negatives are")
    shape = negatives.shape[:-1]
    checks.integers("info_nce", "negative_ids", negative_ids, shape, query, "query")
    return ids, negative_ids.to(torch.int64).contiguous()


backends.compose("info_nce", "logit_terms")
