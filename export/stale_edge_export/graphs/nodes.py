"""Writing of ONNX nodes as expressions: values with element types, operators as calls, constants as numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FLOAT, DOUBLE, INT, BOOL = (np.dtype(kind) for kind in (np.float32, np.float64, np.int64, np.bool_))
END = int(np.iinfo(np.int64).max)
"""End of any axis, for `cut`; -1 leaves the last entry out."""
SNAP = float(1 << 20)
"""Number whose float64 neighbours are 2^-32 apart."""
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or"})
_PLACES = frozenset({"Shape", "NonZero", "ArgMax"})
"""Operators that give positions or sizes."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of a graph that is being written; arithmetic with it writes nodes."""

    writer: NodeWriter
    """Writer of the graph."""
    name: str
    """Name in the graph."""
    dtype: np.dtype[Any]
    """Element type."""

    def __add__(self, other: Operand) -> Value:
        return self.writer.add("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.writer.add("Sub", self, other)

    def __mul__(self, other: Operand) -> Value:
        return self.writer.add("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        """Divide; integers are cut off towards 0."""
        return self.writer.add("Div", self, other)

    def __mod__(self, other: Operand) -> Value:
        return self.writer.add("Mod", self, other)

    def __neg__(self) -> Value:
        return self.writer.add("Neg", self)

    def above(self, other: Operand) -> Value:
        """Compare: higher than the other."""
        return self.writer.add("Greater", self, other)

    def at_least(self, other: Operand) -> Value:
        """Compare: as high as the other, or higher."""
        return self.writer.add("GreaterOrEqual", self, other)

    def below(self, other: Operand) -> Value:
        """Compare: lower than the other."""
        return self.writer.add("Less", self, other)

    def at_most(self, other: Operand) -> Value:
        """Compare: as low as the other, or lower."""
        return self.writer.add("LessOrEqual", self, other)

    def cast(self, dtype: np.dtype[Any]) -> Value:
        """Change the element type."""
        made = self.writer.add("Cast", self, to=helper.np_dtype_to_tensor_dtype(dtype))
        return Value(self.writer, made.name, dtype)

    def reduce(self, operator: str, axis: int, *, keep: bool = False) -> Value:
        """Reduce one axis, as in `reduce("Max", 0)`."""
        return self.writer.add(f"Reduce{operator}", self, np.array([axis]), keepdims=int(keep))

    def take(self, places: Value | int, axis: int = 0) -> Value:
        """Gather entries of one axis; a number drops it."""
        index = np.array(places) if isinstance(places, int) else places
        return self.writer.add("Gather", self, index, axis=axis)

    def cut(self, first: Operand, end: Operand, axis: int = 0) -> Value:
        """Slice one axis; the bounds have one element each."""
        return self.writer.add("Slice", self, _row(first), _row(end), np.array([axis]))

    def reshape(self, *sizes: int) -> Value:
        """Give another shape; 0 keeps the size of an axis, -1 takes the rest."""
        return self.writer.add("Reshape", self, np.array(sizes))

    def unsqueeze(self, *axes: int) -> Value:
        """Put axes of one element in."""
        return self.writer.add("Unsqueeze", self, np.array(axes))

    def transpose(self, *order: int) -> Value:
        """Order the axes anew."""
        return self.writer.add("Transpose", self, perm=list(order))

    def size(self, axis: int) -> Value:
        """Size of one axis, one element."""
        return self.writer.add("Shape", self, start=axis, end=axis + 1)

    def keep(self, where: Value) -> Value:
        """Keep the entries of the first axis at which `where` is true."""
        return self.writer.add("Compress", self, where, axis=0)


Operand: TypeAlias = "Value | float | NDArray[Any]"
"""A value, a number that becomes a constant of its neighbour's type, or an array that becomes one of its own."""


def _row(bound: Operand) -> Operand:
    return np.array([bound]) if isinstance(bound, int) else bound


@dataclass
class NodeWriter:
    """Nodes and constants of a part of a graph, or of the body of a `Scan`; their names begin with the stage."""

    stage: str
    """Start of the name of every node; its last letters begin the names of values, which are many."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    """Nodes in order."""
    constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = field(default_factory=dict)
    """Constants by type, shape and content; the bodies of a graph share them."""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of nodes of each operator."""

    def add(self, operator: str, *inputs: Operand, **attributes: Any) -> Value:
        """Write a node with one output, of the type of its first input unless the operator says otherwise.

        Args:
            operator: ONNX operator of the default domain.
            inputs: Inputs.
            attributes: Attributes.
        """
        return self.add_many(operator, *inputs, types=[None], **attributes)[0]

    def add_many(
        self, operator: str, *inputs: Operand, types: Sequence[np.dtype[Any] | None], **attributes: Any
    ) -> list[Value]:
        """Write a node with an output of each type; None stands for the type that `add` gives it."""
        first = next((value.dtype for value in inputs if isinstance(value, Value)), INT)
        if operator == "Where":
            first = next((value.dtype for value in inputs[1:] if isinstance(value, Value)), FLOAT)
        usual = BOOL if operator in _COMPARISONS else INT if operator in _PLACES else first
        names = [value.name if isinstance(value, Value) else self._constant(value, first) for value in inputs]
        label = f"{self.stage}/{operator}_{self.counts[operator]}"
        self.counts[operator] += 1
        outputs = [f"{self.stage[-3:]}.{len(self.nodes)}" + place * "'" for place in range(len(types))]
        self.nodes.append(helper.make_node(operator, names, outputs, name=label, **attributes))
        return [Value(self, name, dtype or usual) for name, dtype in zip(outputs, types, strict=True)]

    def concat(self, *values: Operand, axis: int = 0) -> Value:
        """Join values along an axis."""
        return self.add("Concat", *values, axis=axis)

    def largest(self, first: Value, *others: Operand) -> Value:
        """Highest of several values, element by element."""
        return self.add("Max", first, *others)

    def least(self, first: Value, *others: Operand) -> Value:
        """Lowest of several values, element by element."""
        return self.add("Min", first, *others)

    def choose(self, where: Value, yes: Operand, no: Operand) -> Value:
        """Take `yes` where true, else `no`; at least one of them is a value."""
        return self.add("Where", where, yes, no)

    def range(self, count: Value) -> Value:
        """Count from 0; `count` has one element."""
        return self.add("Range", 0, self.scalar(count), 1)

    def scalar(self, value: Value) -> Value:
        """Drop the axis of a value of one element."""
        return self.add("Squeeze", value, np.array([0]))

    def steady(self, value: Value) -> Value:
        """Round float64 below a million to multiples of 2^-32, so that results for equal inputs are equal.

        Vector instructions and what is left over at the end of an array round exponentials differently.
        """
        return value + SNAP - SNAP

    def best(self, scores: Value, limit: int | Value, *, largest: bool = True) -> tuple[Value, Value]:
        """Sort the last axis, best first, up to a limit; the first of equal ones comes first.

        Args:
            scores: Values to sort by.
            limit: Most to give: a number, or one element that is no more than there are.
            largest: Whether high is good.
        """
        count = limit if isinstance(limit, Value) else self.least(scores.size(0), limit)
        values, places = self.add_many(
            "TopK", scores, count, types=[None, INT], axis=-1, largest=int(largest), sorted=1
        )
        return values, places

    def differs(self, ordered: Value) -> Value:
        """Tell which of one or more entries differ from the one before them; the first does."""
        equal = self.add("Equal", ordered.cut(1, END), ordered.cut(0, -1))
        return self.concat(np.array([True]), self.add("Not", equal))

    def _constant(self, value: Any, dtype: np.dtype[Any]) -> str:
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"{self.stage.partition('.')[0]}/{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return self.constants[key].name
