"""Results to files and the terminal."""
