"""Log-sum-exps by the CUDA kernels, for the tests: the C structs and their calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.emulation.cuda.build import CSRC
from tests.emulation.cuda.run import Counted, Library, aligned

SOURCES = tuple(
    CSRC / "similarity" / f"{name}.cu" for name in ("forward", "backward", "merge", "sums")
)

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_i64, _pointer = ctypes.c_int64, ctypes.c_void_p


class DeviceLogits(ctypes.Structure):
    """csrc/similarity/cuda.h."""

    _fields_ = [
        ("q", _pointer),
        ("k", _pointer),
        ("dtype", ctypes.c_int32),
        ("m", _i64),
        ("n", _i64),
        ("d", _i64),
        ("scale", _pointer),
        ("bias", _pointer),
        ("exclude", _pointer),
        ("excluded", _i64),
    ]


class DeviceGradients(ctypes.Structure):
    _fields_ = [(name, _pointer) for name in ("dq", "dk", "dscale", "dbias")]


def unit_like(m: int, n: int, d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, torch.Generator]:
    """q [m, d] and k [n, d], with rows about as long as unit vectors, and what goes on drawing."""
    generator = torch.Generator().manual_seed(1000 * m + d)
    q, k = ((torch.randn(rows, d, generator=generator) * d**-0.5).to(dtype) for rows in (m, n))
    return q, k, generator


class Call:
    """The arguments of `logsumexp` as the kernels take them; rows begin `shift` values late."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor | None = None,
        scale: float = 1.0,
        bias: Tensor | None = None,
        exclude: Sequence[int] = (),
        shift: int = 0,
    ) -> None:
        self.q, self.k, self.bias = q, k, bias
        self.exclude = np.array(exclude, np.int64)
        self.inputs = {"q": _bits(q, shift), "scale": aligned(np.array([scale], np.float32))}
        self.inputs |= {} if k is None else {"k": _bits(k, shift)}
        self.inputs |= {} if bias is None else {"bias": aligned(bias.float().numpy())}
        at = {name: x.ctypes.data for name, x in self.inputs.items()}
        moved = shift * q.element_size()
        m, d = q.shape
        self.struct = DeviceLogits(
            q=at["q"] + moved,
            k=at["k"] + moved if k is not None else None,
            dtype=_DTYPES.index(q.dtype),
            m=m,
            n=m if k is None else k.shape[0],
            d=d,
            scale=at["scale"],
            bias=at.get("bias"),
            exclude=self.exclude.ctypes.data,
            excluded=len(self.exclude),
        )

    def forward(self, library: Library, **options: Any) -> tuple[Tensor, list[Counted]]:
        """lse [M], and what was counted."""
        lse = room(self.struct.m)
        workspace = self._workspace(library, "sslk_cuda_logsumexp")
        arguments = (ctypes.byref(self.struct), lse, workspace, None)
        counts = library.run("sslk_cuda_logsumexp", *arguments, buffers=self.inputs, **options)
        return torch.from_numpy(lse), counts

    def backward(
        self, library: Library, grad: Tensor, lse: Tensor, with_dk: bool = True, **options: Any
    ) -> tuple[dict[str, Tensor], list[Counted]]:
        """Gradients of sum_i grad_i lse_i by the names of the arguments, and what was counted."""
        m, n, d = self.struct.m, self.struct.n, self.struct.d
        found = {"q": room(m * d, np.int16), "scale": room(1)}
        found |= {"k": room(n * d, np.int16)} if with_dk and self.k is not None else {}
        found |= {"bias": room(n)} if self.bias is not None else {}
        at = {name: x.ctypes.data for name, x in found.items()}
        out = DeviceGradients(at["q"], at.get("k"), at["scale"], at.get("bias"))
        workspace = self._workspace(library, "sslk_cuda_logsumexp_gradients")
        buffers = self.inputs | {f"d{name}": x for name, x in found.items()}
        counts = library.run(
            "sslk_cuda_logsumexp_gradients",
            ctypes.byref(self.struct),
            aligned(grad.float().numpy()),
            aligned(lse.float().numpy()),
            ctypes.byref(out),
            workspace,
            None,
            buffers=buffers,
            **options,
        )
        tensors = {name: torch.from_numpy(x) for name, x in found.items()}
        for name in ("q", "k"):
            if name in tensors:
                tensors[name] = tensors[name].view(self.q.dtype).view(-1, d)
        return tensors, counts

    def _workspace(self, library: Library, function: str) -> np.ndarray:
        return room(library.number(f"{function}_workspace", ctypes.byref(self.struct)))


def room(count: int, dtype: type = np.float32) -> np.ndarray:
    """Memory for results, full of NaN."""
    return aligned(np.full(count * np.dtype(dtype).itemsize, 0xFF, np.uint8), False).view(dtype)


def _bits(x: Tensor, shift: int) -> np.ndarray:
    flat = x.contiguous().view(torch.int16).view(-1).numpy()
    return aligned(np.concatenate([np.zeros(shift, np.int16), flat]))
