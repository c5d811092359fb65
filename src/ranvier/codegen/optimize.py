"""The LLVM passes that generated code goes through before instruction selection."""

from __future__ import annotations

import llvmlite.binding as llvm


def optimize(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Run the passes over a module, in place: what LLVM's O1 does between functions, then within.

    The loops come from the code generator as they shall be: O2's vectorizers, unrolling and second
    round of simplification change next to none of them, in twice the time.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    _propagate(module, builder)
    simplify = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            simplify.run(function, builder)


def _propagate(module: llvm.ModuleRef, builder: llvm.PassBuilder) -> None:
    """Inline what asks for it, and let functions know what their only callers pass."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_ipsccp_pass()
    passes.add_global_opt_pass()
    passes.add_dead_arg_elimination_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
