"""Augmentation: SimCLR's recipe in two views; grid, images, implementations.

Everyone draws anew at every call, and no two draw the same: `augment_exactness` compares what they
make of given draws. `augment_rivals` has what others offer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import augment_rivals as rivals
from benchmarks.case import Case
from benchmarks.errors import InputError, Unsuitable
from benchmarks.exactness import Exactness
from benchmarks.registry import (
    BOTH,
    EAGER,
    FORWARD,
    OURS,
    TRAFFIC,
    Function,
    Implementation,
    RandomBenchmark,
)

if TYPE_CHECKING:
    from sslkernels import AugmentPolicy

VIEWS, CHANNELS = 2, 3
SMALL, LARGE, QUICK = (256, 32, 32, 32), (64, 256, 256, 224), (64, 32, 32, 32)
LARGE_LEARNED = (16, *LARGE[1:])
EPOCHS = 2**24
IN_PLACE = "its change of hue writes into pixels that the backward needs"


def recipe(case: Case) -> AugmentPolicy:
    """SimCLR's augmentation of a case, in the policy that all implementations read."""
    from sslkernels.augment import policies

    return replace(policies.simclr(case.shape[3]), blur_probability=case.parameters["blur"])


def _build_ours(case: Case) -> Function:
    from sslkernels import augment

    policy, reuse, epochs = recipe(case), bool(case.parameters["reuse"]), itertools.count()
    kept: dict[tuple[int, ...], Tensor] = {}

    def ours(images: Tensor) -> Tensor:
        epoch = next(epochs) % EPOCHS
        if not reuse:
            return augment(images, policy, views=VIEWS, seed=0, epoch=epoch)
        shape = (VIEWS, len(images), CHANNELS, policy.height, policy.width)
        out = kept.get(shape)
        if out is None:
            out = kept[shape] = torch.empty(shape, device=images.device)
        return augment(images, policy, views=VIEWS, seed=0, epoch=epoch, out=out)

    return ours


def _build_plain(case: Case, backend: str) -> Function:
    """Ours in plain PyTorch, too slow to be timed in every case."""
    from sslkernels import backends

    if case.dtype == "uint8":
        raise Unsuitable("timed on floats alone, with its backward")

    ours = _build_ours(case)

    def plain(images: Tensor) -> Tensor:
        with backends.backend(backend):
            return ours(images)

    return plain


def _build_reference(case: Case) -> Function:
    return _build_plain(case, "reference")


def _build_chunked(case: Case) -> Function:
    return _build_plain(case, "chunked")


def _no_gradient(case: Case, why: str) -> None:
    if case.dtype != "uint8":
        raise Unsuitable(f"has no gradient: {why}")


def _build_samples(case: Case) -> Function:
    _no_gradient(case, IN_PLACE)
    return rivals.torchvision_samples(recipe(case), VIEWS)


def _build_batch(case: Case) -> Function:
    _no_gradient(case, IN_PLACE)
    return rivals.torchvision_batch(recipe(case), VIEWS)


def _build_kornia(case: Case) -> Function:
    return rivals.kornia_batch(recipe(case), VIEWS)


def _only_arrays(case: Case) -> None:
    _no_gradient(case, "it works on arrays")
    if torch.device(case.device).type != "cpu":
        raise Unsuitable("works on arrays, this case is on the GPU")


def _build_albumentations(case: Case) -> Function:
    _only_arrays(case)
    return rivals.albumentations_samples(recipe(case), VIEWS)


def _build_albumentations_2(case: Case) -> Function:
    from benchmarks.augment_workers import Workers

    _only_arrays(case)
    return Workers(recipe(case), VIEWS, 2)


def _pixels(case: Case) -> tuple[int, int]:
    """Numbers in all images, and in all views."""
    count, height, width, side = case.shape
    return count * CHANNELS * height * width, VIEWS * count * CHANNELS * side * side


def _views_bytes(case: Case) -> int:
    """Views, and the images as floats."""
    return 4 * sum(_pixels(case)) * 2


def _stored_bytes(case: Case) -> int:
    """A view after every stage, most of which a backward keeps."""
    return 4 * sum(_pixels(case)) * 40


