"""Front ends: a model of a framework becomes a Graph. Only they import frameworks.

What comes out is a graph of `ranvier.ir`, or one error that names every operator that cannot be
expressed.
"""
