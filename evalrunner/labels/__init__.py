"""Labels by people for the verdicts of judges: their file, how they were drawn, and what they say about a judge."""
