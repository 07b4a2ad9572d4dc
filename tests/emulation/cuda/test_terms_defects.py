"""The bounds and barriers of the kernels of a cross entropy's terms are needed: `-m ladder`."""

from __future__ import annotations

import pytest
import torch

from tests.emulation.cuda import build, terms, test_terms
from tests.emulation.cuda.defects import assert_found, changed

pytestmark = [
    pytest.mark.ladder,
    pytest.mark.skipif(bool(build.why_not()), reason=build.why_not()),
]


def check(schedule: str) -> None:
    """Everything once: rows numbered in two turns, several blocks of rows, of columns, slices."""
    for arguments, grad_scale in (
        (test_terms.made(1100, 70, 24, dtype=torch.float16, counted=0.1), 1e-6),
        (test_terms.with_a_bias_far_above_its_logit(), 1.0),
        (test_terms.made(140, 330, 24, softcap=1.5), 1.0),
        (test_terms.made(20, 90, 300, counted=0.9), 1.0),
    ):
        test_terms.assert_right(arguments, schedule, grad_scale)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("counted_rows.cu", "odd = !odd", "odd = odd"),
        ("counted_rows.cu", "    __syncthreads();\n", ""),
        ("counted_rows.cu", "if (row < m) out", "out"),
        ("counted_rows.cu", "uint32_t at = counted + ", "uint32_t at = "),
        ("terms.cu", "row < q.rows ? uint32_t(terms.target[q.number[row]]) : kNoRow", "0"),
        ("terms.cu", "if (ends) past_the_end(0);", ""),
        ("terms.cu", "if (ends) past_the_end(-INFINITY);", ""),
        ("terms.cu", "threadIdx.x % 4 == 0 && row < rows_", "threadIdx.x % 4 == 0"),
        ("terms.cu", "if (row >= m) return;", ""),
        ("terms_backward.cu", "if (at >= m) return;", ""),
        ("terms_backward.cu", "out.product_sums[blockIdx.x] = 0;", "{}"),
        ("terms_backward.cu", "if (lines == 1) return;", "return;"),
        ("terms_backward.cu", "{{workspace, 4 * logits.m}}", "{}"),
        ("device_term_gradients.h", "if (i >= counted_) return", "if (false) return"),
        ("device_row_gradients.h", "threadIdx.x % 4 == 0 && row < rows", "true"),
        ("device_term_gradients.h", "if (column >= p_.k.rows) value = 0;", ""),
        ("device_term_gradients.h", "kCapped ? sum * slope : sum", "sum"),
    ],
)
def test_is_noticed(monkeypatch, tmp_path, name, old, new):
    library = changed(tmp_path, terms.SOURCES, (name, old, new))
    monkeypatch.setattr(test_terms, "library", lambda: library)
    assert_found(check)
