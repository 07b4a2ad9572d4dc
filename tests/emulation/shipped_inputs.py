"""Launches that make a model's input, for `shipped.py`: masking and augmentation.

A pointwise kernel has no matrix instruction, and needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sslkernels import AugmentPolicy, backends, operators, policies
from sslkernels.augment.op import _outputs
from sslkernels.masking.op import span_thresholds
from sslkernels.philox import threshold

POINTWISE = frozenset(
    {
        "mask_tokens_kernel",
        "list_kernel",
        "cover_kernel",
        "select_kernel",
        "_draws_kernel",
        "_segment_kernel",
        "_reverse_segment_kernel",
        "_reverse_resize_kernel",
    }
)

SPECIAL_IDS = [0, 100, 101, 102, 103]  # BERT's
EVERY_STAGE = AugmentPolicy(
    (48, 72),
    crop_scale=(0.2, 1.0),
    horizontal_flip=0.5,
    rotation=30.0,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grayscale=0.2,
    blur_probability=0.5,
    solarize_probability=0.2,
    noise_probability=0.5,
    diff_brightness=(-0.5, 0.5),
    diff_contrast=(0.5, 1.5),
    translation=0.1,
    mean=(0.5,),
    std=(0.25,),
    erase_probability=0.5,
)


def cases() -> dict[str, Callable[[], object]]:
    """The calls by name."""
    for op in ("mask_tokens", "augment"):
        backends._triton_operators[op]()
    found = {f"mask_tokens: {name}": call for name, call in _masking().items()}
    for name, policy, dtype in (
        ("simclr, uint8", policies.simclr(224), torch.uint8),
        ("simclr, bfloat16", policies.simclr(224), torch.bfloat16),
        ("every stage, float32", EVERY_STAGE, torch.float32),
        ("diffaugment, float32", policies.diffaugment(32), torch.float32),
    ):
        calls = _augmentation(policy, dtype)
        found |= {f"augment, {name}: {key}": call for key, call in calls.items()}
    return found


def _masking() -> dict[str, Callable[[], object]]:
    mask_tokens = operators.NAMESPACES["triton"].mask_tokens
    ids, sequences = torch.zeros(8, 512, dtype=torch.int64), torch.arange(8)
    shares = [threshold(share) for share in (0.15, 0.8, 0.9)]

    def call(strategy: str, words: torch.Tensor | None) -> object:
        numbers = (103, 30522, SPECIAL_IDS, 7, strategy, *shares, span_thresholds(), -100)
        return mask_tokens(ids, sequences, ids == 0, words, *numbers)

    return {
        "token": lambda: call("token", None),
        "whole word": lambda: call("whole_word", ids),
        "span": lambda: call("span", None),
        "span of words": lambda: call("span", ids),
    }


def _augmentation(
    policy: AugmentPolicy, dtype: torch.dtype, batch: int = 4
) -> dict[str, Callable[[], object]]:
    ops = operators.NAMESPACES["triton"]
    images = torch.zeros(batch, 3, 2 * policy.height, 2 * policy.width, dtype=dtype)
    rows = torch.zeros(2, batch, 32)
    numbers: Sequence[float] = policy.numbers * 2
    settings, _, last = _outputs([policy], images)[0]
    settings = [list(x) if isinstance(x, tuple) else x for x in settings]
    calls = {
        "draws": lambda: ops.augment_draws(
            torch.arange(batch), list(numbers), 7, 0, *images.shape[2:]
        ),
        "forward": lambda: ops.augment_forward(images, rows, *settings, torch.bfloat16, last),
    }
    if dtype.is_floating_point:
        grad = torch.zeros(2, batch, 3, policy.height, policy.width)
        calls["backward"] = lambda: ops.augment_backward(grad, images, rows, *settings)
    return calls
