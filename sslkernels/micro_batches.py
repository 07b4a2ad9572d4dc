"""Exact gradients of a large contrastive batch in the memory of a small one.

A contrastive loss does not split into a sum over micro-batches, since every row is compared with
all. GradCache's two passes make it so: the first encodes without a graph; the loss of all rows
gives the gradient of each row; the second encodes again, now with a graph, one micro-batch at a
time, and sends those gradients through it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels.random_state import RandomState


def accumulate(
    encode: Callable[[Any], Tensor | Sequence[Tensor]],
    micro_batches: Iterable[Any],
    loss: Callable[..., Tensor],
    *,
    ddp: Any = (),
) -> Tensor:
    """The loss of all micro-batches together, and its gradients, added to `.grad`.

    In place of `loss(*encode(batch)).backward()`, with the gradients of that, for the memory of
    one micro-batch's graph and a second forward pass of the encoder:

        loss = sslkernels.accumulate(
            lambda views: (model(views[0]), model(views[1])),
            zip(view1.split(64), view2.split(64)),
            lambda z1, z2: sslkernels.nt_xent(z1, z2, 0.1),
        )
        optimizer.step()

    The second pass draws the same random numbers as the first (torch's default generators, of the
    CPU and the accelerator), so dropout is allowed. What makes a row depend on the others of its
    micro-batch is not: with batch normalisation in training mode these are the exact gradients of
    a model that normalises by micro-batch, and running statistics are updated twice.

    Under autocast, put the whole call inside; with a gradient scaler let `loss` return
    `scaler.scale(...)`, which is then also what is returned. With `group=` in the loss the joint
    batch of all ranks counts, and ranks may have different numbers of micro-batches.

    Args:
        encode: called with each micro-batch, twice; returns a tensor or a sequence of tensors,
            [rows, ...] each, or 0-dim: a tensor that is the same for every micro-batch, as a
            learnable scale that a DistributedDataParallel module must return to average it.
        micro_batches: what `encode` takes, at least one; all are kept until the end.
        loss: called once with the tensors of `encode`, the rows of all micro-batches concatenated;
            returns a 0-dim tensor. Parameters that it uses itself get their gradients too.
        ddp: the DistributedDataParallel modules, one or a sequence, that `encode` uses: they
            average their gradients once, in the last micro-batch.

    Returns:
        The loss, 0-dim, without a graph.

    Raises:
        TypeError: encode returns something else than tensors; a module of ddp has no `no_sync`.
        ValueError: no micro-batches; encode returns another number of tensors than before, or
            different rows in the second pass; the loss is not 0-dim, or has no gradient.

    Paper: GradCache, Gao et al. 2021, arXiv 2101.06983.
    """
    batches = list(micro_batches)
    if not batches:
        raise ValueError("accumulate: micro_batches must hold at least one, got none")
    modules = _modules(ddp)
    states, encoded = [], []
    with torch.no_grad():
        for batch in batches:
            states.append(RandomState.now())
            encoded.append(_tensors(encode(batch)))
    # Older releases of torch would use the weights that autocast has cast without a graph again.
    torch.clear_autocast_cache()
    joint = _joint(encoded)
    shapes = [[x.shape for x in tensors] for tensors in encoded]
    del encoded
    with torch.enable_grad():
        value = loss(*joint)
        if not isinstance(value, Tensor) or value.dim() != 0:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"accumulate: loss must return a 0-dim tensor, got {got}")
        if not value.requires_grad:
            raise ValueError("accumulate: loss must return a tensor with a graph, got one without")
        value.backward()
    gradients = _cut([x.grad for x in joint], shapes)
    after = RandomState.now()
    try:
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with torch.enable_grad(), contextlib.ExitStack() as stack:
                if not last:
                    for module in modules:
                        stack.enter_context(module.no_sync())
                states[index].restore()
                tensors = _tensors(encode(batch))
                if [x.shape for x in tensors] != shapes[index]:
                    raise ValueError(
                        f"accumulate: encode must return the same rows both times, got "
                        f"{[list(x.shape) for x in tensors]} after "
                        f"{[list(shape) for shape in shapes[index]]}"
                    )
                _backward(tensors, gradients[index])
    finally:
        after.restore()
    return value.detach()


def _modules(ddp: Any) -> list[Any]:
    modules = list(ddp) if isinstance(ddp, Sequence) else [ddp]
    for module in modules:
        if not hasattr(module, "no_sync"):
            raise TypeError(
                "accumulate: ddp must hold DistributedDataParallel modules, "
                f"got {type(module).__name__}"
            )
    return modules


def _tensors(encoded: Any) -> list[Tensor]:
    tensors = [encoded] if isinstance(encoded, Tensor) else encoded
    if not isinstance(tensors, Sequence) or not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(
            "accumulate: encode must return a tensor or a sequence of tensors, "
            f"got {type(encoded).__name__}"
        )
    return list(tensors)


def _joint(encoded: list[list[Tensor]]) -> list[Tensor]:
    """One leaf for each tensor that encode returns."""
    counts = {len(tensors) for tensors in encoded}
    if len(counts) > 1:
        raise ValueError(
            "accumulate: encode must return the same number of tensors for every micro-batch, "
            f"got {', '.join(str(count) for count in sorted(counts))}"
        )
    joint = []
    for parts in zip(*encoded, strict=True):
        whole = torch.cat(parts) if parts[0].dim() else parts[-1].clone()
        joint.append(whole.requires_grad_(whole.is_floating_point()))
    return joint


def _cut(
    gradients: list[Tensor | None], shapes: list[list[torch.Size]]
) -> list[list[Tensor | None]]:
    """The gradients of each micro-batch's tensors; that of a 0-dim one goes to the last."""
    cut: list[list[Tensor | None]] = [[] for _ in shapes]
    for index, gradient in enumerate(gradients):
        if gradient is None or gradient.dim() == 0:
            parts = [None] * (len(shapes) - 1) + [gradient]
        else:
            parts = gradient.split([of_batch[index][0] for of_batch in shapes])
        for of_batch, part in zip(cut, parts, strict=True):
            of_batch.append(part)
    return cut


def _backward(tensors: list[Tensor], gradients: list[Tensor | None]) -> None:
    """Frozen encoders and tensors that the loss does not use have nothing to send back."""
    pairs = [
        (x, gradient)
        for x, gradient in zip(tensors, gradients, strict=True)
        if gradient is not None and x.requires_grad
    ]
    if pairs:
        roots, upstream = zip(*pairs, strict=True)
        torch.autograd.backward(roots, upstream)
