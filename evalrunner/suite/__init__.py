"""The YAML of a suite: schema, loading with positions, interpolation."""
