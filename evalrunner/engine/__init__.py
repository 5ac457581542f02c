"""From a suite to rows: assemble, plan, run."""
