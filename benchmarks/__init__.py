"""The benchmark suite: `python -m benchmarks` from the checkout.

One file an operator describes what is measured (inputs, baselines, grid, work done), with others of
its name in front where it needs more; the rest of the package measures it: `timing`, `memory`,
`accuracy`, `gemm`, `copying`, `environment`, put together by `runner` into the `results` that
`report` and `compare` read.
"""
