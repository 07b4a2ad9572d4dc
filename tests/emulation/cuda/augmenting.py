"""Augmentation by the CUDA kernels, for the tests: the C structs and their calls."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslkernels.augment.layout import NUMBERS, ROW
from sslkernels.augment.reference import Settings
from tests.emulation.cuda.build import CSRC
from tests.emulation.cuda.run import Library, aligned

DRAWS = CSRC / "augment" / "draws.cu"
FORWARD = CSRC / "augment" / "forward.cu"
BACKWARD = CSRC / "augment" / "backward.cu"

_PIXEL_TYPES = (torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16)
_i64, _pointer, _double = ctypes.c_int64, ctypes.c_void_p, ctypes.c_double


class Frame(ctypes.Structure):
    _fields_ = [(x, _i64) for x in ("channels", "height", "width", "view_height", "view_width")]
    _fields_ += [("stages", _i64)]


class Layout(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32)]
    _fields_ += [(x, _i64) for x in ("image", "channel", "row", "column")]


class Views(ctypes.Structure):
    """csrc/augment/views.h."""

    _fields_ = [
        ("frame", Frame),
        ("batch", _i64),
        ("views", _i64),
        ("images", _pointer),
        ("image_layout", Layout),
        ("draws", _pointer),
        ("blur_kernel", _i64),
        ("mean", _pointer),
        ("std", _pointer),
        ("erase_value", _double),
    ]


def _layout(x: Tensor) -> Layout:
    """Of the images in x [..., C, H, W]."""
    c, h, w = x.shape[-3:]
    return Layout(_PIXEL_TYPES.index(x.dtype), c * h * w, *x.stride()[-3:])


def _memory(x: Tensor) -> Tensor:
    """The bytes of a tensor without gaps, in the order in which they lie."""
    order = sorted(range(x.dim()), key=lambda d: -x.stride(d))
    return x.permute(order).contiguous().view(-1).view(torch.uint8)


class _Call:
    """What both directions are called with: a struct, and the memory that it points to."""

    def __init__(self, images: Tensor, rows: Tensor, settings: Settings, offset: int = 0) -> None:
        b, c, h, w = images.shape
        skipped = offset * images.element_size()
        memory = torch.cat([torch.zeros(skipped, dtype=torch.uint8), _memory(images)])
        self.buffers = {
            "images": aligned(memory.numpy())[skipped:],
            "draws": aligned(rows.contiguous().numpy()),
        }
        self.numbers = [
            (ctypes.c_double * c)(*x) if x else None for x in (settings.mean, settings.std)
        ]
        mean, std = (ctypes.cast(x, _pointer) if x else None for x in self.numbers)
        self.struct = Views(
            Frame(c, h, w, *settings.size, settings.stages),
            b,
            rows.shape[0],
            self.buffers["images"].ctypes.data,
            _layout(images),
            self.buffers["draws"].ctypes.data,
            settings.blur_kernel,
            mean,
            std,
            settings.erase_value,
        )

    def workspace(self, library: Library, function: str) -> np.ndarray:
        needed = library.number(function, ctypes.byref(self.struct))
        return aligned(np.full(needed, 0xFF, np.uint8), False)


def _result(shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> tuple[Tensor, np.ndarray]:
    """A tensor like the result, with channels last or not, and memory for it, all of it NaN."""
    out = torch.empty(shape, dtype=dtype)
    if last:
        out = out.movedim(-3, -1).contiguous().movedim(-1, -3)
    return out, aligned(np.full(out.numel() * out.element_size(), 0xFF, np.uint8), False)


def draws(
    library: Library,
    sample_ids: Tensor,
    numbers: list[float],
    seed: int,
    epoch: int,
    size: tuple[int, int],
    **options: Any,
) -> Tensor:
    """`torch.ops.sslkernels.augment_draws`."""
    views, batch = len(numbers) // NUMBERS, len(sample_ids)
    rows = aligned(np.full((views, batch, ROW), np.nan, np.float32), False)
    policies = (ctypes.c_double * len(numbers))(*numbers)
    ids = aligned(sample_ids.numpy())
    where = (epoch, *size, rows, None)
    library.run(
        "sslk_cuda_augment_draws", ids, batch, policies, views, ctypes.c_uint64(seed), *where,
        **options,
    )  # fmt: skip
    return torch.from_numpy(rows)


def forward(
    library: Library,
    images: Tensor,
    rows: Tensor,
    settings: Settings,
    dtype: torch.dtype,
    channels_last: bool = False,
    offset: int = 0,
    **options: Any,
) -> tuple[Tensor, Any]:
    """`torch.ops.sslkernels.augment_forward`, and what was counted.

    Images begin `offset` pixels after a multiple of 256 bytes.
    """
    call = _Call(images, rows, settings, offset)
    shape = (rows.shape[0], *images.shape[:2], *settings.size)
    out, memory = _result(shape, dtype, channels_last)
    counts = library.run(
        "sslk_cuda_augment_forward",
        ctypes.byref(call.struct),
        memory,
        ctypes.byref(_layout(out)),
        call.workspace(library, "sslk_cuda_augment_workspace"),
        None,
        buffers=call.buffers,
        **options,
    )
    return torch.as_strided(torch.from_numpy(memory).view(dtype), shape, out.stride()), counts


def backward(
    library: Library,
    grad: Tensor,
    images: Tensor,
    rows: Tensor,
    settings: Settings,
    **options: Any,
) -> tuple[Tensor, Any]:
    """`torch.ops.sslkernels.augment_backward`, and what was counted."""
    call = _Call(images, rows, settings)
    last = not images.is_contiguous()
    out, memory = _result(tuple(images.shape), images.dtype, last)
    counts = library.run(
        "sslk_cuda_augment_backward",
        ctypes.byref(call.struct),
        aligned(grad.contiguous().numpy()),
        memory,
        call.workspace(library, "sslk_cuda_augment_backward_workspace"),
        None,
        buffers=call.buffers,
        **options,
    )
    gradient = torch.from_numpy(memory).view(images.dtype)
    return torch.as_strided(gradient, images.shape, out.stride()), counts
