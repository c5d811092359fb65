"""From a lowered program to LLVM IR, and from that to a flat image of native code."""
