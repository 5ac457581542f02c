"""What wraps an endpoint: timeout, counting; each an endpoint itself."""
