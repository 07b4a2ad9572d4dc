"""Both directions' log-sum-exps by the CUDA kernels, for the tests: the C structs and calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.emulation.cuda.build import CSRC
from tests.emulation.cuda.run import Counted, Library, aligned
from tests.emulation.cuda.similarity import Call, DeviceGradients, DeviceLogits, room

SOURCES = tuple(
    CSRC / "similarity" / f"{name}.cu" for name in ("pairs", "pairs_backward", "merge", "sums")
)


class DevicePairs(ctypes.Structure):
    """csrc/similarity/cuda.h."""

    _fields_ = [("logits", DeviceLogits), ("first", ctypes.c_int64)]


class DevicePairTerms(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("rows", "columns", "pairs")]


class PairCall:
    """The arguments of `pair_terms` as the kernels take them; rows begin `shift` values late."""

    def __init__(self, q: Tensor, k: Tensor, scale: float, first: int = 0, shift: int = 0) -> None:
        self.logits = Call(q, k, scale, shift=shift)
        self.struct = DevicePairs(self.logits.struct, first)

    def forward(self, library: Library, **options: Any) -> tuple[list[Tensor], list[Counted]]:
        """The lse of rows and of columns and the pairs' logits, and what was counted."""
        m, n = self.struct.logits.m, self.struct.logits.n
        found = [room(count) for count in (m, n, m)]
        arguments = (ctypes.byref(self.struct), *found, self._workspace(library), None)
        counts = library.run("sslk_cuda_pairs", *arguments, buffers=self.logits.inputs, **options)
        return [torch.from_numpy(x) for x in found], counts

    def backward(
        self, library: Library, grads: Sequence[Tensor], terms: Sequence[Tensor], **options: Any
    ) -> tuple[dict[str, Tensor], list[Counted]]:
        """Gradients by the names of the arguments, and what was counted."""
        s = self.struct.logits
        given = [aligned(x.float().numpy()) for x in grads]
        struct = DevicePairTerms(*(x.ctypes.data for x in given))
        found = {"q": room(s.m * s.d, np.int16), "k": room(s.n * s.d, np.int16), "scale": room(1)}
        out = DeviceGradients(*(x.ctypes.data for x in found.values()), None)
        buffers = self.logits.inputs | {f"d{name}": x for name, x in found.items()}
        counts = library.run(
            "sslk_cuda_pairs_gradients",
            ctypes.byref(self.struct),
            ctypes.byref(struct),
            *(aligned(x.float().numpy()) for x in terms[:2]),
            ctypes.byref(out),
            self._workspace(library, "_gradients"),
            None,
            buffers=buffers | {f"grad {i}": x for i, x in enumerate(given)},
            **options,
        )
        tensors = {name: torch.from_numpy(x) for name, x in found.items()}
        for name in "qk":
            tensors[name] = tensors[name].view(self.logits.q.dtype).view(-1, s.d)
        return tensors, counts

    def _workspace(self, library: Library, which: str = "") -> np.ndarray:
        function = f"sslk_cuda_pairs{which}_workspace"
        return room(library.number(function, ctypes.byref(self.struct)))
