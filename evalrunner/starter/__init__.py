"""What `evalrun init` writes: a suite, its data and a workflow, from templates and from the user's data."""
