"""Measurements of single kernels against the machine's peak."""
