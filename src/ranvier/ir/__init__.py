"""The graph: values, nodes, symbolic dims, operators, text, verifier, interpreter."""
