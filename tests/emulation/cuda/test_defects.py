"""The kernels' own barriers and bounds are needed: without any of them something is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslkernels import AugmentPolicy
from tests.emulation.cuda import (
    augmenting,
    build,
    masking,
    test_augment,
    test_augment_backward,
    test_mask_tokens,
)
from tests.emulation.cuda.defects import assert_found
from tests.emulation.cuda.run import Library

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())


def changed(
    source: Path, old: str, new: str, place: int, folder: Path, edited: Path | None = None
) -> Library:
    """The library of a .cu file; one of the places with a text, there or in `edited`, a header
    beside it, has another."""
    edited = edited or source
    for path in (source, *source.parent.glob("*.h")):
        text = path.read_text()
        if path == edited:
            parts = text.split(old)
            assert len(parts) > place + 1, f"{path.name} has {len(parts) - 1} times {old!r}"
            text = old.join(parts[: place + 1]) + new + old.join(parts[place + 1 :])
        text = text.replace('#include "../', f'#include "{build.CSRC}/')
        (folder / path.name).write_text(text)
    return Library(folder / source.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("__syncwarp();", "", 0),
        ("__syncwarp();", "", 1),
        ("__syncwarp();", "", 2),
        ("if (i >= p.length) return;", "", 0),
        ("if (row >= p.batch) return;", "", 0),
        ("before_me(able) < left_", "before_me(able) <= left_", 0),
        ("units_ + before_me(starting) + starts - 1", "units_ + before_me(starting)", 0),
        ("begin + lane_);", "lane_);", 0),
    ],
)
def test_masking(monkeypatch, tmp_path, old, new, place):
    library = changed(masking.SOURCE, old, new, place, tmp_path)
    monkeypatch.setattr(test_mask_tokens, "library", lambda: library)

    def check(schedule: str) -> None:
        for strategy in masking.STRATEGIES:
            for size, probability in (((5, 45), 0.3), ((1, 300), 0.9)):
                arguments = test_mask_tokens.arguments(strategy, *size, probability=probability)
                test_mask_tokens.assert_equal_to_reference(arguments, schedule=schedule)

    assert_found(check)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "place"),
    [("forward.cu", 0), ("forward.cu", 1), *(("device_view.h", place) for place in range(5))],
)
def test_barriers_of_augmentation(monkeypatch, tmp_path, file, place):
    source = augmenting.FORWARD
    library = changed(source, "__syncthreads();", "", place, tmp_path, source.with_name(file))
    monkeypatch.setattr(test_augment, "applying", lambda: library)
    images = test_augment.images_of((4, 3, 60, 120))  # more rows than fit into the stage
    assert_found(
        lambda schedule: test_augment.assert_same(
            images, test_augment.EVERYTHING, schedule=schedule
        )
    )


@pytest.mark.ladder
@pytest.mark.parametrize(
    ("file", "place"),
    [("backward.cu", 0), ("backward.cu", 1), *(("device_gradient.h", n) for n in range(1, 4))],
)
def test_barriers_of_the_gradient(monkeypatch, tmp_path, file, place):
    source = augmenting.BACKWARD
    library = changed(source, "__syncthreads();", "", place, tmp_path, source.with_name(file))
    monkeypatch.setattr(test_augment_backward, "library", lambda: library)
    images = test_augment.images_of((6, 3, 20, 17))
    # With nothing between resize and blur, what the blur read is written to at once.
    blurred = AugmentPolicy(16, blur_probability=1.0, blur_kernel=5)

    def check(schedule: str) -> None:
        for policy in (test_augment.EVERYTHING, blurred):
            test_augment_backward.assert_same(images, policy, schedule=schedule)

    assert_found(check)
