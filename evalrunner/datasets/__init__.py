"""Readers of datasets, and samples made of their records."""
