"""Every launch that the package makes by default: kernel, dtype, width of the rows, alignment.

A case is a call of a registered operator on CPU tensors, inside `offline.recorded`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sslkernels import backends, operators
from sslkernels.similarity.triton import configurations
from tests.emulation import shipped_inputs

ALIGNED, RAGGED = (512, 768), (500, 777)


def cases(target: str) -> dict[str, Callable[[], object]]:
    """The calls by name."""
    chosen = "amd" if target.startswith("gfx") else {"sm_100": "sm_100"}.get(target, "sm_80")
    configurations.architecture = lambda: chosen
    for op in ("logsumexp", "logit_terms", "fixed_keys", "pair_terms", "sigmoid_loss"):
        backends._triton_operators[op]()
    found: dict[str, Callable[[], object]] = {}
    for dtype, features in (
        (torch.bfloat16, 128),
        (torch.bfloat16, 100),
        (torch.bfloat16, 768),
        (torch.float32, 128),
        (torch.float32, 64),
    ):
        name = f"{str(dtype).removeprefix('torch.')} {features}"
        shape = RAGGED if features == 100 else ALIGNED
        found |= {f"{name}: {key}": call for key, call in _calls(dtype, features, *shape).items()}
    return found | shipped_inputs.cases()


def _calls(
    dtype: torch.dtype, features: int, rows: int, columns: int
) -> dict[str, Callable[[], object]]:
    ops = operators.NAMESPACES["triton"]
    q, k = torch.zeros(rows, features, dtype=dtype), torch.zeros(columns, features, dtype=dtype)
    scale, bias = torch.ones(()), torch.zeros(columns)
    row, target = torch.zeros(rows), torch.zeros(rows, dtype=torch.int64)
    both, terms = (q, k, scale, bias, [0, 1], 0), (q, k, target, scale, bias, bias, 30.0, 0)
    symmetric = (q, None, scale, None, [0, rows // 2], 0)
    calls = {
        "logsumexp forward": lambda: ops.logsumexp_forward(*both),
        "logsumexp backward": lambda: ops.logsumexp_backward(row, row, *both[:-1], True, 0),
        "terms forward": lambda: ops.logit_terms_forward(*terms),
        "terms backward": lambda: ops.logit_terms_backward(
            row, row, row, row, *terms[:-1], True, 0
        ),
        "symmetric forward": lambda: ops.logsumexp_forward(*symmetric),
        "symmetric backward": lambda: ops.logsumexp_backward(row, row, *symmetric[:-1], True, 0),
    }
    pairs = (q, k, scale, 0, 0)
    calls |= {
        "fixed keys": lambda: ops.fixed_keys_forward(q, k, scale, bias, 0),
        "pairs forward": lambda: ops.pair_terms_forward(*pairs),
        "pairs backward": lambda: ops.pair_terms_backward(row, bias, row, row, bias, *pairs),
        "sigmoid forward": lambda: ops.sigmoid_loss_forward(q, k, scale, scale, 0, "mean", 0),
        "sigmoid with gradients": lambda: ops.sigmoid_loss_forward_backward(
            q, k, scale, scale, 0, "mean", 0
        ),
    }
    if features <= configurations.widest_owned(dtype):
        calls["symmetric backward, deterministic"] = lambda: _deterministic(
            lambda: ops.logsumexp_backward(row, row, *symmetric[:-1], True, 0)
        )
    return calls


def _deterministic(call: Callable[[], object]) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        call()
    finally:
        torch.use_deterministic_algorithms(False)
