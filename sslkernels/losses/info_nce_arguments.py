"""What `info_nce` is given, checked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sslkernels import checks
from sslkernels.losses import joint, reweighted
from sslkernels.losses.rows import inverse, row_dots, unit_rows

OP = "info_nce"


class Arguments(NamedTuple):
    """Rows cast for autocast and normalised where asked for, and the ids as int64."""

    query: Tensor
    positive: Tensor
    negatives: Tensor | None
    scale: Tensor
    in_batch: bool
    bias: Tensor | None
    ids: Tensor | None
    negative_ids: Tensor | None
    beta: float
    tau_plus: float

    @property
    def own(self) -> Tensor | None:
        """Negatives of each row's own."""
        return self.negatives if self.negatives is not None and self.negatives.dim() == 3 else None

    @property
    def shared(self) -> Tensor | None:
        return None if self.own is not None else self.negatives

    @property
    def shared_ids(self) -> Tensor | None:
        return None if self.own is not None else self.negative_ids

    def positive_logit(self) -> Tensor:
        """[N]."""
        logit = row_dots(self.query, self.positive) * self.scale
        if self.bias is None:
            return logit
        return logit + self.bias[: logit.shape[0]].to(logit.dtype)


def checked(
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
    beta: float,
    tau_plus: float,
    exchange: str,
    *,
    of_a_rank: bool = False,
) -> Arguments:
    """Raises what `info_nce` says; a rank of several may be without rows."""
    q, p = checks.views(OP, query, positive, "query", "positive", may_be_empty=of_a_rank)
    own = isinstance(negatives, Tensor) and negatives.dim() == 3
    if negatives is not None:
        if own:
            checks.row_keys(OP, "negatives", negatives, query, "query")
        else:
            may_be_empty = of_a_rank and in_batch
            checks.keys(OP, "negatives", negatives, query, "query", may_be_empty=may_be_empty)
        negatives = checks.autocast(negatives)
        checks.same_dtype(OP, "negatives", negatives, "query", q)
    checks.positive_scalar(OP, "temperature", temperature, query, "query")
    checks.reduction(OP, reduction)
    joint.check_exchange(OP, exchange)
    reweighted.check(OP, beta, tau_plus)
    if bias is not None:
        if own or beta or tau_plus:
            other = "negatives of each row's own" if own else "beta" if beta else "tau_plus"
            raise ValueError(f"{OP}: bias must be None with {other}")
        extra = 0 if negatives is None else negatives.shape[0]
        checks.vector(OP, "bias", bias, q.shape[0] + extra, query, "query")
    ids, negative_ids = _checked_ids(ids, negative_ids, negatives, query)
    if normalize:
        q, p = unit_rows(q), unit_rows(p)
        negatives = None if negatives is None else unit_rows(negatives)
    in_batch = in_batch or negatives is None
    return Arguments(
        q, p, negatives, inverse(temperature, q), in_batch, bias, ids, negative_ids, beta, tau_plus
    )


def _checked_ids(
    ids: Tensor | None, negative_ids: Tensor | None, negatives: Tensor | None, query: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if negative_ids is not None and (ids is None or negatives is None):
        missing = "ids" if ids is None else "negatives"
        raise ValueError(f"{OP}: negative_ids goes with {missing}, which is None")
    if ids is None:
        return None, None
    checks.integers(OP, "ids", ids, (query.shape[0],), query, "query")
    ids = ids.to(torch.int64).contiguous()
    if negatives is None:
        return ids, None
    if negative_ids is None:
        raise ValueError(f"{OP}: negative_ids must be given where ids and negatives are")
    checks.integers(OP, "negative_ids", negative_ids, negatives.shape[:-1], query, "query")
    return ids, negative_ids.to(torch.int64).contiguous()
