"""Systems under test: a prompted endpoint, recorded answers, a Python function."""
