"""What can go wrong in a training run, as errors a person can act on in one line."""

from __future__ import annotations

import importlib
from types import ModuleType


class TrainError(Exception):
    """The run cannot start or go on; the message is one line for the person who started it."""

    exit_code = 2


class DivergedError(TrainError):
    """The loss or its gradient is no longer finite."""

    exit_code = 1


def require(
    module: str, package: str, *, by: str = "training", install: str = "'sslkernels[train]'"
) -> ModuleType:
    """Import a module of a package, by default one of the `train` extra, or say how to install it.

    Raises:
        TrainError: the package is not installed; `by` is what needs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TrainError(f"{by} needs {package}: pip install {install}") from error
