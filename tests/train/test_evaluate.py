from __future__ import annotations

import pytest
import torch
from torch import nn

from sslkernels.train.evaluate import features, knn_accuracy, linear_accuracy


def clusters(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three directions with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.eye(3)[labels] + 0.1 * torch.randn(count, 3, generator=generator), labels


def test_separate_clusters_are_told_apart():
    bank, queries = clusters(90, 0), clusters(30, 1)
    assert knn_accuracy(*bank, *queries) == 1
    assert linear_accuracy(*bank, *queries) == 1


def test_knn_does_not_care_about_lengths():
    (bank, labels), (queries, asked) = clusters(90, 0), clusters(30, 1)
    # By the plain product, one class would outshine the others.
    lengths = 1000.0 ** (labels == 2).unsqueeze(1)
    assert knn_accuracy(bank * lengths, labels, queries, asked) == 1


def test_features_without_information_give_chance():
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(1000, 8, generator=generator), torch.arange(1000) % 10
    queries = torch.randn(1000, 8, generator=generator), torch.arange(1000) % 10
    # Standard error 0.01.
    assert knn_accuracy(*bank, *queries) == pytest.approx(0.1, abs=0.04)


def test_the_vote_is_weighted_by_similarity():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    query = torch.tensor([[1.0, 0.1]])
    assert knn_accuracy(bank, torch.tensor([0, 1, 1]), query, torch.tensor([0]), k=20) == 1


def test_features_are_taken_in_evaluation_mode_which_is_undone():
    encoder = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    x = torch.randn(10, 4)
    assert torch.equal(features(encoder, x), features(encoder, x, batch_size=10))
    assert encoder.training
