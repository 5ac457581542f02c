"""One use case a file: run, resume, rescore, regate, compare, diff. Each takes a folder or a suite and returns a result."""
