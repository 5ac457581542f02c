"""Scorers that are copied into imported projects, to count as the other tool does. They import nothing of `imports`."""
