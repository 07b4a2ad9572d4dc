"""The bounds and signs of the kernels of both directions are needed: `-m ladder`."""

from __future__ import annotations

import pytest
import torch

from tests.emulation.cuda import build, pairs, test_pairs
from tests.emulation.cuda.defects import assert_found, changed

pytestmark = [
    pytest.mark.ladder,
    pytest.mark.skipif(bool(build.why_not()), reason=build.why_not()),
]


def check(schedule: str) -> None:
    """Everything once: tiles with and without pairs, several blocks of rows, of columns; panels."""
    for arguments, of_rows in (
        (test_pairs.made(140, 330, 24, first=3, dtype=torch.float16), 1e-6),
        (test_pairs.made(70, 90, 200, first=10), 1.0),
        (test_pairs.made(300, 330, 8, first=5), 1.0),
    ):
        test_pairs.assert_right(arguments, schedule, of_rows=of_rows)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pairs.cu", "if (first_row + kTallRows > p.q.rows)", "if (false)"),
        ("pairs.cu", "pair && row < p.q.rows", "pair"),
        ("pairs.cu", "if (column >= n) return;", ""),
        ("pairs.cu", "if (!begins) sum = sums[column];", ""),
        ("pairs.cu", "panel.q.values += done * logits.d;", ""),
        ("pairs.cu", "problem->first + done", "problem->first"),
        ("pairs.cu", "pair_logit + done", "pair_logit"),
        ("pairs.cu", "row_lse + done", "row_lse"),
        ("pairs_backward.cu", "std::swap(from_keys.of_rows, from_keys.of_columns);", ""),
        ("pairs_backward.cu", "-upstream.offset", "upstream.offset"),
        ("pairs_backward.cu", "{grad->columns, logits.n}, {grad->pairs, logits.m}", ""),
        ("device_both_ways.h", "  __syncthreads();\n", ""),
        ("device_both_ways.h", "&& column < n", ""),
        ("device_pairs.h", "row < p_.q.rows && ", ""),
        ("device_pairs.h", "min(row, column)", "row"),
        ("device_logits.h", "-kColumns < ahead && ahead < 64 * kRowTiles", "ahead == 0"),
        ("softmaxes.h", "if (i >= rows) return {INFINITY, 0};", ""),
        ("merge.cu", "if (row >= m) return;", ""),
    ],
)
def test_is_noticed(monkeypatch, tmp_path, name, old, new):
    library = changed(tmp_path, pairs.SOURCES, test_pairs.SMALL_PANELS, (name, old, new))
    monkeypatch.setattr(test_pairs, "library", lambda: library)
    assert_found(check)
