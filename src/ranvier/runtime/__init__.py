"""Loads a `.rvr` file and runs it on a group of CPU cores, with NumPy and nothing else."""

from ranvier.runtime.model import Model, load

__all__ = ["Model", "load"]
