"""Conditions on metrics, and their verdicts."""
