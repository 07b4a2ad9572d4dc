"""Fused kernels for self-supervised learning."""

from sslkernels import distributed, losses, masking, nn, similarity
from sslkernels.augment import (
    AugmentCollate,
    AugmentPolicy,
    Indexed,
    apply_to_boxes,
    apply_to_masks,
    augment,
    policies,
    show_grid,
)
from sslkernels.backends import backend, explain
from sslkernels.losses.clip import clip_loss
from sslkernels.losses.cosine import byol_loss, simsiam_loss
from sslkernels.losses.decorrelation import barlow_twins_loss, vicreg_loss
from sslkernels.losses.distillation import distillation_loss
from sslkernels.losses.hard_negatives import hard_negative_nt_xent
from sslkernels.losses.info_nce import info_nce
from sslkernels.losses.language_modeling import (
    causal_lm_loss,
    masked_lm_loss,
    next_sentence_loss,
)
from sslkernels.losses.linear_cross_entropy import linear_cross_entropy
from sslkernels.losses.nce import nce_loss
from sslkernels.losses.nt_xent import nt_xent
from sslkernels.losses.siglip import siglip_loss
from sslkernels.losses.supcon import supcon
from sslkernels.masking import mask_tokens
from sslkernels.micro_batches import accumulate

__version__ = "0.1.0"

__all__ = [
    "AugmentCollate",
    "AugmentPolicy",
    "Indexed",
    "accumulate",
    "apply_to_boxes",
    "apply_to_masks",
    "augment",
    "backend",
    "barlow_twins_loss",
    "byol_loss",
    "causal_lm_loss",
    "clip_loss",
    "distillation_loss",
    "distributed",
    "explain",
    "hard_negative_nt_xent",
    "info_nce",
    "linear_cross_entropy",
    "losses",
    "mask_tokens",
    "masked_lm_loss",
    "masking",
    "nce_loss",
    "next_sentence_loss",
    "nn",
    "nt_xent",
    "policies",
    "show_grid",
    "siglip_loss",
    "similarity",
    "simsiam_loss",
    "supcon",
    "vicreg_loss",
]
