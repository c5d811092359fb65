"""Index arithmetic: `Dim` polynomials become i64 scalars or vectors of lane indices.

A dim is *varying* when it depends on the vectorised loop or on a data symbol bound to a vector.
Floor semantics hold for negative values too: where a range cannot be proven non-negative, scalars
are corrected after `sdiv`, and vectors divide in f64, which is exact for |x| < 2**52.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.builder import (
    DOUBLE,
    I32,
    I64,
    FunctionBuilder,
    Val,
    element_of,
    int_const,
    vector,
)
from ranvier.ir import dim as dims
from ranvier.ir.dim import Atom, Compound, Dim, Symbol, Term

_I32_LIMIT = 2**31


@dataclass(frozen=True)
class Lanes:
    """The vectorised loop: lane k computes iteration `environment[loop] + k`.

    `mask` (<count x i1>) says which lanes are active; None means all.
    """

    loop: str
    count: int
    mask: Val | None = None


class IndexEmitter:
    """Emits dims in the current block; equal dims are emitted once per scope."""

    def __init__(
        self,
        builder: FunctionBuilder,
        environment: dict[str, Val],
        lanes: Lanes | None,
        outer: IndexEmitter | None = None,
    ) -> None:
        self._builder = builder
        self._environment = environment
        self._lanes = lanes
        self._scalars: list[dict[Dim, Val]] = [*(outer._scalars if outer else ()), {}]
        same_lanes = outer is not None and outer._lanes == lanes
        self._vectors: list[dict[tuple[Dim, str], Val]] = [
            *(outer._vectors if outer and same_lanes else ()), {},
        ]  # fmt: skip

    def push(self) -> None:
        """Open a scope: what is emitted until `pop` is forgotten then."""
        self._scalars.append({})
        self._vectors.append({})

    def pop(self) -> None:
        """Close the scope that `push` opened."""
        self._scalars.pop()
        self._vectors.pop()

    def is_varying(self, dim: Dim) -> bool:
        """Whether `dim` differs between lanes."""
        if isinstance(dim, int) or self._lanes is None:
            return False
        return any(self._symbol_varies(name) for name in dims.symbols(dim))

    def scalar(self, dim: Dim) -> Val:
        """The i64 value of a dim that is the same in all lanes."""
        if isinstance(dim, int):
            return int_const(dim)
        for known in reversed(self._scalars):
            if dim in known:
                return known[dim]
        total: Val | None = None
        for term, factor in dim.terms:
            piece = self._scalar_term(term, factor)
            total = piece if total is None else self._builder.binary("add", total, piece)
        assert total is not None
        self._scalars[-1][dim] = total
        return total

    def vector(self, dim: Dim, element: str = I64) -> Val:
        """The value of a dim in every lane, <count x element>; i32 only if `fits_i32(dim)`."""
        for known in reversed(self._vectors):
            if (dim, element) in known:
                return known[dim, element]
        value = self._vector(dim, element)
        self._vectors[-1][dim, element] = value
        return value

    def first_lane(self, dim: Dim) -> Val:
        """The i64 value in the first lane of a dim that only the vectorised loop varies."""
        return self.scalar(dim)

    def inside(self, index: Dim, limit: Dim) -> Val:
        """`0 <= index < limit` as i1, or as one i1 per lane when either side varies."""
        if not (self.is_varying(index) or self.is_varying(limit)):
            return self._builder.compare("icmp ult", self.scalar(index), self.scalar(limit))
        narrow = fits_i32(index) and fits_i32(limit)
        element = I32 if narrow else I64
        return self._builder.compare(
            "icmp ult", self.vector(index, element), self.vector(limit, element)
        )

    # Scalars -------------------------------------------------------------------------------------
    def _symbol_varies(self, name: str) -> bool:
        assert self._lanes is not None
        if name == self._lanes.loop:
            return True
        return self._environment[name].type != I64

    def _scalar_term(self, term: Term, factor: int) -> Val:
        if not term:
            return int_const(factor)
        value = self._scalar_atom(term[0])
        for atom in term[1:]:
            value = self._builder.binary("mul", value, self._scalar_atom(atom))
        return value if factor == 1 else self._builder.binary("mul", value, int_const(factor))

    def _scalar_atom(self, atom: Atom) -> Val:
        if isinstance(atom, Symbol):
            return self._environment[atom.name]
        key = dims.Polynomial((((atom,), 1),))
        for known in reversed(self._scalars):
            if key in known:
                return known[key]
        value = self._scalar_compound(atom)
        self._scalars[-1][key] = value
        return value

    def _scalar_compound(self, atom: Compound) -> Val:
        a, b = self.scalar(atom.left), self.scalar(atom.right)
        f = self._builder
        if atom.op in ("min", "max"):
            return f.call(f"llvm.s{atom.op}.i64", I64, a, b)
        if not _positive(atom.right):  # nothing is stored for sizes of 0, but they must not trap
            b = f.select(f.compare("icmp eq", b, int_const(0)), int_const(1), b)
        if _non_negative(atom.left) and _non_negative(atom.right):
            return f.binary("udiv" if atom.op == "//" else "urem", a, b)
        quotient, rest = f.binary("sdiv", a, b), f.binary("srem", a, b)
        zero = int_const(0)
        opposite = f.compare("icmp slt", f.binary("xor", rest, b), zero)
        wrong = f.binary("and", opposite, f.compare("icmp ne", rest, zero))
        if atom.op == "//":
            return f.binary("sub", quotient, f.cast("zext", wrong, I64))
        return f.binary("add", rest, f.select(wrong, b, zero))

    # Vectors -------------------------------------------------------------------------------------
    def _vector(self, dim: Dim, element: str) -> Val:
        assert self._lanes is not None
        if not self.is_varying(dim):
            return self._splat(self.scalar(dim), element)
        assert not isinstance(dim, int)
        varying = [(t, c) for t, c in dim.terms if any(map(self._atom_varies, t))]
        rest = dims.from_terms([item for item in dim.terms if item not in varying])
        linear = dims.linear_in(dims.from_terms(varying), self._lanes.loop)
        if linear is not None and linear[1] == 0 and not self.is_varying(linear[0]):
            return self._affine(linear[0], rest, element)
        total: Val | None = None
        for term, factor in varying:
            piece = self._vector_term(term, factor, element)
            total = piece if total is None else self._builder.binary("add", total, piece)
        assert total is not None
        if rest == 0:
            return total
        return self._builder.binary("add", total, self._splat(self.scalar(rest), element))

    def _atom_varies(self, atom: Atom) -> bool:
        return self.is_varying(dims.Polynomial((((atom,), 1),)))

    def _affine(self, coefficient: Dim, rest: Dim, element: str) -> Val:
        """coefficient * (first + lane) + rest."""
        assert self._lanes is not None
        f, lanes = self._builder, self._lanes
        first = self._environment[lanes.loop]
        start = first
        if coefficient != 1:
            start = f.binary("mul", first, self.scalar(coefficient))
        if rest != 0:
            start = f.binary("add", start, self.scalar(rest))
        if isinstance(coefficient, int):
            steps = lane_steps(lanes.count, coefficient, element)
        else:
            factor = self._splat(self.scalar(coefficient), element)
            steps = f.binary("mul", factor, lane_steps(lanes.count, 1, element))
        return f.binary("add", self._splat(start, element), steps)

    def _splat(self, value: Val, element: str) -> Val:
        assert self._lanes is not None
        if not value.text.startswith("%"):
            return int_const(int(value.text), vector(self._lanes.count, element))
        narrow = self._builder.cast("trunc", value, element) if element == I32 else value
        return self._builder.splat(narrow, self._lanes.count)

    def _vector_term(self, term: Term, factor: int, element: str) -> Val:
        scalar_atoms = tuple(a for a in term if not self._atom_varies(a))
        value: Val | None = None
        for atom in term:
            if atom not in scalar_atoms:
                piece = self._vector_atom(atom, element)
                value = piece if value is None else self._builder.binary("mul", value, piece)
        assert value is not None
        scale = dims.from_terms([(scalar_atoms, factor)])
        if scale == 1:
            return value
        return self._builder.binary("mul", value, self._splat(self.scalar(scale), element))

    def _vector_atom(self, atom: Atom, element: str) -> Val:
        assert self._lanes is not None
        if isinstance(atom, Symbol):
            if atom.name == self._lanes.loop:
                return self._affine(1, 0, element)
            value = self._environment[atom.name]
            return value if element == I64 else self._resize(value, element)
        key = (dims.Polynomial((((atom,), 1),)), element)
        for known in reversed(self._vectors):
            if key in known:
                return known[key]
        value = self._vector_compound(atom, element)
        self._vectors[-1][key] = value
        return value

    def _vector_compound(self, atom: Compound, element: str) -> Val:
        f = self._builder
        if atom.op in ("min", "max"):
            a, b = self.vector(atom.left, element), self.vector(atom.right, element)
            suffix = f"v{self._count}{element}"
            return f.call(f"llvm.s{atom.op}.{suffix}", a.type, a, b)
        if atom.op == "%":
            quotient = self._vector_atom(Compound("//", atom.left, atom.right), element)
            b = self.vector(atom.right, element)
            return f.binary("sub", self.vector(atom.left, element), f.binary("mul", quotient, b))
        return self._vector_quotient(atom, element)

    def _vector_quotient(self, atom: Compound, element: str) -> Val:
        f = self._builder
        small = fits_i32(atom.left) and _non_negative(atom.left)
        if small and isinstance(atom.right, int) and 0 < atom.right < _I32_LIMIT:
            a, b = self.vector(atom.left, I32), self.vector(atom.right, I32)
            return self._resize(f.binary("udiv", a, b), element)
        double = vector(self._count, DOUBLE)
        a = f.cast("sitofp", self.vector(atom.left, element), double)
        b = f.cast("sitofp", self.vector(atom.right, element), double)
        ratio = f.binary("fdiv", a, b)
        floor = f.call(f"llvm.floor.v{self._count}f64", double, ratio)
        return f.cast("fptosi", floor, vector(self._count, element))

    def _resize(self, value: Val, element: str) -> Val:
        source = element_of(value.type)
        if source == element:
            return value
        opcode = "trunc" if element == I32 else "sext"
        return self._builder.cast(opcode, value, vector(self._count, element))

    @property
    def _count(self) -> int:
        assert self._lanes is not None
        return self._lanes.count


def lane_steps(count: int, step: int, element: str = I64) -> Val:
    """The constant vector 0, step, 2 step, ..."""
    items = ", ".join(f"{element} {k * step}" for k in range(count))
    return Val(f"<{items}>", vector(count, element))


def fits_i32(dim: Dim) -> bool:
    """Whether `dim` and everything computed on the way to it provably fit in an i32."""
    if isinstance(dim, int):
        return -_I32_LIMIT <= dim < _I32_LIMIT
    if not _in_i32(dim):
        return False
    return all(_term_fits(term, factor) for term, factor in dim.terms)


def _term_fits(term: Term, factor: int) -> bool:
    if not _in_i32(dims.from_terms([(term, factor)])):
        return False
    return all(
        not isinstance(atom, Compound) or (fits_i32(atom.left) and fits_i32(atom.right))
        for atom in term
    )


def _in_i32(dim: Dim) -> bool:
    low, high = dims.bounds(dim)
    return low is not None and high is not None and low >= -_I32_LIMIT and high < _I32_LIMIT


def _non_negative(dim: Dim) -> bool:
    low, _ = dims.bounds(dim)
    return low is not None and low >= 0


def _positive(dim: Dim) -> bool:
    low, _ = dims.bounds(dim)
    return low is not None and low > 0
