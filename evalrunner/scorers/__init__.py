"""Scorers: factories of functions from one output to one score, some of which ask a judge."""
