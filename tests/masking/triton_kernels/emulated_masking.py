"""The kernels of masking as compiled for sm_80, run in the emulator of PTX."""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels import backends
from tests.emulation.ptx.launches import emulated
from tests.masking.by_hand import by_hand
from tests.masking.test_definition import STRATEGIES


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_integers_of_the_definition(strategy, monkeypatch):
    monkeypatch.setattr(backends, "_interpreting", lambda: True)
    generator = torch.Generator().manual_seed(0)
    call = {
        "input_ids": torch.randint(50, (3, 150), generator=generator),
        "mask_token_id": 4,
        "vocab_size": 50,
        "special_ids": (0, 1, 4, 49),
        "probability": 0.4,
        "seed": 2**63 + 5,
        "strategy": strategy.split(" ", maxsplit=1)[0],
        "attention_mask": torch.rand(3, 150, generator=generator) < 0.9,
    }
    if "word" in strategy:
        starts = torch.rand(3, 150, generator=generator) < 0.4
        call["word_ids"] = starts.cumsum(1) - 1
    with emulated() as found, sslkernels.backend("triton"):
        ours = sslkernels.mask_tokens(**call)
    assert len(found) == (3 if "span" in strategy else 1)
    for x, wanted in zip(ours, by_hand(call), strict=True):
        assert torch.equal(x, wanted)
