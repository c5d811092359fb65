"""A small writer of LLVM IR text in SSA form: values with types, basic blocks, counted loops.

Kernels are emitted as text because it is faster than building IR objects and reads like the code
that results.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

_TURNS = 5  # instructions of each interleaved piece between two points where all must be

I1, I8, I16, I32, I64 = "i1", "i8", "i16", "i32", "i64"
FLOAT, DOUBLE, HALF, BFLOAT, PTR = "float", "double", "half", "bfloat", "ptr"


@dataclass(frozen=True)
class Val:
    """An SSA value or literal operand (`text`) with its LLVM type."""

    text: str
    type: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def vector(lanes: int, element: str) -> str:
    """The LLVM vector type, or the scalar type itself for one lane."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def lanes_of(type: str) -> int:
    """Lanes of a vector type; 1 for a scalar."""
    return int(type[1 : type.index(" x ")]) if type.startswith("<") else 1


def element_of(type: str) -> str:
    """Element of a vector type; a scalar type itself."""
    return type[type.index(" x ") + 3 : -1] if type.startswith("<") else type


def int_const(value: int, type: str = I64) -> Val:
    """An integer literal, splatted when `type` is a vector."""
    return _splat_literal(str(int(value)), type)


def float_const(value: float, type: str = FLOAT) -> Val:
    """A floating literal in exact hexadecimal form, splatted when `type` is a vector."""
    element = element_of(type)
    if element == FLOAT:
        value = struct.unpack("<f", struct.pack("<f", value))[0]
    elif element not in (DOUBLE,):
        raise ValueError(f"no literal form for {element}")
    return _splat_literal("0x" + struct.pack(">d", value).hex().upper(), type)


def _splat_literal(text: str, type: str) -> Val:
    if not type.startswith("<"):
        return Val(text, type)
    return Val(f"splat ({element_of(type)} {text})", type)


class _Line(NamedTuple):
    """A line of a function, and the value that it defines."""

    text: str
    result: Val | None = None


class ModuleWriter:
    """Collects function definitions, declarations and constants; each is written once per name."""

    def __init__(self, triple: str) -> None:
        self.triple = triple
        self._declared: dict[str, str] = {}
        self._globals: dict[str, str] = {}
        self._functions: dict[str, str] = {}

    def declare(self, signature: str) -> None:
        """Declare an external or intrinsic function: `declare` line without the keyword."""
        self._declared[signature[signature.index("@") :].split("(")[0]] = f"declare {signature}"

    def add_global(self, name: str, definition: str) -> None:
        """Define a global constant: what follows its name and the equals sign."""
        self._globals[name] = f"@{name} = {definition}"

    def add_function(self, name: str, text: str) -> None:
        """Define a function by its whole text."""
        self._functions[name] = text

    def has_function(self, name: str) -> bool:
        """Whether a function of that name is defined."""
        return name in self._functions

    def __str__(self) -> str:
        declared = [t for n, t in self._declared.items() if n[1:] not in self._functions]
        parts = [
            f'target triple = "{self.triple}"',
            *self._globals.values(),
            *declared,
            *self._functions.values(),
        ]
        return "\n".join(parts) + "\n"


