"""The graph: values, nodes, symbolic dims, operators, text, verifier, interpreter.

Front ends build it, passes rewrite it, `ranvier.lowering` turns it into a program. It is the only
form that the front ends and the rest of the compiler share, and it imports NumPy alone.
"""
