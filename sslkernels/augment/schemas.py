"""The schemas of augmentation's operators, one for C++ and for the chunked implementation.

images: [B, C, H, W], uint8 or floating, contiguous or channels_last. draws: [V, B, 32] float32,
contiguous, on the device of the images. size: (h, w) of the views. mean, std: as many as channels,
or none for no normalisation. stages: bits of `layout.Stage`; what a row says of a stage that is not
among them is passed over.

- augment_draws: `draws.draw`; numbers of V policies, 64 each (`layout.Number`). [V, B, 32].
- augment_forward: [V, B, C, h, w] of `dtype`, contiguous, or with each view channels_last, which is
  stride 1 for channels and [V, B, h, w, C] in memory.
- augment_forward_out: the same into `out`, whose strides are one of those two.
- augment_backward: for upstream `grad` [V, B, C, h, w], contiguous, in float64 for float64 images,
  else float32, the gradient of floating images, summed over views, in their dtype and memory
  format. A clamp passes what lies within its bounds or on them, torch's rule.
"""

from __future__ import annotations

_SETTINGS = "int[] size, int blur_kernel, float[] mean, float[] std, float erase_value, int stages"

DRAWS = (
    "(Tensor sample_ids, float[] numbers, SymInt seed, SymInt epoch, SymInt height, SymInt width)"
    " -> Tensor"
)
FORWARD = (
    f"(Tensor images, Tensor draws, {_SETTINGS}, ScalarType dtype, bool channels_last) -> Tensor"
)
FORWARD_OUT = f"(Tensor images, Tensor draws, {_SETTINGS}, Tensor(a!) out) -> ()"
BACKWARD = f"(Tensor grad, Tensor images, Tensor draws, {_SETTINGS}) -> Tensor"
