"""Comparison of targets or runs: significant differences, rankings, cost and latency. Pure."""
