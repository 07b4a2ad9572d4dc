"""InfoNCE: a query against its positive and negatives, from the batch, a queue, or both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks, distributed
from sslkernels.losses import joint
from sslkernels.losses.rows import inverse, reduce, row_dots, unit_rows
from sslkernels.similarity import terms
from sslkernels.similarity.excluding import logsumexp_excluding
from sslkernels.similarity.fixed_keys import fixed_keys_logsumexp, wants_no_gradient


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
    group: object | None = None,
    exchange: str = "gather",
) -> Tensor:
    """Cross entropy of picking each query's positive among its keys.

    With the keys k = [positive; negatives] and s_ij = <query_i, k_j> / temperature + bias_j,
    `loss_i = log sum_{j in keys of i} exp(s_ij) - s_ii`. The keys of row i are
    - without negatives, all rows of positive (SimCLR across two encoders, retrieval, CPC);
    - with negatives, its own positive and all negatives (MoCo);
    - with negatives and in_batch, all rows of both (retrieval with hard negatives).
    No [N, keys] matrix is stored. Costs 4 matrix products of N x keys x D, where dense code costs
    3 and passes over the matrix: scores, scores again, and the gradients of queries and of keys.
    Keys that want no gradient save the last; against negatives that want none (MoCo) and without
    ids 2 products do, as in dense code.

    Args:
        query, positive: [N, D]; float64, float32, bfloat16 or float16. float32 is cast under
            autocast.
        negatives: [K, D] with the dtype and device of query, shared by all rows; a queue is just a
            tensor that does not require a gradient.
        temperature: a positive float, or a floating tensor with one element to get its gradient.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        reduction: "mean" or "sum" over the N rows, or "none".
        in_batch: with negatives, take the positives of the other rows as negatives too.
        bias: [N], or [N + K] with negatives; floating, added to the logits of key j. The log-Q
            correction of sampled negatives is `bias = -log(q)`, q the sampling probabilities.
        ids: [N] integers, what sample the positive of a row is. A key of the same id is left out
            of the row's sum unless it is the row's own positive. The rows that this concerns take
            a path in plain PyTorch.
        negative_ids: [K] integers, the ids of the negatives; goes with ids and negatives.
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
        zero gradients, in a row of which the ids leave the positive alone.

    Raises:
        TypeError: a tensor that is not dense or of a wrong kind of dtype; dtypes that differ.
        ValueError: query and positive are not 2-D, are empty, or differ in shape; negatives of
            another width or none; a bias or ids of another length; ids without negative_ids
            beside negatives, or negative_ids without ids and negatives; different devices; a
            temperature that is not positive and finite; an unknown reduction or exchange; ids with
            the ring; a group that was destroyed or that this process is not in; on every rank
            alike, ranks that differ in the width of their rows, in an argument, or in what requires
            a gradient.
        RuntimeError: a second derivative was asked for; another rank's arguments are wrong; other
            ranks, which it names, did not call within the timeout of group.

    Papers: CPC, arXiv 1807.03748; MoCo, arXiv 1911.05722; log-Q correction: Sampling-Bias-Corrected
    Neural Modeling, RecSys 2019.
    """
    if group is not None:
        return _joint_outside_graphs(
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
            group,
            exchange,
        )
    q, p, negatives, ids, negative_ids = _checked(
        query, positive, negatives, temperature, reduction, bias, ids, negative_ids, exchange
    )
    if normalize:
        q, p = unit_rows(q), unit_rows(p)
        negatives = None if negatives is None else unit_rows(negatives)
    scale = inverse(temperature, q)
    if negatives is None or in_batch:
        rows = _among_all(q, p, negatives, scale, bias, ids, negative_ids)
    else:
        rows = _against_negatives(q, p, negatives, scale, bias, ids, negative_ids)
    return reduce(rows, reduction)


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
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `info_nce`, of any floating dtype, and not checked.
    """
    n = query.shape[0]
    k = positive if negatives is None else torch.cat([positive, negatives])
    if normalize:
        query, k = F.normalize(query, dim=1), F.normalize(k, dim=1)
    logits = query @ k.T / temperature
    if bias is not None:
        logits = logits + bias
    row = torch.arange(n, device=query.device)
    column = torch.arange(k.shape[0], device=query.device)
    own = row[:, None] == column
    dropped = torch.zeros_like(own)
    if negatives is not None and not in_batch:
        dropped = column < n
    if ids is not None:
        key_ids = ids if negative_ids is None else torch.cat([ids, negative_ids])
        dropped = dropped | (ids[:, None] == key_ids)
    logits = logits.masked_fill(dropped & ~own, float("-inf"))
    return F.cross_entropy(logits, row, reduction=reduction)


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
    own = torch.arange(q.shape[0], device=q.device)
    key_ids = ids
    if ids is not None:  # a copy: torch.compile takes no tensor twice
        key_ids = ids.clone() if negative_ids is None else torch.cat([ids, negative_ids])
    return _among_keys(q, p, own, scale, bias, ids, keys, bias, key_ids)


