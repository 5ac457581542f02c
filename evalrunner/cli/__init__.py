"""The command line: parse, call the api, exit code."""
