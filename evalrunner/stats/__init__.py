"""Many scores to few numbers: tallies, aggregates, intervals."""
