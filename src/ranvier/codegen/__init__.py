"""From a lowered program to LLVM IR, and from that to a flat image of native code.

Reads a `Program` and the kernel descriptions of `ranvier.lowering.kernels`; decides nothing about
memory or fusion. Every distinct kernel is emitted once, as text. The image, with the offsets of its
entry points, goes into the artifact.
"""
