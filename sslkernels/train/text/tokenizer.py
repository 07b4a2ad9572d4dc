"""Byte-level byte-pair encoding through the `tokenizers` package.

Any text can be encoded and comes back whole: what is not in the vocabulary falls apart into bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError, require

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
# Their ids are their places in this list. A byte-level encoding never needs [UNK]; programs that
# load the file may expect it.
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
PAD, CLS, SEP, MASK, UNK = SPECIAL_IDS = tuple(range(len(SPECIAL)))
SMALLEST = len(SPECIAL) + 256  # every byte is a token


def check_size(vocab_size: int) -> None:
    """Raises TrainError if a vocabulary has no room for all bytes."""
    if vocab_size < SMALLEST:
        raise TrainError(
            f"vocabulary size is {vocab_size}, must be at least {SMALLEST}: "
            f"256 bytes and {len(SPECIAL)} special tokens"
        )


def train(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train on these texts; the vocabulary is smaller where they do not have as many pairs.

    Raises:
        TrainError: the vocabulary is too small, or `tokenizers` is not installed.
    """
    check_size(vocab_size)
    tokenizers = require("tokenizers", "tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=SPECIAL[UNK]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a tokenizer that an earlier run has saved.

    Raises:
        TrainError: there is no file, or it is no tokenizer of this program.
    """
    tokenizers = require("tokenizers", "tokenizers")
    if not path.exists():
        raise TrainError(f"nothing to resume: there is no {path}")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises plain Exception
        raise TrainError(f"{path} is torn, or is no tokenizer") from error
    if [tokenizer.token_to_id(token) for token in SPECIAL] != list(SPECIAL_IDS):
        raise TrainError(f"{path} is not a tokenizer of a training run: its special tokens differ")
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tensor]:
    """Token ids of each text, int64 [n]. A text that spells out "[MASK]" gets ordinary tokens."""
    tokenizer.encode_special_tokens = True
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [torch.tensor(one.ids, dtype=torch.int64) for one in encoded]


def fingerprint(tokenizer: Tokenizer) -> str:
    """The same for the same tokenizer."""
    return hashlib.blake2b(tokenizer.to_str().encode(), digest_size=8).hexdigest()
