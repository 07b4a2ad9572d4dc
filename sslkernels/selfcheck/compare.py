"""Where an operator can run, and how far it is from its definition there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sslkernels import backends
from sslkernels.selfcheck.cases import Case

# Largest error allowed, relative to the largest value. What a kernel may round is its input dtype;
# the logits and the loss are float32 or better.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}


@dataclass(frozen=True)
class Result:
    """How far an operator is from float64: the larger error of its value and its gradients.

    `problem` is the exception that was raised instead of a value; the error is then infinite.
    """

    op: str
    backend: str
    device: str
    dtype: torch.dtype
    error: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCE[self.dtype]  # NaN fails


def check(
    case: Case, backend: str, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> Result:
    """Run one operator forward and backward and compare it with its definition in float64."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in case.shapes]
    ours = [x.to(device, dtype).requires_grad_() for x in drawn]
    exact = [x.detach().cpu().double().requires_grad_() for x in ours]
    error, problem = float("inf"), ""
    try:
        with backends.backend(backend):
            outputs = _run(case.call, ours)
    except Exception as raised:  # whatever a kernel raises is this check's result
        problem = f"{type(raised).__name__}: {raised}"
    else:
        pairs = zip(outputs, _run(case.definition, exact), strict=True)
        # torch's max keeps NaN, Python's can lose it.
        error = torch.tensor([relative_error(a, b) for a, b in pairs]).max().item()
    return Result(case.op, backend, device.type, dtype, error, problem)


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Largest difference over the largest value."""
    exact = exact.detach()
    difference = (ours.detach().cpu().double() - exact).abs().max()
    return (difference / exact.abs().max()).item()


def _run(call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The value and the gradient of every input."""
    value = call(*inputs)
    # Uneven upstream gradients: a uniform one would hide an exchange of rows.
    upstream = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype, device=value.device)
    return [value, *torch.autograd.grad(value, inputs, upstream.reshape(value.shape))]


def devices() -> list[torch.device]:
    """The CPU, and the current CUDA device where there is one."""
    return [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()


@dataclass(frozen=True)
class Availability:
    """Whether an operator has an implementation on a device; `reason` says why not, or is empty.

    `dtypes` are those that it takes.
    """

    device: str
    backend: str
    op: str
    reason: str
    dtypes: tuple[torch.dtype, ...] = tuple(TOLERANCE)


def availability(cases: Sequence[Case]) -> list[Availability]:
    """What can run here, for every device, implementation and operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say stands in the report
        return [
            _available(case, name, device)
            for device in devices()
            for name in backends.NAMES
            for case in cases
        ]


def _available(case: Case, name: str, device: torch.device) -> Availability:
    reasons = {dtype: case.why_not(name, device, dtype) for dtype in TOLERANCE}
    dtypes = tuple(dtype for dtype, reason in reasons.items() if not reason)
    reason = "" if dtypes else reasons[torch.float32]
    return Availability(device.type, name, case.op, reason, dtypes)


def checks(cases: Sequence[Case], available: Sequence[Availability]) -> Iterator[Result]:
    """Every check that can run on this machine."""
    of = {case.op: case for case in cases}
    for here in available:
        if not here.reason:
            for dtype in here.dtypes:
                yield check(of[here.op], here.backend, torch.device(here.device), dtype)
