from __future__ import annotations

import torch

from sslkernels.train.data import batches


def test_an_epoch_has_whole_batches_and_nothing_twice():
    seen = list(batches(10, 3, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in seen] == [3, 3, 3]
    assert len(torch.cat(seen).unique()) == 9


def test_each_epoch_has_its_own_order():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(batches(50, 5, generator))) for _ in range(2))
    assert not torch.equal(first, second)
