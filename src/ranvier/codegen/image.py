"""From LLVM IR to a flat, position-independent image: no linker, no loader.

An image is mapped read and execute, and its functions are called
at `base + Image.symbols[name]`. It has no imports, no writable data and no absolute addresses;
whatever would need one is refused with the name of the symbol. The ELF structures are those of the
System V ABI (gABI 4.1) and its x86-64 supplement.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import llvmlite.binding as llvm

from ranvier.codegen.optimize import optimize
from ranvier.errors import CompileError

SECTION_ALIGNMENT = 64

_WRITE, _ALLOCATE = 1, 2
_SYMBOL_TABLE, _RELA, _NO_BITS = 2, 4, 8
_FUNCTION = 2


@dataclass(frozen=True)
class Image:
    """A flat code image.

    Attributes:
        data: the bytes to map, any page-aligned address, read and execute.
        symbols: byte offset of every function that the image defines.
    """

    data: bytes
    symbols: Mapping[str, int]


def build_image(
    llvm_ir: str | Sequence[str],
    target_triple: str = "x86_64-unknown-linux-gnu",
    cpu: str = "",
    features: str | Iterable[str] = "",
    optimized: bool = True,
) -> Image:
    """Compile LLVM IR text to a flat image.

    Args:
        llvm_ir: one module, or several that are linked into one (kernels and `host_ir()`, for
            instance).
        target_triple: LLVM triple; x86-64 only for now (`_RELOCATIONS` is where another instruction
            set goes).
        cpu: LLVM's CPU name, "" for the generic one.
        features: LLVM features, "+avx2,+fma" or an iterable of such names; a name without a sign
            means "+name".
        optimized: whether LLVM's passes run before instruction selection; either way loops do not
            become calls of `memcpy` or `memset`.

    Raises:
        CompileError: LLVM rejects the module, or the code refers to a symbol that no module
            defines, or needs writable data or an absolute address.
    """
    texts = [llvm_ir] if isinstance(llvm_ir, str) else list(llvm_ir)
    module = _parse(texts, target_triple)
    machine = _target_machine(target_triple, cpu, _feature_text(features))
    module.data_layout = str(machine.target_data)
    local = (llvm.Linkage.internal, llvm.Linkage.private)
    for definition in (*module.functions, *module.global_variables):
        if not definition.is_declaration and definition.linkage not in local:
            definition.visibility = "hidden"  # or LLVM reaches it through a table of addresses
    if optimized:
        optimize(module, machine)
    return link_object(machine.emit_object(module))


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _feature_text(features: str | Iterable[str]) -> str:
    names = features.split(",") if isinstance(features, str) else list(features)
    return ",".join(name if name[0] in "+-" else f"+{name}" for name in names if name)


def _target_machine(triple: str, cpu: str, features: str) -> llvm.TargetMachine:
    _initialize()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        raise CompileError(f"LLVM does not know the target triple {triple!r}: {error}") from error
    return target.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )


def _parse(texts: Sequence[str], triple: str) -> llvm.ModuleRef:
    modules = [_parse_one(_without_builtins(text)) for text in texts]
    first = modules[0]
    first.triple = triple
    for other in modules[1:]:
        other.triple = triple
        other.data_layout = first.data_layout
        try:
            first.link_in(other)
        except RuntimeError as error:
            raise CompileError(f"LLVM cannot link the modules of the program: {error}") from error
    try:
        first.verify()
    except RuntimeError as error:
        raise CompileError(
            f"LLVM's verifier rejects the generated code (a bug in Ranvier): {error}"
        ) from error
    return first


def _parse_one(text: str) -> llvm.ModuleRef:
    try:
        return llvm.parse_assembly(text)
    except RuntimeError as error:
        raise CompileError(
            f"LLVM cannot parse the generated code (a bug in Ranvier): {error}"
        ) from error


_DEFINITION = re.compile(r"^(define\b[^;]*?\))([^(){}]*)\{[ \t]*$", re.MULTILINE)
_AFTER_ATTRIBUTES = re.compile(r"\b(section|comdat|align|gc|prefix|prologue|personality)\b|!")


def _without_builtins(text: str) -> str:
    """Give every function "no-builtins", or LLVM turns copy and fill loops into calls."""

    def mark(match: re.Match[str]) -> str:
        head, tail = match.groups()
        if _AFTER_ATTRIBUTES.search(tail) or "no-builtins" in tail:
            return match.group(0)
        return f'{head}{tail} "no-builtins" {{'

    return _DEFINITION.sub(mark, text)


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class _Symbol(NamedTuple):
    name: str
    kind: int
    section: int
    value: int


class _Relocation(NamedTuple):
    place: int
    kind: int
    symbol: _Symbol
    addend: int


def _pc_relative(layout: str, bits: int) -> Callable[[bytearray, int, int], None]:
    """Return the patch `S + A - P` as a little-endian signed integer of `bits`."""

    def apply(image: bytearray, place: int, target: int) -> None:
        distance = target - place
        if not -(1 << bits - 1) <= distance < 1 << bits - 1:
            raise CompileError(
                f"the image is too large: a {bits}-bit distance of {distance} bytes does not fit"
            )
        struct.pack_into(layout, image, place, distance)

    return apply


_RELOCATIONS: dict[int, dict[int, Callable[[bytearray, int, int], None]]] = {
    # EM_X86_64: R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64
    62: {2: _pc_relative("<i", 32), 4: _pc_relative("<i", 32), 24: _pc_relative("<q", 64)},
}


def link_object(data: bytes) -> Image:
    """Lay out a relocatable ELF64 object flat, apply its relocations and return the image.

    Raises:
        CompileError: an undefined symbol, a writable section, or a relocation that is not
            PC-relative.
    """
    machine = struct.unpack_from("<H", data, 18)[0]
    if data[:6] != b"\x7fELF\x02\x01" or machine not in _RELOCATIONS:
        raise CompileError(
            f"cannot lay out an object of ELF machine {machine}; only x86-64 is supported"
        )
    sections = _sections(data)
    image, base = _lay_out(data, sections)
    symbols = _symbols(data, sections)
    undefined: set[str] = set()
    for relocation in _relocations(data, sections, base, symbols):
        symbol = relocation.symbol
        if symbol.section not in base:
            undefined.add(symbol.name or "an unnamed symbol")
            continue
        apply = _RELOCATIONS[machine].get(relocation.kind)
        if apply is None:
            where = symbol.name or sections[symbol.section].name
            raise CompileError(
                f"relocation type {relocation.kind} against {where!r} is not PC-relative"
            )
        apply(image, relocation.place, base[symbol.section] + symbol.value + relocation.addend)
    if undefined:
        names = ", ".join(sorted(undefined))
        raise CompileError(
            f"the generated code calls what no module defines: {names}; an image has no imports"
        )
    functions = {
        s.name: base[s.section] + s.value
        for s in symbols
        if s.kind == _FUNCTION and s.section in base
    }
    return Image(bytes(image), MappingProxyType(functions))


def _sections(data: bytes) -> list[_Section]:
    table, size, count, names = (
        *struct.unpack_from("<Q", data, 40),
        *struct.unpack_from("<HHH", data, 58),
    )
    raw = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    names_at = raw[names][4]
    return [
        _Section(_text(data, names_at + name), kind, flags, offset, length, link, info, alignment)
        for name, kind, flags, _, offset, length, link, info, alignment, _ in raw
    ]


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def _lay_out(data: bytes, sections: Sequence[_Section]) -> tuple[bytearray, dict[int, int]]:
    """Return the bytes of the loaded sections, code first, and the offset of each by its index."""
    loaded = [
        (not section.name.startswith(".text"), index)
        for index, section in enumerate(sections)
        if section.flags & _ALLOCATE and section.size and section.name != ".eh_frame"
    ]
    image, base = bytearray(), {}
    for _, index in sorted(loaded):
        section = sections[index]
        if section.flags & _WRITE or section.kind == _NO_BITS:
            raise CompileError(
                f"section {section.name!r} ({section.size} bytes) is writable or holds addresses; "
                "an image has code and constants only"
            )
        image += bytes(-len(image) % max(SECTION_ALIGNMENT, section.alignment))
        base[index] = len(image)
        image += data[section.offset : section.offset + section.size]
    return image, base


def _symbols(data: bytes, sections: Sequence[_Section]) -> list[_Symbol]:
    for section in sections:
        if section.kind == _SYMBOL_TABLE:
            names = sections[section.link].offset
            entries = struct.iter_unpack(
                "<IBBHQQ", data[section.offset : section.offset + section.size]
            )
            return [
                _Symbol(_text(data, names + n), info & 15, index, value)
                for n, info, _, index, value, _ in entries
            ]
    return []


def _relocations(
    data: bytes, sections: Sequence[_Section], base: Mapping[int, int], symbols: Sequence[_Symbol]
) -> Iterable[_Relocation]:
    for section in sections:
        if section.kind != _RELA or section.info not in base:
            continue
        for offset, info, addend in struct.iter_unpack(
            "<QQq", data[section.offset : section.offset + section.size]
        ):
            place = base[section.info] + offset
            yield _Relocation(place, info & 0xFFFFFFFF, symbols[info >> 32], addend)
