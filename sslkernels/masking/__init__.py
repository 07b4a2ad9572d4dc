"""Masking of tokens for masked-language-model training."""

from sslkernels.masking.op import mask_tokens

__all__ = ["mask_tokens"]
