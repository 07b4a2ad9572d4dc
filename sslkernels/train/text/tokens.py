"""A corpus in tokens, with the tokenizer that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sslkernels.train.text import corpus, tokenizer


@dataclass(frozen=True)
class Tokens:
    """Documents as token ids, int64 [n] each.

    files and identity: see `run.Task`; note: what was read, for the person who waits.
    """

    train: list[Tensor]
    test: list[Tensor]
    vocab_size: int
    files: dict[str, str]
    identity: dict[str, str]
    note: str


def load(
    name: str,
    megabytes: float,
    vocab_size: int,
    *,
    resume_from: Path | None,
    strict: bool = False,
) -> Tokens:
    """Read text as `corpus.load` does; train a tokenizer on what is not held out, or take that of
    an earlier run from its folder.

    Raises:
        TrainError: see `corpus.load`, `tokenizer.train` and `tokenizer.load`.
    """
    if resume_from is None:
        tokenizer.check_size(vocab_size)  # before the text is read
        text = corpus.load(name, megabytes, strict=strict)
        coder = tokenizer.train(text.train, vocab_size)
    else:
        coder = tokenizer.load(resume_from / tokenizer.FILE)
        text = corpus.load(name, megabytes, strict=strict)
    train, test = (tokenizer.encode(coder, texts) for texts in (text.train, text.test))
    skipped = f"; {text.skipped}" if text.skipped else ""
    return Tokens(
        train=train,
        test=test,
        vocab_size=coder.get_vocab_size(),
        files={tokenizer.FILE: coder.to_str()},
        identity={"text": text.fingerprint, "tokenizer": tokenizer.fingerprint(coder)},
        note=(
            f"{sum(map(len, train)):,} tokens to train on, {sum(map(len, test)):,} held out, "
            f"{coder.get_vocab_size():,} in the vocabulary{skipped}"
        ),
    )
