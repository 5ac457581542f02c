"""Scores to metrics, pure: aggregates, confidence intervals, hypothesis tests, power."""