class Augment(RandomBenchmark):
    """Two views of B images of H x W pixels, side x side each; shapes are (B, H, W, side)."""

    name = "augment"
    title = "augmentation, SimCLR's recipe, two views"
    shape_names = ("images", "H", "W", "side of a view")
    parameters: ClassVar[Mapping[str, float]] = {"blur": 0.5, "reuse": 0.0}
    dtypes = ("uint8", "float32")
    default_dtypes = ("uint8",)
    input_kinds = ("smooth",)
    input_note = (
        "images have three channels of smooth noise; views are float32. reuse 1 gives sslkernels "
        "the tensor of the step before to write into (out=), reuse 0 lets it allocate one each "
        "step, as all others do in both; blur is its probability"
    )
    counts = TRAFFIC
    work_note = (
        "GB/s counts what must at least be read and written: every image once and, as float32, "
        "every view once; with the backward also the gradient of every view, every image again "
        "and its gradient. What an implementation writes and reads in between counts as nothing."
    )
    headline = FORWARD
    eager = "torchvision"
    extras = ("bench", "rivals")
    item = "views"
    compared = (EAGER, "batch", "kornia", "albumentations", "albumentations-2")
    implementations = (
        Implementation(OURS, "sslkernels", _build_ours, _views_bytes),
        Implementation(
            EAGER,
            "torchvision v2, per sample",
            _build_samples,
            _stored_bytes,
            "torchvision",
            "pip install torchvision",
            note="what users do, in one process, on the bytes of one image after the other",
        ),
        Implementation(
            "batch",
            "torchvision v2, per batch",
            _build_batch,
            _stored_bytes,
            "torchvision",
            "pip install torchvision",
            note="draws once for all images of a batch, which is another recipe: for orientation",
        ),
        Implementation(
            "kornia",
            "kornia",
            _build_kornia,
            _stored_bytes,
            "kornia",
            "pip install kornia",
            note="takes floats, so that dividing by 255 is part of its time; its colour jitter "
            "has one order a batch, its crop no antialiasing",
        ),
        Implementation(
            "albumentations",
            "albumentations, 1 process",
            _build_albumentations,
            _views_bytes,
            "albumentations",
            "pip install albumentations",
            note="per sample, on bytes up to the normalisation; its crop has no antialiasing; "
            "its memory counts the images as arrays",
        ),
        Implementation(
            "albumentations-2",
            "albumentations, 2 processes",
            _build_albumentations_2,
            _views_bytes,
            "albumentations",
            "pip install albumentations",
            processes=True,
            note="each makes half of the views and writes them into shared memory that stays",
        ),
        Implementation("reference", "our reference", _build_reference, _stored_bytes),
        Implementation("chunked", "our plain PyTorch, in chunks", _build_chunked, _views_bytes),
    )

    def grid(self, quick: bool) -> list[Case]:
        """Small images without blur and large ones with it; --quick keeps fewer small ones."""
        read, learned = [("uint8", "")], [("float32", "")]
        if quick:
            return self.cases([QUICK], read, {"blur": 0.0})
        return [
            case
            for shape, kinds, blur, reuse in (
                (SMALL, read, 0.0, 0.0),
                (SMALL, read, 0.0, 1.0),
                (SMALL, learned, 0.0, 0.0),
                (LARGE, read, 0.5, 0.0),
                (LARGE, read, 0.5, 1.0),
                (LARGE_LEARNED, learned, 0.5, 0.0),
            )
            for case in self.cases([shape], kinds, {"blur": blur, "reuse": reuse})
        ]

    def cases(
        self,
        shapes: Sequence[tuple[int, ...]],
        kinds: Sequence[tuple[str, str]],
        parameters: Mapping[str, float] | None = None,
        data: str = "",
    ) -> list[Case]:
        """As for every operator; a tensor that is written into has no gradient."""
        if dict(parameters or {}).get("reuse") and any(dtype != "uint8" for dtype, _ in kinds):
            raise InputError("--reuse: out= has no gradient, give --dtype uint8 with it")
        return super().cases(shapes, kinds, parameters, data)

    def check(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> None:
        """A probability of blur; out= or not; a view that the blur's kernel fits into."""
        if not 0 <= parameters["blur"] <= 1:
            raise InputError(f"--blur: must be at least 0 and at most 1, got {parameters['blur']}")
        if parameters["reuse"] not in (0, 1):
            raise InputError(f"--reuse: must be 0 or 1, got {parameters['reuse']}")
        if shape[3] < 4:
            raise InputError(f"--shape: views must have sides of at least 4, got {shape[3]}")

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """Images [B, 3, H, W] as bytes, or as floats that take a gradient."""
        count, height, width, _ = case.shape
        generator = torch.Generator().manual_seed(seed)
        coarse = (height // 8 + 1, width // 8 + 1)
        smooth = torch.rand(count, CHANNELS, *coarse, generator=generator)
        smooth = F.interpolate(smooth, (height, width), mode="bilinear")
        grain = torch.rand(smooth.shape, generator=generator)
        pixels = (255 * (0.95 * smooth + 0.05 * grain)).round().to(case.device, torch.uint8)
        if case.dtype == "uint8":
            return (pixels,)
        return ((pixels.to(case.torch_dtype) / 255).requires_grad_(),)

    def modes(self, case: Case) -> tuple[str, ...]:
        """Bytes have no gradient."""
        return (FORWARD,) if case.dtype == "uint8" else (FORWARD, BOTH)

    def upstream(self, case: Case) -> Tensor | None:
        """Normal gradients of the views."""
        if case.dtype == "uint8":
            return None
        count, _, _, side = case.shape
        generator = torch.Generator().manual_seed(1)
        shape = (VIEWS, count, CHANNELS, side, side)
        return torch.randn(shape, generator=generator).to(case.device)

    def exactness(self, case: Case) -> list[Exactness]:
        """Once for each shape: on bytes, and not again with out=."""
        from benchmarks.augment_exactness import exact_views

        if case.dtype != "uint8" or case.parameters["reuse"]:
            return []
        images = self.inputs(replace(case, shape=(min(case.shape[0], 8), *case.shape[1:])), "")[0]
        return exact_views(images, recipe(case), VIEWS)

    def work(self, case: Case, mode: str) -> float:
        """Bytes; see `work_note`."""
        images, views = _pixels(case)
        images *= case.torch_dtype.itemsize
        return float(images + 4 * views if mode == FORWARD else 3 * images + 8 * views)

    def items(self, case: Case) -> int:
        """Views of a call."""
        return VIEWS * case.shape[0]

    def small(self, case: Case) -> Case:
        """The same sizes, at most four images."""
        return replace(case, shape=(min(case.shape[0], 4), *case.shape[1:]))
