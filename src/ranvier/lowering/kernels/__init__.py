"""Kernel descriptions: frozen dataclasses that `lowering` fills and `codegen` turns into LLVM IR.

Equal descriptions share one kernel, so all that differs between calls is passed as arguments.
"""
