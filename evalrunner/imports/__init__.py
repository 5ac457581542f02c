"""Evaluation projects of other tools to suites: read, translate, write, and report what was carried, changed or left."""
