"""Measurements of Ranvier."""
