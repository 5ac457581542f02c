"""Ask people for labels, on a page served on loopback or in the terminal."""
