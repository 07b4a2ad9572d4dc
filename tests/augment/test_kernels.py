"""What the C++ kernels do that the definition does not: vectors and their tails, over-reads, both
orders of resizing, stores past the caches, threads, and rows of draws that nobody drew."""

from __future__ import annotations

import pytest
import torch

from sslkernels import AugmentPolicy, augment, backend, backends
from sslkernels.augment.layout import Slot

pytestmark = pytest.mark.skipif(
    bool(backends.why_not("augment", "cpu", torch.empty(0))), reason="no C++ kernels here"
)

EVERYTHING = {
    "crop_scale": (0.1, 1.0),
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grayscale": 0.2,
    "blur_probability": 0.5,
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # after division by std


def policy_of(size, **changes) -> AugmentPolicy:
    return AugmentPolicy(size, **{"blur_kernel": 1, **EVERYTHING, **changes})


def images_of(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    if dtype is torch.uint8:
        return torch.randint(256, shape, dtype=dtype, generator=generator)
    return torch.rand(shape, dtype=torch.float64, generator=generator).to(dtype)


def both(images, policy, **options):
    """Views of the C++ kernels, and by the definition from the same draws."""
    with backend("cpu"):
        ours, draws = augment(images, policy, seed=3, return_draws=True, **options)
    with backend("reference"):
        return ours, augment(images, policy, draws=draws, **options)


def assert_same(images, policy, **options):
    ours, want = both(images, policy, **options)
    tolerance = TOLERANCE.get(ours.dtype, 0.05)
    torch.testing.assert_close(ours, want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 64, 65])
class TestTails:
    def test_of_the_view(self, width, dtype):
        assert_same(images_of((3, 3, 11, 20), dtype), policy_of((5, width)))

    def test_of_the_image(self, width, dtype):
        assert_same(images_of((3, 3, 11, width), dtype), policy_of((6, 19)))


@pytest.mark.parametrize("radius", range(15))
def test_every_unrolled_blur(radius):
    policy = policy_of(
        (31, 45), blur_probability=1.0, blur_kernel=2 * radius + 1, blur_sigma=(4.0, 5.0)
    )
    assert_same(images_of((2, 3, 40, 40)), policy)
    assert_same(images_of((2, 3, 40, 40), torch.float64), policy)


@pytest.mark.parametrize(
    ("image", "view"),
    [((200, 9), (7, 3)), ((9, 300), (3, 7)), ((700, 500), (5, 4)), ((3, 4), (90, 120))],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_strong_scaling(image, view, dtype):
    """Many taps, whose inputs fit in no two vectors; and y before x where rows become few."""
    assert_same(images_of((2, 3, *image), dtype), policy_of(view))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
def test_pixels_on_no_boundary(dtype):
    """Images that begin and end anywhere, the bytes around them being another's."""
    inner = images_of((2, 3, 10, 13), dtype)
    for offset in range(4):
        memory = torch.empty(inner.numel() + offset, dtype=dtype)
        images = memory[offset:].view(inner.shape)
        images.copy_(inner)
        policy = policy_of((9, 14), crop_scale=None)
        torch.testing.assert_close(both(images, policy)[0], both(inner, policy)[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("last", [False, True])
def test_large_outputs(dtype, last):
    """Enough bytes for stores past the caches, rows of whole and of broken cache lines."""
    images = images_of((24, 3, 40, 40), torch.uint8)
    for side in (160, 161):
        policy = policy_of(side, dtype=dtype, channels_last=last, crop_scale=(0.8, 1.0))
        ours, want = both(images, policy)
        assert ours.numel() * ours.element_size() > 6 * 2**20
        tolerance = {torch.bfloat16: 0.02, torch.float16: 0.003}.get(dtype, 1e-4)
        torch.testing.assert_close(ours, want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_any_channels_where_nothing_is_coloured(channels):
    policy = AugmentPolicy(
        (9, 17),
        crop_scale=(0.1, 1.0),
        rotation=20.0,
        blur_probability=1.0,
        noise_probability=0.5,
        erase_probability=0.5,
        translation=0.2,
    )
    for last in (False, True):
        images = images_of((3, channels, 12, 14))
        if last:
            images = images.contiguous(memory_format=torch.channels_last)
        assert_same(images, policy)


def test_the_same_bits_on_any_number_of_threads():
    images, policy = images_of((9, 3, 20, 20)).requires_grad_(), policy_of((14, 15))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            views, draws = augment(images, policy, seed=1, return_draws=True)
            (gradient,) = torch.autograd.grad(views.sin().sum(), images)
            found.append((views.detach(), draws, gradient))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


class TestGradient:
    """Against the definition's, with steep clamps on the way."""

    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("view", [(1, 1), (5, 33), (40, 17)], ids=str)
    @pytest.mark.parametrize("image", [(1, 1), (7, 50), (33, 16)], ids=str)
    def test_of_every_stage(self, image, view, last):
        policy = policy_of(
            view,
            brightness=0.9,
            contrast=0.9,
            saturation=0.9,
            hue=0.5,
            rotation=40.0,
            blur_kernel=min(5, 2 * min(view) - 1),
            solarize_probability=0.5,
            noise_probability=0.5,
            diff_brightness=(-0.5, 0.5),
            diff_saturation=(0.0, 2.0),
            diff_contrast=(0.5, 1.5),
            translation=0.3,
            erase_probability=0.5,
        )
        images = images_of((6, 3, *image), torch.float64)
        if last:
            images = images.contiguous(memory_format=torch.channels_last)
        images.requires_grad_()
        views, draws = augment(images, policy, seed=5, return_draws=True)
        upstream = torch.randn(views.shape, dtype=views.dtype)
        (ours,) = torch.autograd.grad(views, images, upstream)
        with backend("reference"):
            views = augment(images, policy, draws=draws)
        (want,) = torch.autograd.grad(views, images, upstream)
        torch.testing.assert_close(ours, want, rtol=1e-9, atol=1e-9)
        assert ours.is_contiguous(memory_format=torch.channels_last) or not last


class TestRowsThatNobodyDrew:
    """Draws may come from anywhere: what they say is checked before memory is touched."""

    BAD = [
        (Slot.TOP, -1.0),
        (Slot.LEFT, 1e9),
        (Slot.HEIGHT, 0.0),
        (Slot.WIDTH, 9.0),
        (Slot.HEIGHT, float("nan")),
        (Slot.ORDER, 4.0),
        (Slot.DOWN, 1e10),
        (Slot.RIGHT, float("nan")),
        (Slot.ERASE_LEFT, 7.0),
        (Slot.ROTATION, float("nan")),
        (Slot.NOISE_KEY, -1.0),
    ]

    @pytest.mark.parametrize(("slot", "value"), BAD, ids=str)
    def test_are_refused(self, slot, value):
        policy = AugmentPolicy(
            6,
            crop_scale=(0.2, 1.0),
            rotation=10.0,
            contrast=0.5,
            noise_probability=1.0,
            translation=0.3,
            cutout=0.5,
        )
        images = images_of((2, 3, 8, 8)).requires_grad_()
        views, draws = augment(images, policy, seed=1, return_draws=True)
        draws[1, 1, slot] = value
        operators = torch.ops.sslkernels
        settings = ((6, 6), 3, (), (), 0.0, int(policy.stages))
        with pytest.raises(RuntimeError, match="draws does not fit"):
            operators.augment_forward(images, draws, *settings, torch.float32, False)
        with pytest.raises(RuntimeError, match="draws does not fit"):
            operators.augment_backward(torch.ones_like(views), images, draws, *settings)

    def test_contrast_twice_is_refused(self):
        policy = AugmentPolicy(6, contrast=0.5)
        images = images_of((1, 3, 8, 8))
        _, draws = augment(images, policy, seed=1, return_draws=True)
        draws[:, :, Slot.ORDER : Slot.ORDER + 2] = 1
        with pytest.raises(RuntimeError, match="draws does not fit"):
            augment(images, policy, draws=draws)
