"""`logit_terms` by the CUDA kernels, for the tests: the C structs and their calls."""

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
    CSRC / "similarity" / f"{name}.cu"
    for name in ("terms", "terms_backward", "counted_rows", "sums")
)


class DeviceTerms(ctypes.Structure):
    """csrc/similarity/cuda.h."""

    _fields_ = [
        ("logits", DeviceLogits),
        ("target", ctypes.c_void_p),
        ("column_weight", ctypes.c_void_p),
        ("softcap", ctypes.c_double),
    ]


class DeviceRowTerms(ctypes.Structure):
    _fields_ = [(x, ctypes.c_void_p) for x in ("lse", "target_logit", "weighted_sum", "largest")]


class DeviceRowTermGradients(ctypes.Structure):
    _fields_ = [(x, ctypes.c_void_p) for x in ("lse", "target_logit", "weighted_sum")]


class TermsCall:
    """The arguments of `logit_terms` as the kernels take them; rows begin `shift` values late."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        target: Tensor,
        scale: float = 1.0,
        bias: Tensor | None = None,
        column_weight: Tensor | None = None,
        softcap: float = 0.0,
        shift: int = 0,
    ) -> None:
        self.logits = Call(q, k, scale, bias, shift=shift)
        self.inputs = self.logits.inputs | {"target": aligned(target.numpy())}
        if column_weight is not None:
            self.inputs |= {"column_weight": aligned(column_weight.float().numpy())}
        at = {name: x.ctypes.data for name, x in self.inputs.items()}
        self.struct = DeviceTerms(
            self.logits.struct, at["target"], at.get("column_weight"), softcap
        )

    def forward(self, library: Library, **options: Any) -> tuple[list[Tensor], list[Counted]]:
        """lse, target logit, weighted sum and largest logit [M], and what was counted."""
        found = [room(self.struct.logits.m) for _ in range(4)]
        out = DeviceRowTerms(*(x.ctypes.data for x in found))
        counts = library.run(
            "sslk_cuda_terms",
            ctypes.byref(self.struct),
            ctypes.byref(out),
            self._workspace(library),
            None,
            buffers=self.inputs | {f"term {i}": x for i, x in enumerate(found)},
            **options,
        )
        return [torch.from_numpy(x) for x in found], counts

    def backward(
        self,
        library: Library,
        grads: Sequence[Tensor],
        lse: Tensor,
        with_dk: bool = True,
        **options: Any,
    ) -> tuple[dict[str, Tensor], list[Counted]]:
        """Gradients by the names of the arguments, and what was counted."""
        s = self.struct.logits
        given = [aligned(x.float().numpy()) for x in grads]
        struct = DeviceRowTermGradients(*(x.ctypes.data for x in given))
        found = {"q": room(s.m * s.d, np.int16), "scale": room(1)}
        found |= {"k": room(s.n * s.d, np.int16)} if with_dk else {}
        found |= {"bias": room(s.n)} if self.logits.bias is not None else {}
        at = {name: x.ctypes.data for name, x in found.items()}
        out = DeviceGradients(at["q"], at.get("k"), at["scale"], at.get("bias"))
        buffers = self.inputs | {f"d{name}": x for name, x in found.items()}
        counts = library.run(
            "sslk_cuda_terms_gradients",
            ctypes.byref(self.struct),
            ctypes.byref(struct),
            aligned(lse.float().numpy()),
            ctypes.byref(out),
            self._workspace(library, "_gradients"),
            None,
            buffers=buffers | {f"grad {i}": x for i, x in enumerate(given)},
            **options,
        )
        tensors = {name: torch.from_numpy(x) for name, x in found.items()}
        for name in tensors.keys() & {"q", "k"}:
            tensors[name] = tensors[name].view(self.logits.q.dtype).view(-1, s.d)
        return tensors, counts

    def _workspace(self, library: Library, which: str = "") -> np.ndarray:
        function = f"sslk_cuda_terms{which}_workspace"
        return room(library.number(function, ctypes.byref(self.struct)))
