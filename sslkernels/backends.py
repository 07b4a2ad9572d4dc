"""Which implementation runs for a tensor, and why.

`reference` is the dense definition, `chunked` plain PyTorch in bounded memory on any device, `cpu`
the C++ kernels, `triton` and `cuda` the kernels for GPUs.
"""

from __future__ import annotations

import contextvars
import functools
import importlib.util
import os
import warnings
from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor

from sslkernels import native

NAMES = ("cpu", "triton", "cuda", "chunked", "reference")
_ABOUT = {
    "cpu": "C++ kernels",
    "triton": "Triton kernels",
    "cuda": "CUDA kernels",
    "chunked": "plain PyTorch, bounded memory",
    "reference": "plain PyTorch, stores every logit",
}
_TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_OLDEST_NVIDIA = (8, 0)
_AMD_MATRIX_CORES = ("gfx90a", "gfx942", "gfx950")
_PRECISIONS = {"highest": 0, "high": 1, "medium": 2}

# Outside torch.compile a context variable keeps threads and asyncio tasks apart. Dynamo can read
# one but not set it, so a `with backend(...)` inside a compiled function sets the global instead:
# it is only ever set while tracing.
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("chosen", default=None)
_chosen_in_trace: str | None = None

_operators: dict[str, Callable[[], None]] = {}
_engines: dict[str, str] = {}
_triton_operators: dict[str, Callable[[], None]] = {}
_triton_dtypes: dict[str, tuple[torch.dtype, ...]] = {}
_cuda_operators: dict[str, Callable[[Tensor], str]] = {}


class backend:
    """Context manager that forces one implementation for every operator called inside it.

    Args:
        name: "cpu", "triton", "cuda", "chunked" or "reference".

    Raises:
        ValueError: the name is none of these. An operator called inside raises RuntimeError when
            that implementation cannot run for its tensors.
    """

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise ValueError(f"backend: name must be one of {', '.join(NAMES)}, got {name!r}")
        self.name = name

    def __enter__(self) -> None:
        global _chosen_in_trace
        if torch.compiler.is_compiling():
            self.outer = _chosen_in_trace
            _chosen_in_trace = self.name
        else:
            self.token = _chosen.set(self.name)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _chosen_in_trace
        if torch.compiler.is_compiling():
            _chosen_in_trace = self.outer
        else:
            _chosen.reset(self.token)


def choose(op: str, tensor: Tensor) -> str:
    """Name of the implementation of `op` that runs for `tensor`."""
    name = _chosen_in_trace or _chosen.get()
    if name is None:
        return _default(op, tensor)
    reason = why_not(op, name, tensor)
    if reason:
        raise RuntimeError(f"{op}: backend {name!r} was asked for, but {reason}")
    return name


def runs_native(op: str, tensor: Tensor) -> bool:
    """Whether the C++ kernel of a part of an operator runs: it can, and nothing else is forced."""
    name = _chosen_in_trace or _chosen.get()
    return name in (None, "cpu") and not why_not(op, "cpu", tensor)


