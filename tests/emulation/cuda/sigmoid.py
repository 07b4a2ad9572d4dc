"""The sigmoid loss by the CUDA kernels, for the tests: the C struct and its calls."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.emulation.cuda.build import CSRC
from tests.emulation.cuda.run import Counted, Library, aligned
from tests.emulation.cuda.similarity import Call, DeviceGradients, DeviceLogits, room

SOURCES = tuple(CSRC / "similarity" / name for name in ("sigmoid.cu", "sums.cu"))


class DeviceSigmoid(ctypes.Structure):
    """csrc/similarity/cuda.h."""

    _fields_ = [
        ("logits", DeviceLogits),
        ("bias", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("weight", ctypes.c_float),
    ]


class SigmoidCall:
    """The arguments of `sigmoid_loss` as the kernels take them; rows begin `shift` values late."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        scale: float,
        bias: float,
        first: int = 0,
        weight: float = 1.0,
        shift: int = 0,
    ) -> None:
        self.logits = Call(q, k, scale, shift=shift)
        self.inputs = self.logits.inputs | {"bias": aligned(np.array([bias], np.float32))}
        at = self.inputs["bias"].ctypes.data
        self.struct = DeviceSigmoid(self.logits.struct, at, first, weight)
        self.dtype = torch.float32 if q.dtype is torch.float16 else q.dtype

    def value(self, library: Library, **options: Any) -> tuple[Tensor, list[Counted]]:
        """The loss [1], and what was counted."""
        value = room(1)
        workspace = self._workspace(library, "sslk_cuda_sigmoid")
        arguments = (ctypes.byref(self.struct), value, workspace, None)
        counts = library.run("sslk_cuda_sigmoid", *arguments, buffers=self.inputs, **options)
        return torch.from_numpy(value), counts

    def gradients(
        self, library: Library, **options: Any
    ) -> tuple[dict[str, Tensor], list[Counted]]:
        """The loss as "value", gradients by the names of the arguments, and what was counted."""
        logits = self.struct.logits
        stored = np.float32 if self.dtype is torch.float32 else np.int16
        sizes = {"q": logits.m * logits.d, "k": logits.n * logits.d, "scale": 1, "bias": 1}
        found = {name: room(n, stored if name in "qk" else np.float32) for name, n in sizes.items()}
        out = DeviceGradients(*(x.ctypes.data for x in found.values()))
        value = room(1)
        counts = library.run(
            "sslk_cuda_sigmoid_gradients",
            ctypes.byref(self.struct),
            value,
            ctypes.byref(out),
            self._workspace(library, "sslk_cuda_sigmoid_gradients"),
            None,
            buffers=self.inputs | {f"d{name}": x for name, x in found.items()},
            **options,
        )
        tensors = {name: torch.from_numpy(x) for name, x in found.items()}
        for name in "qk":
            tensors[name] = tensors[name].view(self.dtype).view(-1, logits.d)
        return {"value": torch.from_numpy(value), **tensors}, counts

    def _workspace(self, library: Library, function: str) -> np.ndarray:
        return room(library.number(f"{function}_workspace", ctypes.byref(self.struct)))
