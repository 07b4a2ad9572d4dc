"""The barriers, waits and bounds of the engine's kernels are needed: without any of them something
is found. Each takes a compilation: `-m ladder`."""

from __future__ import annotations

import pytest

from tests.emulation.cuda import build, similarity, test_logsumexp
from tests.emulation.cuda.defects import assert_found, changed

pytestmark = [
    pytest.mark.ladder,
    pytest.mark.skipif(bool(build.why_not()), reason=build.why_not()),
]


def check(schedule: str) -> None:
    """Everything once: chunks that stay and that stream, both passes, many tiles, exclusions."""
    for arguments in (
        test_logsumexp.made(70, 330, 200, exclude=(3,), bias=True),
        test_logsumexp.made(300, None, 24, exclude=(0, -150)),
        test_logsumexp.made(20, 70, 8),
    ):
        test_logsumexp.assert_right(arguments, schedule)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("device_stream.h", "__pipeline_wait_prior(0);\n    __syncthreads();", "__syncthreads();"),
        ("device_stream.h", "__syncthreads();", ""),
        ("device_stream.h", "odd_ = !odd_;", ""),
        ("device_stream.h", "first_row + row < from.rows && ", ""),
        ("device_stream.h", " && feature < from.features", ""),
        ("device_stream.h", "stays ? chunk : odd_", "stays ? 0 : odd_"),
        ("device_logits.h", "|| first_column + kColumns > columns", ""),
        ("device_logits.h", "if (!hidden.any()) return;", "return;"),
        ("device_logits.h", "of[h].add_across(2);", ""),
        ("device_logits.h", "&& row < rows", ""),
        ("device_gradient.h", "if (from_query.has(h, c))", "if (false)"),
        ("device_gradient.h", "if (from_key.has(h, c))", "if (false)"),
        ("device_both_ways.h", "  __syncthreads();\n", ""),
        ("forward.cu", "first_column < first_row + kRows", "first_column < first_row"),
        ("device_both_ways.h", "&& column < n", ""),
        (
            "device_row_gradients.h",
            "if (blockIdx.y != 0) return;",
            "if (blockIdx.x != 0) return;",
        ),
        ("device_row_gradients.h", "if (feature >= x.features) continue;", ""),
    ],
)
def test_is_noticed(monkeypatch, tmp_path, name, old, new):
    library = changed(tmp_path, similarity.SOURCES, (name, old, new))
    monkeypatch.setattr(test_logsumexp, "library", lambda: library)
    assert_found(check)
