"""How one element of an operator's result is written as an expression, by class of operator.

Every module has a table `RULES` from the operator's name to its rule; `ranvier.lowering.inline`
joins the tables and calls them with the graph's nodes and the indices that a kernel asks for.
"""
