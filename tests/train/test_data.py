from __future__ import annotations

import torch

from sslkernels.train.data import batches


def test_an_epoch_has_whole_batches_and_nothing_twice():
    seen = list(batches(10, 3, seed=0, epoch=0))
    assert [len(batch) for batch in seen] == [3, 3, 3]
    assert len(torch.cat(seen).unique()) == 9


def test_each_epoch_has_its_own_order():
    first, second, again = (torch.cat([*batches(50, 5, 0, epoch)]) for epoch in (0, 1, 0))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
