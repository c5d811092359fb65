"""Tests of lowering, and of whole graphs through native code."""
