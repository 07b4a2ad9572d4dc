"""What nvcc makes of the kernels: registers, spills, stack and shared memory per architecture.

`python -m tests.emulation.cuda.nvcc` prints the table, with `--write` it replaces `nvcc.json`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sslkernels.native import cuda, flags
from tests.emulation.cuda import build

TABLE = Path(__file__).with_name("nvcc.json")
ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")

Row = dict[str, int]

_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_INCLUDED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def measured(toolkit: cuda.Toolkit, source: Path) -> dict[str, Row]:
    """Each kernel of a .cu file for the toolkit's one architecture."""
    report = _compiled(toolkit, source, "-Xptxas=-v", "-cubin")
    rows: dict[str, Row] = {}
    for part in report.split("Compiling entry function '")[1:]:
        name = _readable(part.partition("'")[0])
        frame, used = _FRAME.search(part), _USED.search(part)
        assert frame and used, part
        shared = _SHARED.search(part)
        rows[name] = {
            "registers": int(used.group(1)),
            "stack": int(frame.group(1)),
            "spills": int(frame.group(2)) + int(frame.group(3)),
            "shared": int(shared.group(1)) if shared else 0,
        }
    return dict(sorted(rows.items()))


def ptx(toolkit: cuda.Toolkit, source: Path) -> str:
    return _compiled(toolkit, source, "-ptx")


def _compiled(toolkit: cuda.Toolkit, source: Path, *options: str) -> str:
    """The PTX, or else what nvcc prints; kept in the cache of `build`."""
    [number] = [x.replace(".", "") for x in toolkit.architectures]
    arguments = [*flags.CUDA, f"-arch=sm_{number}", *options]
    key = build.digest_of(_with_headers(source), repr((toolkit.version, arguments)))
    place = build.cache() / f"{source.stem}-sm_{number}-{key}.txt"
    if place.is_file():
        return place.read_text()
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        output = Path(scratch) / "out"
        command = [str(toolkit.nvcc), *arguments, str(source), "-o", str(output)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"$ {' '.join(command)}\n{result.stdout}{result.stderr}")
        if "-ptx" not in options:
            output.write_text(result.stdout + result.stderr)
        output.replace(place)
    return place.read_text()


def _with_headers(source: Path) -> list[Path]:
    """A source, and what it and its headers include from beside them or from csrc."""
    found = [source]
    for path in found:
        for name in _INCLUDED.findall(path.read_text()):
            places = (folder / name for folder in (path.parent, flags.csrc_root()))
            header = next(place.resolve() for place in places if place.is_file())
            if header not in found:
                found.append(header)
    return found


def _readable(mangled: str) -> str:
    """The name without the file's unnamed namespace, whose own changes from file to file."""
    unnamed = re.search(r"(\d+)_GLOBAL__N__", mangled)
    if unnamed:  # as many characters after the digits as these say
        begin, end = unnamed.span(1)
        mangled = mangled[:begin] + mangled[end + int(unnamed.group(1)) :]
    result = subprocess.run(["c++filt", "-p", mangled], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def problems(rows: dict[str, Row], known: dict[str, Row]) -> list[str]:
    """Spills, and whatever grew against the table or is not in it."""
    found = [
        f"{name}: {row['spills']} bytes of spills" for name, row in rows.items() if row["spills"]
    ]
    if rows.keys() != known.keys():
        found.append(
            f"kernels that are not those of the table: {sorted(rows.keys() ^ known.keys())}"
        )
    for name in rows.keys() & known.keys():
        for what in ("registers", "stack", "shared"):
            if rows[name][what] > known[name][what]:
                found.append(f"{name}: {what} grew from {known[name][what]} to {rows[name][what]}")
    return found


def sources() -> list[Path]:
    return sorted(flags.csrc_root().rglob("*.cu"))


def main(arguments: list[str]) -> None:
    table: dict[str, dict[str, Row]] = {}
    for architecture in ARCHITECTURES:
        toolkit = cuda.find_toolkit([architecture])
        table[architecture] = {}
        for source in sources():
            table[architecture] |= measured(toolkit, source)
    text = json.dumps(table, indent=1) + "\n"
    if "--write" in arguments:
        TABLE.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
