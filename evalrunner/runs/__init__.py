"""The run folder, its row log, and finding a run again."""
