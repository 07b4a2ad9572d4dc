"""Encoders in files of their own: what a program without the package makes of them."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sslkernels.train.after.int8 import Int8Linear, in_int8
from sslkernels.train.evaluate import features
from sslkernels.train.finished import read
from sslkernels.train.images import digits
from tests.train.commands import train, untrained

FORMS = ["pt2", pytest.param("onnx", marks=pytest.mark.slow)]


class Exports:
    """Exports of runs that ended before they began: of convolutions, and of a transformer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("simclr", "mae", "finetune"):
            untrained(folder / name, name)

    @cache  # noqa: B019
    def __call__(self, name: str, form: str = "pt2", *flags: str) -> tuple[str, Path]:
        """What was said, and the file."""
        for package in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" else ():
            pytest.importorskip(package, reason="the onnx extra is not installed")
        to = self.folder / f"{name}{''.join(flags)}.{form}"
        result = train("export", self.folder / name, "--to", to, "--format", form, *flags)
        assert result.exit_code == 0, result.output
        return result.output, to

    def method(self, name: str) -> Any:
        return read(self.folder / name).method


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(tmp_path_factory.mktemp("runs"))


def loaded(path: Path) -> Callable[[Tensor], Tensor]:
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    return lambda x: torch.from_numpy(session.run(["out"], {"images": x.numpy()})[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["simclr", "mae"])
def test_what_is_exported_is_the_encoder(exports, name, form):
    output, path = exports(name, form)
    assert f"{path}: loaded again, differs from the run's by at most" in output
    network = loaded(path)
    for count in (1, 9):
        images = torch.rand(count, 1, 8, 8)
        expected = exports.method(name).encoder(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_int8_is_near_the_encoder_and_smaller(exports, form):
    (_, plain), (output, path) = exports("mae", form), exports("mae", form, "--int8")
    assert "linear layers in int8: 9" in output  # the patches', and four of each of two blocks
    # Of a network this small the graph is the larger part.
    assert path.stat().st_size < plain.stat().st_size
    images = digits().test[:64] / 255
    mine, expected = loaded(path)(images), exports.method("mae").encoder(images)
    assert 0 < (mine - expected).norm() / expected.norm() < 0.03


def test_accuracy_before_and_after(exports):
    output, path = exports("mae", "pt2", "--int8")
    encoder, data = exports.method("mae").encoder, digits()
    known, asked = (nn.functional.normalize(features(encoder, x)) for x in (data.train, data.test))
    weight, index = (asked @ known.T).topk(20)
    votes = torch.zeros(len(asked), 10)
    votes.scatter_add_(1, data.train_labels[index], (weight / 0.07).exp())
    right = (votes.argmax(1) == data.test_labels).double().mean()
    assert f"kNN accuracy: the run's {right:.1%}, {path.name} " in output
    shown = float(output.split(f"{path.name} ")[-1].rstrip().rstrip("%"))
    assert abs(shown / 100 - right) < 0.03


def test_a_classifier_is_exported_with_its_head(exports):
    output, path = exports("finetune")
    data, method = digits(), exports.method("finetune")
    images = data.test / 255
    logits = method.head(method.encoder(images))
    torch.testing.assert_close(loaded(path)(images), logits, rtol=1e-5, atol=1e-5)
    right = (logits.argmax(1) == data.test_labels).double().mean()
    assert f"\naccuracy: the run's {right:.1%}, {path.name} {right:.1%}" in output


def test_int8_of_what_it_holds_is_exact():
    """Integers up to 127 on both sides have scales of a power of two, or of 1."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(40, 30)
    weight = torch.randint(-127, 128, (30, 40), generator=generator).float()
    x = torch.randint(-127, 128, (2, 5, 40), generator=generator).float()
    weight[:, 0], x[..., 0], x[0, 0] = 127, -127, 0
    with torch.no_grad():
        linear.weight.copy_(weight / 4)
        linear.bias.copy_(torch.arange(30.0))
        expected = (x.double() @ (weight.double() / 4).T + torch.arange(30.0)).float()
        torch.testing.assert_close(Int8Linear(linear)(x), expected, rtol=1e-6, atol=0)


def test_int8_leaves_the_network_alone():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
    made, count = in_int8(network)
    assert count == 2 and isinstance(network[0], nn.Linear)
    x = torch.randn(8, 4)
    assert (made(x) - network(x)).abs().max() < 0.05


def test_without_the_run_s_data_accuracy_is_not_measured(tmp_path):
    run = untrained(tmp_path / "run", "simclr", data="gone")
    result = train("export", run)
    assert result.exit_code == 0, result.output
    assert "accuracy is not measured: unknown data 'gone'" in result.output
    assert (run / "encoder.pt2").exists()
    assert "kNN accuracy: the run's" in train("export", run, "--data", "digits").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "there is no nowhere"),
        (("RUN", "--to", "x.onnx"), "to is x.onnx, must end in .pt2"),
        (("RUN", "--to", "x.pt2", "--format", "onnx"), "to is x.pt2, must end in .onnx"),
        (("RUN", "--to", "nowhere/x.pt2"), "cannot write nowhere/x.pt2"),
        (("RUN", "--int8"), "the network has no linear layers, which --int8 is for"),
        (("RUN", "--data", "nothing"), "unknown data 'nothing'"),
        (("RUN", "--data", "photos"), "photos has images of [3, 32, 32], the run's are [1, 8, 8]"),
    ],
)
def test_what_cannot_be_exported_says_so(tmp_path, arguments, message):
    run = untrained(tmp_path / "run", "simclr")
    result = train("export", *(run if x == "RUN" else x for x in arguments))
    assert result.exit_code == 2 and f"error: {message}" in result.output
    assert not (run / "encoder.pt2").exists()


@pytest.mark.parametrize("form", FORMS)
def test_on_a_full_disk_the_old_file_stays(exports, request, form):
    _, path = exports("simclr", form)
    request.getfixturevalue("full_disk")
    before = path.read_bytes()
    result = train("export", exports.folder / "simclr", "--to", path, "--format", form)
    assert result.exit_code == 2
    assert f"error: cannot write {path} (an older one there stays whole): " in result.output
    assert path.read_bytes() == before and not path.with_name(f"{path.name}.tmp").exists()


def test_a_classifier_is_not_measured_on_other_classes(tmp_path, exports):
    for kind in ("train", "t10k"):
        for name, shape in (("images-idx3", (2, 8, 8)), ("labels-idx1", (2,))):
            header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
            (tmp_path / f"{kind}-{name}-ubyte").write_bytes(header + bytes(math.prod(shape)))
    result = train("export", exports.folder / "finetune", "--data", tmp_path)
    assert result.exit_code == 2 and "has other classes than the run's: 0" in result.output


def test_an_unknown_format_is_refused(tmp_path):
    result = train("export", untrained(tmp_path, "simclr"), "--format", "tflite")
    assert result.exit_code == 2 and "'tflite' is not one of 'pt2'" in result.output


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    for present in ("onnx", "onnxscript", "onnxruntime"):
        module = None if present == package else sys
        monkeypatch.setitem(sys.modules, present, module)
    result = train("export", untrained(tmp_path, "simclr"), "--format", "onnx")
    assert result.exit_code == 2
    wanted = f"error: --format onnx needs {package}: pip install 'sslkernels[onnx]'"
    assert wanted in result.output
    assert not (tmp_path / "encoder.onnx").exists()
