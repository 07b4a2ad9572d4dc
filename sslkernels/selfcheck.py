"""`python -m sslkernels`: what this machine has, what runs on it, and whether it computes rightly.

Each operator runs forward and backward with every implementation that this machine can run, in
every dtype, against the dense definition in float64.
"""

from __future__ import annotations

import importlib.util
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

import sslkernels
from sslkernels import AugmentPolicy, backends, native
from sslkernels.losses import clip as clip_module
from sslkernels.losses import hard_negatives as hard_negatives_module
from sslkernels.losses import info_nce as info_nce_module
from sslkernels.losses import linear_cross_entropy as linear_cross_entropy_module
from sslkernels.losses import nce as nce_module
from sslkernels.losses import nt_xent as nt_xent_module
from sslkernels.losses import siglip as siglip_module
from sslkernels.losses import supcon as supcon_module
from sslkernels.similarity import reference as similarity_reference

# Largest error allowed, relative to the largest value. What a kernel may round is its input dtype;
# the logits and the loss are float32 or better.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}

ROWS, FEATURES = 67, 48  # ragged, so that the edges of tiles are checked too


@dataclass(frozen=True)
class Case:
    """An operator, its definition, and the shapes of the tensors that both take.

    `chosen_by` is the dtype of the tensor by which its implementation is chosen, that of the check
    for None.
    """

    op: str
    call: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    chosen_by: torch.dtype | None = None

    def why_not(self, backend: str, device: torch.device, dtype: torch.dtype) -> str:
        """Why an implementation cannot run here in this dtype, or an empty string if it can."""
        tensor = torch.empty(0, dtype=self.chosen_by or dtype, device=device)
        return backends.why_not(self.op, backend, tensor)


def _target(input: Tensor, weight: Tensor) -> Tensor:
    """A class for each row, every fifth ignored."""
    rows = torch.arange(input.shape[0], device=input.device)
    return (7 * rows % weight.shape[0]).masked_fill(rows % 5 == 0, -100)


def _classes(z: Tensor) -> Tensor:
    """Seven classes, and one of a single row."""
    rows = torch.arange(z.shape[0], device=z.device)
    return (3 * rows % 7).masked_fill(rows == 5, 7)


# Without what jumps or bends where rounding decides: solarize, and hue.
AUGMENTATION = AugmentPolicy(
    (16, 27),
    crop_scale=(0.5, 1.0),
    horizontal_flip=0.5,
    rotation=30,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    grayscale=0.2,
    blur_probability=0.5,
    translation=0.1,
    mean=(0.5,),
    std=(0.25,),
    erase_probability=0.5,
)


def _augment_by_definition(images: Tensor) -> Tensor:
    with backends.backend("reference"):
        return sslkernels.augment(images, AUGMENTATION, seed=0)


def _times_masked(x: Tensor) -> Tensor:
    """Masked ids as factors: each of them shows, and the numbers have a gradient."""
    ids = torch.arange(x.numel(), device=x.device).reshape(x.shape) % 89 + 10
    masked, labels = sslkernels.mask_tokens(
        ids, mask_token_id=1, vocab_size=99, probability=0.4, seed=0
    )
    return x * (masked + 3 * labels.clamp_min(0))


def _times_masked_by_definition(x: Tensor) -> Tensor:
    with backends.backend("reference"):
        return _times_masked(x)


CASES = (
    Case(
        "nt_xent",
        lambda z1, z2: sslkernels.nt_xent(z1, z2, 0.2),
        lambda z1, z2: nt_xent_module.reference(z1, z2, 0.2),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "logsumexp",
        lambda q, k: sslkernels.similarity.logsumexp(q, k, scale=0.3, exclude=(0,)),
        lambda q, k: similarity_reference.logsumexp(q, k, scale=0.3, exclude=(0,)),
        ((ROWS, FEATURES), (ROWS + 30, FEATURES)),
    ),
    Case(
        "weighted_logsumexp",
        lambda q, w: sslkernels.similarity.weighted_logsumexp(q, None, w, scale=0.3, exclude=(0,)),
        lambda q, w: similarity_reference.weighted_logsumexp(q, None, w, scale=0.3, exclude=(0,)),
        ((ROWS, FEATURES), (ROWS,)),
    ),
    Case(
        "linear_cross_entropy",
        lambda x, w, b: sslkernels.linear_cross_entropy(
            x, w, _target(x, w), linear_bias=b, label_smoothing=0.1, z_loss=0.01, softcap=20.0
        ),
        lambda x, w, b: linear_cross_entropy_module.reference(
            x, w, _target(x, w), linear_bias=b, label_smoothing=0.1, z_loss=0.01, softcap=20.0
        ),
        ((ROWS, FEATURES), (ROWS + 30, FEATURES), (ROWS + 30,)),
    ),
    Case(
        "info_nce",
        lambda q, p, n, b: sslkernels.info_nce(q, p, n, temperature=0.2, bias=b),
        lambda q, p, n, b: info_nce_module.reference(q, p, n, temperature=0.2, bias=b),
        ((ROWS, FEATURES), (ROWS, FEATURES), (ROWS - 30, FEATURES), (2 * ROWS - 30,)),
    ),
    Case(
        "hard_negative_nt_xent",
        lambda z1, z2: sslkernels.hard_negative_nt_xent(z1, z2, 0.5),
        lambda z1, z2: hard_negatives_module.reference(z1, z2, 0.5),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "nce_loss",
        lambda q, p, n: sslkernels.nce_loss(q, p, n, scale=0.3),
        lambda q, p, n: nce_module.reference(q, p, n, scale=0.3),
        ((ROWS, FEATURES), (ROWS, FEATURES), (ROWS - 30, FEATURES)),
    ),
    Case(
        "clip_loss",
        lambda image, text: sslkernels.clip_loss(image, text, 5.0),
        lambda image, text: clip_module.reference(image, text, 5.0),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "siglip_loss",
        lambda image, text: sslkernels.siglip_loss(image, text, 5.0, -2.0),
        lambda image, text: siglip_module.reference(image, text, 5.0, -2.0),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "supcon",
        lambda z: sslkernels.supcon(z, _classes(z), 0.2),
        lambda z: supcon_module.reference(z, _classes(z), 0.2),
        ((ROWS, FEATURES),),
    ),
    Case(
        "augment",
        lambda x: sslkernels.augment(x.sigmoid(), AUGMENTATION, seed=0),
        lambda x: _augment_by_definition(x.sigmoid()),
        ((3, 3, 21, 34),),
    ),
    Case(
        "mask_tokens",
        _times_masked,
        _times_masked_by_definition,
        ((5, ROWS),),
        chosen_by=torch.int64,
    ),
)


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


