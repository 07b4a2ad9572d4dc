"""The benchmark suite: `python -m benchmarks` from the checkout.

One file an operator describes what is measured (inputs, baselines, grid, work done); the rest of
the package measures it: `timing`, `memory`, `accuracy`, `gemm`, `environment`, put together by
`runner` into the `results` that `report` and `compare` read.
"""
