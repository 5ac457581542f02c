"""Scores of an accepted run, to compare later runs with: the file, how a reference is resolved, how a run is accepted."""
