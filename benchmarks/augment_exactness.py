"""How far everyone is from torchvision's functions on float64 images, given the same draws."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.augment_rivals import as_arrays, quiet_albumentations
from benchmarks.errors import describe
from benchmarks.exactness import Exactness
from benchmarks.registry import EAGER, OURS

if TYPE_CHECKING:
    from sslkernels import AugmentPolicy

FULL = "full chain"
FLOAT32 = "torchvision v2 on float32"
AGAINST_FLOAT32 = "sslkernels against torchvision v2 on float32"


class Torchvision:
    """Its functions, on images of one dtype; on bytes they become floats at the end."""

    def __init__(self, dtype: torch.dtype) -> None:
        from torchvision.transforms.v2 import functional

        self.f, self.dtype = functional, dtype

    def start(self, image: Tensor) -> Tensor:
        return self.f.to_dtype(image, self.dtype, scale=True)

    def crop(self, x: Tensor, box: list[int], size: list[int]) -> Tensor:
        return self.f.resized_crop(x, *box, size=size, antialias=True)

    def flip(self, x: Tensor) -> Tensor:
        return self.f.horizontal_flip(x)

    def brightness(self, x: Tensor, factor: float) -> Tensor:
        return self.f.adjust_brightness(x, factor)

    def contrast(self, x: Tensor, factor: float) -> Tensor:
        return self.f.adjust_contrast(x, factor)

    def saturation(self, x: Tensor, factor: float) -> Tensor:
        return self.f.adjust_saturation(x, factor)

    def hue(self, x: Tensor, shift: float) -> Tensor:
        return self.f.adjust_hue(x, shift)

    def gray(self, x: Tensor) -> Tensor:
        return self.f.rgb_to_grayscale(x, num_output_channels=3)

    def blur(self, x: Tensor, kernel: int, sigma: float) -> Tensor:
        return self.f.gaussian_blur(x, [kernel, kernel], [sigma, sigma])

    def end(self, x: Tensor, mean: list[float], std: list[float]) -> Tensor:
        if not x.is_floating_point():
            x = self.f.to_dtype(x, torch.float32, scale=True)
        return self.f.normalize(x, mean, std)


class Kornia:
    """The functions that its augmentations call, on float32 images [1, 3, H, W]."""

    def __init__(self) -> None:
        import kornia

        self.k = kornia

    def start(self, image: Tensor) -> Tensor:
        return image[None] / 255

    def crop(self, x: Tensor, box: list[int], size: list[int]) -> Tensor:
        top, left, height, width = box
        x = x[..., top : top + height, left : left + width]
        return self.k.geometry.resize(x, (size[0], size[1]), align_corners=False)

    def flip(self, x: Tensor) -> Tensor:
        return self.k.geometry.hflip(x)

    def brightness(self, x: Tensor, factor: float) -> Tensor:
        return self.k.enhance.adjust_brightness_accumulative(x, factor)

    def contrast(self, x: Tensor, factor: float) -> Tensor:
        return self.k.enhance.adjust_contrast_with_mean_subtraction(x, factor)

    def saturation(self, x: Tensor, factor: float) -> Tensor:
        return self.k.enhance.adjust_saturation_with_gray_subtraction(x, factor)

    def hue(self, x: Tensor, shift: float) -> Tensor:
        return self.k.enhance.adjust_hue(x, 2 * math.pi * shift)

    def gray(self, x: Tensor) -> Tensor:
        return self.k.color.rgb_to_grayscale(x).expand_as(x)

    def blur(self, x: Tensor, kernel: int, sigma: float) -> Tensor:
        return self.k.filters.gaussian_blur2d(x, (kernel, kernel), (sigma, sigma))

    def end(self, x: Tensor, mean: list[float], std: list[float]) -> Tensor:
        return self.k.enhance.normalize(x, torch.tensor(mean), torch.tensor(std))[0]


class Albumentations:
    """The functions that its transforms call, on arrays [H, W, 3] of bytes."""

    def __init__(self) -> None:
        quiet_albumentations()
        import albumentations.augmentations.blur.functional as blur
        import albumentations.augmentations.geometric.functional as geometric
        import albumentations.augmentations.pixel.functional as pixel
        import cv2
        import numpy

        self.b, self.g, self.p, self.cv2, self.np = blur, geometric, pixel, cv2, numpy

    def start(self, image: Tensor) -> Any:
        return as_arrays(image[None])[0].numpy()

    def crop(self, x: Any, box: list[int], size: list[int]) -> Any:
        top, left, height, width = box
        x = x[top : top + height, left : left + width]
        return self.g.resize(x, (size[0], size[1]), self.cv2.INTER_LINEAR)

    def flip(self, x: Any) -> Any:
        return self.np.ascontiguousarray(x[:, ::-1])

    def brightness(self, x: Any, factor: float) -> Any:
        return self.p.adjust_brightness_torchvision(x, factor)

    def contrast(self, x: Any, factor: float) -> Any:
        return self.p.adjust_contrast_torchvision(x, factor)

    def saturation(self, x: Any, factor: float) -> Any:
        return self.p.adjust_saturation_torchvision(x, factor)

    def hue(self, x: Any, shift: float) -> Any:
        return self.p.adjust_hue_torchvision(x, shift)

    def gray(self, x: Any) -> Any:
        return self.p.to_gray_weighted_average(x)[..., None].repeat(3, axis=2)

    def blur(self, x: Any, kernel: int, sigma: float) -> Any:
        return self.p.separable_convolve(x, self.b.create_gaussian_kernel_1d(sigma, kernel))

    def end(self, x: Any, mean: list[float], std: list[float]) -> Tensor:
        x = torch.from_numpy(x.astype("float32")).permute(2, 0, 1) / 255
        return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def view(library: Any, image: Tensor, row: Tensor, policy: AugmentPolicy) -> Tensor:
    """A view [3, h, w] of the bytes [3, H, W], by one library's functions from a row of draws."""
    from sslkernels.augment.layout import Slot

    r = row.tolist()
    x = library.start(image)
    if policy.crop_scale is not None:
        x = library.crop(x, [int(one) for one in r[:4]], [policy.height, policy.width])
    if r[Slot.HORIZONTAL_FLIP]:
        x = library.flip(x)
    jitter = (library.brightness, library.contrast, library.saturation, library.hue)
    for operation in map(int, r[Slot.ORDER : Slot.ORDER + 4]):
        if operation >= 0:
            x = jitter[operation](x, r[Slot.BRIGHTNESS + operation])
    if r[Slot.GRAYSCALE]:
        x = library.gray(x)
    if r[Slot.BLUR_SIGMA]:
        assert policy.blur_kernel is not None
        x = library.blur(x, policy.blur_kernel, r[Slot.BLUR_SIGMA])
    mean, std = policy.mean or (0.0,) * 3, policy.std or (1.0,) * 3
    return library.end(x, list(mean), list(std))


