"""The generator: known answers in Python and C++, and both the same everywhere between."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslkernels import philox
from sslkernels.native import build, flags

# philox4x32 10 in tests/kat_vectors of the Random123 distribution: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip

PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include "philox.h"
// Arguments: words of a counter and a key, six of them; or seed stream id index [epoch 0 0].
int main(int argc, char** argv) {
  const auto hex = [&](int i) { return std::strtoull(argv[i], nullptr, 16); };
  if (argc == 5 || argc == 8) {
    const uint32_t epoch = argc == 8 ? uint32_t(hex(5)) : 0;
    const auto b =
        sslk::philox_block(hex(1), sslk::Stream(hex(2)), hex(3), uint32_t(hex(4)), epoch);
    for (uint32_t word : b.word) {
      std::printf("%08x %.9g %u\\n", word, sslk::philox_uniform(word),
                  sslk::philox_below(word, 30522));
    }
    return 0;
  }
  const sslk::PhiloxBlock counter = {
      {uint32_t(hex(1)), uint32_t(hex(2)), uint32_t(hex(3)), uint32_t(hex(4))}};
  const auto b = sslk::philox4x32(counter, uint32_t(hex(5)), uint32_t(hex(6)));
  std::printf("%08x %08x %08x %08x\\n", b.word[0], b.word[1], b.word[2], b.word[3]);
}
"""

WORD = st.integers(0, 2**32 - 1)


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


def python_rounds(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """The paper's rounds in Python's own integers."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = (
            product1 >> 32 ^ x1 ^ k0,
            product1 % 2**32,
            product0 >> 32 ^ x3 ^ k1,
            product0 % 2**32,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return x0, x1, x2, x3


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Runs csrc/philox.h alone, compiled without torch."""
    try:
        compiler = build.find_compiler()
    except build.NoCompiler as error:
        pytest.skip(str(error))
    folder: Path = tmp_path_factory.mktemp("philox")
    source, binary = folder / "main.cpp", folder / "main"
    source.write_text(PROGRAM)
    options = ["-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{flags.csrc_root()}"]
    command = [*compiler.command, *options, str(source), "-o", str(binary)]
    subprocess.run(command, check=True)

    def run(*arguments: int) -> str:
        command = [str(binary), *(f"{argument:x}" for argument in arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN, ids=["zeros", "ones", "pi"])
class TestKnownAnswers:
    def test_python(self, counter, key, result):
        tensors = tuple(torch.tensor([word]) for word in words(counter))
        drawn = philox.philox4x32(tensors, words(key))
        assert tuple(x.item() for x in drawn) == words(result)

    def test_cpp(self, counter, key, result, program):
        assert program(*words(counter), *words(key)).split() == result.split()

    def test_the_rounds_of_this_file(self, counter, key, result):
        assert python_rounds(words(counter), words(key)) == words(result)


@given(counter=st.tuples(WORD, WORD, WORD, WORD), key=st.tuples(WORD, WORD))
def test_any_counter_and_key(counter, key):
    drawn = philox.philox4x32(tuple(torch.tensor(word) for word in counter), key)
    assert tuple(x.item() for x in drawn) == python_rounds(counter, key)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 0x0123456789ABCDEF, 2**64 - 1])
@pytest.mark.parametrize("sequence", [0, 7, 2**40 + 3, -1, -(2**63)])
def test_layout(seed, sequence, program):
    """Key and counter are what csrc/philox.h says, in both languages."""
    stream, index = philox.Stream.MASK_SPAN, 2**32 - 5
    unsigned = sequence % 2**64
    counter = (3, unsigned % 2**32, unsigned >> 32, index)
    expected = python_rounds(counter, (seed % 2**32, seed >> 32))
    drawn = philox.block(seed, stream, torch.tensor(sequence), torch.tensor(index))
    assert tuple(x.item() for x in drawn) == expected
    lines = [line.split() for line in program(seed, stream, unsigned, index).splitlines()]
    assert tuple(int(line[0], 16) for line in lines) == expected
    assert [float(line[1]) for line in lines] == pytest.approx(
        [word // 256 / 2**24 for word in expected], rel=1e-8
    )
    assert [int(line[2]) for line in lines] == [word * 30522 // 2**32 for word in expected]


def test_epoch_is_the_upper_part_of_the_first_word(program):
    stream, epoch = philox.Stream.AUGMENT, 2**24 - 3
    expected = python_rounds((epoch * 256 + 5, 8, 0, 9), (7, 0))
    drawn = philox.block(7, stream, torch.tensor(8), torch.tensor(9), epoch)
    assert tuple(x.item() for x in drawn) == expected
    lines = program(7, stream, 8, 9, epoch, 0, 0).splitlines()
    assert tuple(int(line.split()[0], 16) for line in lines) == expected


def test_keys_may_be_tensors():
    counter = tuple(torch.arange(3) + i for i in range(4))
    keys = (torch.tensor([[1], [2]]), torch.tensor([[3], [4]]))
    both = philox.philox4x32(counter, keys)
    for row in range(2):
        alone = philox.philox4x32(counter, (row + 1, row + 3))
        assert all(torch.equal(x[row], y) for x, y in zip(both, alone, strict=True))


def test_signed_seed_is_the_same_key():
    ids, index = torch.arange(3), torch.arange(3)
    for left, right in zip(
        philox.block(2**64 - 5, 1, ids, index), philox.block(-5, 1, ids, index), strict=True
    ):
        assert torch.equal(left, right)


def test_ids_and_index_broadcast():
    grid = philox.block(9, 1, torch.arange(4)[:, None], torch.arange(5))
    for row, column in ((0, 0), (2, 4), (3, 1)):
        single = philox.block(9, 1, torch.tensor(row), torch.tensor(column))
        assert [x[row, column].item() for x in grid] == [x.item() for x in single]


def test_uniform():
    drawn = torch.tensor([0, 255, 256, 2**31, 2**32 - 1])
    expected = torch.tensor([0.0, 0.0, 2.0**-24, 0.5, 1 - 2.0**-24])
    assert torch.equal(philox.uniform(drawn), expected)


def test_below_covers_its_range_and_no_more():
    edges = torch.tensor([0, 2**32 - 1])
    for n in (1, 2, 3, 30522, 2**31):
        assert philox.below(edges, n).tolist() == [0, n - 1]


def test_threshold():
    assert [philox.threshold(p) for p in (0.0, 0.25, 1.0)] == [0, 2**30, 2**32]