def explain(op: str | Callable[..., object], *tensors: Tensor) -> str:
    """Say which implementation of an operator runs for some tensors, and why the others do not.

    Args:
        op: the operator or its name, say `sslkernels.nt_xent`.
        tensors: what it would be called with; without any, a CPU tensor is assumed.

    Returns:
        One line for each implementation.

    Raises:
        ValueError: no operator has this name.
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    known = (*_operators, *_engines)
    if name not in known:
        raise ValueError(f"explain: op must be one of {', '.join(known)}, got {name!r}")
    tensor = tensors[0] if tensors else torch.empty(0)
    reasons = {candidate: why_not(name, candidate, tensor) for candidate in NAMES}
    forced = _chosen.get()
    runs = forced or _default(name, tensor)
    lines = [f"{name} on {tensor.device}" + (f", backend {forced!r} forced" if forced else "")]
    for candidate, reason in reasons.items():
        state = f"not available: {reason}" if reason else "available"
        lines.append(
            f"  {candidate:<9}  {_ABOUT[candidate]:<36}  "
            + ("runs" if candidate == runs and not reason else state)
        )
    return "\n".join(lines)


def why_not(op: str, name: str, tensor: Tensor) -> str:
    """Why implementation `name` of `op` cannot run for `tensor`, or an empty string if it can."""
    if name == "cpu":
        return _native_problem(op) if tensor.is_cpu else f"the tensor is on {tensor.device}"
    if name == "triton":
        return _why_not_triton(_engines.get(op, op), tensor)
    if name == "cuda":
        return _why_not_cuda(_engines.get(op, op), tensor)
    return ""


def _default(op: str, tensor: Tensor) -> str:
    """On a GPU Triton serves, which needs no nvcc; CUDA where Triton has nothing."""
    for name in ("cpu",) if tensor.is_cpu else ("triton", "cuda"):
        if not why_not(op, name, tensor):
            return name
    return "chunked"


def matmul_precision() -> int:
    """`torch.get_float32_matmul_precision()` as a number: highest 0, high 1, medium 2."""
    return _PRECISIONS[_matmul_precision_name()]


def add(op: str, complete_native: Callable[[], None]) -> None:
    """Make an operator known; `complete_native` runs once, when its C++ side has been loaded."""
    _operators[op] = complete_native


def add_triton(
    ops: tuple[str, ...],
    define: Callable[[], None],
    dtypes: tuple[torch.dtype, ...] = _TRITON_DTYPES,
) -> None:
    """Say that operators have Triton kernels; `define` registers them, once, when one is needed.

    `dtypes` are those of the tensor by which the implementation is chosen.
    """
    once = functools.cache(define)
    for op in ops:
        _triton_operators[op] = once
        _triton_dtypes[op] = dtypes


def add_cuda(op: str, why_not_this: Callable[[Tensor], str] = lambda tensor: "") -> None:
    """Say that an operator has CUDA kernels.

    `why_not_this` says of a CUDA tensor why they do not take it, or "" if they do.
    """
    _cuda_operators[op] = why_not_this


def compose(op: str, engine: str) -> None:
    """Make an operator known that is plain PyTorch on top of another one."""
    _engines[op] = engine


# Constant while tracing. Dynamo's own guard on global state notices a change of the precision.
@torch.compiler.assume_constant_result
def _matmul_precision_name() -> str:
    return torch.get_float32_matmul_precision()


# A function of its own: Dynamo traces through a cache, but not through a constant result.
@torch.compiler.assume_constant_result
def _native_problem(op: str) -> str:
    """Why `op` has no C++ kernel here, or an empty string when it has."""
    return _prepare_native(_engines.get(op, op))


@functools.cache
def _prepare_native(op: str) -> str:
    problem = _load_native()
    if problem:
        return problem
    if not _has_native(op):
        return f"{op} has no C++ kernel"
    # All that are known: one operator may fall back on another.
    for known in list(_operators):
        _complete_native(known)
    return ""


@functools.cache
def _complete_native(op: str) -> None:
    if _has_native(op):
        _operators[op]()


def _has_native(op: str) -> bool:
    # An operator without a gradient has no forward apart from itself, and one whose kernel is for
    # gradients alone has no forward without them.
    names = (f"{op}_forward", f"{op}_forward_backward", op)
    return any(hasattr(torch.ops.sslkernels, name) for name in names)


@functools.cache
def _load_native() -> str:
    try:
        native.load()
    except native.NativeUnavailable as error:
        warnings.warn(
            f"sslkernels: no C++ kernels, CPU tensors take the slower chunked path: {error}",
            RuntimeWarning,
            stacklevel=4,
        )
        return str(error)
    return ""


def _why_not_cuda(op: str, tensor: Tensor) -> str:
    if op not in _cuda_operators:
        return f"{op} has no CUDA kernels"
    if not tensor.is_cuda:
        return f"the tensor is on {tensor.device}"
    return _cuda_operators[op](tensor) or _cuda_problem(op, tensor.device.index)


# A function of its own: as for `_native_problem`.
@torch.compiler.assume_constant_result
def _cuda_problem(op: str, device: int) -> str:
    return _prepare_cuda(op, device)


@functools.cache
def _prepare_cuda(op: str, device: int) -> str:
    """Why the CUDA kernels of `op` cannot run on a device, or "" and they are loaded."""
    if torch.version.hip:
        return "this PyTorch is for AMD's GPUs"
    problem = _card_problem(torch.cuda.get_device_properties(device)) or _prepare_native(op)
    if problem:
        return problem
    try:
        native.load_cuda()
    except native.NativeUnavailable as error:
        return str(error)
    return ""


def _why_not_triton(op: str, tensor: Tensor) -> str:
    if op not in _triton_operators:
        return f"{op} has no Triton kernels"
    if tensor.dtype not in _triton_dtypes[op]:
        *others, last = (str(dtype)[6:] for dtype in _triton_dtypes[op])
        return f"they take {', '.join(others)} and {last}, not {str(tensor.dtype)[6:]}"
    if not tensor.is_cuda and not (tensor.is_cpu and _interpreting()):
        return f"the tensor is on {tensor.device}"
    return _triton_problem(op, -1 if tensor.is_cpu else tensor.device.index)


# Constant while tracing, as the process is.
@torch.compiler.assume_constant_result
def _interpreting() -> bool:
    """Whether Triton interprets its kernels, which then run on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


# A function of its own: as for `_native_problem`.
@torch.compiler.assume_constant_result
def _triton_problem(op: str, device: int) -> str:
    return _prepare_triton(op, device)


@functools.cache
def _prepare_triton(op: str, device: int) -> str:
    """Why the Triton kernels of `op` cannot run on a device, or "" and they are registered."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    problem = "" if device < 0 else _card_problem(torch.cuda.get_device_properties(device))
    if not problem:
        _triton_operators[op]()
    return problem


def _card_problem(card: object) -> str:
    """Why a GPU, given by torch's properties of it, has no matrix units for the kernels."""
    amd = str(getattr(card, "gcnArchName", "")) if torch.version.hip else ""
    if amd:
        known = amd.split(":")[0] in _AMD_MATRIX_CORES
        return "" if known else f"{amd} is none of {', '.join(_AMD_MATRIX_CORES)}"
    major, minor = getattr(card, "major", 0), getattr(card, "minor", 0)
    if (major, minor) < _OLDEST_NVIDIA:
        name = getattr(card, "name", "the GPU")
        return f"{name} is sm_{major}{minor}, older than sm_80"
    return ""
