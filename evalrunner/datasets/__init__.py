"""Datasets: a dataset spec to a stream of samples."""
