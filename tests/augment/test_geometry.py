"""Masks and boxes follow their images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from sslkernels import AugmentPolicy, apply_to_boxes, apply_to_masks, augment
from sslkernels.augment.draws import draw

POLICY = AugmentPolicy(
    (30, 41), crop_scale=(0.2, 1.0), horizontal_flip=0.5, vertical_flip=0.5, translation=0.2
)
TURNING = replace(POLICY, rotation=180)
MASKS = torch.randint(100, (3, 50, 37), generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[[3.0, 5.0, 20.0, 45.0], [0.0, 0.0, 37.0, 50.0], [30.0, 10.0, 31.0, 12.0]]])


def draws_of(policy: AugmentPolicy, batch: int = 3, views: int = 4, size=(50, 37)) -> torch.Tensor:
    return draw(torch.arange(batch), policy.numbers * views, 3, 0, *size)


class TestAgainstTorchvision:
    @pytest.mark.parametrize("policy", [POLICY, TURNING], ids=["plain", "turning"])
    def test_masks(self, policy):
        F = pytest.importorskip("torchvision.transforms.v2.functional")
        draws = draws_of(policy)
        views = apply_to_masks(MASKS, draws, policy)
        assert views.shape == (4, 3, 30, 41) and views.dtype is torch.int64
        for v, rows in enumerate(draws.tolist()):
            for mask, row, found in zip(MASKS, rows, views[v], strict=True):
                x = F.resized_crop(
                    mask[None], *map(int, row[:4]), [30, 41], F.InterpolationMode.NEAREST
                )
                x = F.horizontal_flip(x) if row[4] else x
                x = F.vertical_flip(x) if row[5] else x
                x = F.rotate(x, row[6])
                x = F.affine(x, 0.0, [row[25], row[24]], 1.0, [0.0, 0.0])
                # Where rounding decides between neighbours they may differ.
                assert (x[0] != found).float().mean() <= (0.01 if row[6] else 0.0)

    @pytest.mark.parametrize("clip", [True, False])
    @pytest.mark.parametrize("policy", [POLICY, TURNING], ids=["plain", "turning"])
    def test_boxes(self, policy, clip):
        pytest.importorskip("torchvision")
        from torchvision.transforms.v2 import functional as F
        from torchvision.tv_tensors import BoundingBoxes

        draws = draws_of(policy)
        boxes = BOXES.expand(3, -1, -1)
        views = apply_to_boxes(boxes, draws, policy, clip=clip)
        assert views.shape == (4, 3, 3, 4)
        for v, rows in enumerate(draws.tolist()):
            for row, found in zip(rows, views[v], strict=True):
                cut = partial(F.clamp_bounding_boxes, clamping_mode="hard") if clip else lambda x: x
                x = BoundingBoxes(BOXES[0], format="XYXY", canvas_size=(50, 37), clamping_mode=None)
                x = cut(F.resized_crop(x, *map(int, row[:4]), [30, 41]))
                x = F.horizontal_flip(x) if row[4] else x
                x = F.vertical_flip(x) if row[5] else x
                x = cut(F.rotate(x, row[6])) if row[6] else x
                x = cut(F.affine(x, 0.0, [row[25], row[24]], 1.0, [0.0, 0.0]))
                torch.testing.assert_close(found, x.as_subclass(torch.Tensor), rtol=1e-4, atol=1e-3)


class TestAgainstImages:
    """Without torchvision: what is drawn into an image is found where its box and mask are."""

    @pytest.mark.parametrize("degrees", [0, 30])
    def test_a_bright_box(self, degrees):
        policy = replace(POLICY, size=(120, 90), rotation=degrees)
        box = torch.tensor([[[8.0, 12.0, 29.0, 33.0]]])
        images = torch.zeros(1, 1, 50, 37)
        images[0, 0, 12:33, 8:29] = 1
        views, draws = augment(images, policy, views=30, seed=4, return_draws=True)
        masks = apply_to_masks(images[:, 0], draws, policy)[:, 0]
        boxes = apply_to_boxes(box, draws, policy)[:, 0, 0]
        assert (views[:, 0, 0].round() != masks).float().mean() < 0.03
        for mask, wanted in zip(masks, boxes, strict=True):
            rows, columns = mask.nonzero().unbind(1)
            found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            inward = (found - wanted) * torch.tensor([1, 1, -1, -1])
            # A pixel is in or out as a whole, once for each stage that resamples; and of a turned
            # box, a corner may be cut away.
            assert (inward >= (-2 if degrees else -1)).all()
            assert (inward <= 1).all() or degrees


class TestForms:
    def test_planes_and_dtypes(self):
        draws = draws_of(TURNING)
        expected = apply_to_masks(MASKS, draws, TURNING, fill=7)
        for dtype in (torch.uint8, torch.int32, torch.float32, torch.float16):
            planes = torch.stack([MASKS, MASKS.flip(1)], 1).to(dtype)
            views = apply_to_masks(planes, draws, TURNING, fill=7)
            assert views.dtype is dtype and views.shape == (4, 3, 2, 30, 41)
            assert torch.equal(views[:, :, 0].long(), expected)
        assert apply_to_masks(MASKS > 50, draws, TURNING, fill=False).dtype is torch.bool

    def test_views_of_several_sizes(self):
        pair = (POLICY, replace(POLICY, size=(8, 9)))
        draws = draw(torch.arange(3), [n for p in pair for n in p.numbers], 3, 0, 50, 37)
        masks = apply_to_masks(MASKS, draws, pair)
        assert [m.shape for m in masks] == [(3, 30, 41), (3, 8, 9)]
        boxes = apply_to_boxes(BOXES.expand(3, -1, -1), draws, pair)
        assert torch.equal(boxes[:1], apply_to_boxes(BOXES.expand(3, -1, -1), draws[:1], POLICY))

    def test_a_box_that_was_cropped_away_has_no_area(self):
        draws = draws_of(POLICY)[:1, :1].clone()
        draws[..., :4] = torch.tensor([0.0, 0.0, 5.0, 5.0])
        left, top, right, bottom = apply_to_boxes(BOXES, draws, POLICY)[0, 0, 2].tolist()
        assert left == right or top == bottom

    def test_boxes_are_differentiable(self):
        draws = draws_of(TURNING)
        boxes = BOXES.double().expand(3, -1, -1).clone().requires_grad_()
        function = lambda b: apply_to_boxes(b, draws, TURNING, clip=False)  # noqa: E731
        assert torch.autograd.gradcheck(function, boxes, fast_mode=True)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (apply_to_masks, (MASKS[0], draws_of(POLICY), POLICY), ValueError, "masks must be"),
        (apply_to_masks, ([1], draws_of(POLICY), POLICY), TypeError, "masks must be a torch.T"),
        (apply_to_masks, (MASKS, [1], POLICY), TypeError, "draws must be a torch.Tensor"),
        (apply_to_masks, (MASKS[:2], draws_of(POLICY), POLICY), ValueError,
         r"draws must have shape \[4, 2, 32\], got \[4, 3, 32\]"),
        (apply_to_masks, (MASKS, draws_of(POLICY).double(), POLICY), TypeError,
         "draws must be float32"),
        (apply_to_masks, (MASKS, draws_of(POLICY), (POLICY,) * 3), ValueError,
         r"draws must have shape \[3, 3, 32\]"),
        (apply_to_masks, (MASKS, draws_of(POLICY), None), TypeError, "policy must be"),
        (apply_to_boxes, (BOXES[0], draws_of(POLICY, 1), POLICY), ValueError, "boxes must be"),
        (apply_to_boxes, (BOXES.int(), draws_of(POLICY, 1), POLICY), TypeError, "boxes must be"),
        (apply_to_boxes, (BOXES[..., :3], draws_of(POLICY, 1), POLICY), ValueError, "boxes must"),
    ],
)  # fmt: skip
def test_bad_input(function, arguments, error, message):
    with pytest.raises(error, match=f"^{function.__name__}: {message}"):
        function(*arguments)
