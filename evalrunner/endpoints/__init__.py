"""What answers a request to a model, each behind the one protocol `Endpoint`."""
