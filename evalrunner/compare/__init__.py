"""Targets side by side: who is really better, by how much, and what it costs. Pure."""
