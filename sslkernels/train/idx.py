"""IDX, the format of MNIST: a magic number, the sizes, then the numbers; big endian.

Description: http://yann.lecun.com/exdb/mnist. Of its types, only the one in use: unsigned bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError

UNSIGNED_BYTE = 0x08


def find(folder: Path, name: str) -> Path:
    """The file of this name, or of this name with .gz.

    Raises:
        TrainError: there is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise TrainError(f"{folder} has no {name}, and no {name}.gz")


def read(path: Path, *, dims: int) -> Tensor:
    """An IDX file of unsigned bytes, uncompressed if its name ends in .gz: uint8 with `dims` axes.

    Raises:
        TrainError: the file cannot be read, is no such file, is empty, or is shorter or longer than
            its header says; the error names it.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainError(f"cannot read {path}: {reason}") from error
    wanted = bytes((0, 0, UNSIGNED_BYTE, dims))
    if content[:4] != wanted:
        raise TrainError(
            f"{path} is no IDX file of unsigned bytes with {dims} dimensions: it begins with "
            f"{content[:4].hex() or 'nothing'}, not {wanted.hex()}"
        )
    start = 4 + 4 * dims
    if len(content) < start:
        raise TrainError(f"{path} is truncated: {len(content)} bytes, its header alone has {start}")
    shape = struct.unpack_from(f">{dims}I", content, 4)
    if len(content) != start + math.prod(shape):
        raise TrainError(
            f"{path} is truncated or damaged: sizes {list(shape)} make {start + math.prod(shape)} "
            f"bytes, it has {len(content)}"
        )
    if 0 in shape:
        raise TrainError(f"{path} is empty: its sizes are {list(shape)}")
    # A copy: bytes are read-only, and a tensor on them would warn.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)
