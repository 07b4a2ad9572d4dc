"""`mask_tokens` by the CUDA kernel, for the tests: the C struct and its call."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.emulation.cuda.build import CSRC
from tests.emulation.cuda.run import aligned

SOURCE = CSRC / "masking" / "mask_tokens.cu"
STRATEGIES = ("token", "whole_word", "span")

_i64, _pointer = ctypes.c_int64, ctypes.c_void_p


class MaskTokens(ctypes.Structure):
    """csrc/masking/mask_tokens.h."""

    _fields_ = [
        ("batch", _i64),
        ("length", _i64),
        ("input_ids", _pointer),
        ("sequence_ids", _pointer),
        ("attention_mask", _pointer),
        ("word_ids", _pointer),
        ("mask_token_id", _i64),
        ("vocab_size", _i64),
        ("special_ids", _pointer),
        ("special_count", _i64),
        ("seed", ctypes.c_uint64),
        ("strategy", ctypes.c_int32),
        ("select_below", _i64),
        ("replace_below", _i64),
        ("random_below", _i64),
        ("longer_from", _pointer),
        ("longer_count", _i64),
        ("ignore_index", _i64),
        ("masked_ids", _pointer),
        ("labels", _pointer),
    ]


class Call:
    """The arguments of the operator, `torch.ops.sslkernels.mask_tokens`, as the kernel takes them.

    `masked` and `labels` are the results, `workspace` is None but for spans.
    """

    def __init__(
        self,
        input_ids: Tensor,
        sequence_ids: Tensor,
        attention_mask: Tensor | None,
        word_ids: Tensor | None,
        mask_token_id: int,
        vocab_size: int,
        special_ids: list[int],
        seed: int,
        strategy: str,
        select_below: int,
        replace_below: int,
        random_below: int,
        longer_from: list[int],
        ignore_index: int,
    ) -> None:
        batch, length = input_ids.shape
        self.masked = aligned(np.full((batch, length), -7, input_ids.numpy().dtype), False)
        self.labels = aligned(np.full((batch, length), -7, np.int64), False)
        needed = 4 * length + 1 if strategy == "span" else 0
        self.workspace = np.full(batch * needed, -7, np.int32)
        inputs = {
            "input_ids": input_ids,
            "sequence_ids": sequence_ids,
            "attention_mask": attention_mask,
            "word_ids": word_ids,
        }
        self.buffers = {
            name: aligned(x.contiguous().numpy()) for name, x in inputs.items() if x is not None
        }
        self.buffers |= {"masked_ids": self.masked, "labels": self.labels}
        self.tables = [np.array(x, np.int64) for x in (special_ids, longer_from)]
        specials, longer = self.tables
        self.struct = MaskTokens(
            batch=batch,
            length=length,
            mask_token_id=mask_token_id,
            vocab_size=vocab_size,
            special_ids=specials.ctypes.data,
            special_count=len(specials),
            seed=seed % 2**64,
            strategy=STRATEGIES.index(strategy),
            select_below=select_below,
            replace_below=replace_below,
            random_below=random_below,
            longer_from=longer.ctypes.data,
            longer_count=len(longer),
            ignore_index=ignore_index,
        )
        for name, array in self.buffers.items():
            setattr(self.struct, name, array.ctypes.data)
        self.function = f"sslk_cuda_mask_tokens_{input_ids.dtype}".replace("torch.", "")

    def run(self, library: Any, **options: Any) -> Any:
        """What `Library.run` returns."""
        arguments = (ctypes.byref(self.struct), self.workspace, None)
        return library.run(self.function, *arguments, buffers=self.buffers, **options)

    def results(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.masked), torch.from_numpy(self.labels)
