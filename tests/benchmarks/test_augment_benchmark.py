"""What is timed makes the same views everywhere, and what is called exact is measured so."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import augment_exactness as exactness
from benchmarks import augment_rivals as rivals
from benchmarks.augment import Augment, recipe
from benchmarks.case import Case
from benchmarks.errors import InputError, Unsuitable
from benchmarks.registry import loss_and_gradients
from sslkernels import AugmentPolicy, augment

OP = Augment()
HERE = [one for one in OP.implementations if not one.processes]
SHAPE = (4, 24, 20, 16)


def _case(dtype: str = "uint8", **parameters: float) -> Case:
    return Case("augment", SHAPE, dtype, "", parameters={**OP.parameters, **parameters})


def _built(one: Any, case: Case) -> Any:
    if reason := one.cannot_run(case.device):
        pytest.skip(reason)
    try:
        return one.build(case)
    except Unsuitable as why:
        pytest.skip(str(why))


def _stacked(views: Any) -> torch.Tensor:
    return views if isinstance(views, torch.Tensor) else torch.stack(views)


@pytest.mark.parametrize("dtype", OP.dtypes)
@pytest.mark.parametrize("one", HERE, ids=lambda one: one.name)
def test_everyone_makes_two_normalised_views_and_draws_anew(one: Any, dtype: str) -> None:
    case = _case(dtype)
    function = _built(one, case)
    (images,) = OP.inputs(case, "smooth")
    with torch.no_grad():
        first, second = (_stacked(function(images)).clone() for _ in range(2))
    assert first.shape == (2, 4, 3, 16, 16) and first.dtype == torch.float32
    # Black and white, normalised.
    assert first.min() >= -2.2 and first.max() <= 2.7 and first.min() < 0 < first.max()
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"brightness": (0.6, 0.6)},
        {"contrast": (0.5, 0.5)},
        {"saturation": (0.4, 0.4)},
        {"hue": (0.2, 0.2)},
        {"grayscale": 1.0},
        {"blur_probability": 1.0, "blur_sigma": (1.1, 1.1), "blur_kernel": 5},
        {"horizontal_flip": 1.0},
    ],
    ids=lambda changed: next(iter(changed), "nothing"),
)
@pytest.mark.parametrize("name", ["samples", "batch", "kornia", "albumentations"])
def test_where_nothing_is_left_to_chance_all_views_agree(name: str, changed: dict) -> None:
    build, module = {
        "samples": (rivals.torchvision_samples, "torchvision"),
        "batch": (rivals.torchvision_batch, "torchvision"),
        "kornia": (rivals.kornia_batch, "kornia"),
        "albumentations": (rivals.albumentations_samples, "albumentations"),
    }[name]
    pytest.importorskip(module)
    policy = AugmentPolicy(
        24,
        crop_scale=(1.0, 1.0),
        crop_ratio=(1.0, 1.0),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
        **changed,
    )
    (images,) = OP.inputs(replace(_case(), shape=(4, 24, 24, 24)), "smooth")
    made = _stacked(build(policy, 2)(images))
    # Bytes are rounded after every stage; OpenCV's hue has 180 steps.
    allowed = 0.15 if "hue" in changed else 0.04
    torch.testing.assert_close(made, augment(images, policy, seed=0), rtol=0, atol=allowed)


def test_exactness_has_every_stage_and_ours_is_exact() -> None:
    pytest.importorskip("torchvision")
    found = OP.exactness(_case())
    ours = {one.stage: one.error for one in found if one.implementation == "ours"}
    assert list(ours) == [
        "crop and resize", "flip", "brightness", "contrast", "saturation", "hue", "grayscale",
        "blur", "normalise", "full chain",
    ]  # fmt: skip
    assert all(error is not None and error < 1e-5 for error in ours.values())
    apart = [one for one in found if one.implementation == exactness.AGAINST_FLOAT32]
    assert [one.stage for one in apart] == list(ours)
    assert all(one.error is not None and one.error < 1e-5 for one in apart)
    assert "blur" not in {one.stage for one in OP.exactness(_case(blur=0.0))}
    eager = {one.stage: one.error for one in found if one.implementation == "eager"}
    assert eager["flip"] < 1e-6 and 1e-3 < eager["brightness"] < 1e-2
    assert OP.exactness(_case(reuse=1.0)) == OP.exactness(_case("float32")) == []


def test_a_wrong_stage_and_a_failing_one_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kornia")

    def failing(*_: object) -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(exactness.Kornia, "flip", lambda self, x: x)
    monkeypatch.setattr(exactness.Kornia, "blur", failing)
    found = {one.stage: one for one in OP.exactness(_case()) if one.implementation == "kornia"}
    assert found["flip"].error > 0.1 > found["hue"].error
    assert found["blur"].error is None
    assert found["blur"].reason == "blur: RuntimeError: made up"


def test_gradients_follow_upstream_whether_views_are_stacked_or_not() -> None:
    case = _case("float32")
    inputs, upstream = OP.inputs(case, "smooth"), OP.upstream(case)
    assert upstream is not None
    policy = recipe(case)

    def stacked(images: torch.Tensor) -> torch.Tensor:
        return augment(images, policy, seed=3)

    def apart(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return augment(images, policy, seed=3).unbind(0)

    _, (wanted,) = loss_and_gradients(stacked, inputs, upstream)
    _, (found,) = loss_and_gradients(apart, inputs, upstream)
    torch.testing.assert_close(found, wanted)
    assert wanted.shape == inputs[0].shape and wanted.abs().max() > 0
    assert loss_and_gradients(stacked, OP.inputs(_case(), "smooth"))[1] == ()


def test_only_reuse_writes_into_the_same_tensor() -> None:
    def places(reuse: float) -> int:
        case = _case(reuse=reuse)
        ours = OP.implementation("ours").build(case)
        (images,) = OP.inputs(case, "smooth")
        kept = [ours(images) for _ in range(3)]
        return len({views.data_ptr() for views in kept})

    assert (places(1.0), places(0.0)) == (1, 3)


def test_bytes_and_views_are_counted() -> None:
    case = replace(_case(), shape=(2, 4, 6, 5))
    images, views = 2 * 3 * 4 * 6, 2 * 2 * 3 * 5 * 5
    assert OP.work(case, "forward") == images + 4 * views
    floats = replace(case, dtype="float32")
    assert OP.work(floats, "forward") == 4 * images + 4 * views
    assert OP.work(floats, "forward+backward") == 4 * (3 * images + 2 * views)
    assert OP.items(case) == 4
    assert OP.modes(case) == ("forward",)
    assert OP.modes(floats) == ("forward", "forward+backward")


def test_images_are_the_same_every_time_and_floats_take_a_gradient() -> None:
    (pixels,), (again,) = (OP.inputs(_case(), "smooth") for _ in range(2))
    assert torch.equal(pixels, again) and pixels.dtype == torch.uint8
    assert pixels.shape == (4, 3, 24, 20) and pixels.float().std() > 30
    (floats,) = OP.inputs(_case("float32"), "smooth")
    assert floats.is_leaf and floats.requires_grad
    torch.testing.assert_close(floats.detach(), pixels / 255)


def test_what_has_no_gradient_says_so() -> None:
    for name in ("eager", "batch", "albumentations", "albumentations-2"):
        with pytest.raises(Unsuitable, match="no gradient"):
            OP.implementation(name).build(_case("float32"))
    with pytest.raises(InputError, match="--reuse: out= has no gradient"):
        OP.cases([SHAPE], [("float32", "")], {"reuse": 1.0})


@pytest.mark.slow
def test_two_processes_share_the_work_and_end() -> None:
    pytest.importorskip("albumentations")
    from multiprocessing import active_children

    case = _case()
    workers = OP.implementation("albumentations-2").build(case)
    (images,) = OP.inputs(case, "smooth")
    views = workers(images)
    first = views.clone()
    assert first.shape == (2, 4, 3, 16, 16)
    assert (first.flatten(2).std(2) > 0).all()
    assert (workers(images) != first).flatten(2).any(2).all()
    with pytest.raises(RuntimeError, match="Error"):
        workers(torch.zeros(4, 3, 0, 0, dtype=torch.uint8))
    assert len(active_children()) == 2
    del workers
    gc.collect()
    assert active_children() == []


def test_grid_has_the_published_rows() -> None:
    found = [(c.shape, c.kind, c.parameters["blur"], c.parameters["reuse"]) for c in OP.grid(False)]
    small, large = (256, 32, 32, 32), (64, 256, 256, 224)
    assert found == [
        (small, "uint8", 0.0, 0.0),
        (small, "uint8", 0.0, 1.0),
        (small, "float32", 0.0, 0.0),
        (large, "uint8", 0.5, 0.0),
        (large, "uint8", 0.5, 1.0),
        ((16, 256, 256, 224), "float32", 0.5, 0.0),
    ]
    (quick,) = OP.grid(True)
    assert quick.shape[0] <= 64 and quick.shape[1:] == (32, 32, 32)