class FunctionBuilder:
    """Writes one function. `begin(label)` starts a block; instructions go to the current block.

    >>> f = FunctionBuilder(module, "k", [("x", PTR), ("n", I64)])
    >>> with f.loop(int_const(0), f.arg("n"), 1) as i: ...
    >>> f.ret(); f.finish()
    """

    def __init__(
        self,
        module: ModuleWriter,
        name: str,
        parameters: Sequence[tuple[str, str]],
        returns: str = "void",
        attributes: str = "nounwind",
        linkage: str = "",
    ) -> None:
        self.module = module
        self.name = name
        self._header = (
            f"define {linkage} {returns} @{name}("
            + ", ".join(f"{type} %{n}" for n, type in parameters)
            + f") {attributes} {{"
        )
        self._arguments = {n: Val(f"%{n}", type) for n, type in parameters}
        self._lines = [_Line("entry:")]
        self._count = 0
        self.block = "entry"

    def arg(self, name: str) -> Val:
        """The argument of that name."""
        return self._arguments[name]

    def name_value(self, hint: str = "v") -> str:
        """A name that no other value of the function has."""
        self._count += 1
        return f"%{hint}.{self._count}"  # the dot keeps hints that end in digits apart

    def label(self, hint: str) -> str:
        """A label that no other block of the function has."""
        self._count += 1
        return f"{hint}.{self._count}"

    def begin(self, label: str) -> None:
        """Start the block of that label; the one before must have ended."""
        self._lines.append(_Line(f"{label}:"))
        self.block = label

    def raw(self, line: str) -> None:
        """Append an instruction that has no result."""
        self._lines.append(_Line(f"  {line}"))

    def emit(self, instruction: str, type: str, hint: str = "v") -> Val:
        """`%v = instruction`; the result has `type`."""
        result = Val(self.name_value(hint), type)
        self._lines.append(_Line(f"  {result.text} = {instruction}", result))
        return result

    # Arithmetic

    def binary(self, opcode: str, a: Val, b: Val) -> Val:
        """add, sub, mul, fadd, fmul, and, or, xor, shl, lshr, sdiv... on operands of one type."""
        return self.emit(f"{opcode} {a.type} {a.text}, {b.text}", a.type)

    def ceil_div(self, a: Val, b: Val) -> Val:
        """a / b of unsigned integers, rounded up."""
        return self.binary("udiv", self.binary("add", a, self.binary("sub", b, int_const(1))), b)

    def compare(self, predicate: str, a: Val, b: Val) -> Val:
        """icmp or fcmp, e.g. `icmp ult`, `fcmp olt`."""
        return self.emit(f"{predicate} {a.type} {a.text}, {b.text}", vector(lanes_of(a.type), I1))

    def select(self, condition: Val, a: Val, b: Val) -> Val:
        """`a` where the condition holds, else `b`."""
        return self.emit(f"select {condition}, {a}, {b}", a.type)

    def cast(self, opcode: str, a: Val, type: str) -> Val:
        """fpext, fptrunc, sext, zext, trunc, sitofp, fptosi, bitcast..."""
        return a if a.type == type else self.emit(f"{opcode} {a} to {type}", type)

    def call(self, function: str, type: str, *arguments: Val) -> Val:
        """Call a function or intrinsic by name; declares intrinsics (`llvm.*`) on first use."""
        if function.startswith("llvm."):
            self.module.declare(f"{type} @{function}({', '.join(a.type for a in arguments)})")
        return self.emit(f"call {type} @{function}({', '.join(map(str, arguments))})", type)

    def call_void(self, function: str, *arguments: Val) -> None:
        """Call a function that returns nothing; declares intrinsics on first use."""
        if function.startswith("llvm."):
            self.module.declare(f"void @{function}({', '.join(a.type for a in arguments)})")
        self.raw(f"call void @{function}({', '.join(map(str, arguments))})")

    def opaque(self, a: Val) -> Val:
        """The value of `a`, of which LLVM knows nothing: neither how it was computed, nor again.

        An empty piece of assembly, which no assembler has to read.
        """
        return self.emit(f'call {a.type} asm "", "=r,0"({a})', a.type)

    def interleave(self, parts: Sequence[Callable[[], None]]) -> None:
        """Emit pieces of straight code, whose instructions take turns where the pieces are alike.

        A core begins no instruction long before those ahead of it have begun: of one long chain
        after the other it sees little but waiting. An empty piece of assembly that wants a value of
        every piece now and then keeps LLVM's scheduler from undoing it.
        """
        block = self.block
        pieces = [self._apart(part) for part in parts]
        if self.block != block or len({len(lines) for lines in pieces}) > 1:
            self._lines += itertools.chain.from_iterable(pieces)
            return
        since = 0
        for together in zip(*pieces, strict=True):
            self._lines += together
            since += 1
            results = [line.result for line in together if line.result is not None]
            if since >= _TURNS and results and all(r.type.endswith("x float>") for r in results):
                wanted = ", ".join(map(str, results))
                self.raw(f'call void asm sideeffect "", "{",".join("x" * len(results))}"({wanted})')
                since = 0

    def _apart(self, part: Callable[[], None]) -> list[_Line]:
        """The lines that `part` emits, which the function does not get."""
        lines, self._lines = self._lines, []
        part()
        lines, self._lines = self._lines, lines
        return lines

    def splat(self, a: Val, lanes: int) -> Val:
        """Broadcast a scalar to a vector of `lanes`."""
        if lanes == 1:
            return a
        type = vector(lanes, a.type)
        one = self.emit(f"insertelement {type} poison, {a}, i64 0", type)
        return self.emit(
            f"shufflevector {one}, {type} poison, <{lanes} x i32> zeroinitializer", type
        )

    def shuffle(self, a: Val, b: Val | None, picks: Sequence[int]) -> Val:
        """A vector of the elements numbered by `picks`, first those of `a`, then those of `b`."""
        other = f"{a.type} poison" if b is None else str(b)
        listed = ", ".join(f"i32 {pick}" for pick in picks)
        return self.emit(
            f"shufflevector {a}, {other}, <{len(picks)} x i32> <{listed}>",
            vector(len(picks), element_of(a.type)),
        )

    # Memory

    def element_pointer(self, base: Val, element: str, index: Val) -> Val:
        """The address of element `index` of an array at `base`."""
        return self.emit(f"getelementptr {element}, {base}, {index}", PTR, "p")

    def load(self, type: str, pointer: Val, align: int) -> Val:
        """A value of `type` from memory; `align` in bytes."""
        return self.emit(f"load {type}, {pointer}, align {align}", type)

    def store(self, value: Val, pointer: Val, align: int) -> None:
        """Write a value to memory; `align` in bytes."""
        self.raw(f"store {value}, {pointer}, align {align}")

    # Control

    def jump(self, label: str) -> None:
        """End the block: go to `label`."""
        self.raw(f"br label %{label}")

    def branch(self, condition: Val, yes: str, no: str) -> None:
        """End the block: go to `yes` where the condition holds, else to `no`."""
        self.raw(f"br {condition}, label %{yes}, label %{no}")

    @contextmanager
    def loop(self, start: Val, stop: Val, step: int | Val = 1, hint: str = "i") -> Iterator[Val]:
        """for (i = start; i < stop; i += step), i64, signed; yields i."""
        with self.loop_carrying(start, stop, step, (), hint) as carried:
            yield carried.index

    @contextmanager
    def loop_carrying(
        self, start: Val, stop: Val, step: int | Val, initial: Sequence[Val], hint: str = "i"
    ) -> Iterator[CarriedLoop]:
        """A counted loop that carries values: read `values`, set `next`; afterwards `results`."""
        head, body, done = self.label("head"), self.label("body"), self.label("done")
        origin = self.block
        self.jump(head)
        self.begin(head)
        position = len(self._lines)
        index = Val(self.name_value(hint), I64)
        values = [Val(self.name_value("c"), v.type) for v in initial]
        carried = CarriedLoop(index, values, list(values), values)
        more = Val(self.name_value("more"), I1)
        self.raw(f"{more.text} = icmp slt {index}, {stop.text}")
        self.branch(more, body, done)
        self.begin(body)
        yield carried
        step_value = step if isinstance(step, Val) else int_const(step)
        following = self.binary("add nsw", index, step_value)
        latch = self.block
        self.jump(head)
        phis = [f"  {index.text} = phi i64 [{start.text}, %{origin}], [{following.text}, %{latch}]"]
        for phi, first, later in zip(values, initial, carried.next, strict=True):
            phis.append(
                f"  {phi.text} = phi {phi.type} [{first.text}, %{origin}], [{later.text}, %{latch}]"
            )
        self._lines[position:position] = map(_Line, phis)
        self.begin(done)

    @contextmanager
    def when(self, condition: Val, hint: str = "then") -> Iterator[None]:
        """Run the body only if the i1 `condition` holds."""
        then, after = self.label(hint), self.label("after")
        self.branch(condition, then, after)
        self.begin(then)
        yield
        self.jump(after)
        self.begin(after)

    def phi(self, type: str, *incoming: tuple[Val, str]) -> Val:
        """A phi node; must be the first thing emitted in a block."""
        return self.emit(f"phi {type} " + ", ".join(f"[{v.text}, %{b}]" for v, b in incoming), type)

    def ret(self, value: Val | None = None) -> None:
        """End the block: return, with a value where the function has one."""
        self.raw("ret void" if value is None else f"ret {value}")

    def finish(self) -> None:
        """Add the function to its module."""
        self.module.add_function(
            self.name, "\n".join([self._header, *(line.text for line in self._lines), "}"])
        )


@dataclass
class CarriedLoop:
    """State of `loop_carrying`: inside it read `values` and set `next`; after it read `results`."""

    index: Val
    values: list[Val]
    next: list[Val]
    results: list[Val]
