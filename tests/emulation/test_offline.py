"""What offline compilation reads from a kernel, on kernels made to show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.emulation.process import ROOT

pytest.importorskip("triton")

SCRIPT = """
import dataclasses, json, sys
import torch, triton, triton.language as tl
from tests.emulation import offline

@triton.jit
def product(a, b, out, BLOCK: tl.constexpr, USE_DOT: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = i[:, None] * BLOCK + i[None, :]
    x, y = tl.load(a + at), tl.load(b + at)
    tl.store(out + at, tl.dot(x, y) if USE_DOT else x.to(tl.float32) + y)

def launch(block, use_dot, warps):
    x = torch.full((block, block), 7.0, dtype=torch.bfloat16)
    out = torch.full((block, block), 7.0)
    product[(1,)](x, x, out, block, use_dot, num_warps=warps)
    assert (out == 7.0).all(), "a recorded launch must not run"

cases = {
    "product": lambda: launch(64, True, 4),
    "no product": lambda: launch(64, False, 4),
    "too few warps": lambda: launch(128, True, 1),
}
found = {}
for target in sys.argv[1:]:
    for name, call in cases.items():
        [kernel] = offline.compiled(call, target)
        found[name] = dataclasses.asdict(kernel)
print(json.dumps(found))
"""


def found(tmp_path, *targets):
    """What the last of the targets makes of each."""
    script = tmp_path / "kernels.py"
    script.write_text(SCRIPT)
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    process = subprocess.run(
        [sys.executable, str(script), *targets],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "kind"), [("sm_80", "HMMA"), ("sm_90", "HGMMA"), ("gfx942", "v_mfma_f32")]
)
def test_resources(target, kind, tmp_path):
    kernels = found(tmp_path, target)
    product, plain, spilled = kernels["product"], kernels["no product"], kernels["too few warps"]
    assert any(name.startswith(kind) for name in product["matrix"])
    assert plain["matrix"] == {}
    assert product["stack"] == product["spills"] == 0
    assert product["registers"] > 0
    assert product["warps"] == 4 and product["shared"] > 0
    if target.startswith("sm_"):  # an AMD thread has twice the registers, and spills nothing here
        assert spilled["stack"] > 0 and spilled["spills"] > 0


@pytest.mark.slow
def test_targets_of_one_process_are_apart(tmp_path):
    kinds = found(tmp_path, "sm_80", "gfx942")["product"]["matrix"]
    assert kinds and all(name.startswith("v_mfma") for name in kinds)
