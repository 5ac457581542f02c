"""Functions of one completion, and the judges some of them ask."""
