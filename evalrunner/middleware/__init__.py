"""Middleware of an endpoint: cache, retries, rate and concurrency limits, circuit breaker, budget, usage, timeouts."""
