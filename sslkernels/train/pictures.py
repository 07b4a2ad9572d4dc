"""Folders of pictures, decoded by Pillow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError, require
from sslkernels.train.files import decoded

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Pictures:
    """uint8 [N, C, size, size], C of 1 where all are grey, else 3; int64 [N]; class names."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    note: str


def read(folder: Path, size: int, *, strict: bool, workers: int = 0) -> Pictures:
    """All pictures below a folder; those in a subfolder are of the class of its name. Decoded in
    threads, or in `workers` processes.

    Raises:
        TrainError: no pictures, or none that can be read; with strict, one that cannot; size below
            4; Pillow is not installed; a worker has died.
    """
    if size < 4:
        raise TrainError(f"size is {size}, must be at least 4")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise TrainError(f"no pictures in {folder}: {', '.join(SUFFIXES)} files are read")
    image = require("PIL.Image", "Pillow")
    one = partial(decode, size=size, open_image=image.open)
    found = decoded(paths, one, what="pictures", strict=strict, workers=workers)
    kept = found.kept
    if not kept:
        raise TrainError(f"none of {len(paths)} pictures in {folder} can be read: {found.bad}")
    classes = [path.relative_to(folder).parts[0] for path, _ in kept]
    flat = any(path.parent == folder for path, _ in kept)
    names = () if flat else tuple(sorted({*classes}))
    channels = max(len(x) for _, x in kept)
    return Pictures(
        torch.stack([x.expand(channels, -1, -1) for _, x in kept]),
        torch.tensor([0 if flat else names.index(name) for name in classes]),
        names,
        found.note,
    )


def decode(path: Path, size: int, open_image: Callable[[Path], Any]) -> Tensor | str:
    """The square in its middle, resized: uint8 [C, size, size]; or why it cannot be read."""
    try:
        with open_image(path) as opened:
            small = of_bytes(opened)
            image = small.convert("L" if small.mode in ("1", "L", "LA") else "RGB")
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        box = (left, top, left + side, top + side)
        image = image.crop(box).resize((size, size), resample=2)  # bilinear, antialiased
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.view(size, size, -1).permute(2, 0, 1).contiguous()
    # Decoders raise almost anything on what is no picture.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        known = not reason or str(path) in reason  # the message names the path itself
        return type(error).__name__ if known else f"{type(error).__name__}: {reason}"


def of_bytes(image: Any) -> Any:
    """Grey samples of 16 bits as bytes: Pillow would cut them off at 255. Others as they are.

    Raises:
        ValueError: numbers that may mean anything.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    low, high = image.getextrema()
    if image.mode == "F" or low < 0 or high >= 2**16:
        raise ValueError(f"numbers from {low:g} to {high:g}, whose brightness is not known")
    return image.convert("I").point(lambda sample: sample * (1 / 257) + 0.5).convert("L")
