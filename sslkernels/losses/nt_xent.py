"""NT-Xent, the contrastive loss of SimCLR, and its decoupled variant DCL."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from sslkernels import backends, checks, distributed
from sslkernels.checks import accumulate_dtype
from sslkernels.distributed import ring
from sslkernels.losses import joint
from sslkernels.losses.dcl_weight import positive_correction
from sslkernels.losses.reweighted import against
from sslkernels.losses.rows import reduce
from sslkernels.operators import (
    apply,
    apply_in_backward,
    complete_native,
    define_chunked,
    is_one,
    second_order,
)
from sslkernels.similarity import chunked, cuda, logsumexp, weighted_logsumexp
from sslkernels.similarity.op import scale_tensor


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    decoupled: bool = False,
    sigma: float | None = None,
    return_accuracy: bool = False,
    group: object | None = None,
    exchange: str = "gather",
) -> Any:
    """Normalised temperature-scaled cross entropy over two views of a batch.

    With z the 2N rows of z1 and z2, s_ij = <z_i, z_j> / temperature, and the other view of the same
    sample as the positive, `loss_i = log sum_{j != i} exp(s_ij) - s_i,positive`. No [2N, 2N]
    matrix is stored, except in a workspace of at most 4 MiB where that is faster.

    Args:
        z1, z2: [N, D], one view each; float64, float32, bfloat16 or float16. float32 is cast
            under autocast.
        temperature: a positive float, or a floating tensor with one element to get its gradient.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        reduction: "mean" or "sum" over the 2N rows, or "none".
        decoupled: leave the positive out of the sum (DCL); needs N of at least 2.
        sigma: with decoupled, weigh the positive of sample i by w_i = 2 - exp(c_i / sigma) /
            mean_j exp(c_j / sigma), c_i = <z1_i, z2_i>, without a gradient of its own (DCLW; the
            paper takes 0.5): `loss_i = log sum_{j != i, positive} exp(s_ij) - w_i s_i,positive`.
        return_accuracy: also return the contrastive accuracy, the share of rows whose positive is
            strictly more similar than every negative. Costs half a product more; no gradient.
        group: a `torch.distributed` process group, `torch.distributed.group.WORLD` for all ranks:
            the loss of the joint batch of its ranks, which may bring different numbers of samples,
            or none. Each rank returns its own rows' part. For "mean" the average over the ranks, of
            the losses as of all gradients, is that of one process with the joint batch, which is
            what DistributedDataParallel makes of it; where gradients are summed instead, divide the
            loss by the number of ranks. For "sum" it is the sum over the ranks. Every rank must
            call, and call backward. Breaks the graph of torch.compile.
        exchange: with group, how the ranks' rows meet: "gather", all on every rank; or "ring", in
            turn, so that a rank holds no more than its own and two others', without
            return_accuracy.

    Returns:
        The loss, 0-dim or [2N] for "none"; float64 for float64 inputs, else float32. With
        `return_accuracy` the pair (loss, accuracy), accuracy a 0-dim tensor of the same dtype;
        with group the average of the accuracies over the ranks is that of the joint batch.

    Raises:
        TypeError: z1 or z2 is not a dense floating tensor, or their dtypes differ; group is no
            process group; the ranks' dtypes differ.
        ValueError: z1 and z2 are not 2-D, are empty, or differ in shape or device; the temperature
            is not positive and finite; an unknown reduction or exchange; decoupled with a single
            sample; sigma without decoupled, with group, or not positive and finite;
            return_accuracy with the ring; a group that was destroyed or that this process
            is not in; on every rank alike, ranks that differ in the width of their rows, in an
            argument, or in what requires a gradient.
        RuntimeError: a second derivative was asked for; another rank's arguments are wrong; other
            ranks, which it names, did not call within the timeout of group.

    Papers: SimCLR, arXiv 2002.05709; decoupled: DCL, arXiv 2110.06848.
    """
    if sigma is not None:
        _check_sigma(sigma, decoupled, group)
    if group is not None:
        return _joint_outside_graphs(
            z1, z2, temperature, normalize, reduction, decoupled, return_accuracy, group, exchange
        )
    z1, z2 = _checked(z1, z2, temperature, reduction, exchange)
    if decoupled and z1.shape[0] == 1:
        raise ValueError("nt_xent: decoupled needs at least 2 samples, z1 has 1: no negatives")
    name = backends.choose("nt_xent", z1)
    scale = _scale(temperature, z1)
    if name == "cpu":
        loss = _native(z1.contiguous(), z2.contiguous(), scale, normalize, decoupled, reduction)
    else:
        rounded = name in ("triton", "cuda")
        loss = _composed(z1, z2, scale, normalize, decoupled, reduction, rounded)
    if sigma is not None:
        loss = loss + positive_correction(z1, z2, scale, normalize, reduction, sigma)
    if not return_accuracy:
        return loss
    z = _rows(z1.detach(), z2.detach(), normalize)
    return loss, torch.ops.sslkernels_chunked.contrastive_accuracy.default(z, 0, z.shape[0])


def reference(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    decoupled: bool = False,
    sigma: float | None = None,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores the full [2N, 2N] matrix of logits. Every other implementation is tested against this.
    Arguments as for `nt_xent`, of any floating dtype, and not checked.
    """
    n = z1.shape[0]
    z = torch.cat([z1, z2])
    if normalize:
        z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    rows = torch.arange(2 * n, device=z.device)
    positive = (rows + n) % (2 * n)
    logits = logits.masked_fill(rows[:, None] == rows, float("-inf"))
    if not decoupled:
        return F.cross_entropy(logits, positive, reduction=reduction)
    negatives = logits.masked_fill(positive[:, None] == rows, float("-inf"))
    weight = 1.0
    if sigma is not None:
        cosine = (z[:n] * z[n:]).sum(1).detach().repeat(2)
        weight = 2.0 - (cosine / sigma).exp() / (cosine / sigma).exp().mean()
    loss = negatives.logsumexp(1) - weight * logits[rows, positive]
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def _native(
    z1: Tensor, z2: Tensor, scale: Tensor, normalize: bool, decoupled: bool, reduction: str
) -> Tensor:
    """The loss from the C++ operators: in one pass with its gradients where they are wanted.

    Not with a gradient for each row, nor with float16 gradients, which are tiny until the upstream
    gradient, in which a loss scaler puts its factor, has multiplied them. Inside vmap requires_grad
    may read False although a gradient is wanted; the other path is differentiable all the same.
    """
    wanted = z1.requires_grad or z2.requires_grad or scale.requires_grad
    one_pass = (
        wanted and reduction != "none" and z1.dtype is not torch.float16 and torch.is_grad_enabled()
    )
    function = _NTXentOnePass if one_pass else _NTXent
    precision = backends.matmul_precision()
    return apply(function, z1, z2, scale, normalize, decoupled, reduction, precision)[0]


