"""Reading protobuf wire format by an allow-list: enough to check a file before anything else parses it.

Only the fields that a schema names are accepted. An unknown field, a field of another wire type and a second
copy of a field that may come once are errors, so that no later reader can see a file differently from this
one. Lengths are checked before they are used and bytes are never copied.

Source: the Protocol Buffers encoding specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FIELDS = 250_000
"""A network of the published size with its text tower has 8,000."""
MAX_VARINT_BYTES = 10
COUNT_BLOCK_BYTES = 1 << 24


class Wire(IntEnum):
    """Wire types that are accepted; groups are not."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


_FIXED_BYTES = {Wire.FIXED64: 8, Wire.FIXED32: 4}


class WireError(ValueError):
    """Bytes that are not a message of the expected schema."""


@dataclass(frozen=True)
class Field:
    """One field that a message may have."""

    name: str
    """Field name in the schema."""
    wire: Wire
    """Wire type of one value."""
    repeated: bool = False
    """Whether the field may come more than once; numbers may then come packed as well."""


Schema = dict[int, Field]


class Budget:
    """Bounds the number of fields that one file may make us look at."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def spend(self, fields: int) -> None:
        """Take `fields` off what is left.

        Raises:
            WireError: There is not that much left.
        """
        self.left -= fields
        if self.left < 0:
            raise WireError("has too many fields")


class Message:
    """One message: its fields by name, read once, nested messages still as bytes.

    Args:
        content: The encoded message.
        schema: The fields that it may have.
        budget: Shared by all messages of one file.

    Raises:
        WireError: The bytes are not such a message.
    """

    def __init__(self, content: memoryview, schema: Schema, budget: Budget) -> None:
        self._budget = budget
        self._values: dict[str, list[int | memoryview]] = {}
        at, end = 0, len(content)
        while at < end:
            budget.spend(1)
            tag, at = _varint(content, at)
            value: int | memoryview
            value, wire, at = _value(content, at, tag & 7)
            field = schema.get(tag >> 3)
            if field is None:
                raise WireError(f"has an unknown field {tag >> 3}")
            packed = field.repeated and wire is Wire.BYTES
            if wire is not field.wire and not packed:
                raise WireError(f"has a malformed field {field.name!r}")
            values = self._values.setdefault(field.name, [])
            if values and not field.repeated:
                raise WireError(f"has two fields {field.name!r} where one may be")
            values.append(value)

    def has(self, name: str) -> bool:
        """Whether the field is there at all, even if empty."""
        return name in self._values

    def names(self) -> set[str]:
        """List the fields that are there."""
        return set(self._values)

    def integer(self, name: str, default: int = 0) -> int:
        """Read a signed integer, or `default` where the field is not there."""
        values = self.integers(name)
        return values[0] if values else default

    def integers(self, name: str) -> list[int]:
        """Read the signed integers of a field, packed or not."""
        found: list[int] = []
        for value in self._values.get(name, ()):
            found.extend(self._unpacked(value) if isinstance(value, memoryview) else [_signed(value)])
        return found

    def text(self, name: str, default: str = "") -> str:
        """Read a string, or `default` where the field is not there."""
        values = self.texts(name)
        return values[0] if values else default

    def texts(self, name: str) -> list[str]:
        """Read the strings of a field.

        Raises:
            WireError: One is not UTF-8.
        """
        try:
            return [str(value, "utf-8") for value in self.chunks(name)]
        except UnicodeDecodeError:
            raise WireError(f"has a field {name!r} that is not UTF-8") from None

    def message(self, name: str, schema: Schema) -> Message | None:
        """Read a nested message, or None where the field is not there."""
        messages = self.messages(name, schema)
        return messages[0] if messages else None

    def messages(self, name: str, schema: Schema) -> list[Message]:
        """Read the nested messages of a field."""
        return [Message(chunk, schema, self._budget) for chunk in self.chunks(name)]

    def chunks(self, name: str) -> list[memoryview]:
        """Read the bytes of a field, as they are."""
        return [value for value in self._values.get(name, ()) if isinstance(value, memoryview)]

    def count(self, name: str, wire: Wire) -> int:
        """Count the numbers in a repeated field, packed or not, without decoding them.

        Raises:
            WireError: Packed numbers end in the middle of one.
        """
        total = 0
        for value in self._values.get(name, ()):
            total += _count_packed(value, wire, name) if isinstance(value, memoryview) else 1
        return total

    def _unpacked(self, chunk: memoryview) -> list[int]:
        found, at = [], 0
        while at < len(chunk):
            self._budget.spend(1)
            value, at = _varint(chunk, at)
            found.append(_signed(value))
        return found


def properties(entries: list[Message]) -> Mapping[str, str]:
    """Key-value entries as a mapping.

    Raises:
        WireError: A key comes twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        key = entry.text("key")
        if key in found:
            raise WireError(f"has two properties {key[:40]!r}")
        found[key] = entry.text("value")
    return found


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Read an unsigned integer of at most 64 bits and the position after it."""
    if at < len(content) and content[at] < 0x80:
        return content[at], at + 1
    result = 0
    for position, byte in enumerate(content[at : at + MAX_VARINT_BYTES]):
        result |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            if result >> 64:
                break
            return result, at + position + 1
    raise WireError("ends or breaks off in the middle of a number")


def _value(content: memoryview, at: int, wire: int) -> tuple[int | memoryview, Wire, int]:
    """Read one value, its wire type and the position after it."""
    if wire == Wire.VARINT:
        number, at = _varint(content, at)
        return number, Wire.VARINT, at
    if wire == Wire.BYTES:
        length, at = _varint(content, at)
    elif wire in _FIXED_BYTES:
        length = _FIXED_BYTES[Wire(wire)]
    else:
        raise WireError(f"has a field of wire type {wire}")
    if length > len(content) - at:
        raise WireError(f"is cut off: {length:,} bytes announced, {len(content) - at:,} there")
    chunk = content[at : at + length]
    kind = Wire(wire)
    value = chunk if kind is Wire.BYTES else int.from_bytes(chunk, "little")
    return value, kind, at + length


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _count_packed(chunk: memoryview, wire: Wire, name: str) -> int:
    if wire is Wire.VARINT:
        if chunk and chunk[-1] >= 0x80:
            raise WireError(f"has a field {name!r} that ends in the middle of a number")
        blocks = (chunk[at : at + COUNT_BLOCK_BYTES] for at in range(0, len(chunk), COUNT_BLOCK_BYTES))
        return sum(int(np.count_nonzero(np.frombuffer(block, np.uint8) < 0x80)) for block in blocks)
    if len(chunk) % _FIXED_BYTES[wire]:
        raise WireError(f"has a field {name!r} that ends in the middle of a number")
    return len(chunk) // _FIXED_BYTES[wire]
