"""A text detector as small as can be, in the format of the published ones: ONNX, written by its field numbers.

One 1x1 convolution and a sigmoid: a pixel that is nearly white is text, and nothing else is.
"""

from pathlib import Path

import numpy as np

FLOAT = 1  # of TensorProto.DataType
OPSET, IR = 13, 8


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a message: a number, or something with a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, values: np.ndarray) -> bytes:
    sides = b"".join(_field(1, side) for side in values.shape)
    return sides + _field(2, FLOAT) + _field(8, name) + _field(9, values.astype("<f4").tobytes())


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)


def _value(name: str, channels: int) -> bytes:
    sides = (_field(1, 1), _field(1, channels), _field(2, "height"), _field(2, "width"))
    shape = b"".join(_field(1, side) for side in sides)
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, shape)))


def write_detector(path: Path, *, sigmoid: bool = True) -> Path:
    """Probability of text of normalised RGB (1, 3, height, width): over a half from about 240 levels on."""
    last = _field(1, _node("Sigmoid", ["score"], "map")) if sigmoid else b""
    graph = b"".join(
        [
            _field(1, _node("Conv", ["picture", "weight", "bias"], "score" if sigmoid else "map")),
            last,
            _field(2, "detector"),
            _field(5, _tensor("weight", np.full((1, 3, 1, 1), 10.0))),
            _field(5, _tensor("bias", np.array([-66.0]))),
            _field(11, _value("picture", 3)),
            _field(12, _value("map", 1)),
        ]
    )
    path.write_bytes(_field(1, IR) + _field(7, graph) + _field(8, _field(1, "") + _field(2, OPSET)))
    return path
