"""What nvcc makes of `mask_tokens.cu` for sm_80, run by the emulator of PTX: a third execution of
the kernels, beside g++'s and the reference."""

from __future__ import annotations

import functools
import struct
from typing import Any

import numpy as np
import pytest
import torch

from sslkernels.masking import reference
from sslkernels.native import cuda
from tests.emulation.cuda import masking, nvcc
from tests.emulation.cuda.test_mask_tokens import arguments
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.parameters import Struct
from tests.emulation.ptx.text import Kernel, kernels

THREADS, WARPS = 128, 4
MOST_LONGER, MOST_SPECIAL = 16, 512


@functools.cache
def compiled() -> dict[str, Kernel]:
    try:
        toolkit = cuda.find_toolkit(["8.0"])
    except cuda.NoToolkit as error:
        pytest.skip(str(error))
    return kernels(nvcc.ptx(toolkit, masking.SOURCE))


def kernel(name: str, dtype: torch.dtype) -> Kernel:
    """The instance of a kernel for int32 or int64."""
    mangled = f"{len(name)}{name}I{'i' if dtype is torch.int32 else 'l'}E"
    [found] = [x for x in compiled().values() if mangled in x.name]
    return found


def problem_of(call: masking.Call) -> Struct:
    """`Problem` of mask_tokens.cu."""
    s = call.struct
    arrays = {
        16 + 8 * place: np.array(call.buffers[name])
        for place, name in enumerate(("input_ids", "sequence_ids", "attention_mask", "word_ids"))
        if name in call.buffers
    }
    arrays |= {104: call.masked, 112: call.labels}
    thresholds = (s.select_below, s.replace_below, s.random_below)
    after_pointers = (s.mask_token_id, s.vocab_size, s.seed, *thresholds, s.ignore_index)
    counts = (s.special_count, s.longer_count)
    numbers = struct.pack("<2q32x2qQ4q16x2q", s.batch, s.length, *after_pointers, *counts)
    specials, longer = (np.array(x) for x in call.tables)
    longer = np.pad(longer, (0, MOST_LONGER - len(longer)))
    specials = np.pad(specials.astype(np.int32), (0, MOST_SPECIAL - len(specials)))
    return Struct(numbers + longer.tobytes() + specials.tobytes(), arrays)


def run(operator_arguments: tuple[Any, ...]) -> masking.Call:
    call = masking.Call(*operator_arguments)
    batch, length = call.masked.shape
    dtype, strategy = operator_arguments[0].dtype, operator_arguments[8]
    if strategy == "span":
        grid = (-(-batch // WARPS), 1, 1)
        launch(
            kernel("mask_spans", dtype),
            grid,
            [problem_of(call), call.workspace],
            threads=(THREADS, 1, 1),
        )
    else:
        of_row = -(-length // THREADS)
        rest = [of_row, int(strategy == "whole_word")]
        launch(
            kernel("mask_each", dtype),
            (batch * of_row, 1, 1),
            [problem_of(call), *rest],
            threads=(THREADS, 1, 1),
        )
    return call


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("strategy", masking.STRATEGIES)
@pytest.mark.parametrize(("batch", "length"), [(4, 45), (1, 131)])
def test_draws_the_bits_of_the_reference(strategy, dtype, batch, length):
    given = arguments(strategy, batch, length, dtype=dtype)
    for ours, expected in zip(run(given).results(), reference.mask_tokens(*given), strict=True):
        assert torch.equal(ours, expected)
