"""Operations of torch for which its exporter knows none of ONNX. Needs onnxscript to be imported,
and annotations that are no text, from which it takes the operation's signature."""

from onnxscript import INT8, INT32, opset18


def int_mm(self: INT8, mat2: INT8) -> INT32:
    """`aten::_int_mm`: the product of integers, exact."""
    return opset18.MatMulInteger(self, mat2)  # type: ignore[return-value]
