"""The random generator of this package in Triton kernels; csrc/philox.h says what stands where.

Not imported by `import sslkernels`, as no module is that needs Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block(seed, STREAM: tl.constexpr, ids, index, epoch):
    """The four words of the draws (stream, id, index), uint32, each of the shape of `index`.

    ids: int64, a scalar or of that shape. index: int32, taken as unsigned. epoch: below 2**24.
    """
    zero = index.to(tl.uint32) * 0
    stream = zero + (epoch << 8) + STREAM
    low = zero + (ids & 0xFFFFFFFF).to(tl.uint32)
    high = zero + ((ids >> 32) & 0xFFFFFFFF).to(tl.uint32)
    return tl.philox(seed.to(tl.int64), stream, low, high, index.to(tl.uint32))


@triton.jit
def less(word, threshold):
    """word < threshold; the threshold may be 2**32."""
    return word.to(tl.int64) < threshold


@triton.jit
def below(word, n):
    """int32 in [0, n)."""
    return tl.umulhi(word, word * 0 + n.to(tl.uint32)).to(tl.int32)
