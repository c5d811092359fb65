"""The `.rvr` file: format, writer and validating reader. Neither compiles nor runs.

The compiler hands manifest, code and weights to the writer; the runtime gets them back, checked,
from the reader. NumPy and the standard library are all that it needs.
"""
