"""Gates: conditions on metrics, and their verdicts. Pure."""
