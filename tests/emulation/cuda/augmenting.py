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
    **options: Any,
) -> tuple[Tensor, Any]:
    """`torch.ops.sslkernels.augment_forward`, and what was counted."""
    b, c, h, w = images.shape
    v = rows.shape[0]
    shape = (v, b, c, *settings.size)
    out = torch.empty(shape, dtype=dtype)
    if channels_last:
        out = out.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    out_memory = aligned(np.full(out.numel() * out.element_size(), 0xFF, np.uint8), False)
    buffers = {
        "images": aligned(_memory(images).numpy()),
        "draws": aligned(rows.contiguous().numpy()),
        "out": out_memory,
    }
    mean, std = ((ctypes.c_double * c)(*x) if x else None for x in (settings.mean, settings.std))
    call = Views(
        Frame(c, h, w, *settings.size, settings.stages),
        b,
        v,
        buffers["images"].ctypes.data,
        _layout(images),
        buffers["draws"].ctypes.data,
        settings.blur_kernel,
        ctypes.cast(mean, _pointer) if mean else None,
        ctypes.cast(std, _pointer) if std else None,
        settings.erase_value,
    )
    needed = library.number("sslk_cuda_augment_workspace", ctypes.byref(call))
    workspace = aligned(np.full(needed, 0xFF, np.uint8), False)
    counts = library.run(
        "sslk_cuda_augment_forward",
        ctypes.byref(call),
        out_memory,
        ctypes.byref(_layout(out)),
        workspace,
        None,
        buffers=buffers,
        **options,
    )
    flat = torch.from_numpy(out_memory).view(dtype)
    return torch.as_strided(flat, shape, out.stride()), counts
