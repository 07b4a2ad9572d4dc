"""The choice of the encoder of methods that learn from images."""

from __future__ import annotations

import pytest
import torch

from sslkernels.train.finished import read
from sslkernels.train.models import small_convnet, small_resnet, strided_resnet
from sslkernels.train.registry import METHODS
from tests.train.commands import train, untrained

CHOOSE = [name for name, entry in METHODS.items() if "encoder" in entry.own]
FACTS = {"shape": [1, 8, 8], "names": ["a", "b"]}


def weights(network: torch.nn.Module) -> list[torch.Size]:
    return [x.shape for x in network.parameters()]


def test_all_methods_of_convolutions_choose():
    assert {"simclr", "moco", "byol", "finetune", "distil", "colourisation"} < {*CHOOSE}
    assert not {"mae", "gan", "bert"} & {*CHOOSE}
    # Of two constructors with the same option, the first in line says what it is.
    assert METHODS["distil"].own["width"].default == 8
    assert METHODS["simclr"].own["width"].default is None


@pytest.mark.parametrize("name", [x for x in CHOOSE if x != "distil"])
@pytest.mark.parametrize(
    ("encoder", "make"),
    [("convnet", small_convnet), ("resnet", small_resnet), ("strided-resnet", strided_resnet)],
)
def test_the_encoder_is_the_one_that_was_chosen(name, encoder, make):
    colour = name == "colourisation"  # which hides the colours from its encoder
    facts = {**FACTS, "shape": [3, 8, 8]} if colour else FACTS
    method = METHODS[name].method.made_for(facts, encoder=encoder, width=4)
    wanted, features = make(1, width=4)
    assert weights(method.encoder) == weights(wanted)
    assert method.encoder.eval()(torch.rand(2, *facts["shape"])).shape == (2, features)


def test_a_strided_stem_halves_the_image():
    x = torch.rand(1, 1, 28, 28)
    plain, strided = small_resnet(1)[0], strided_resnet(1)[0]
    assert weights(plain) == weights(strided)
    assert plain[0](x).shape[2:] == (28, 28)
    assert strided[0](x).shape[2:] == (14, 14)


def test_without_a_width_each_has_its_own():
    made = METHODS["simclr"].method.made_for
    for encoder, make in (("convnet", small_convnet), ("resnet", small_resnet)):
        assert weights(made(FACTS, encoder=encoder).encoder) == weights(make(1)[0])


def test_a_run_remembers_its_encoder_and_teaches_a_smaller_one(tmp_path):
    short = ("--images", 64, "--batch-size", 32, "--epochs", 1)
    run = untrained(tmp_path / "run", "simclr", encoder="resnet", width=4)
    assert weights(read(run).method.encoder) == weights(small_resnet(1, 4)[0])
    result = train(
        "distil", "--teacher", run, "--encoder", "resnet", "--width", 2, *short,
        "--out", tmp_path / "small",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert weights(read(tmp_path / "small").method.encoder) == weights(small_resnet(1, 2)[0])


def test_a_run_from_before_there_was_a_choice_is_read(tmp_path):
    run = untrained(tmp_path / "run", "simclr")  # whose settings do not name an encoder
    assert weights(read(run).method.encoder) == weights(small_convnet(1)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simclr", "--width", 0), "error: width is 0, must be at least 1"),
        (("finetune", "--run", "RUN", "--width", 4), "--encoder and --width are for no run"),
        (("finetune", "--run", "RUN", "--encoder", "resnet"), "--encoder and --width are for no"),
        (("simclr", "--encoder", "vgg"), "'vgg' is not one of 'convnet',"),
    ],
)
def test_what_cannot_be_chosen_says_so(tmp_path, arguments, message):
    run = untrained(tmp_path / "simclr", "simclr")
    given = (run if x == "RUN" else x for x in arguments)
    result = train(*given, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()
