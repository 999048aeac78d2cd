"""ONNX files of a few operators, written by hand, because the device has no onnx package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def message(*fields: tuple[int, int | str | bytes | memoryview]) -> bytes:
    """Encode a protobuf message from its field numbers and values.

    Args:
        fields: Number and value of each field; a value of bytes may be a message that is encoded already.
    """
    return b"".join(part for number, value in fields for part in _field(number, value))


def value_info(name: str, element: int, *shape: int) -> bytes:
    """Encode an input or output of a graph.

    Args:
        name: Name of the value.
        element: Number of its element type in ONNX.
        shape: Sizes along its axes.
    """
    dimensions = message(*((1, message((1, size))) for size in shape))
    return message((1, name), (2, message((1, message((1, element), (2, dimensions))))))


def _field(number: int, value: int | str | bytes | memoryview) -> Iterator[bytes]:
    if isinstance(value, int):
        yield _varint(number << 3) + _varint(value)
        return
    content = value.encode() if isinstance(value, str) else bytes(value)
    yield _varint(number << 3 | 2) + _varint(len(content))
    yield content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
