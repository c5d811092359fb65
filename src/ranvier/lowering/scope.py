"""The kernel under construction: its operands, loop variables and data symbols."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ranvier.ir import dim as dims
from ranvier.ir.dim import Dim
from ranvier.lowering.expression import Access, Expression, Guard, Loop
from ranvier.lowering.program import Argument, Tensor


@dataclass
class KernelScope:
    """Numbers operands as tensors are read, and hands out unique names."""

    tensors: list[Tensor] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    _numbers: dict[tuple[int, Dim], int] = field(default_factory=dict)
    _written: set[int] = field(default_factory=set)

    def operand(self, tensor: Tensor, written: bool = False) -> int:
        """The operand number of `tensor`'s memory; one per (buffer, offset)."""
        key = tensor.buffer, tensor.offset * tensor.dtype.size
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self.tensors):
            self.tensors.append(tensor)
        if written:
            self._written.add(number)
        return number

    def loop(self, extent: Dim) -> Loop:
        """A loop with a fresh variable."""
        loop = Loop(f"$v{len(self.bound)}", extent)
        self.bound.add(loop.name)
        return loop

    def data_symbol(self, maximum: Dim) -> tuple[str, Dim]:
        """A fresh name for an index that is read from memory, with its dim (0 .. maximum)."""
        name = f"$g{len(self.bound)}"
        self.bound.add(name)
        return name, dims.symbol(name, 0, maximum)

    def access(
        self,
        tensor: Tensor,
        indices: tuple[Dim, ...],
        guards: tuple[Guard, ...] = (),
        indirect: tuple[tuple[str, Expression], ...] = (),
    ) -> Access:
        """Read `tensor` at logical `indices`."""
        return Access(
            self.operand(tensor),
            linear_offset(indices, tensor.strides),
            tensor.dtype,
            guards,
            0,
            indirect,
        )

    def arguments(self) -> tuple[Argument, ...]:
        """The step's (buffer, offset in bytes) pairs, by operand number."""
        return tuple(
            Argument(t.buffer, t.offset * t.dtype.size, t.thread_bytes) for t in self.tensors
        )

    def reads(self) -> tuple[int, ...]:
        """Numbers of the buffers that the kernel reads."""
        return tuple(
            sorted({t.buffer for i, t in enumerate(self.tensors) if i not in self._written})
        )

    def writes(self) -> tuple[int, ...]:
        """Numbers of the buffers that the kernel writes."""
        return tuple(sorted({self.tensors[i].buffer for i in self._written}))


def linear_offset(indices: tuple[Dim, ...], strides: tuple[Dim, ...]) -> Dim:
    """Element offset of `indices`, without the tensor's own offset (that is in the argument)."""
    total = sum_dims(index * stride for index, stride in zip(indices, strides, strict=True))
    return dims.rejoin(total)


def sum_dims(terms: Iterable[Dim]) -> Dim:
    """The sum of dims (0 for none)."""
    total: Dim = 0
    for term in terms:
        total = total + term
    return total


def delinearize(linear: Dim, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Row-major indices of element number `linear` in `shape`; dims of size 1 get index 0.

    Of no elements, none is ever read: all indices are 0.
    """
    if 0 in shape:
        return (0,) * len(shape)
    indices: list[Dim] = []
    first = True
    for axis, size in enumerate(shape):
        if size == 1:
            indices.append(0)
            continue
        quotient = linear // dims.product(shape[axis + 1 :])
        indices.append(quotient if first else quotient % size)
        first = False
    return tuple(indices)


def flatten(offset: Dim, loops: tuple[Loop, ...], flat: Dim) -> Dim:
    """`offset`, a polynomial over `loops`, as one over `flat`, their row-major iteration number.

    Adjacent loops over contiguous memory merge, so a dense operand becomes `stride * flat` without
    a division.
    """
    coefficients: list[Dim] = []
    rest = offset
    for loop in loops:
        linear = dims.linear_in(rest, loop.name)
        if linear is None or dims.depends_on(linear[0], [other.name for other in loops]):
            indices = delinearize(flat, tuple(each.extent for each in loops))
            names = (each.name for each in loops)
            return dims.substitute(offset, dict(zip(names, indices, strict=True)))
        coefficients.append(linear[0])
        rest = linear[1]
    groups: list[tuple[Dim, Dim]] = []  # (coefficient, extent), outermost first
    for loop, coefficient in zip(loops, coefficients, strict=True):
        if loop.extent == 1:
            continue
        if groups and groups[-1][0] == coefficient * loop.extent:
            groups[-1] = coefficient, groups[-1][1] * loop.extent
        else:
            groups.append((coefficient, loop.extent))
    indices = delinearize(flat, tuple(extent for _, extent in groups))
    return rest + sum_dims(
        i * coefficient for i, (coefficient, _) in zip(indices, groups, strict=True)
    )
