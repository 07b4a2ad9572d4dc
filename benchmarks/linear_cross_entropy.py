"""Linear cross-entropy (masked tokens, causal): grid, inputs, baselines and the float64 truth.

A case has all the hidden states of a training step, with the target IGNORED where no token is
predicted. What a baseline does to drop those rows is part of its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.case import Case
from benchmarks.errors import InputError, Unsuitable
from benchmarks.registry import EAGER, OURS, Function, Implementation, LossBenchmark

IGNORED = -100
KINDS = [("bfloat16", "highest"), ("float32", "highest"), ("float32", "high")]
BERT, SMALL, GPT = (8192, 768, 30522), (2048, 256, 8192), (1024, 768, 50257)
BLOCK_ROWS = 256


def gathered(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that count, as a BERT user picks them."""
    counted = target != IGNORED
    return hidden[counted], target[counted]


def dense(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """The loss on every row given, of logits in at least float32: what transformers does."""
    logits = F.linear(hidden, weight, bias)
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    return F.cross_entropy(logits, target, ignore_index=IGNORED)


def dense_16(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """The same with everything in the 16 bits of the inputs, on the rows that count alone."""
    rows, labels = gathered(hidden, target)
    return F.cross_entropy(F.linear(rows, weight, bias), labels)


def dense_gathered(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """The dense loss on the rows that count alone."""
    rows, labels = gathered(hidden, target)
    return dense(rows, weight, bias, labels)


def exact_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Loss and gradients of hidden, weight and bias in float64, a block of rows at a time."""
    h, w, b = (one.detach().cpu().double() for one in (hidden, weight, bias))
    target = target.cpu()
    counted = (target != IGNORED).nonzero()[:, 0]
    loss = torch.zeros((), dtype=torch.float64)
    dh, dw, db = torch.zeros_like(h), torch.zeros_like(w), torch.zeros_like(b)
    for rows in counted.split(BLOCK_ROWS):
        logits = torch.addmm(b, h[rows], w.T)
        itself = (torch.arange(len(rows)), target[rows])
        lse = logits.logsumexp(1)
        loss += (lse - logits[itself]).sum() / len(counted)
        gradient = logits.sub_(lse[:, None]).exp_()
        gradient[itself] -= 1.0
        gradient /= len(counted)
        dh[rows] = gradient @ w
        dw.addmm_(gradient.T, h[rows])
        db += gradient.sum(0)
    return loss, (dh, dw, db)


class _Products(torch.autograd.Function):
    """X W^T forward; P W and P^T X backward, with the logits in the place of P."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rows: int) -> Tensor:
        logits = x[:rows] @ weight.T
        ctx.save_for_backward(x, weight, bias, logits)
        return logits[0, 0].clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, logits = ctx.saved_tensors
        dx, dw = logits @ weight, logits.T @ x[: len(logits)]
        # A gradient in shape alone: filling the rows that do not count is no product.
        return dx[0, 0].expand_as(x), dw, dw[0, 0].expand_as(bias), None


def _build_ours(case: Case) -> Function:
    from sslkernels import linear_cross_entropy

    def ours(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, target, linear_bias=bias, ignore_index=IGNORED)

    return ours


def _build_eager(case: Case) -> Function:
    return dense_gathered


def _build_eager_16(case: Case) -> Function:
    if case.torch_dtype.itemsize != 2:
        raise Unsuitable("of 16-bit inputs alone")
    return dense_16


def _build_full(case: Case) -> Function:
    return dense


def _build_compiled(case: Case, dynamic: bool = False) -> Function:
    # Otherwise the recompile limit of the cases before this one would end the run.
    torch.compiler.reset()
    compiled = torch.compile(dense, fullgraph=True, dynamic=dynamic)

    # How many rows count depends on the data, which a full graph cannot hold: only what follows
    # the gather is compiled.
    def compiled_gathered(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        rows, labels = gathered(hidden, target)
        return compiled(rows, weight, bias, labels)

    return compiled_gathered


def _build_compiled_dynamic(case: Case) -> Function:
    # The number of masked tokens changes from batch to batch, unless the user fixes it.
    return _build_compiled(case, dynamic=True)


def _build_torch_chunked(case: Case) -> Function:
    options = torch.nn.LinearCrossEntropyOptions()

    def torch_chunked(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        rows, labels = gathered(hidden, target)
        return F.linear_cross_entropy(rows, weight, labels, linear_bias=bias, options=options)

    return torch_chunked


def _build_cut(case: Case) -> Function:
    from cut_cross_entropy import linear_cross_entropy

    torch.compiler.reset()

    # It takes no bias: that becomes the weight of one more feature, which is always 1.
    def cut(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        rows, labels = gathered(hidden, target)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        columns = torch.cat([weight, bias[:, None]], 1)
        return linear_cross_entropy(rows, columns, labels, impl="torch_compile")

    return cut


def _build_liger(case: Case) -> Function:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()

    def liger(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        rows, labels = gathered(hidden, target)
        return loss(weight, rows, labels, bias)

    return liger


def _build_products(case: Case) -> Function:
    rows = counted_rows(case)

    def products(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        result: Any = _Products.apply(hidden, weight, bias, rows)
        return result

    return products


def counted_rows(case: Case) -> int:
    """How many tokens have a target: always the same share, at least one."""
    return max(1, round(case.parameters["masked"] * case.shape[0]))


def _linear_bytes(case: Case) -> int:
    """The weight's gradient in float32 and copies of the rows."""
    _, dim, classes = case.shape
    return 4 * dim * (classes + 4 * counted_rows(case))


def _gathered_bytes(case: Case) -> int:
    """Logits, log-probabilities and the gradient of one of them, and 16-bit logits twice."""
    return counted_rows(case) * case.shape[2] * 4 * 4


def _full_bytes(case: Case) -> int:
    tokens, _, classes = case.shape
    return tokens * classes * 4 * 4


def _chunked_bytes(case: Case) -> int:
    return _linear_bytes(case) + _gathered_bytes(case)


class LinearCrossEntropy(LossBenchmark):
    """Cross-entropy of a linear layer over V classes; shapes are (tokens, D, V)."""

    name = "linear_cross_entropy"
    title = "linear cross-entropy (BERT, GPT)"
    shape_names = ("tokens", "D", "V")
    parameters: ClassVar[Mapping[str, float]] = {"masked": 0.15}
    input_kinds = ("random", "likely")
    input_note = (
        "random targets are any class; likely ones were favoured by their hidden states, and have "
        "about a half of the probability"
    )
    work_note = (
        "With R rows that count, masked x tokens of them, one product is 2 R D V flops. The "
        "forward needs one and forward + backward three (6 R D V): that is what is counted, for "
        "every implementation alike. sslkernels recomputes the logits in the backward and executes "
        "four; on all positions, eager executes 1 / masked times what is counted. Exponentials, "
        "passes over the logits and gathering the rows count as nothing."
    )
    compared = (EAGER, "compile", "compile-dynamic", "eager-full", "products")
    implementations = (
        Implementation(OURS, "sslkernels", _build_ours, _linear_bytes),
        Implementation(EAGER, "eager, gathered rows", _build_eager, _gathered_bytes),
        Implementation(
            "eager-16",
            "eager in 16 bits, gathered rows",
            _build_eager_16,
            _gathered_bytes,
            note="rounds its logits, which transformers takes to float32 first",
        ),
        Implementation(
            "compile",
            "torch.compile, gathered rows",
            _build_compiled,
            _gathered_bytes,
            compiled=True,
        ),
        Implementation(
            "compile-dynamic",
            "torch.compile dynamic, gathered rows",
            _build_compiled_dynamic,
            _gathered_bytes,
            compiled=True,
            full_only=True,
        ),
        Implementation("eager-full", "eager, all positions", _build_full, _full_bytes),
        Implementation(
            "torch-linear-ce",
            "F.linear_cross_entropy, gathered rows",
            _build_torch_chunked,
            _chunked_bytes,
        ),
        Implementation(
            "cut-cross-entropy",
            "cut-cross-entropy's torch path, gathered rows",
            _build_cut,
            _gathered_bytes,
            "cut_cross_entropy",
            "pip install cut-cross-entropy",
            compiled=True,
            full_only=True,
        ),
        Implementation(
            "liger",
            "Liger, gathered rows",
            _build_liger,
            _chunked_bytes,
            "liger_kernel",
            "pip install liger-kernel",
            gpu_only=True,
        ),
        Implementation(
            "products",
            "three bare products (yardstick, no loss)",
            _build_products,
            _gathered_bytes,
            yardstick=True,
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """A BERT step, a small one and a causal one; --quick keeps the small one."""
        if quick:
            return self.cases([SMALL], KINDS[:2])
        return self.cases([SMALL, BERT], KINDS) + self.cases([GPT], KINDS, {"masked": 1.0})

    def check(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> None:
        """The share of masked tokens must be above 0 and at most 1."""
        if not 0 < parameters["masked"] <= 1:
            raise InputError(f"--masked: must be above 0 and at most 1, got {parameters['masked']}")

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """hidden [tokens, D], weight [V, D], bias [V] of one dtype, and int64 target [tokens]."""
        tokens, dim, classes = case.shape
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(tokens, dim, generator=generator)
        # Logits with a variance of 1, whatever D is.
        weight = torch.randn(classes, dim, generator=generator) / math.sqrt(dim)
        bias = 0.1 * torch.randn(classes, generator=generator)
        target = torch.full((tokens,), IGNORED)
        counted = torch.randperm(tokens, generator=generator)[: counted_rows(case)]
        target[counted] = torch.randint(classes, (len(counted),), generator=generator)
        if kind == "likely":
            own = weight[target[counted]]
            # The target's logit rises by the log of what the other classes sum up to.
            hidden[counted] += own * (math.log(classes) + 0.5) / own.square().sum(1, keepdim=True)
        leaves = (one.to(case.device, case.torch_dtype) for one in (hidden, weight, bias))
        return (*(one.requires_grad_() for one in leaves), target.to(case.device))

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64 on the CPU, of the inputs as rounded to the dtype."""
        hidden, weight, bias, target = inputs
        return exact_linear_cross_entropy(hidden, weight, bias, target)

    def work(self, case: Case, mode: str) -> float:
        """2 R D V for the forward, 6 R D V for forward + backward; see `work_note`."""
        _, dim, classes = case.shape
        return (6.0 if mode == "forward+backward" else 2.0) * counted_rows(case) * dim * classes

    def small(self, case: Case) -> Case:
        """The same features on at most 128 tokens and 1024 classes."""
        tokens, dim, classes = case.shape
        return replace(case, shape=(min(tokens, 128), dim, min(classes, 1024)))