def stages(policy: AugmentPolicy, size: tuple[int, int]) -> dict[str, AugmentPolicy]:
    """The stages of a recipe one by one, on images of `size`, and the whole."""
    from sslkernels import AugmentPolicy

    found = {
        "crop and resize": AugmentPolicy(
            policy.size, crop_scale=policy.crop_scale, crop_ratio=policy.crop_ratio
        ),
        "flip": AugmentPolicy(size, horizontal_flip=policy.horizontal_flip),
        "brightness": AugmentPolicy(size, brightness=policy.brightness),
        "contrast": AugmentPolicy(size, contrast=policy.contrast),
        "saturation": AugmentPolicy(size, saturation=policy.saturation),
        "hue": AugmentPolicy(size, hue=policy.hue),
        "grayscale": AugmentPolicy(size, grayscale=1.0),
    }
    if policy.blur_probability:
        found["blur"] = AugmentPolicy(
            size,
            blur_probability=1.0,
            blur_sigma=policy.blur_sigma,
            blur_kernel=policy.blur_kernel,
        )
    found["normalise"] = AugmentPolicy(size, mean=policy.mean, std=policy.std)
    return found | {FULL: policy}


def exact_views(images: Tensor, policy: AugmentPolicy, views: int) -> list[Exactness]:
    """Errors of every implementation in every stage, for bytes [B, 3, H, W]."""
    from sslkernels import augment

    if importlib.util.find_spec("torchvision") is None:
        return []
    truth = Torchvision(torch.float64)
    libraries: dict[str, Callable[[], Any]] = {
        FLOAT32: lambda: Torchvision(torch.float32),
        EAGER: lambda: Torchvision(torch.uint8),
        "kornia": Kornia,
        "albumentations": Albumentations,
    }
    size = (images.shape[2], images.shape[3])
    found = []
    for stage, own in stages(policy, size).items():
        _, draws = augment(images, own, views=views, seed=1, return_draws=True)
        exact = _views(truth, images.cpu(), draws.cpu(), own)
        for name in (OURS, "reference"):
            made = _ours(name, images, own, draws)
            found.append(Exactness(name, stage, _difference(made, exact, own)))
        for name, make in libraries.items():
            try:
                made = _views(make(), images.cpu(), draws.cpu(), own)
            except ModuleNotFoundError:
                continue
            except Exception as error:
                found.append(Exactness(name, stage, None, f"{stage}: {describe(error)}"))
                continue
            found.append(Exactness(name, stage, _difference(made, exact, own)))
            if name == FLOAT32:
                ours = _ours(OURS, images, own, draws)
                from_float32 = _difference(ours, made.double(), own)
                found.append(Exactness(AGAINST_FLOAT32, stage, from_float32))
    return found


def _ours(name: str, images: Tensor, policy: AugmentPolicy, draws: Tensor) -> Tensor:
    from sslkernels import augment, backends

    if name == OURS:
        return augment(images, policy, views=len(draws), draws=draws)
    with backends.backend(name):
        return augment(images, policy, views=len(draws), draws=draws)


def _views(library: Any, images: Tensor, draws: Tensor, policy: AugmentPolicy) -> Tensor:
    return torch.stack(
        [
            torch.stack(
                [view(library, image, row, policy) for image, row in zip(images, rows, strict=True)]
            )
            for rows in draws
        ]
    )


def _difference(made: Tensor, exact: Tensor, policy: AugmentPolicy) -> float:
    """The largest, in units of a pixel before normalisation."""
    std = exact.new_tensor(policy.std or (1.0,))[:, None, None]
    return ((made.cpu().double() - exact).abs() * std).max().item()
