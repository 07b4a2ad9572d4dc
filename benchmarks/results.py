"""The results file: its shape as dataclasses, written atomically, read with checks."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.accuracy import Error
from benchmarks.case import Case
from benchmarks.copying import CopyRate
from benchmarks.environment import Environment
from benchmarks.errors import InputError
from benchmarks.exactness import Exactness
from benchmarks.gemm import GemmRate
from benchmarks.memory import Memory
from benchmarks.statistics import Interval

FORMAT = "sslkernels-benchmark"
VERSION = 2


@dataclass(frozen=True)
class Timing:
    """Seconds per call. `ratio` is this implementation's time over ours, paired by round.

    `gflops` is the useful rate as the operator counts work, `samples` one value a round. Where it
    counts bytes, there are `gbytes_per_second` and `copy_percent` instead. `items_per_second` is
    for operators that make something to be counted.
    """

    implementation: str
    mode: str
    median: float
    p20: float
    p80: float
    rounds: int
    calls_per_sample: int
    ratio: Interval | None
    gflops: float | None
    gemm_percent: float | None
    samples: list[float | None]
    gbytes_per_second: float | None = None
    copy_percent: float | None = None
    items_per_second: float | None = None


@dataclass(frozen=True)
class Skip:
    """An implementation that was not measured on a case, and why."""

    implementation: str
    reason: str


@dataclass(frozen=True)
class CaseResult:
    """Everything measured on one case. `backend` is our implementation that ran."""

    case: Case
    backend: str
    timings: list[Timing]
    memory: list[Memory]
    errors: list[Error]
    skipped: list[Skip]
    exactness: list[Exactness] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """One run of the suite. `command` reproduces it."""

    label: str
    command: str
    quick: bool
    environment: Environment
    gemm: list[GemmRate]
    cases: list[CaseResult]
    copies: list[CopyRate] = field(default_factory=list)


def told(case: Case, results: Sequence[CaseResult]) -> list[str]:
    """What is not the same in all `results` of the operator: parameters ('masked 0.15'), data."""
    others = [one.case for one in results if one.case.op == case.op]
    parameters = [
        f"{name} {value:g}"
        for name, value in case.parameters.items()
        if any(other.parameters.get(name) != value for other in others)
    ]
    mixed = any(other.data != case.data for other in others)
    return [*parameters, *([case.data or "random rows"] if mixed else [])]


def save(results: Results, path: Path) -> None:
    """Write `results` to `path`, whole or not at all."""
    data = {"format": FORMAT, "version": VERSION} | dataclasses.asdict(results)
    write_atomically(path, _dump(data) + "\n")


def check_writable(path: Path, option: str) -> None:
    """A file can be written here, which is better known before hours of measuring.

    Raises:
        InputError: it cannot; names the option that asked for it.
    """
    if path.is_dir():
        raise InputError(f"{option}: {path} is a folder, wanted a file name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{option}: cannot write to {path.parent}: {error.strerror}") from None


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or an interruption, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes the file private; the result is as readable as any other file.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path) -> Results:
    """Read a results file.

    Raises:
        InputError: the file is missing, is no JSON, is of another format or version, or lacks a
            field.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; make one with `python -m benchmarks run`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON, or torn off at line {error.lineno}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: not a results file of `python -m benchmarks run`")
    if data.get("version") not in (1, VERSION):
        raise InputError(
            f"{path}: results version {data.get('version')}, this suite reads versions 1 to "
            f"{VERSION}; run the benchmarks again"
        )
    if data["version"] == 1:
        data = _from_version_1(data)
    return _read(Results, data, str(path))


def _from_version_1(value: Any) -> Any:
    """Version 1 knew one operator, and called the kind of its inputs `views`."""
    if isinstance(value, dict):
        return {"inputs" if k == "views" else k: _from_version_1(v) for k, v in value.items()}
    return [_from_version_1(one) for one in value] if isinstance(value, list) else value


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value`, as parsed from JSON, as an instance of the annotation `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise InputError(f"{where}: wanted an object")
        hints = typing.get_type_hints(kind)
        # What has a default came later than the first files of this version.
        missing = sorted(_required(kind) - set(value))
        if missing:
            raise InputError(f"{where}: lacks {', '.join(missing)}")
        parts = {
            name: _read(hint, value[name], f"{where}: {name}")
            for name, hint in hints.items()
            if name in value
        }
        return typing.cast(Any, kind)(**parts)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise InputError(f"{where}: wanted a list")
        return origin(_read(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: wanted an object")
        return {name: _read(arguments[1], one, f"{where}: {name}") for name, one in value.items()}
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _read(inner, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"{where}: wanted {kind.__name__}, got {value!r}")
    return value


def _required(kind: Any) -> set[str]:
    nothing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return {f.name for f in fields if f.default is nothing and f.default_factory is nothing}


def _dump(value: Any, indent: str = "") -> str:
    """JSON with a line for each field and each flat list, so that files diff well."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(name)}: {_dump(one, inner)}" for name, one in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        rows = [f"{inner}{_dump(one, inner)}" for one in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value)
