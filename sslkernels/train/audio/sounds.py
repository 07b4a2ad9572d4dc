"""Sounds of equal length, with labels: from a folder of WAV files, or made of digits."""

from __future__ import annotations

import hashlib
import math
import wave
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels.train.errors import TrainError, require
from sslkernels.train.files import decoded

RATE = 8000  # samples a second; all sounds are brought to it
SAMPLES = 3200  # of an example


@dataclass(frozen=True)
class Sounds:
    """train, test: float32 [N, SAMPLES] in [-1, 1]; labels int64 [N]; names: of the labels, none
    where there are no labels; note: what was read."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    names: tuple[str, ...]
    note: str

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(self.train.numpy().tobytes(), digest_size=8).hexdigest()


def load(name: str, *, strict: bool, workers: int = 0) -> Sounds:
    """Sounds by the name of a source, "digits", or from a folder of WAV files.

    Raises:
        TrainError: neither of them; see `folder`.
    """
    if name == "digits":
        return sung_digits()
    if Path(name).is_dir():
        return folder(Path(name), strict=strict, workers=workers)
    raise TrainError(f"unknown data {name!r}: known are digits, and folders of WAV files")


def sung_digits() -> Sounds:
    """Synthetic sounds made of scikit-learn's digits, since no real ones are on the machine: the
    columns of an image one after another, its rows as eight tones, with some noise.

    The split is that of the images.
    """
    bunch = require("sklearn.datasets", "scikit-learn").load_digits()
    images = torch.from_numpy(bunch.images).float() / 16
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(SAMPLES) / RATE
    tones = 2 * math.pi * 250 * 2 ** (torch.arange(8) / 3)[:, None] * time
    phase = 2 * math.pi * torch.rand(len(images), 8, 1, generator=generator)
    loudness = images.repeat_interleave(SAMPLES // 8, dim=2)
    sounds = ((tones + phase).sin() * loudness).sum(1) / 8
    sounds += 0.02 * torch.randn(sounds.shape, generator=generator)
    labels, split = torch.from_numpy(bunch.target).long(), len(images) * 4 // 5
    parts = (sounds[:split], labels[:split], sounds[split:], labels[split:])
    return Sounds(*parts, tuple("0123456789"), "synthetic sounds, made of scikit-learn's digits")


def folder(path: Path, *, strict: bool, workers: int = 0) -> Sounds:
    """WAV files below a folder, those in a subfolder of the class of its name; every fifth file is
    held out. A file is cut into examples; one too short for any is filled up with silence. Decoded
    in threads, or in `workers` processes.

    Raises:
        TrainError: no WAV files, or too few that can be read; with strict, one that cannot; a
            worker has died.
    """
    paths = sorted(x for x in path.rglob("*") if x.suffix.lower() == ".wav")
    if not paths:
        raise TrainError(f"no WAV files in {path}")
    found = decoded(paths, decode, what="sounds", strict=strict, workers=workers)
    kept = found.kept
    if len(kept) < 5:
        raise TrainError(
            f"{path} has {len(kept)} sounds that can be read, fewer than 5: {found.bad}"
        )
    classes = [file.relative_to(path).parts[0] for file, _ in kept]
    flat = any(file.parent == path for file, _ in kept)
    names = () if flat else tuple(sorted({*classes}))
    parts = []
    for held in (False, True):
        own = [
            (x, 0 if flat else names.index(c))
            for i, ((_, x), c) in enumerate(zip(kept, classes, strict=True))
            if (i % 5 == 4) == held
        ]
        parts += [torch.cat([x for x, _ in own])]
        parts += [torch.cat([torch.full((len(x),), label) for x, label in own])]
    return Sounds(parts[0], parts[1], parts[2], parts[3], names, found.note)


def decode(path: Path) -> Tensor | str:
    """float32 [n, SAMPLES], the channels' mean at RATE; or why it cannot be read."""
    try:
        with wave.open(str(path)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.getnframes()
            content = bytearray(file.readframes(frames))
    except (OSError, EOFError, wave.Error) as error:
        return f"{type(error).__name__}: {error}"
    if not content:
        return "no samples"
    if len(content) < frames * width * channels:
        return f"{len(content)} of {frames * width * channels} bytes of samples"
    if width not in (1, 2, 3, 4) or rate == 0:
        return f"samples of {8 * width} bits, {rate} a second"
    sound = pcm(content, width).view(-1, channels).mean(1)
    length = max(1, round(len(sound) * RATE / rate))
    if rate != RATE:
        sound = F.interpolate(sound[None, None], length, mode="linear", antialias=False)[0, 0]
    whole = max(SAMPLES, len(sound) // SAMPLES * SAMPLES)
    return F.pad(sound, (0, max(0, whole - len(sound))))[:whole].view(-1, SAMPLES)


def pcm(content: bytearray, width: int) -> Tensor:
    """Little-endian samples of `width` bytes, as WAV has them (8 bits unsigned), in [-1, 1]."""
    if width == 1:
        return torch.frombuffer(content, dtype=torch.uint8).float() / 128 - 1
    if width == 3:
        parts = torch.frombuffer(content, dtype=torch.uint8).view(-1, 3).int()
        number = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
        return (number - ((number & 0x800000) << 1)).float() / 2**23
    dtype = {2: torch.int16, 4: torch.int32}[width]
    return torch.frombuffer(content, dtype=dtype).float() / 2 ** (8 * width - 1)