def availability() -> list[Availability]:
    """What can run here, for every device, implementation and operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say stands in the report
        return [
            _available(case, name, device)
            for device in devices()
            for name in backends.NAMES
            for case in CASES
        ]


def _available(case: Case, name: str, device: torch.device) -> Availability:
    reasons = {dtype: case.why_not(name, device, dtype) for dtype in TOLERANCE}
    dtypes = tuple(dtype for dtype, reason in reasons.items() if not reason)
    reason = "" if dtypes else reasons[torch.float32]
    return Availability(device.type, name, case.op, reason, dtypes)


def checks(available: Sequence[Availability]) -> Iterator[Result]:
    """Every check that can run on this machine."""
    cases = {case.op: case for case in CASES}
    for here in available:
        if not here.reason:
            for dtype in here.dtypes:
                yield check(cases[here.op], here.backend, torch.device(here.device), dtype)


def run(console: Console, require: Sequence[str] = ()) -> bool:
    """Print the report; True when every check passed and all of `require` is available.

    Args:
        console: where to print.
        require: names of implementations that must be able to run on some device.

    Raises:
        ValueError: `require` holds a name that is no implementation.
    """
    if unknown := sorted(set(require) - set(backends.NAMES)):
        raise ValueError(f"require: {unknown[0]!r} is none of {', '.join(backends.NAMES)}")
    available = availability()
    console.print(_environment())
    console.print(_implementations(available))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        results = list(checks(available))
    finally:
        torch.set_float32_matmul_precision(precision)
    console.print(_table(results))
    failed = [result for result in results if not result.passed]
    usable = {here.backend for here in available if not here.reason}
    missing = [name for name in require if name not in usable]
    for result in failed:
        if result.problem:
            where = f"{result.op}, {result.backend} on {result.device}, {_short(result.dtype)}"
            console.print(f"{where}: {result.problem}", style="red", markup=False)
    for name in missing:
        console.print(f"{name} is required, and cannot run here", style="red", markup=False)
    if failed:
        console.print(f"{len(failed)} of {len(results)} checks failed", style="bold red")
    else:
        console.print(f"all {len(results)} checks passed", style="bold green")
    return not failed and not missing


def _environment() -> Table:
    table = Table(title="Environment", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths stay whole
    library = native.info()
    rows = {
        "sslkernels": sslkernels.__version__,
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "Triton": _triton_version(),
        "CPU": f"{_cpu_name()}, {torch.get_num_threads()} threads",
        "PyTorch's ISA": torch.backends.cpu.get_cpu_capability(),
        "our ISA": library.isa if library else "none loaded",
        "C++ kernels": f"{library.origin}\n{library.path}" if library else "none loaded",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _implementations(available: Sequence[Availability]) -> Table:
    table = Table(title="Implementations", title_justify="left")
    for column in ("device", "backend", "operators", "available"):
        table.add_column(column)
    # One row for all operators that share a reason; most often that is all of them.
    groups: dict[tuple[str, str, str], list[str]] = {}
    for here in available:
        groups.setdefault((here.device, here.backend, here.reason), []).append(here.op)
    for (device, name, reason), ops in groups.items():
        state = "[yellow]no:[/] " + escape(reason) if reason else "[green]yes[/]"
        operators = "all" if len(ops) == len(CASES) else ", ".join(ops)
        table.add_row(device, name, operators, state)
    return table


def _table(results: Sequence[Result]) -> Table:
    table = Table(title="Largest error relative to float64", title_justify="left")
    for column in ("operator", "device", "backend"):
        table.add_column(column)
    for dtype in TOLERANCE:
        table.add_column(_short(dtype), justify="right")
    rows: dict[tuple[str, str, str], dict[torch.dtype, str]] = {}
    for result in results:
        style = "green" if result.passed else "bold red"
        row = rows.setdefault((result.op, result.device, result.backend), {})
        row[result.dtype] = f"[{style}]{result.error:.0e}[/]"
    for (op, device, name), errors in sorted(rows.items()):
        table.add_row(op, device, name, *(errors.get(dtype, "-") for dtype in TOLERANCE))
    table.add_section()
    table.add_row("allowed", "", "", *(f"{allowed:.0e}" for allowed in TOLERANCE.values()))
    return table


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _triton_version() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    import triton

    return triton.__version__


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