def _checked(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor,
    reduction: str,
    exchange: str,
    *,
    may_be_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    z1, z2 = checks.views("nt_xent", z1, z2, may_be_empty=may_be_empty)
    checks.reduction("nt_xent", reduction)
    joint.check_exchange("nt_xent", exchange)
    checks.positive_scalar("nt_xent", "temperature", temperature, z1, "z1")
    return z1, z2


def _check_sigma(sigma: float, decoupled: bool, group: object | None) -> None:
    checks.positive_number("nt_xent", "sigma", sigma)
    if not decoupled:
        raise ValueError("nt_xent: sigma goes with decoupled=True, the loss whose weight it is of")
    if group is not None:
        raise ValueError("nt_xent: sigma must be None with group: its mean is over one process")


def _scale(temperature: float | Tensor, z1: Tensor) -> Tensor:
    if isinstance(temperature, Tensor):
        return scale_tensor(temperature, z1).reciprocal()
    return scale_tensor(1.0 / temperature, z1)


def _rows(z1: Tensor, z2: Tensor, normalize: bool) -> Tensor:
    """The 2N rows in the accumulation dtype."""
    with torch.autocast(z1.device.type, enabled=False):
        z = torch.cat([z1, z2]).to(accumulate_dtype(z1.dtype))
        return F.normalize(z, dim=1) if normalize else z


def _composed(
    z1: Tensor,
    z2: Tensor,
    scale: Tensor,
    normalize: bool,
    decoupled: bool,
    reduction: str,
    rounded: bool,
) -> Tensor:
    """The loss from the engine's operators, in the accumulation dtype throughout.

    With `rounded` the products take the rows in the dtype of the inputs, as the C++ kernels do.
    """
    n = z1.shape[0]
    z = _rows(z1, z2, normalize)
    z = z.to(z1.dtype) if rounded else z
    with torch.autocast(z1.device.type, enabled=False):
        wide = z.to(accumulate_dtype(z1.dtype))
        positive = (wide[:n] * wide[n:]).sum(1) * scale
        if not decoupled:  # the positive apart: where it is likely, the rest is small
            negatives = logsumexp(z, scale=scale, exclude=(0, n))
            return reduce(against(negatives, positive.repeat(2)), reduction)
        if reduction == "none":
            return logsumexp(z, scale=scale, exclude=(0, n)) - positive.repeat(2)
        weight = 1.0 if reduction == "sum" else 0.5 / n
        row_weight = wide.new_full((2 * n,), weight)
        total = weighted_logsumexp(z, None, row_weight, scale=scale, exclude=(0, n))
        return total - (2.0 * weight) * positive.sum()


def _joint(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor,
    normalize: bool,
    reduction: str,
    decoupled: bool,
    return_accuracy: bool,
    group: object,
    exchange: str,
) -> Any:
    """This rank's part of the loss of the joint batch: its own rows against the rows of all."""
    views: list[Tensor] = []

    def check() -> tuple[int, dict[str, Any]]:
        views.extend(_checked(z1, z2, temperature, reduction, exchange, may_be_empty=True))
        if return_accuracy and exchange == "ring":
            raise ValueError("nt_xent: return_accuracy needs exchange='gather'")
        return 2 * views[0].shape[0], {
            **joint.facts(views[0], temperature=temperature),
            "gradient": joint.wants_gradient(*views),
            "normalize": bool(normalize),
            "reduction": reduction,
            "decoupled": bool(decoupled),
            "return_accuracy": bool(return_accuracy),
            "exchange": exchange,
        }

    shares = distributed.agree("nt_xent", group, check)
    if decoupled and shares.total == 2:
        raise ValueError(
            "nt_xent: decoupled needs at least 2 samples, the ranks of group have 1: no negatives"
        )
    z1, z2 = views
    n, dtype = z1.shape[0], z1.dtype
    scale, weight = _scale(temperature, z1), shares.row_weight(reduction)
    # Rounded to the dtype of the inputs, as the fused operators do: half the bytes in 16 bits.
    z = _rows(z1, z2, normalize).to(dtype)
    keys = z if exchange == "ring" else distributed.gather_rows(z, shares)
    with torch.autocast(z.device.type, enabled=False):
        wide = z.to(accumulate_dtype(dtype))
        positive = (wide[:n] * wide[n:]).sum(1) * scale
        blocks = _joint_blocks(n, shares.start)
        if decoupled and exchange == "gather" and reduction != "none":
            row_weight = wide.new_full((2 * n,), weight)
            totals = [
                weighted_logsumexp(z[at], keys, row_weight[at], scale=scale, exclude=out)
                for at, out in blocks
            ]
            loss = sum(totals) - (2.0 * weight) * positive.sum()
        else:
            if exchange == "ring":
                negatives = ring.logsumexp(z, z, shares, scale=scale, exclude=(0, n))
            else:
                lse = [logsumexp(z[at], keys, scale=scale, exclude=out) for at, out in blocks]
                negatives = torch.cat(lse)
            positive = positive.repeat(2)
            # Apart, as in `_composed`: where the positive is likely, the rest is small.
            rows = negatives - positive if decoupled else against(negatives, positive)
            loss = rows if reduction == "none" else weight * rows.sum()
    if not return_accuracy:
        return loss
    hits = torch.ops.sslkernels_chunked.contrastive_accuracy.default
    share = shares.row_weight("mean") * 2 * n
    return loss, share * hits(keys.detach().to(wide.dtype), shares.start, 2 * n)


# What the ranks tell each other is data of this call, and no part of a compiled graph.
_joint_outside_graphs: Any = torch.compiler.disable(_joint)


def _joint_blocks(n: int, start: int) -> list[tuple[slice, tuple[int, int]]]:
    """The 2n rows by views, and the offsets from a row to itself and to its positive."""
    return [(slice(0, n), (start, start + n)), (slice(n, 2 * n), (start + n, start))]


class _NTXent(Function):
    """Loss, then what its backward needs: saved tensors must be inputs or outputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z1, z2, scale, normalize, decoupled, reduction, precision):
        forward = torch.ops.sslkernels.nt_xent_forward.default
        return forward(z1, z2, scale, normalize, decoupled, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z1, z2, scale, *ctx.settings = inputs
        _, row_stat, inv_norm = output
        ctx.mark_non_differentiable(row_stat, inv_norm)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(row_stat, inv_norm, z1, z2, scale)

    @staticmethod
    def backward(ctx, *grads):
        grad = grads[0]
        if grad is None:
            return (None,) * 7
        saved = ctx.saved_tensors
        dz1, dz2, dscale = apply_in_backward(
            _NTXentBackward, grad.contiguous(), *saved, *ctx.settings
        )
        return dz1, dz2, dscale, None, None, None, None


class _NTXentBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad, row_stat, inv_norm, z1, z2, scale, normalize, decoupled, reduction, precision
    ):
        backward = torch.ops.sslkernels.nt_xent_backward.default
        return backward(
            grad, row_stat, inv_norm, z1, z2, scale, normalize, decoupled, reduction, precision
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("nt_xent")


class _NTXentOnePass(Function):
    """Loss, then its gradients for an upstream gradient of 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z1, z2, scale, normalize, decoupled, reduction, precision):
        operator = torch.ops.sslkernels.nt_xent_forward_backward.default
        return operator(z1, z2, scale, normalize, decoupled, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*gradients, *inputs[:3])

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return (None,) * 7
        saved = ctx.saved_tensors
        if is_one(grads[0]):
            dz1, dz2, dscale = saved[:3]
        else:
            dz1, dz2, dscale = apply_in_backward(_NTXentOnePassBackward, grads[0], *saved)
        return dz1, dz2, dscale, None, None, None, None


