#!/usr/bin/env bash
# Compiles the C++ kernels with AddressSanitizer and UndefinedBehaviorSanitizer, for the given
# instruction sets or else every one of this CPU, and runs them at ragged sizes. PYTHON names the
# interpreter.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}
compiler=${CXX:-g++}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}"

for isa in ${*:-$("$python" "$here/sanitized.py" isas)}; do
  library="$scratch/$isa.so"
  "$python" "$here/sanitized.py" build "$isa" "$library" "$compiler"
  echo "$isa: running"
  # The C++ library goes first too, or exceptions find no thrower. Leaks: the interpreter and torch
  # keep what they allocate until the end.
  LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    "$python" "$here/sanitized.py" run "$library"
done