def _among_keys(
    q: Tensor,
    p: Tensor,
    own: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
    keys: Tensor,
    key_bias: Tensor | None,
    key_ids: Tensor | None,
) -> Tensor:
    """The loss of each row against these keys, of which number own_i is its positive."""
    if ids is None or key_ids is None:
        row = terms.unchecked(q, keys, own, scale, key_bias)
        return row.lse - row.target_logit
    clash = _occurrences(ids, key_ids) > 1
    row = terms.unchecked(q, keys, own.masked_fill(clash, -1), scale, key_bias)
    others = logsumexp_excluding(q, keys, ids, key_ids, clash, scale, key_bias)
    apart = _against(others, _positive_logit(q, p, scale, bias))
    return torch.where(clash, apart, row.lse - row.target_logit)


def _against_negatives(
    q: Tensor,
    p: Tensor,
    negatives: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
) -> Tensor:
    """The loss of each row whose own positive is the only one that it sees."""
    n = q.shape[0]
    negative_bias = None if bias is None else bias[n:]
    any_column = torch.zeros(n, dtype=torch.int64, device=q.device)
    if ids is None and wants_no_gradient(negatives, negative_bias):
        others = fixed_keys_logsumexp(q, negatives, scale, negative_bias)
    elif ids is None or negative_ids is None:
        others = terms.unchecked(q, negatives, any_column, scale, negative_bias).lse
    else:
        clash = _occurrences(ids, negative_ids) > 0
        counted = any_column.masked_fill(clash, -1)
        free = terms.unchecked(q, negatives, counted, scale, negative_bias).lse
        bound = logsumexp_excluding(q, negatives, ids, negative_ids, clash, scale, negative_bias)
        others = torch.where(clash, bound, free)
    return _against(others, _positive_logit(q, p, scale, bias))


