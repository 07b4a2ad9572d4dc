"""InfoNCE: a query against its positive and negatives, from the batch, a queue, or both."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import reweighted
from sslkernels.losses.info_nce_arguments import OP, Arguments, checked
from sslkernels.losses.info_nce_joint import loss_outside_graphs
from sslkernels.losses.negatives import OwnKeys, SharedKeys, joined
from sslkernels.losses.rows import reduce
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
    group: object | None = None,
    exchange: str = "gather",
) -> Any:
    """Cross entropy of picking each query's positive among its keys.

    With the keys k = [positive; negatives] and s_ij = <query_i, k_j> / temperature + bias_j,
    `loss_i = log sum_{j in keys of i} exp(s_ij) - s_ii`. The keys of row i are
    - without negatives, all rows of positive (SimCLR across two encoders, retrieval, CPC);
    - with negatives, its own positive and all negatives (MoCo);
    - with negatives and in_batch, all rows of both (retrieval with hard negatives).
    Negatives [N, K, D] belong to one row each. No [N, keys] matrix of shared keys is stored. Those
    cost 4 matrix products of N x keys x D, where dense code costs 3 and passes over the matrix:
    scores, scores again, and the gradients of queries and of keys. Keys that want no gradient save
    the last; against negatives that want none (MoCo) and without ids 2 products do, as in dense
    code. A row's own negatives are a batched product in plain PyTorch: each of them meets one
    query, so that their [N, K] logits are but 1 / D of themselves.

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
            each of their other keys. Costs a product more; no gradient. Not with group.
        group: a `torch.distributed` process group, `torch.distributed.group.WORLD` for all ranks:
            the loss of the joint batch of its ranks, which may bring different numbers of rows,
            or none. The positives of all ranks are keys, and with in_batch the negatives of all
            ranks (retrieval); without it the negatives are those of the rank's own rows alone, and
            the joint batch's where each rank has the same ones (a queue). bias and ids are of this
            rank's keys. Each rank returns its own rows' part. For "mean" the average over the
            ranks, of the losses as of all gradients, is that of one process with the joint batch,
            which is what DistributedDataParallel makes of it; where gradients are summed instead,
            divide the loss by the number of ranks. For "sum" it is the sum over the ranks. Every
            rank must call, and call backward. Breaks the graph of torch.compile.
        exchange: with group, how the ranks' keys meet: "gather", all on every rank; or "ring", in
            turn, so that a rank holds no more than its own and two others', without ids.

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
            devices; a temperature that is not positive and finite; an unknown reduction or
            exchange; ids with the ring, return_accuracy with group; a group that was destroyed or
            that this process is not in; on every rank alike, ranks that differ in the width of
            their rows, in an argument, or in what requires a gradient.
        RuntimeError: a second derivative was asked for; another rank's arguments are wrong; other
            ranks, which it names, did not call within the timeout of group.

    Papers: CPC, arXiv 1807.03748; MoCo, arXiv 1911.05722; log-Q correction: Sampling-Bias-Corrected
    Neural Modeling, RecSys 2019; tau_plus: Debiased Contrastive Learning, arXiv 2007.00224; beta:
    Contrastive Learning with Hard Negative Samples, arXiv 2010.04592.
    """
    check = functools.partial(
        checked,
        query,
        positive,
        negatives,
        temperature,
        normalize,
        reduction,
        in_batch,
        bias,
        ids,
        negative_ids,
        beta,
        tau_plus,
        exchange,
    )
    if group is not None:
        if return_accuracy:
            raise ValueError(f"{OP}: return_accuracy must be False with group")
        facts = {
            "temperature": temperature,
            "normalize": bool(normalize),
            "reduction": reduction,
            "beta": beta,
            "tau_plus": tau_plus,
        }
        of_a_rank = functools.partial(check, of_a_rank=True)
        return loss_outside_graphs(of_a_rank, _rows, facts, group, exchange, reduction)
    arguments = check()
    loss = reduce(_rows(arguments), reduction)
    if not return_accuracy:
        return loss
    return loss, _hits(arguments).to(loss.dtype).mean()


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


def _rows(a: Arguments, shared: Any = None) -> Tensor:
    """[N] the loss of each row; `shared` in place of the keys that its rows share.

    The positive is kept apart from the sum over the others: of two numbers near each other the
    difference would be lost where the loss is small.
    """
    parts: list[Any] = [_shared(a) if shared is None else shared]
    parts = [part for part in parts if part is not None]
    if a.own is not None:
        parts.append(_own(a, a.own))
    positive_logit = a.positive_logit()

    def lse(scale: Tensor) -> Tensor:
        return joined([part.lse(scale) for part in parts])

    if not (a.beta or a.tau_plus):
        return reweighted.against(lse(a.scale), positive_logit)
    count = torch.stack([part.how_many() for part in parts]).sum(0)
    count = count.to(accumulate_dtype(a.query.dtype))
    return reweighted.reweighted_rows(positive_logit, lse, count, a.scale, a.beta, a.tau_plus)


def _shared(a: Arguments) -> SharedKeys | None:
    if not a.in_batch:
        if a.shared is None:
            return None
        bias = None if a.bias is None else a.bias[a.query.shape[0] :]
        return SharedKeys(a.query, a.shared, a.ids, a.shared_ids, None, bias)
    keys, key_ids = a.positive, a.ids
    if a.shared is not None:
        keys = torch.cat([keys, a.shared])
    if a.ids is not None:  # a copy: torch.compile takes no tensor twice
        key_ids = a.ids.clone() if a.shared_ids is None else torch.cat([a.ids, a.shared_ids])
    return SharedKeys(a.query, keys, a.ids, key_ids, 0, a.bias)


def _own(a: Arguments, keys: Tensor) -> OwnKeys:
    same = None
    if a.ids is not None and a.negative_ids is not None:
        same = a.ids[:, None] == a.negative_ids
    return OwnKeys(row_products(OP, a.query, keys), same)


@torch.no_grad()
def _hits(a: Arguments) -> Tensor:
    """[N] bool: the positive is strictly nearer than every other key."""
    hits = torch.ones(a.query.shape[0], dtype=torch.bool, device=a.query.device)
    shared = _shared(a)
    if shared is not None:
        at = (shared.ids, shared.key_ids, a.scale, a.bias)
        hits &= top1_hits(a.query, a.positive, shared.keys, *at, in_batch=a.in_batch)
    if a.own is not None:
        own = _own(a, a.own)
        rivals = own.products
        if own.same is not None:
            rivals = rivals.masked_fill(own.same, -math.inf)
        # The same product as theirs, so that a negative that equals the positive ties.
        positive = row_products(OP, a.query, a.positive[:, None]).squeeze(1)
        hits &= positive > rivals.amax(1)
    return hits


backends.compose("info_nce", "logsumexp")
