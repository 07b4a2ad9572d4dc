"""Several small .cu files as one library: most of a compilation is the standard headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.emulation.cuda import build
from tests.emulation.cuda.run import Library

_HEADERS = ("cuda_pipeline.h", "cuda_fp16.h", "cuda_bf16.h", "emulated/matrix.h")


def library(sources: Sequence[Path]) -> Library:
    return Library(source_of(sources))


def source_of(sources: Sequence[Path]) -> Path:
    """A file with each of them in a namespace of its own; their C functions differ in name."""
    lines = [f"#include <{name}>" for name in _HEADERS]
    for source in sources:
        lines.append(f'namespace in_{source.stem} {{\n#include "{source}"\n}}')
    text = "\n".join(lines) + "\n"
    path = build.cache() / f"unity-{build.digest_of(sources, text)}" / "unity.cu"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        aside = path.with_suffix(f".{id(path)}.tmp")
        aside.write_text(text)
        aside.replace(path)
    return path
