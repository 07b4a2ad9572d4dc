"""What a kernel is compiled for: a dtype, and for float32 the precision of its products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

KINDS = {
    "bfloat16": (torch.bfloat16, "highest"),
    "float16": (torch.float16, "highest"),
    "float32-highest": (torch.float32, "highest"),
    "float32-high": (torch.float32, "high"),
}


@contextlib.contextmanager
def chosen(kind: str) -> Iterator[torch.dtype]:
    """Inside, products have the precision of `kind`; its dtype."""
    dtype, precision = KINDS[kind]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield dtype
    finally:
        torch.set_float32_matmul_precision(before)
