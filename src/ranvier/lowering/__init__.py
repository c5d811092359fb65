"""From a graph to a `Program`: what lies in memory, and which kernel computes it.

Takes the optimised graph of `ranvier.ir`; decides layouts, which values are written to memory and
which are inlined as scalar expressions, and what every kernel computes. `ranvier.codegen` turns the
descriptions in `kernels/` into code; buffers and steps go to the artifact.
"""
