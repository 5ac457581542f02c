"""Runs sent to trackers, from the files of their folder alone, so that it can be done at once, later, or again."""
