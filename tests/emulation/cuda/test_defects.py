"""The kernels' own barriers and bounds are needed: without any of them something is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.emulation.cuda import augmenting, build, masking, test_augment, test_mask_tokens
from tests.emulation.cuda.run import SCHEDULES, Fault, Library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(build.why_not()), reason=build.why_not()),
]


def changed(source: Path, old: str, new: str, place: int, folder: Path) -> Library:
    """The library of a .cu file in which one of the places with a text has another."""
    parts = source.read_text().split(old)
    assert len(parts) > place + 1, f"{source.name} has {len(parts) - 1} times {old!r}"
    text = old.join(parts[: place + 1]) + new + old.join(parts[place + 1 :])
    text = text.replace('#include "../', f'#include "{build.CSRC}/')
    for header in source.parent.glob("*.h"):
        text = text.replace(f'#include "{header.name}"', f'#include "{header}"')
    path = folder / source.name
    path.write_text(text)
    return Library(path)


def assert_found(check: Any) -> None:
    """In one of the schedules the kernel is stopped, or its result is wrong."""
    for schedule in SCHEDULES:
        try:
            check(schedule)
        except (Fault, AssertionError):
            return
    pytest.fail("nobody noticed")


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


@pytest.mark.parametrize("place", range(5))
def test_barriers_of_augmentation(monkeypatch, tmp_path, place):
    library = changed(augmenting.FORWARD, "__syncthreads();", "", place, tmp_path)
    monkeypatch.setattr(test_augment, "applying", lambda: library)
    images = test_augment.images_of((6, 3, 20, 17))
    assert_found(
        lambda schedule: test_augment.assert_same(
            images, test_augment.EVERYTHING, schedule=schedule
        )
    )
