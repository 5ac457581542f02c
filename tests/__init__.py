"""A package, so that a process of a test finds these modules where a distribution brings a `tests` of its own."""
