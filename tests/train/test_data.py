from __future__ import annotations

import pytest
import torch

from sslkernels.train.data import batches, load
from sslkernels.train.errors import TrainError


def test_digits():
    data = load("digits")
    assert data.train.shape == (1437, 1, 8, 8) and data.test.shape == (360, 1, 8, 8)
    assert data.train.dtype == torch.float32
    assert data.train.min() == 0 and data.train.max() == 1
    assert set(data.train_labels.tolist()) == set(data.test_labels.tolist()) == set(range(10))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(TrainError, match="unknown data 'mnist': known are digits"):
        load("mnist")


def test_an_epoch_has_whole_batches_and_nothing_twice():
    seen = list(batches(10, 3, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in seen] == [3, 3, 3]
    assert len(torch.cat(seen).unique()) == 9


def test_each_epoch_has_its_own_order():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(batches(50, 5, generator))) for _ in range(2))
    assert not torch.equal(first, second)