def _positive_logit(q: Tensor, p: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    logit = row_dots(q, p) * scale
    return logit if bias is None else logit + bias[: q.shape[0]].to(logit.dtype)


def _against(others: Tensor, positive_logit: Tensor) -> Tensor:
    """`log(exp(others) + exp(positive)) - positive`, `others` the lse of the negatives."""
    return -F.logsigmoid(positive_logit - others)


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
    shape = (negatives.shape[0],)
    checks.integers("info_nce", "negative_ids", negative_ids, shape, query, "query")
    return ids, negative_ids.to(torch.int64).contiguous()


def _checked(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None,
    temperature: float | Tensor,
    reduction: str,
    bias: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
    exchange: str,
    *,
    empty_rows: bool = False,
    empty_negatives: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Query, positive and negatives, cast for autocast, and the ids as int64."""
    op = "info_nce"
    q, p = checks.views(op, query, positive, "query", "positive", may_be_empty=empty_rows)
    if negatives is not None:
        checks.keys(op, "negatives", negatives, query, "query", may_be_empty=empty_negatives)
        negatives = checks.autocast(negatives)
        checks.same_dtype(op, "negatives", negatives, "query", q)
    checks.positive_scalar(op, "temperature", temperature, query, "query")
    checks.reduction(op, reduction)
    joint.check_exchange(op, exchange)
    extra = 0 if negatives is None else negatives.shape[0]
    if bias is not None:
        checks.vector(op, "bias", bias, q.shape[0] + extra, query, "query")
    return q, p, negatives, *_checked_ids(ids, negative_ids, negatives, query)


def _joint(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None,
    temperature: float | Tensor,
    normalize: bool,
    reduction: str,
    in_batch: bool,
    bias: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
    group: object,
    exchange: str,
) -> Tensor:
    """This rank's part of the loss of the joint batch: its own rows against the keys of all."""
    checked: list[Any] = []

    def check() -> tuple[int, dict[str, Any]]:
        checked.extend(
            _checked(
                query,
                positive,
                negatives,
                temperature,
                reduction,
                bias,
                ids,
                negative_ids,
                exchange,
                empty_rows=True,
                empty_negatives=in_batch,
            )
        )
        if ids is not None and exchange == "ring":
            raise ValueError("info_nce: ids needs exchange='gather'")
        return query.shape[0], joint.facts(
            checked[0],
            # What stays on its rank may differ.
            query=checked[0] if exchange == "ring" else None,
            positive=checked[1],
            negatives=checked[2] if in_batch else negatives is not None,
            temperature=temperature,
            bias=bias,
            ids=ids is not None,
            normalize=bool(normalize),
            reduction=reduction,
            in_batch=bool(in_batch),
            exchange=exchange,
        )

    shares = distributed.agree("info_nce", group, check)
    q, p, negatives, ids, negative_ids = checked
    if normalize:
        q, p = unit_rows(q), unit_rows(p)
        negatives = None if negatives is None else unit_rows(negatives)
    scale = inverse(temperature, q)
    if negatives is not None and not in_batch:
        rows = _against_negatives(q, p, negatives, scale, bias, ids, negative_ids)
    elif exchange == "ring":
        rows = _round_the_ring(q, p, negatives, scale, bias, shares)
    else:
        own = shares.start + torch.arange(q.shape[0], device=q.device)
        keys = _of_all_ranks(p, negatives, bias, ids, negative_ids, shares)
        rows = _among_keys(q, p, own, scale, bias, ids, *keys)
    return rows if reduction == "none" else rows.sum() * shares.row_weight(reduction)


# What the ranks tell each other is data of this call, and no part of a compiled graph.
_joint_outside_graphs: Any = torch.compiler.disable(_joint)


def _round_the_ring(
    q: Tensor,
    p: Tensor,
    negatives: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    shares: distributed.Shares,
) -> Tensor:
    m = p.shape[0]
    of_positives, of_negatives = (None, None) if bias is None else (bias[:m], bias[m:])
    lse = joint.row_lse(q, p, shares, "ring", scale, of_positives)
    if negatives is not None:
        apart = distributed.shares_of(negatives.shape[0], shares)
        lse = lse.logaddexp(joint.row_lse(q, negatives, apart, "ring", scale, of_negatives))
    return lse - _positive_logit(q, p, scale, bias)


def _of_all_ranks(
    p: Tensor,
    negatives: Tensor | None,
    bias: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
    shares: distributed.Shares,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """All positives, then all negatives: keys, biases and ids."""
    m, gather = p.shape[0], distributed.gather_rows
    keys = [gather(p, shares)]
    biases = [] if bias is None else [gather(bias[:m, None], shares)]
    numbers = [] if ids is None else [gather(ids[:, None], shares)]
    if negatives is not None:
        apart = distributed.shares_of(negatives.shape[0], shares)
        keys.append(gather(negatives, apart))
        biases += [] if bias is None else [gather(bias[m:, None], apart)]
        numbers += [] if negative_ids is None else [gather(negative_ids[:, None], apart)]
    return (
        torch.cat(keys),
        torch.cat(biases)[:, 0] if biases else None,
        torch.cat(numbers)[:, 0] if numbers else None,
    )


backends.compose("info_nce", "logit_terms")
