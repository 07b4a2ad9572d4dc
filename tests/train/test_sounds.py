"""Folders of WAV files."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path

import pytest
import torch

from sslkernels.train.audio.sounds import RATE, SAMPLES, decode, load
from sslkernels.train.errors import TrainError
from sslkernels.train.methods.wav2vec import Wav2vec

PACK = {
    1: lambda x: struct.pack("B", round(x * 127) + 128),
    2: lambda x: struct.pack("<h", round(x * 32767)),
    3: lambda x: struct.pack("<i", round(x * 8388607))[:3],
    4: lambda x: struct.pack("<i", round(x * 2147483647)),
}


def write(path: Path, sound: list[float], width: int = 2, channels: int = 1, rate: int = RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(b"".join(PACK[width](x) * channels for x in sound))


def tone(count: int, rate: int = RATE) -> list[float]:
    return [0.9 * math.sin(2 * math.pi * 100 * i / rate) for i in range(count)]


@pytest.mark.parametrize(("width", "error"), [(1, 1e-2), (2, 1e-4), (3, 1e-6), (4, 1e-6)])
def test_samples_of_every_width(tmp_path, width, error):
    write(tmp_path / "x.wav", tone(SAMPLES), width, channels=2)
    sound = decode(tmp_path / "x.wav")
    expected = torch.tensor(tone(SAMPLES))[None]
    torch.testing.assert_close(sound, expected, rtol=0, atol=error)


def test_another_rate_and_length(tmp_path):
    write(tmp_path / "x.wav", tone(4 * SAMPLES + 100, 2 * RATE), rate=2 * RATE)
    sound = decode(tmp_path / "x.wav")
    assert sound.shape == (2, SAMPLES)
    torch.testing.assert_close(sound[0], torch.tensor(tone(SAMPLES)), rtol=0, atol=0.05)
    write(tmp_path / "short.wav", tone(100))
    sound = decode(tmp_path / "short.wav")
    assert sound.shape == (1, SAMPLES) and (sound[0, 100:] == 0).all()


def test_a_folder_with_a_bad_file(tmp_path):
    for i in range(5):
        write(tmp_path / "low" / f"{i}.wav", tone(SAMPLES))
        write(tmp_path / "high" / f"{i}.wav", tone(2 * SAMPLES))
    (tmp_path / "low" / "bad.wav").write_bytes(b"RIFFnothing")
    data = load(str(tmp_path), strict=False)
    assert data.names == ("high", "low") and "1 of 11 sounds skipped: " in data.note
    assert len(data.train) == 12 and len(data.test) == 3
    assert (data.train_labels == 0).sum() == 8 and (data.test_labels == 0).sum() == 2
    with pytest.raises(TrainError, match=r"1 of 11 sounds cannot be read: .*bad\.wav"):
        load(str(tmp_path), strict=True)


@pytest.mark.parametrize(
    ("place", "changed", "reason"),
    [
        (24, struct.pack("<I", 0), "samples of 16 bits, 0 a second"),
        (34, struct.pack("<H", 64), "samples of 64 bits, 8000 a second"),
        (34, struct.pack("<H", 0), "Error: bad sample width"),
        (20, struct.pack("<H", 3), "Error: unknown format: 3"),
    ],
)
def test_a_strange_header_is_a_reason(tmp_path, place, changed, reason):
    path = tmp_path / "x.wav"
    write(path, tone(SAMPLES))
    content = path.read_bytes()
    path.write_bytes(content[:place] + changed + content[place + len(changed) :])
    assert decode(path) == reason


@pytest.mark.parametrize("count", [1000, 1001])
def test_a_torn_file_is_a_reason(tmp_path, count):
    path = tmp_path / "x.wav"
    write(path, tone(SAMPLES))
    path.write_bytes(path.read_bytes()[: 44 + count])
    assert decode(path) == f"{count} of {2 * SAMPLES} bytes of samples"


def test_nothing_to_read(tmp_path):
    with pytest.raises(TrainError, match="no WAV files in"):
        load(str(tmp_path), strict=False)
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(TrainError, match="has 0 sounds that can be read, fewer than 5"):
        load(str(tmp_path), strict=False)


def test_what_is_hidden_is_not_heard():
    """The context at hidden frames does not depend on them, and each has its own as the first."""
    torch.manual_seed(0)
    method = Wav2vec().double().eval()
    waves, uniform = torch.randn(2, SAMPLES).double(), torch.rand(2, method.numbers).double()
    loss, accuracy = method.compared({"waves": waves, "uniform": uniform})
    assert loss > 0 and 0 <= accuracy < 0.5
    said: list[torch.Tensor] = []
    method.guess.register_forward_hook(lambda _, given, __: said.append(given[0]))
    frames = method.encoder.frames

    def changed(w: torch.Tensor) -> torch.Tensor:
        x = frames(w)
        spans = uniform.argsort(1)[:, : method.numbers // 2]
        hidden = (spans[:, :, None] * 4 + torch.arange(4)).flatten(1)
        return x.scatter(1, hidden[:, :, None].expand(-1, -1, x.shape[2]), 7.0)

    method.compared({"waves": waves, "uniform": uniform})
    method.encoder.frames = changed  # type: ignore[method-assign]
    method.compared({"waves": waves, "uniform": uniform})
    assert torch.equal(said[0], said[1])
