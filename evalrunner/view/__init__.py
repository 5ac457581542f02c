"""The runs folder in a browser: a small server on this machine that reads and never writes."""
