"""Tuning with a timer that is made up, and what is read of the file that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import cli
from benchmarks.errors import InputError

pytest.importorskip("triton")

from benchmarks import tune
from sslkernels.similarity.triton import configurations, tuned

CARD = "Made-up card"
DEFAULT, FAST, WRONG, BROKEN = (
    (128, 128, 128, 8, 2),
    (64, 64, 64, 4, 3),
    (64, 64, 64, 4, 1),
    (64, 64, 64, 4, 2),
)


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A card of which only the name is asked for."""
    monkeypatch.setenv("SSLKERNELS_TILES", str(tmp_path / "tiles.json"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: CARD)
    monkeypatch.setattr(configurations, "architecture", lambda: "sm_80")
    tuned._known.cache_clear()
    yield
    tuned._known.cache_clear()


def tile() -> tuple[int, ...]:
    return tuple(configurations.forward(torch.bfloat16, 100))


def subject() -> tune.Subject:
    def call() -> tuple[torch.Tensor, ...]:
        if tile() == BROKEN:
            raise RuntimeError("out of resources")
        return (torch.full((3,), 5.0 if tile() == WRONG else 1.0),)

    return tune.Subject("forward", tuned.key("forward", torch.bfloat16, 100), DEFAULT, call)


def seconds(fast: float):
    return lambda call: {FAST: fast, WRONG: 0.1}.get(tile(), 1.0)


def test_the_fastest_is_kept_and_used():
    said: list[str] = []
    found = tune.tuned_tiles([subject()], seconds(0.5), said.append)
    assert found == {tuned.Key(CARD, found_triton(), "forward", "bfloat16", 128): FAST}
    assert any("gives other results" in x for x in said)
    assert any("out of resources" in x for x in said)
    assert tile() == DEFAULT
    file = tune.keep(found, None)
    assert file == tuned.path()
    assert tile() == FAST
    assert tuple(configurations.forward(torch.bfloat16, 300)) != FAST
    assert tuple(configurations.forward(torch.float16, 100)) == DEFAULT


def found_triton() -> str:
    import triton

    return triton.__version__


def test_a_gain_within_noise_changes_nothing():
    assert list(tune.tuned_tiles([subject()], seconds(0.99), print).values()) == [DEFAULT]


def test_another_card_or_version_takes_the_defaults(monkeypatch: pytest.MonkeyPatch):
    tune.keep(tune.tuned_tiles([subject()], seconds(0.5), print), None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Another")
    assert tile() == DEFAULT


def test_what_the_file_has_stays():
    other = tuned.Key("Another", "1.0", "product", "float32", 0)
    tune.keep({other: (64, 64, 16, 4, 2)}, None)
    tune.keep(tune.tuned_tiles([subject()], seconds(0.5), print), None)
    assert tuned.load(tuned.path())[other] == (64, 64, 16, 4, 2)
    assert len(tuned.load(tuned.path())) == 2


def entry(**changes: object) -> dict[str, object]:
    key = tuned.Key(CARD, "1.0", "added", "bfloat16", 128)._asdict()
    return {**key, **dict(zip(tuned.FIELDS, FAST, strict=True)), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Expecting"),
        ("[]", "format"),
        (json.dumps({"format": "sslkernels-tiles 0", "tiles": []}), "format"),
        (json.dumps({"format": tuned.FORMAT}), "list of tiles"),
        (json.dumps({"format": tuned.FORMAT, "tiles": [{}]}), "tile 0: wanted the fields"),
        *(
            (json.dumps({"format": tuned.FORMAT, "tiles": [entry(**changes)]}), message)
            for changes, message in (
                ({"dtype": ["bfloat16"]}, "tile 0: wanted text as card"),
                ({"card": {}}, "tile 0: wanted text as card"),
                ({"width": "128"}, "a number as width"),
                ({"kernel": "other"}, "no kernel 'other'"),
                ({"rows": 96, "columns": 96}, "columns is 96"),
                ({"warps": 3}, "warps is 3"),
                ({"stages": True}, "stages is True"),
                ({"rows": 128}, "square"),
            )
        ),
    ],
)
def test_a_corrupt_file_is_a_warning_and_the_defaults(content: str, message: str):
    tuned.path().write_text(content)
    with pytest.warns(RuntimeWarning, match=rf"tiles\.json is left aside.*{message}"):
        assert tile() == DEFAULT
    with pytest.raises(InputError, match="delete it"):
        tune.keep({}, None)


def test_candidates_are_legal_and_square_where_they_must_be():
    for kernel in tuned.KERNELS:
        one = tune.Subject(kernel, tuned.key(kernel, torch.float32, 64), DEFAULT, tuple)
        tiles = {tuned.Key(*one.key[:4], n): x for n, x in enumerate(tune.candidates(one))}
        tuned.save(tuned.path(), tiles)
        assert tuned.load(tuned.path()) == tiles


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "torch sees no CUDA device"), (["--device", "cpu"], "wanted cuda")],
)
def test_without_a_card_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(cli.app, ["tune", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
