"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sslkernels.train.errors import TrainError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file under another name, which takes the place of `path` once all of it is on the disk.

    Raises:
        TrainError: it cannot be written, as on a full disk.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # torch's own error, a RuntimeError, comes on top of the file's, and does not say why.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = str(cause).splitlines()[0]
        raise TrainError(
            f"cannot write {path} (an older one there stays whole): {reason}"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
