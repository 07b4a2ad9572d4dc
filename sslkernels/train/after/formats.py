"""Files that a network is written to, and run from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslkernels.train.errors import require
from sslkernels.train.replacing import replacing

BATCH = 4  # of the example that is traced; a file takes any

Network = Callable[[Tensor], Tensor]
"""Images [B, C, H, W], float32 in [0, 1], to a row for each [B, D]."""


class Format(str, Enum):
    """What kind of file; also how its name ends."""

    pt2 = "pt2"
    onnx = "onnx"


def write(network: nn.Module, shape: Sequence[int], to: Path, form: Format) -> Network:
    """Write a network of "images" to "out", for batches of any size, and load what was written.

    Args:
        network: on the CPU, in evaluation mode.
        shape: channels, height and width of an image.

    Raises:
        TrainError: `to` cannot be written; the packages of the format are not installed.
    """
    # Before the tracing, which takes seconds.
    runtime = _onnx_packages() if form == Format.onnx else None
    images = torch.rand(BATCH, *shape)
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network, (images,), dynamic_shapes=dynamic)
    if runtime is None:
        # In memory first: torch ends the process where a file cannot be written to its end.
        content = BytesIO()
        torch.export.save(program, content)
        with replacing(to) as file:
            file.write(content.getbuffer())
        return torch.export.load(to).module()
    _write_onnx(program, to)
    session = runtime.InferenceSession(str(to), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def _onnx_packages() -> Any:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        module = require(package, package, by="--format onnx", install="'sslkernels[onnx]'")
    return module


def _write_onnx(program: torch.export.ExportedProgram, to: Path) -> None:
    from sslkernels.train.after.onnx_ops import int_mm

    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["images"],
        output_names=["out"],
        custom_translation_table={torch.ops.aten._int_mm.default: int_mm},
        verbose=False,
    )
    assert exported is not None  # with dynamo it is not
    with replacing(to) as file:
        file.write(exported.model_proto.SerializeToString())
