"""Contrastive losses of other packages, each called as its users call it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.case import Case
from benchmarks.registry import Function


def build_clip(case: Case) -> Function:
    """open_clip's ClipLoss, which gets features of unit norm as open_clip's models give them."""
    from open_clip.loss import ClipLoss

    loss = ClipLoss()

    def clip(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        return loss(F.normalize(image, dim=1), F.normalize(text, dim=1), scale)

    return clip


def build_siglip(case: Case) -> Function:
    """open_clip's SigLipLoss, which gets features of unit norm."""
    from open_clip.loss import SigLipLoss

    loss = SigLipLoss()

    def siglip(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return loss(F.normalize(image, dim=1), F.normalize(text, dim=1), scale, bias)

    return siglip


def build_ranking(case: Case) -> Function:
    """sentence-transformers' MultipleNegativesRankingLoss, given embeddings and no model."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model: Any = torch.nn.Identity()
    loss = MultipleNegativesRankingLoss(model, scale=1.0 / case.parameters["temperature"])
    unused = torch.empty(0)

    def ranking(query: Tensor, document: Tensor) -> Tensor:
        return loss.compute_loss_from_embeddings([query, document], unused)

    return ranking


def build_memory_bank(case: Case) -> Function:
    """lightly's NTXentLoss with a memory bank: MoCo's loss."""
    from lightly.loss import NTXentLoss

    _, size, dim = case.shape
    loss = NTXentLoss(temperature=case.parameters["temperature"], memory_bank_size=(size, dim))
    # The bank is an input here, and stays as it is from call to call.
    loss.memory_bank._dequeue_and_enqueue = lambda batch: None

    def memory_bank(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        loss.memory_bank.bank = queue
        return loss(query, key)

    return memory_bank


def build_dcl(case: Case) -> Function:
    """lightly's DCLLoss."""
    from lightly.loss import DCLLoss

    return DCLLoss(temperature=case.parameters["temperature"])


def build_supcon(case: Case) -> Function:
    """pytorch-metric-learning's SupConLoss."""
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature=case.parameters["temperature"])
