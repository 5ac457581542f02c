"""Projects of promptfoo."""
