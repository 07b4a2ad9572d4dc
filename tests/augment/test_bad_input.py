"""Bad arguments of `augment`: the error names the argument, what came and what was wanted."""

from __future__ import annotations

import pytest
import torch

from sslkernels import AugmentPolicy, augment, policies

IMAGES = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
POLICY = AugmentPolicy(4, horizontal_flip=0.5)
GOOD = {"images": IMAGES, "policy": POLICY, "seed": 0}
DRAWS = torch.zeros(2, 3, 32)
PAIR = (POLICY, AugmentPolicy(5))


def replay(draws) -> dict:
    return {"seed": None, "draws": draws}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES[:0]}, r"images must be \[batch, channels, .*got \[0, 3, 8, 8\]"),
        ({"images": IMAGES[0]}, r"images must be \[batch, .*got \[3, 8, 8\]"),
        ({"images": IMAGES[0, 0]}, r"images must be \[batch, .*got \[8, 8\]"),
        ({"images": IMAGES[:, :, :0]}, r"images must be \[batch, .*got \[3, 3, 0, 8\]"),
        ({"images": IMAGES[:, :0]}, r"images must be \[batch, .*got \[3, 0, 8, 8\]"),
        ({"images": torch.zeros(1, 1, 1, 1).expand(1, 1, 1, 2**24 + 1)}, "images must have sides"),
        ({"images": IMAGES[:, :2], "policy": policies.simclr(8)},
         "images must have 1 or 3 channels for colour jitter or grayscale, got 2"),
        ({"images": IMAGES[:, :2], "policy": AugmentPolicy(4, grayscale=0.5)},
         "images must have 1 or 3 channels"),
        ({"images": IMAGES[:, :2], "policy": AugmentPolicy(4, mean=(0, 0, 0), std=(1, 1, 1))},
         "mean and std of the policy are for 3 channels, images have 2"),
        ({"policy": ()}, "policy must hold at least one AugmentPolicy, got none"),
        ({"policy": PAIR, "views": 3}, "views must be 2, one for each policy, or None, got 3"),
        ({"views": 0}, r"views must lie in \[1, 32768\], got 0"),
        ({"seed": None}, "seed or draws must be given, and not both, got neither"),
        ({"draws": DRAWS}, "seed or draws must be given, and not both, got both"),
        ({"seed": -1}, r"seed must lie in \[0, 18446744073709551615\], got -1"),
        ({"seed": 2**64}, "seed must lie in"),
        ({"epoch": -1}, r"epoch must lie in \[0, 16777215\], got -1"),
        ({"epoch": 2**24}, "epoch must lie in"),
        ({"sample_ids": torch.arange(4)}, r"sample_ids must have shape \[3\], got \[4\]"),
        ({"sample_ids": torch.arange(3)[None]}, r"sample_ids must have shape \[3\], got \[1, 3\]"),
        ({"sample_ids": torch.arange(3, device="meta")},
         "sample_ids must be on the device of images, cpu, got meta"),
        (replay(DRAWS[:1]), r"draws must have shape \[2, 3, 32\], got \[1, 3, 32\]"),
        (replay(DRAWS[:, :2]), r"draws must have shape \[2, 3, 32\], got \[2, 2, 32\]"),
        (replay(DRAWS.to("meta")), "draws must be on the device of images, cpu, got meta"),
        ({"out": torch.empty(2, 3, 3, 4, 5)}, r"out must have shape \[2, 3, 3, 4, 4\], got"),
        ({"out": torch.empty(2, 3, 3, 4, 4, device="meta")}, "out must be on the device of images"),
        ({"out": torch.empty(2, 3, 3, 4, 8)[..., ::2]}, "out must be contiguous or channels_last"),
        ({"out": torch.empty(2, 3, 3, 4, 4, requires_grad=True)}, "out must not require a grad"),
        ({"images": IMAGES.float().requires_grad_(), "out": torch.empty(2, 3, 3, 4, 4)},
         "out has no gradient: pass images.detach"),
        ({"policy": PAIR, "out": torch.empty(2, 3, 3, 4, 4)}, "out must be a sequence of 2 tensor"),
        ({"policy": PAIR, "out": [torch.empty(3, 3, 4, 4)]}, "out must be a sequence of 2 tensor"),
        ({"policy": PAIR, "out": [torch.empty(3, 3, 4, 4)] * 2},
         r"out must have shape \[3, 3, 5, 5\]"),
    ],
)  # fmt: skip
def test_values(arguments, message):
    with pytest.raises(ValueError, match="^augment: " + message):
        augment(**GOOD | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES.tolist()}, "images must be a torch.Tensor, got list"),
        ({"images": IMAGES.to(torch.int64)}, "images must be one of uint8, .*, got int64"),
        ({"images": IMAGES.to(torch.int8)}, "images must be one of uint8, .*, got int8"),
        ({"images": IMAGES.to(torch.bool)}, "images must be one of uint8, .*, got bool"),
        ({"images": IMAGES.to(torch.complex64)}, "images must be one of .*, got complex64"),
        ({"images": IMAGES.float().to_sparse()}, "images must be a dense tensor"),
        ({"policy": "simclr"}, "policy must be an AugmentPolicy or a sequence of them, got str"),
        ({"policy": [POLICY, None]}, "policy must be an AugmentPolicy or a sequence"),
        ({"views": 2.0}, "views must be an int, got float"),
        ({"seed": 0.5}, "seed must be an int, got float"),
        ({"seed": True}, "seed must be an int, got bool"),
        ({"epoch": None}, "epoch must be an int, got NoneType"),
        ({"sample_ids": [0, 1, 2]}, "sample_ids must be a torch.Tensor, got list"),
        ({"sample_ids": torch.zeros(3)}, "sample_ids must hold integers, got float32"),
        (replay([1.0]), "draws must be a torch.Tensor, got list"),
        (replay(DRAWS.double()), "draws must be float32, got float64"),
        ({"out": torch.empty(2, 3, 3, 4, 4).half()}, "out must be float32, got float16"),
        ({"out": 3}, "out must be a torch.Tensor, got int"),
    ],
)
def test_types(arguments, message):
    with pytest.raises(TypeError, match="^augment: " + message):
        augment(**GOOD | arguments)
