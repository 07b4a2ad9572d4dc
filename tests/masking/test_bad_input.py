"""Bad arguments of `mask_tokens`: the error names the argument, what came and what was wanted."""

from __future__ import annotations

import pytest
import torch

from sslkernels import mask_tokens

IDS = torch.arange(12).reshape(3, 4)
GOOD = {"input_ids": IDS, "mask_token_id": 1, "vocab_size": 100, "seed": 0}
WORDS = {"strategy": "whole_word", "word_ids": IDS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": -0.1}, r"probability must lie in \[0, 1\], got -0.1"),
        ({"probability": 1.1}, r"probability must lie in \[0, 1\], got 1.1"),
        ({"probability": float("nan")}, r"probability must lie in \[0, 1\], got nan"),
        ({"replace": 1.5}, r"replace must lie in \[0, 1\], got 1.5"),
        ({"random": -1}, r"random must lie in \[0, 1\], got -1"),
        ({"replace": 0.8, "random": 0.3}, r"replace \+ random must be at most 1, got 0.8 \+ 0.3"),
        ({"vocab_size": 0}, r"vocab_size must lie in \[1, 2147483648\], got 0"),
        ({"vocab_size": 2**31 + 1}, "vocab_size must lie in"),
        ({"mask_token_id": 100}, r"mask_token_id must lie in \[0, 99\], got 100"),
        ({"mask_token_id": -1}, r"mask_token_id must lie in \[0, 99\], got -1"),
        ({"special_ids": (0, 100)}, r"special_ids must lie in \[0, 99\], got 100"),
        ({"special_ids": [-1]}, r"special_ids must lie in \[0, 99\], got -1"),
        ({"special_ids": range(100)}, "special_ids and mask_token_id are all 100 ids"),
        ({"vocab_size": 13, "special_ids": {0, *range(2, 13)}}, "none is left to draw"),
        ({"seed": -1}, r"seed must lie in \[0, 18446744073709551615\], got -1"),
        ({"seed": 2**64}, "seed must lie in"),
        ({"ignore_index": 2**63}, "ignore_index must lie in"),
        ({"strategy": "sentence"}, "strategy must be one of token, whole_word, span, got 'sent"),
        ({"input_ids": IDS[None]}, r"input_ids must be \[batch, length\] or .*got \[1, 3, 4\]"),
        ({"input_ids": IDS[0, 0]}, r"input_ids must be .*got \[\]"),
        ({"vocab_size": 11}, r"input_ids must lie in \[0, 11\), got 11"),
        ({"input_ids": IDS.int() - 1}, r"input_ids must lie in \[0, 100\), got -1"),
        ({"sequence_ids": torch.arange(4)}, r"sequence_ids must have shape \[3\], got \[4\]"),
        ({"sequence_ids": torch.tensor(1)}, r"sequence_ids must have shape \[3\], got \[\]"),
        (
            {"sequence_ids": torch.arange(3, device="meta")},
            "sequence_ids must be on the device of input_ids, cpu, got meta",
        ),
        (
            {"attention_mask": torch.ones(4).long()},
            r"attention_mask must have the shape of input_ids, \[3, 4\], got \[4\]",
        ),
        ({"strategy": "whole_word"}, "word_ids must be given for strategy 'whole_word'"),
        ({"word_ids": IDS}, "word_ids have no use for strategy 'token'"),
        (WORDS | {"word_ids": IDS[0]}, r"word_ids must have the shape .*\[3, 4\], got \[4\]"),
        (WORDS | {"word_ids": IDS - 2}, r"word_ids must lie in \[-1, 2147483648\), got -2"),
        (WORDS | {"word_ids": IDS + 2**31}, r"word_ids must lie in \[-1, 2147483648\), got 21474"),
    ],
)
def test_values(arguments, message):
    with pytest.raises(ValueError, match="^mask_tokens: .*" + message):
        mask_tokens(**GOOD | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": IDS.tolist()}, "input_ids must be a torch.Tensor, got list"),
        ({"input_ids": IDS.float()}, "input_ids must be one of int64, int32, got float32"),
        ({"input_ids": IDS.to(torch.int16)}, "input_ids must be one of int64, int32, got int16"),
        ({"input_ids": IDS.to_sparse()}, "input_ids must be a dense tensor"),
        ({"mask_token_id": 1.0}, "mask_token_id must be an int, got float"),
        ({"vocab_size": None}, "vocab_size must be an int, got NoneType"),
        ({"seed": 0.5}, "seed must be an int, got float"),
        ({"seed": True}, "seed must be an int, got bool"),
        ({"ignore_index": None}, "ignore_index must be an int, got NoneType"),
        ({"probability": "0.1"}, "probability must be a float, got str"),
        ({"replace": None}, "replace must be a float, got NoneType"),
        ({"random": False}, "random must be a float, got bool"),
        ({"special_ids": 3}, "special_ids must be a tuple of ints, got int"),
        ({"special_ids": IDS[0]}, "special_ids must be a tuple of ints, got Tensor"),
        ({"special_ids": (0.5,)}, "special_ids must be an int, got float"),
        ({"sequence_ids": [0, 1, 2]}, "sequence_ids must be a torch.Tensor, got list"),
        ({"sequence_ids": torch.zeros(3)}, "sequence_ids must be one of int64, int32, got float32"),
        ({"attention_mask": IDS.float()}, "attention_mask must be one of bool, .*, got float32"),
        (WORDS | {"word_ids": IDS.float()}, "word_ids must be one of int64, int32, got float32"),
        (WORDS | {"word_ids": [[0]]}, "word_ids must be a torch.Tensor, got list"),
    ],
)
def test_types(arguments, message):
    with pytest.raises(TypeError, match="^mask_tokens: " + message):
        mask_tokens(**GOOD | arguments)


def test_seed_has_no_default():
    """A default would mask every epoch and every run alike, unasked."""
    with pytest.raises(TypeError, match="seed"):
        mask_tokens(IDS, mask_token_id=1, vocab_size=100)


def test_all_ids_special_is_fine_without_random():
    masked, labels = mask_tokens(**GOOD | {"special_ids": range(100), "random": 0})
    assert torch.equal(masked, IDS) and (labels == -100).all()