class _NTXentOnePassBackward(Function):
    """Scales the saved gradients, out of place: a second backward finds them as they were.

    The inputs of the forward are arguments only so that a second derivative is noticed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, dz1, dz2, dscale, z1, z2, scale):
        return dz1 * grad, dz2 * grad, dscale * grad

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("nt_xent")


def _contrastive_accuracy(keys: Tensor, start: int, rows: int) -> Tensor:
    """Share of the rows from `start` whose positive beats every negative among all keys.

    The first half of the rows is one view, the second the other; one tile of logits at a time.
    """
    n = rows // 2
    hits = torch.zeros((), dtype=torch.int64, device=keys.device)
    with torch.autocast(keys.device.type, enabled=False):
        for own, other in ((start, start + n), (start + n, start)):
            z = keys[own : own + n]
            row_slices, column_slices = chunked.tiles(n, keys.shape[0], keys.dtype)
            for at in row_slices:
                positive = z.new_full((at.stop - at.start,), float("-inf"))
                best = positive.clone()
                for columns in column_slices:
                    tile = chunked.logits_tile(z, keys, 1.0, None, (own,), at, columns)
                    for diagonal in chunked.diagonals(keys.shape[0], other, at, columns):
                        # From the same product as its rivals, so that equal rows tie.
                        values = tile.diagonal(diagonal)
                        first = max(0, -diagonal)
                        positive[first : first + values.shape[0]] = values
                        values.fill_(float("-inf"))
                    best = torch.maximum(best, tile.amax(1))
                hits += (positive > best).sum()
    return hits.to(keys.dtype) / max(rows, 1)


def _fake_nt_xent_forward(z1, z2, scale, normalize, decoupled, reduction, precision):
    n, dtype = 2 * z1.shape[0], accumulate_dtype(z1.dtype)
    loss = z1.new_empty((n,) if reduction == "none" else (), dtype=dtype)
    inv_norm = z1.new_empty(n if normalize else 0, dtype=dtype)
    return loss, z1.new_empty((2, n), dtype=dtype), inv_norm


def _fake_nt_xent_backward(grad, row_stat, inv_norm, z1, *settings):
    dscale = z1.new_empty((), dtype=accumulate_dtype(z1.dtype))
    return torch.empty_like(z1), torch.empty_like(z1), dscale


def _fake_nt_xent_forward_backward(z1, z2, *settings):
    loss, dscale = (z1.new_empty((), dtype=accumulate_dtype(z1.dtype)) for _ in range(2))
    return loss, torch.empty_like(z1), torch.empty_like(z2), dscale


def _fake_contrastive_accuracy(keys, start, rows):
    return keys.new_empty(())


define_chunked(
    "contrastive_accuracy",
    "(Tensor keys, int start, int rows) -> Tensor",
    _contrastive_accuracy,
    _fake_contrastive_accuracy,
)
backends.add(
    "nt_xent",
    lambda: complete_native(
        nt_xent_forward=_fake_nt_xent_forward,
        nt_xent_backward=_fake_nt_xent_backward,
        nt_xent_forward_backward=_fake_nt_xent_forward_backward,
    ),
)
backends.add_triton(("nt_xent",), lambda: None)  # nothing beside the engine's
backends.add_cuda("nt_xent", cuda.why_not)
