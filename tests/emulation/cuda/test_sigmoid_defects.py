"""The barriers, bounds and signs of the sigmoid loss's kernels are needed: `-m ladder`."""

from __future__ import annotations

import pytest
import torch

from tests.emulation.cuda import build, sigmoid, test_sigmoid
from tests.emulation.cuda.defects import assert_found, changed

pytestmark = [
    pytest.mark.ladder,
    pytest.mark.skipif(bool(build.why_not()), reason=build.why_not()),
]


def check(schedule: str) -> None:
    """Everything once: tiles with and without pairs, several blocks of rows, of columns."""
    for arguments in (
        test_sigmoid.made(140, 330, 24, first=3, dtype=torch.float16),
        test_sigmoid.made(70, 90, 200, first=90, bias=-20.0),
    ):
        test_sigmoid.assert_right(arguments, schedule, weight=0.25)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("sigmoid.cu", "__syncthreads();", ""),
        ("sigmoid.cu", "    losses.close();\n", ""),
        ("device_sigmoid.h", "!pairs && ", ""),
        ("device_sigmoid.h", "first_key < first_pair + kQueries", "first_key < first_pair"),
        ("device_sigmoid.h", "first_query + kQueries <= p.q.rows && ", ""),
        ("device_sigmoid.h", "query < p.q.rows && ", ""),
        ("device_sigmoid.h", " && key < p.k.rows", ""),
        ("device_sigmoid.h", "      product = 0;\n", ""),
        ("device_sigmoid.h", "log1pf(product)", "logf(1 + product)"),
        ("device_sigmoid.h", "* gridDim.z + line", "* gridDim.z"),
        ("device_sigmoid.h", "* kStored;", ";"),
    ],
)
def test_is_noticed(monkeypatch, tmp_path, name, old, new):
    library = changed(tmp_path, sigmoid.SOURCES, (name, old, new))
    monkeypatch.setattr(test_sigmoid, "library", lambda: library)
    assert_found(check)
