"""Argument validation: one place, one style.

Every error names the operator and the argument, says what came and what was wanted. The first
test in each function is the cheap one that good arguments pass.
"""

from sslkernels.checks.numbers import (
    REDUCTIONS,
    finite_scalar,
    fraction,
    integer,
    number,
    offsets,
    positive_number,
    positive_scalar,
    reduction,
    scalar_tensor,
)
from sslkernels.checks.tensors import (
    FLOAT_DTYPES,
    INTEGER_DTYPES,
    accumulate_dtype,
    autocast,
    constant_vector,
    floating,
    floats,
    indices,
    integer_tensor,
    integers,
    keys,
    matrix,
    row_keys,
    same_device,
    same_dtype,
    tensor,
    vector,
    views,
)

__all__ = [
    "FLOAT_DTYPES",
    "INTEGER_DTYPES",
    "REDUCTIONS",
    "accumulate_dtype",
    "autocast",
    "constant_vector",
    "finite_scalar",
    "floating",
    "floats",
    "fraction",
    "indices",
    "integer",
    "integer_tensor",
    "integers",
    "keys",
    "matrix",
    "number",
    "offsets",
    "positive_number",
    "positive_scalar",
    "reduction",
    "row_keys",
    "same_device",
    "same_dtype",
    "scalar_tensor",
    "tensor",
    "vector",
    "views",
]
